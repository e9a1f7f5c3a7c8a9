"""The private ``/tmp`` of sandboxes, on disk. Runs in the launcher.

Each is an ext4 filesystem without a journal in a sparse, already unlinked file behind a loop
device that clears itself: when the last mount goes, the device and the space go too, however
that came about. Files of the default size are mounted beforehand. A tmpfs would be charged to the
function's memory; it is what an ordinary user gets, with its size added to the limit.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import subprocess
from collections import deque
from pathlib import Path

from pilotlight_guest import linux

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_AUTOCLEAR, _DIRECT_IO = 4, 16
_EXT4_IOC_SHUTDOWN = 0x8004587D
_SHUTDOWN_WITHOUT_FLUSH = struct.pack("I", 2)
_BLOCK = 4096
_LOOP_MAJOR = 7
_ATTEMPTS = 16
_MKFS_TIMEOUT_S = 60
_SAFE = linux.ATTR_NOSUID | linux.ATTR_NODEV
_COPY_BYTES = 1 << 20


def image_mib(usable_mib: int) -> int:
    """Size of an image that holds ``usable_mib`` of data besides its metadata. 512 → 530."""
    return usable_mib + usable_mib // 40 + 6


class Scratch:
    """One mounted ``/tmp``; detached until `attach`."""

    def __init__(self, mount_fd: int, loop: int | None, image: str) -> None:
        self._fd = mount_fd
        self._loop = loop
        self._image = image

    def attach(self, first_uid: int | None) -> None:
        """Put it at ``/tmp`` of the current mount namespace, root of the namespace its owner."""
        if first_uid is not None:
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                os.fchown(folder, first_uid, first_uid)
                os.fchmod(folder, 0o1777)
            finally:
                os.close(folder)
        linux.move_mount(self._fd, "/tmp")  # noqa: S108  # a path inside the sandbox

    def drop(self) -> None:
        """Throw its content away and let go of it; nothing is written back. Idempotent."""
        if self._fd < 0:
            return
        if self._loop is not None:
            with contextlib.suppress(OSError):  # then it is only slower to go
                folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._fd)
                try:
                    fcntl.ioctl(folder, _EXT4_IOC_SHUTDOWN, _SHUTDOWN_WITHOUT_FLUSH)
                finally:
                    os.close(folder)
        os.close(self._fd)
        self._fd = -1

    def is_gone(self) -> bool:
        """Whether the loop device has let go of the image."""
        if self._loop is None:
            return True
        try:
            backing = Path(f"/sys/block/loop{self._loop}/loop/backing_file").read_text("utf-8")
        except OSError:
            return True
        return self._image not in backing


class Scratches:
    """Makes scratches; keeps a few of the default size ready.

    Args:
        folder_fd: directory for images, ours alone; None where only tmpfs can be had.
        ready_max: how many are kept ready.
    """

    def __init__(
        self, folder_fd: int | None, instance: str, default_mib: int, ready_max: int
    ) -> None:
        self._folder_fd = folder_fd
        self._instance = instance
        self._default_mib = default_mib
        self._ready_max = ready_max
        self._ready: deque[Scratch] = deque()
        self._templates: dict[int, int] = {}
        self._counter = 0
        self._has_failed = False

    @property
    def is_on_disk(self) -> bool:
        """Whether content is kept out of the function's memory limit."""
        return self._folder_fd is not None

    def take(self, size_mib: int) -> Scratch:
        """A fresh scratch of ``size_mib``.

        Raises:
            OSError: the host refuses.
        """
        self._has_failed = False
        if self._folder_fd is None:
            options = {"size": f"{size_mib}m", "mode": "1777", "nr_inodes": str(size_mib * 64)}
            return Scratch(linux.new_mount("tmpfs", _SAFE, options), None, "")
        if size_mib == self._default_mib and self._ready:
            return self._ready.popleft()
        return self._make(size_mib)

    @property
    def wants_more(self) -> bool:
        """Whether `prepare_one` has something to do; not after a failure, until one was taken."""
        return self.is_on_disk and len(self._ready) < self._ready_max and not self._has_failed

    @property
    def is_short(self) -> bool:
        """Whether so few are ready that the next starts may have to wait for theirs."""
        return len(self._ready) <= self._ready_max // 2

    def prepare_one(self) -> None:
        """Make one more ready scratch if there are too few.

        Raises:
            OSError: the host refuses.
        """
        if self.wants_more:
            self._has_failed = True
            self._ready.append(self._make(self._default_mib))
            self._has_failed = False

    def close(self) -> None:
        """Drop the ready ones."""
        while self._ready:
            self._ready.popleft().drop()

    def _make(self, size_mib: int) -> Scratch:
        self._counter += 1
        name = f"pilotlight-{self._instance}-{os.getpid()}-{self._counter}.tmp"
        image = self._new_file(name)
        try:
            self._fill(image, self._template(size_mib))
            number, device = _attach_loop(image)
        finally:
            os.close(image)
        try:
            options = {"noinit_itable": "", "discard": ""}
            mount = linux.new_mount("ext4", _SAFE, options, f"/proc/self/fd/{device}")
        finally:
            os.close(device)
        with contextlib.suppress(OSError):
            os.rmdir("lost+found", dir_fd=mount)  # users expect an empty folder
        return Scratch(mount, number, name)

    def _new_file(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self._folder_fd)
        os.unlink(name, dir_fd=self._folder_fd)
        return fd

    def _template(self, size_mib: int) -> int:
        """A formatted, unlinked image to copy from; made once a size."""
        known = self._templates.get(size_mib)
        if known is not None:
            return known
        fd = self._new_file(f"pilotlight-{self._instance}-{os.getpid()}-{size_mib}.template")
        try:
            os.ftruncate(fd, image_mib(size_mib) << 20)
            format_image(fd)
        except BaseException:
            os.close(fd)
            raise
        self._templates[size_mib] = fd
        return fd

    def _fill(self, image: int, template: int) -> None:
        size = os.fstat(template).st_size
        os.ftruncate(image, size)
        at = 0
        while at < size:
            try:
                start = os.lseek(template, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return  # only a hole is left
                raise
            end = os.lseek(template, start, os.SEEK_HOLE)
            for offset in range(start, end, _COPY_BYTES):
                part = os.pread(template, min(_COPY_BYTES, end - offset), offset)
                os.pwrite(image, part, offset)
            at = end


def format_image(fd: int) -> None:
    """Make an ext4 filesystem in the file behind ``fd``.

    Raises:
        OSError: mke2fs is missing or failed.
    """
    command = [
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-i", "32768", "-m", "0",
        "-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard,root_owner=0:0",
        f"/proc/self/fd/{fd}",
    ]  # fmt: skip
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "MKE2FS_CONFIG": "/dev/null"}
    done = subprocess.run(
        command, env=environment, pass_fds=[fd], stdin=subprocess.DEVNULL,
        capture_output=True, timeout=_MKFS_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise OSError(errno.EIO, f"mke2fs: {done.stderr.decode('utf-8', 'replace').strip()}")


def _attach_loop(image: int) -> tuple[int, int]:
    """(number, descriptor) of a loop device on ``image``; it clears itself after the last use."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for attempt in range(_ATTEMPTS):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = _open_loop(number)
            direct = 0 if attempt % 2 else _DIRECT_IO  # not every filesystem has direct I/O
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _configuration(image, _AUTOCLEAR | direct))
            except OSError as error:
                os.close(device)
                if error.errno not in {errno.EBUSY, errno.EINVAL}:
                    raise
                continue
            return number, device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device could be had")


def _configuration(image: int, flags: int) -> bytes:
    """``struct loop_config``: descriptor, block size, ``struct loop_info64``, reserved."""
    info = struct.pack("<5Q4I64s64s32s2Q", 0, 0, 0, 0, 0, 0, 0, 0, flags, b"", b"", b"", 0, 0)
    return struct.pack("<II", image, _BLOCK) + info + bytes(64)


def _open_loop(number: int) -> int:
    path = Path(f"/dev/loop{number}")
    if not path.exists():  # a /dev that the kernel does not fill, as in some containers
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(_LOOP_MAJOR, number))
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)

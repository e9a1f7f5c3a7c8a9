"""Mounts that the launcher makes inside a sandbox: its ``/tmp`` and its code.

The sandbox has run no user code when this happens and its root is read-only, so the two paths are
what we made them. Between the two changes of namespace nothing else is done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pilotlight.dataplane.sandboxes.container.scratch import Scratch
from pilotlight_guest import linux

_CODE = linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV
TASK = "/var/task"
"""Where a sandbox sees the package of its function."""
OPT = "/opt"
"""Where a sandbox sees the layers of its function."""
_TMP = "/tmp"  # noqa: S108  # a path inside the sandbox
_LOST = 70


class Furnisher:
    """Enters mount namespaces of sandboxes and comes back.

    Args:
        code_root: where unpacked packages are, by digest; must exist. It and what is above it
            belong to the unprivileged platform, so no link on the way is followed, and what is
            opened now is used for ever.

    Raises:
        OSError: there is no such directory, or the way to it leads over a link.
    """

    def __init__(self, code_root: str) -> None:
        self._code_root = linux.open_folder(code_root)
        self._home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def attach(
        self,
        pidfd: int,
        scratch: Scratch | None,
        first_uid: int | None,
        trees: Mapping[str, str | None],
        *,
        replaces: bool,
    ) -> None:
        """Mount a scratch and trees of the code cache in the sandbox of a process.

        Args:
            pidfd: process 1 of the sandbox.
            scratch: a fresh ``/tmp``; None leaves it as it is.
            first_uid: host id of the id 0 that owns ``/tmp``; None where there is one id.
            trees: by `TASK` and `OPT`, the name of the tree that goes there; None for nothing.
            replaces: the sandbox has a ``/tmp`` already, which goes.

        Raises:
            OSError: no such package, or the sandbox has ended.
        """
        opened: dict[str, int] = {}
        try:
            for place, name in trees.items():
                if name is not None:
                    opened[place] = self._code(name)
            linux.setns(pidfd, linux.NEWNS)
            try:
                if scratch is not None:
                    if replaces:
                        linux.umount(_TMP)
                    scratch.attach(first_uid)
                for place, tree in opened.items():
                    linux.move_mount(tree, place)
            finally:
                self._return_home()
        finally:
            for tree in opened.values():
                os.close(tree)

    def _return_home(self) -> None:
        try:
            linux.setns(self._home, linux.NEWNS)
        except OSError:
            os._exit(_LOST)  # never go on inside a sandbox; everything ends with us

    def _code(self, digest: str) -> int:
        """The tree of a package as a read-only detached mount."""
        folder = linux.open_folder(digest, dir_fd=self._code_root)
        try:  # of what was opened and checked, whatever has this name by now
            tree = linux.open_tree("", dir_fd=folder, recursive=False)
        finally:
            os.close(folder)
        try:
            linux.mount_setattr(tree, _CODE)
        except OSError:
            os.close(tree)
            raise
        return tree

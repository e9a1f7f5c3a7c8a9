# ruff: noqa: ARG001, BLE001, E401, F401, I001, PERF401, PLC0415, PLW1510, PTH101, PTH109, PTH110, PTH112, PTH115, PTH116, PTH118, PTH123, PTH207, PTH208, S103, S108, SIM105, SIM115, SIM117, TRY300
# mypy: ignore-errors
"""The function that runs inside a sandbox and tries to get out. Not collected; read as text."""

import ctypes
import errno
import fcntl
import glob
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ARM = os.uname().machine == "aarch64"


def attempt(action):
    """What an action gives: its errno's name, else ``allowed: …``."""
    try:
        return f"allowed: {action()!r}"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        return type(error).__name__


def call(x86, arm, *args):
    """A raw system call's errno name, or ``allowed``."""
    ctypes.set_errno(0)
    result = libc.syscall(arm if ARM else x86, *args)
    return f"allowed: {result}" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def processes(_):
    return sorted(int(p) for p in os.listdir("/proc") if p.isdigit())


def identity(_):
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups")
    init = dict(line.split(":", 1) for line in open("/proc/1/status"))
    return {
        "uid": os.getresuid(),
        "gid": os.getresgid(),
        "pid": os.getpid(),
        "parent": os.getppid(),
        "status": {name: fields[name].strip() for name in wanted},
        "init": {name: init[name].strip() for name in wanted},
        "uid_map": open("/proc/self/uid_map").read().split(),
        "cgroup": sorted({line.rstrip().split(":")[2] for line in open("/proc/self/cgroup")}),
        "hostname": socket.gethostname(),
        "user": __import__("pwd").getpwuid(os.getuid()).pw_name,
        "oom": int(open("/proc/self/oom_score_adj").read()),
    }


def descriptors(_):
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}").split(":")[0]
        except OSError:
            pass  # the one that listed
    return found


def init_secrets(_):
    return {
        what: attempt(
            lambda what=what: (
                os.listdir(f"/proc/1/{what}")
                if what == "fd"
                else open(f"/proc/1/{what}", "rb").read(1)
            )
        )
        for what in ("fd", "environ", "mem", "maps")
    }


def host_files(paths):
    return {path: attempt(lambda path=path: os.stat(path).st_mode) for path in paths}


def mounts(_):
    return [line.split()[4] for line in open("/proc/self/mountinfo")]


def writes(_):
    paths = [
        "/x",
        "/var/task/x",
        "/var/runtime/x",
        "/etc/passwd",
        "/usr/bin/x",
        "/usr/lib/x",
        "/dev/x",
        "/opt/x",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/overcommit_memory",
        "/sys/x",
        "/var/tmp/x",
        os.path.join(sys.prefix, "x"),
        os.__file__,
        "/var/task/main.py",
    ]
    found = {path: attempt(lambda path=path: open(path, "ab").write(b"x")) for path in paths}
    found["chmod task"] = attempt(lambda: os.chmod("/var/task", 0o777))
    found["tmp"] = attempt(lambda: open("/tmp/x", "ab").write(b"x"))
    return found


def kernel_files(_):
    names = ("kcore", "keys", "kmsg", "kallsyms", "timer_list", "sched_debug")
    found = {}
    for name in names:
        path = f"/proc/{name}"
        found[name] = (
            attempt(lambda path=path: open(path, "rb").read(64))
            if os.path.exists(path)
            else "absent"
        )
    return found


def calls(_):
    new_user = 0x10000000
    path = ctypes.c_char_p(b"/tmp")
    return {
        "mount": call(165, 40, b"none", path, b"tmpfs", 0, None),
        "umount2": call(166, 39, path, 2),
        "pivot_root": call(155, 41, path, path),
        "chroot": call(161, 51, path),
        "unshare user": call(272, 97, new_user),
        "unshare net": call(272, 97, 0x40000000),
        "setns": call(308, 268, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0),
        "ptrace attach": call(101, 117, 16, 1, 0, 0),
        "ptrace traceme": call(101, 117, 0, 0, 0, 0),
        "process_vm_readv": call(310, 270, 1, None, 0, None, 0, 0),
        "pidfd_getfd": call(438, 438, 0, 0, 0),
        "keyctl": call(250, 219, 0, -3, 0),
        "add_key": call(248, 217, b"user", b"k", b"v", 1, -3),
        "init_module": call(175, 105, None, 0, b""),
        "finit_module": call(313, 273, 0, b"", 0),
        "bpf": call(321, 280, 0, None, 0),
        "perf_event_open": call(298, 241, None, 0, -1, -1, 0),
        "userfaultfd": call(323, 282, 0),
        "io_uring_setup": call(425, 425, 1, None),
        "open_tree": call(428, 428, -100, b"/", 1),
        "fsopen": call(430, 430, b"tmpfs", 0),
        "open_by_handle_at": call(304, 265, 0, None, 0),
        "name_to_handle_at": call(303, 264, -100, b"/", None, None, 0),
        "reboot": call(169, 142, 0, 0, 0, None),
        "swapon": call(167, 224, b"/tmp/x", 0),
        "syslog": call(103, 116, 3, None, 0),
        "clock_settime": call(227, 112, 0, None),
        "personality": call(135, 92, 0x0040000),
        "clone3": call(435, 435, None, 0),
        "unknown": call(1000, 1000),
        "clone user": clone(new_user),
        "clone pid": clone(0x20000000),
        "clone net": clone(0x40000000),
        "clone mount": clone(0x20000),
        "clone cgroup": clone(0x02000000),
    }


def clone(flag):
    ctypes.set_errno(0)
    pid = libc.syscall(220 if ARM else 56, flag | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        os.waitpid(pid, 0)
        return "allowed"
    return errno.errorcode[ctypes.get_errno()]


def sockets(_):
    kinds = {
        "raw": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "raw6": (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0),
        "netlink audit": (socket.AF_NETLINK, socket.SOCK_RAW, 9),
        "vsock": (socket.AF_VSOCK, socket.SOCK_STREAM, 0),
        "alg": (socket.AF_ALG, socket.SOCK_SEQPACKET, 0),
        "bluetooth": (31, socket.SOCK_RAW, 0),
        "tcp": (socket.AF_INET, socket.SOCK_STREAM, 0),
        "udp6": (socket.AF_INET6, socket.SOCK_DGRAM, 0),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM, 0),
    }
    return {
        name: attempt(lambda kind=kind: socket.socket(*kind).close())
        for name, kind in kinds.items()
    }


def connects(addresses):
    found = {}
    for host, port in addresses:
        found[f"{host}:{port}"] = attempt(
            lambda host=host, port=port: socket.create_connection((host, port), 1).close()
        )
    found["interfaces"] = [name for _, name in socket.if_nameindex()]
    return found


def own_loopback(_):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), 2) as client:
            client.sendall(b"x")
            peer, _ = server.accept()
            with peer:
                return peer.recv(1).decode()


def abstract(name):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return attempt(lambda: client.connect("\0" + name))


def devices(_):
    return {
        "mknod block": attempt(lambda: os.mknod("/tmp/sda", 0o60666, os.makedev(254, 0))),
        "mknod null": attempt(lambda: os.mknod("/tmp/null", 0o20666, os.makedev(1, 3))),
        "devices": sorted(os.listdir("/dev")),
        "tty": attempt(lambda: fcntl.ioctl(0, 0x5412, b"x")),
        "null": attempt(lambda: open("/dev/null", "w").write("x")),
        "random": attempt(lambda: len(open("/dev/urandom", "rb").read(4))),
        "stdout": attempt(lambda: open("/dev/stdout", "w").write("hello\n")),
    }


def climb(_):
    """Out of the code mount and of the root by ``..``."""
    folder = os.open("/var/task", os.O_RDONLY)
    for _ in range(20):
        above = os.open("..", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = above
    root = os.stat("/")
    seen = os.fstat(folder)
    return (root.st_dev, root.st_ino) == (seen.st_dev, seen.st_ino)


def cgroup_escape(_):
    return {
        "sys": attempt(lambda: os.listdir("/sys/fs/cgroup")),
        "files": glob.glob("/sys/*"),
    }


def raise_limits(_):
    return {
        "nofile": attempt(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))),
        "nice": attempt(lambda: os.nice(-5)),
        "setuid": attempt(lambda: os.setuid(0)),
        "limits": {
            n: resource.getrlimit(getattr(resource, n))
            for n in ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_MEMLOCK")
        },
    }


def setuid_programs(_):
    done = subprocess.run(
        ["/bin/sh", "-c", "id -u; su -c id root </dev/null"], capture_output=True, text=True
    )
    return done.stdout.split()


def fork_bomb(_):
    pids = []
    try:
        while len(pids) < 5000:
            pid = os.fork()
            if pid == 0:
                time.sleep(60)
                os._exit(0)
            pids.append(pid)
        return "allowed"
    except OSError as error:
        return [errno.errorcode[error.errno], len(pids)]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def runaway(_):
    """A fork bomb that goes on after the answer."""
    for _ in range(2):
        if os.fork() == 0:
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
    return "started"


def memory_bomb(mib):
    held = []
    for _ in range(mib):
        held.append(bytearray(os.urandom(4096) * 256))
    return len(held)


def fill_disk(mib):
    written = 0
    block = b"\xa5" * (1 << 20)
    with open("/tmp/big", "wb") as file:
        try:
            for _ in range(mib):
                file.write(block)
                file.flush()
                written += 1
            os.fsync(file.fileno())
        except OSError as error:
            return [errno.errorcode[error.errno], written]
    return ["written", written]


def tmp_facts(_):
    facts = os.statvfs("/tmp")
    mine = [line.split() for line in open("/proc/self/mountinfo") if line.split()[4] == "/tmp"][-1]
    path = tempfile.mkdtemp()
    return {
        "mib": facts.f_frsize * facts.f_blocks >> 20,
        "options": mine[5],
        "kind": mine[mine.index("-") + 1],
        "uid": os.stat("/tmp").st_uid,
        "mode": oct(os.stat("/tmp").st_mode & 0o7777),
        "listing": sorted(os.listdir("/tmp")),
        "made": os.path.isdir(path),
    }


def flood(_):
    os.set_blocking(1, False)
    written = 0
    try:
        while written < 1 << 30:
            written += os.write(1, b"x" * 65536)
    except BlockingIOError:
        pass
    finally:
        os.set_blocking(1, True)
    return written


def signals_to_init(_):
    return {str(n): attempt(lambda n=n: os.kill(1, n)) for n in (signal.SIGKILL, signal.SIGSTOP)}


def walls(_):
    """Ways out that hand-made sandboxes have left open before."""
    me = os.getpid()
    return {
        "own executable": attempt(lambda: open("/proc/self/exe", "r+b")),
        "interpreter": attempt(lambda: open(sys.executable or "/usr/bin/env", "r+b")),
        "root of 1": attempt(lambda: os.listdir("/proc/1/root")),
        "cwd of 1": attempt(lambda: os.readlink("/proc/1/cwd")),
        "namespace of 1": attempt(lambda: os.open("/proc/1/ns/mnt", os.O_RDONLY)),
        "setns by pidfd": call(308, 268, os.pidfd_open(me), 0x00020000),
        "ids": attempt(lambda: open("/proc/self/uid_map", "wb", 0).write(b"0 0 1")),
        "new namespaces": attempt(
            lambda: open("/proc/sys/user/max_user_namespaces", "wb", 0).write(b"9")
        ),
        "core pattern": attempt(
            lambda: open("/proc/sys/kernel/core_pattern", "wb", 0).write(b"|x")
        ),
        "sysrq": attempt(lambda: os.stat("/proc/sysrq-trigger").st_rdev == 0x103 and absent()),
        "oom score": attempt(lambda: open("/proc/self/oom_score_adj", "wb", 0).write(b"-999")),
        "chown": attempt(lambda: os.chown("/tmp", 0, 0)),
        "terminal input": attempt(lambda: fcntl.ioctl(1, 0x5412, b"x")),
        "console input": attempt(lambda: fcntl.ioctl(1, 0x541C, b"x")),
        "fanotify": call(300, 262, 0, 0),
        "quotactl": call(179, 60, 0, None, 0, None),
        "acct": call(163, 89, None),
        "kexec_load": call(246, 104, 0, 0, None, 0),
        "kcmp": call(312, 272, me, 1, 0, 0, 0),
        "process_vm_writev": call(311, 271, 1, None, 0, None, 0, 0),
        "process_madvise": call(440, 440, 0, None, 0, 0, 0),
        "mount_setattr": call(442, 442, -100, b"/", 0, None, 0),
        "move_mount": call(429, 429, -100, b"/", -100, b"/tmp", 0),
        "sethostname": call(170, 161, b"x", 1),
        "vhangup": call(153, 58),
        "migrate_pages": call(256, 238, 1, 0, None, None),
    }


def absent():
    raise FileNotFoundError(errno.ENOENT, "covered by /dev/null, or not there")


def leaks(_):
    """What of the host shows."""
    return {
        "cmdline": open("/proc/cmdline").read(),
        "interrupts": open("/proc/interrupts").read(),
        "environment": sorted(os.environ),
        "arguments": open("/proc/self/cmdline", "rb").read().decode(),
        "user namespaces": open("/proc/sys/user/max_user_namespaces").read().strip(),
        "core limit": resource.getrlimit(resource.RLIMIT_CORE),
        "log in reach": os.path.exists("/dev/log") or os.path.exists("/run/systemd"),
    }


def mount_options(_):
    """Top mount of each place: options, and what it shares with other namespaces."""
    found = {}
    for line in open("/proc/self/mountinfo"):
        fields = line.split()
        found[fields[4]] = [fields[5].split(","), fields[6 : fields.index("-")]]
    return found


def use_up_counts(_):
    """Everything that is counted for a user and not for a cgroup."""
    instances = 0
    while instances < 4096 and libc.inotify_init1(0) >= 0:
        instances += 1
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    queued = 0
    while queued < 300_000 and libc.sigqueue(os.getpid(), int(signal.SIGRTMIN), None) == 0:
        queued += 1
    return [instances, queued]


def fill_inodes(most):
    made = 0
    try:
        while made < most:
            os.close(os.open(f"/tmp/{made}", os.O_CREAT))
            made += 1
    except OSError as error:
        return [errno.errorcode[error.errno], made]
    return ["made", made]


def many_descriptors(_):
    held = []
    try:
        while len(held) < 5000:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return [errno.errorcode[error.errno], len(held)]
    finally:
        for fd in held:
            os.close(fd)


def kill_all(_):
    """SIGKILL to all that can be reached but itself and process 1."""
    return attempt(lambda: os.kill(-1, signal.SIGKILL))


def usual_things(_):
    """What ordinary code does and must be able to do."""
    import asyncio, concurrent.futures, json, sqlite3, ssl, threading, uuid, zoneinfo

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        threads = sum(pool.map(lambda n: n, range(10)))
    listing = subprocess.run(["ls", "/var/task"], capture_output=True, text=True, check=True).stdout
    asyncio.run(asyncio.sleep(0))
    database = sqlite3.connect("/tmp/d.db")
    database.execute("create table t (n)")
    database.close()
    return {
        "threads": threads,
        "ls": listing.split(),
        "uuid": len(str(uuid.uuid4())),
        "tz": str(zoneinfo.ZoneInfo("Europe/Berlin")),
        "tls": bool(ssl.create_default_context()),
        "cpus": os.cpu_count(),
        "lo": socket.gethostbyname("localhost"),
        "cwd": os.getcwd(),
    }


def probe(event, context):
    return globals()[event["do"]](event.get("with"))

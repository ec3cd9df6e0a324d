"""What this host offers to xenlike, and what it lacks.

Every check asks the kernel itself, by the call that xenlike would make later, and needs neither root nor the
compiled core: this is what to run when nothing else does. A check never changes the host and leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from xenlike.toolstack.sizes import format_size

State = Literal["ok", "limited", "missing"]

_MFD_NOEXEC_SEAL = 8  # <linux/memfd.h>, Linux 6.3
_F_SEAL_FUTURE_WRITE = 16  # <linux/fcntl.h>, Linux 5.1
_PR_GET_SECCOMP = 21
_MEMBARRIER_GLOBAL_EXPEDITED = 2  # bit in the answer to MEMBARRIER_CMD_QUERY
_UFFD_USER_MODE_ONLY = 1
_SYSCALLS = {
    "x86_64": {"userfaultfd": 323, "membarrier": 324, "io_uring_setup": 425, "landlock_create_ruleset": 444},
    "aarch64": {"userfaultfd": 282, "membarrier": 283, "io_uring_setup": 425, "landlock_create_ruleset": 444},
}
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # mke2fs lives there, and a user's PATH often does not


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was looked for.
        state: `ok`, `limited` (xenlike works, less well), `missing`.
        value: what is there, in words.
        purpose: what xenlike uses it for, and what to do where it is missing.
        required: nothing starts without it.
    """

    name: str
    state: State
    value: str
    purpose: str
    required: bool = False


def examine() -> list[Finding]:
    """Returns the findings of all checks, in the order of a report."""
    return [check() for check in _CHECKS] + [_tool(*words) for words in _TOOLS]


def is_ready(findings: Iterable[Finding]) -> bool:
    """Whether machines can start here: nothing that is required is missing."""
    return not any(finding.required and finding.state == "missing" for finding in findings)


def find_tool(name: str) -> str | None:
    """Returns the path of a program, looking also where administrators' programs are."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SYSTEM_FOLDERS))


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    value = f"{platform.python_implementation()} {platform.python_version()}"
    return Finding("python", "ok" if good else "missing", value, "3.11 or newer runs everything", required=True)


def _kernel() -> Finding:
    linux, known = sys.platform == "linux", platform.machine() in _SYSCALLS
    state: State = "ok" if linux and known else "limited" if linux else "missing"
    value = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return Finding("kernel", state, value, "Linux, on x86-64 or arm64", required=True)


def _core() -> Finding:
    purpose = "rings and shared memory; `make build` makes it in a source tree"
    try:
        found = find_spec("xenlike._core._xl")
    except ImportError:
        found = None
    if found is None:
        return Finding("compiled core", "missing", "not built", purpose, required=True)
    return Finding("compiled core", "ok", Path(found.origin or "").name, purpose, required=True)


def _cpus() -> Finding:
    count = len(os.sched_getaffinity(0))
    value = f"{count} of {os.cpu_count()} usable"
    return Finding("CPUs", "ok" if count > 1 else "limited", value, "with two, a guest and its backend run at once")


def _memory() -> Finding:
    words = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(words["MemAvailable"].split()[0]) << 10
    state: State = "ok" if available >= 512 << 20 else "limited"
    return Finding(
        "memory", state, f"{format_size(available)} available", "each Python guest adds a few MiB of its own"
    )


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    state: State = "ok" if hard >= 4096 else "limited"
    return Finding("descriptors", state, f"{soft}, up to {hard}", "one for each window, two for each event channel end")


def _dev_shm() -> Finding:
    purpose = "images of the demo and of benchmarks, named statistics"
    try:
        status = os.statvfs("/dev/shm")
    except OSError as error:
        return Finding("/dev/shm", "missing", error.strerror or "", purpose)
    free = status.f_bavail * status.f_frsize
    writable = os.access("/dev/shm", os.W_OK)
    state: State = "ok" if writable and free >= 256 << 20 else "limited"
    return Finding("/dev/shm", state, f"{format_size(free)} free" + ("" if writable else ", read-only"), purpose)


def _seals() -> Finding:
    purpose = "windows that no peer can shrink, and read-only ones that stay so"
    try:
        fd = os.memfd_create("xenlike-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        return Finding("memfd seals", "missing", _name(error), purpose, required=True)
    try:
        os.ftruncate(fd, 4096)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE)
    except OSError as error:
        return Finding("memfd seals", "missing", _name(error), purpose, required=True)
    finally:
        os.close(fd)
    return Finding("memfd seals", "ok", "shrink, grow, future-write", purpose, required=True)


def _noexec_seal() -> Finding:
    purpose = "domain memory that can never be executed as a file"
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _MFD_NOEXEC_SEAL
    try:
        os.close(os.memfd_create("xenlike-doctor", flags))
    except OSError as error:
        return Finding("MFD_NOEXEC_SEAL", "limited", f"{_name(error)}; Linux 6.3 has it", purpose)
    return Finding("MFD_NOEXEC_SEAL", "ok", "yes", purpose)


def _pidfd() -> Finding:
    purpose = "the hypervisor sees a domain's death by it"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Finding("pidfd", "missing", _name(error), purpose, required=True)
    return Finding("pidfd", "ok", "yes", purpose, required=True)


def _membarrier() -> Finding:
    purpose = "cheaper fences on a ring's fast path; without it full ones are used"
    answer = _syscall("membarrier", 0, 0, 0)
    if answer < 0:
        return Finding("membarrier", "limited", _errno_name(-answer), purpose)
    if not answer & _MEMBARRIER_GLOBAL_EXPEDITED:
        return Finding("membarrier", "limited", "not global-expedited", purpose)
    return Finding("membarrier", "ok", "global-expedited", purpose)


def _landlock() -> Finding:
    purpose = "keeps a domain to the files it needs"
    abi = _syscall("landlock_create_ruleset", 0, 0, 1)
    if abi < 0:
        return Finding("Landlock", "missing", _errno_name(-abi), purpose)
    state: State = "ok" if abi >= 6 else "limited"  # 6 scopes signals and abstract sockets
    return Finding("Landlock", state, f"ABI {abi}", purpose)


def _seccomp() -> Finding:
    purpose = "keeps a domain to the system calls it needs"
    libc = ctypes.CDLL(None, use_errno=True)
    mode = int(libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0))
    if mode < 0:
        return Finding("seccomp", "missing", _errno_name(ctypes.get_errno()), purpose)
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError:
        actions = []
    inherited = " (this process has a filter already)" if mode else ""
    state: State = "ok" if "errno" in actions or not actions else "limited"
    return Finding("seccomp", state, f"filters{inherited}", purpose)


def _io_uring() -> Finding:
    purpose = "direct I/O of the file engine; without it plain reads and writes are used"
    parameters = ctypes.create_string_buffer(120)  # struct io_uring_params
    fd = _syscall("io_uring_setup", 1, ctypes.addressof(parameters))
    if fd < 0:
        return Finding("io_uring", "limited", f"{_errno_name(-fd)}: not offered or switched off", purpose)
    os.close(fd)
    features = int.from_bytes(parameters.raw[20:24], sys.byteorder)
    return Finding("io_uring", "ok", f"features {features:#x}", purpose)


def _userfaultfd() -> Finding:
    purpose = "dirty pages of a domain that is saved or moved while it runs"
    fd = _syscall("userfaultfd", os.O_CLOEXEC | os.O_NONBLOCK | _UFFD_USER_MODE_ONLY)
    if fd < 0:
        return Finding("userfaultfd", "limited", _errno_name(-fd), purpose)
    os.close(fd)
    return Finding("userfaultfd", "ok", "user mode", purpose)


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _kernel,
    _core,
    _cpus,
    _memory,
    _descriptors,
    _dev_shm,
    _seals,
    _noexec_seal,
    _pidfd,
    _membarrier,
    _landlock,
    _seccomp,
    _io_uring,
    _userfaultfd,
)

_TOOLS = (
    ("mke2fs", "e2fsprogs", "the demo's image of real files"),
    ("e2fsck", "e2fsprogs", "checks that image after the demo"),
    ("xenstore-ls", "xenstore-utils", "Xen's own tools against our xenstored"),
    ("qemu-img", "qemu-utils", "checks and converts images"),
    ("gcc", "gcc", "builds the core, and the C guest of the tests"),
)


def _tool(name: str, package: str, purpose: str) -> Finding:
    path = find_tool(name)
    if path is None:
        return Finding(name, "missing", f"not found; Debian's package is {package}", purpose)
    return Finding(name, "ok", path, purpose)


def _syscall(name: str, *arguments: int) -> int:
    """Returns a system call's result, or its errno as a negative number."""
    number = _SYSCALLS.get(platform.machine(), {}).get(name)
    if number is None:
        return -errno.ENOSYS
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = int(libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments)))
    return -ctypes.get_errno() if result < 0 else result


def _name(error: OSError) -> str:
    return _errno_name(error.errno or 0)


def _errno_name(number: int) -> str:
    return errno.errorcode.get(number, str(number))

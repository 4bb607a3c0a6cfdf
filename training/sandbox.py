"""A cage around the runner: files by Landlock, system calls by seccomp, where the kernel has them.

Needs no privilege. What the kernel does not offer is left out; `enter` says what is in force.

Source:
    Linux, Documentation/userspace-api/landlock.rst and seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2

# Landlock: system calls (the same on every architecture), rights of files, ABI that knows them.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_READ = _EXECUTE | _READ_FILE | _READ_DIR
# What a rule on a single file may name: no right of folders.
_OF_FILES = _EXECUTE | 1 << 1 | _READ_FILE | 1 << 14 | 1 << 15
_NET_ABI, _SCOPE_ABI = 4, 6
_NET_TCP, _SCOPE_ALL = 0b11, 0b11

# Devices and descriptions of the machine that NumPy and TensorFlow read.
_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm"),
    *("/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom", "/dev/zero"),
)

# seccomp: (audit architecture, numbers of refused calls). socket, ptrace, process_vm_*, mount,
# umount2, unshare, setns, bpf, keyctl, add_key, request_key, userfaultfd, io_uring_*, kexec_*,
# *_module, perf_event_open.
_REFUSED: Mapping[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (
            *(41, 101, 310, 311, 165, 166, 272, 308, 321, 250, 248, 249, 323, 425, 426, 427),
            *(246, 320, 175, 176, 313, 298),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(198, 117, 270, 271, 40, 39, 97, 268, 280, 219, 217, 218, 282, 425, 426, 427),
            *(104, 294, 105, 106, 273, 241),
        ),
    ),
}
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE_EPERM, _KILL = 0x7FFF0000, 0x00050001, 0x80000000
_X32_CALLS = 0x40000000


def enter(*, read: Iterable[Path], write: Iterable[Path], list_names: Iterable[Path]) -> str:
    """Shut this thread and all it starts in, for good; returns what is in force.

    Args:
        read: Files and folders that may be read.
        write: Folders in which everything is allowed.
        list_names: Folders whose names may be listed, not what is in the files.
    """
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    abi = landlock_abi()
    in_force = []
    if abi > 0:
        _landlock(abi, [*map(Path, _SYSTEM), *_python(), *read], list(write), list(list_names))
        in_force.append(f"landlock {abi}")
    if _seccomp():
        in_force.append("seccomp")
    return ", ".join(in_force) or "nothing"


def landlock_abi() -> int:
    """Return what this kernel's Landlock can do; 0 or less is nothing."""
    abi: int = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    return abi


def _python() -> list[Path]:
    """Return where Python and its packages are."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    return [Path(prefix) for prefix in prefixes]


def _landlock(abi: int, read: list[Path], write: list[Path], list_names: list[Path]) -> None:
    handled = (1 << _RIGHTS_BY_ABI[min(abi, max(_RIGHTS_BY_ABI))]) - 1
    net = _NET_TCP if abi >= _NET_ABI else 0
    scoped = _SCOPE_ALL if abi >= _SCOPE_ABI else 0
    fields = struct.pack("QQQ", handled, net, scoped)
    attributes = fields[: 8 + 8 * (abi >= _NET_ABI) + 8 * (abi >= _SCOPE_ABI)]
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for rights, paths in (
        (_READ & handled, read),
        (_READ_DIR, list_names),
        (handled, [*write, Path("/dev/null")]),
    ):
        for path in paths:
            _allow(ruleset, rights, path)
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, rights: int, path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # What is not there needs no permission.
        return
    try:
        rights = rights if path.is_dir() else rights & _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result: int = _LIBC.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"system call {number}: {os.strerror(error)}")
    return result


def _seccomp() -> bool:
    """Refuse system calls no training makes; False where the kernel or machine is unknown."""
    known = _REFUSED.get(platform.machine())
    if known is None:
        return False
    architecture, numbers = known
    # Load the architecture; another one's numbers mean other calls: end the process.
    program = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, 0), (_JUMP_ABOVE, 0, 1, _X32_CALLS), (_RETURN, 0, 0, _REFUSE_EPERM)]
    for number in numbers:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE_EPERM)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    return bool(_LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0)

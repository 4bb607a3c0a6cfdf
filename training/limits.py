"""What a runner's process may not do; asked of the kernel, before anything else is loaded."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_GIB = 2**30
# TensorFlow maps far more address space than it uses.
_ADDRESS_SPACE = 24 * _GIB
_FILE_SIZE = 2 * _GIB
_OPEN_FILES = 1024


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when its supervisor is gone."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        # It was gone before the kernel was asked.
        os.kill(os.getpid(), signal.SIGKILL)


def limit(*, cpu_seconds: int) -> None:
    """Set the hard limits of this process."""
    for kind, amount in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, _ADDRESS_SPACE),
        (resource.RLIMIT_FSIZE, _FILE_SIZE),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        value = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
        resource.setrlimit(kind, (value, value))

"""The few Linux calls that keep processes from outliving their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    # Elsewhere the process groups alone have to do.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent(sig: signal.Signals) -> None:
    """Let the kernel send `sig` to this process when its parent ends, however it ends."""
    _prctl(_PR_SET_PDEATHSIG, int(sig))


def adopt_orphans() -> None:
    """Become the new parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _parent_of(stat: Path) -> int | None:
    try:
        # The name, in parentheses, may hold spaces; the parent is the second field after it.
        return int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def children() -> list[int]:
    """Return the pids of this process's children, adopted ones too (Linux; elsewhere none)."""
    me = os.getpid()
    return [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if _parent_of(entry / "stat") == me
    ]


def kill(pid: int, sig: signal.Signals) -> None:
    """Send a signal to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


def kill_group(pid: int, sig: signal.Signals) -> None:
    """Send a signal to a process group that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, sig)


def kill_children(*, spare: Collection[int] = (), seconds: float = 10.0) -> None:
    """Kill every child that is not spared, then what falls to us by that, until none is left."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        doomed = [pid for pid in children() if pid not in spare]
        if not doomed:
            return
        for pid in doomed:
            kill(pid, signal.SIGKILL)
        for pid in doomed:
            _reap(pid, until)


def _reap(pid: int, until: float) -> None:
    while time.monotonic() < until:
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return
        if done:
            return
        time.sleep(0.01)

"""The lock of the data folder.

The lock belongs to an open file that the supervisor shares with the guard of every child: it is
free only when the last of them is gone, even if the supervisor was killed. Whoever is last
removes the file.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a data folder."""

    pid: int
    since: str
    address: str

    @property
    def is_running(self) -> bool:
        """Whether the supervisor itself lives; its children may still be ending."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def acquire(path: Path, holder: Holder) -> int | None:
    """Take the lock; returns the descriptor that holds it, or None if somebody else does."""
    handle = _lock(path, os.O_RDWR | os.O_CREAT)
    if handle is not None:
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(holder)).encode(), 0)
    return handle


def _lock(path: Path, flags: int) -> int | None:
    while True:
        handle = os.open(path, flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        if _is_still(path, handle):
            return handle
        # Its last holder removed the file between our open and our lock.
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def holder(path: Path) -> Holder | None:
    """Return who wrote the lock file last."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def release(path: Path, handle: int) -> None:
    """Let go of the lock, and remove its file if nobody else shares it."""
    os.close(handle)
    try:
        mine = _lock(path, os.O_RDWR)
    except FileNotFoundError:
        return
    if mine is not None:
        path.unlink(missing_ok=True)
        os.close(mine)

"""Whose turn it is to write: one thread of one process at a time.

SQLite lets one transaction write. Whoever finds another one writing sleeps there for 1, 2, 5, 10
and more milliseconds, whenever that one ends; a transaction here takes about one. So writers
queue before they begin: threads of a process behind a lock that wakes the next at once, processes
behind a lock of a file, which goes with a process that dies.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time

# How often a process looks whether another one has ended its turn, in seconds. The lock of a file
# can also be waited for, but then not given up.
_LOOK_SECONDS = 0.0002


class Turn:
    """The right to write into one database.

    Args:
        path: The file whose lock says which process has it; made if it is not there.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = threading.Lock()
        self._file: int | None = None
        # A child would share the file with its parent, and with it the lock.
        os.register_at_fork(after_in_child=self._forget)

    def take(self, seconds: float) -> bool:
        """Wait for the turn; False if it did not come in time."""
        until = time.monotonic() + seconds
        if not self._thread.acquire(timeout=seconds):
            return False
        while not self._locked():
            if time.monotonic() > until:
                self._thread.release()
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def give(self) -> None:
        """End the turn."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._thread.release()

    def _locked(self) -> bool:
        if self._file is None:
            self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _forget(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._thread, self._file = threading.Lock(), None


_turns: dict[str, Turn] = {}
_guard = threading.Lock()


def turn_of(database: str) -> Turn:
    """Return the turn of a database file; the same for all threads of the process."""
    with _guard:
        return _turns.setdefault(database, Turn(f"{database}-turn"))

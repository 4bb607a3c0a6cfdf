"""Live calls come first: a worker's batch files wait while it has a call to answer.

Not for ever: a piece of a file runs when calls have not left a gap for a while, so that a file
under a steady load of calls is slow but ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from inference.runtime.embedders import EmbedderSession
from inference.runtime.sessions import Arrays, Session

# Seconds that a piece of a file waits for a gap between calls.
PATIENCE = 0.25

_changed = threading.Condition()
_running = 0


@contextmanager
def live_call() -> Iterator[None]:
    """Say that a batch of live calls is being run."""
    global _running
    with _changed:
        _running += 1
    try:
        yield
    finally:
        with _changed:
            _running -= 1
            if not _running:
                _changed.notify_all()


def wait(seconds: float = PATIENCE) -> bool:
    """Wait until no live call runs in this process; False if there was no gap in time."""
    with _changed:
        return _changed.wait_for(lambda: not _running, timeout=seconds)


class Polite:
    """A model of texts that lets live calls go between groups of them, which take a while."""

    def __init__(self, session: EmbedderSession) -> None:
        self._session = session
        self.size_bytes = session.size_bytes

    def run(self, arrays: Arrays) -> Arrays:
        """Compute one batch."""
        return self._session.run(arrays, between=wait)


def polite(session: Session) -> Session:
    """Return the same model for what can wait."""
    return Polite(session) if isinstance(session, EmbedderSession) else session

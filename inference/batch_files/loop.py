"""The thread of a predict worker that works on batch files, when live calls leave it room."""

from __future__ import annotations

import logging
import threading

from django.db import DatabaseError, close_old_connections, connection

from inference.batch_files import checking, running
from inference.models import Worker

# Seconds after which a worker looks by itself: a ring may be lost.
LOOK_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Loop:
    """Runs chunks and checks files, one after the other.

    Args:
        owner: The worker's name, whose heartbeat says that it lives.
        labels: What it can do; versions that need more are left to others.
    """

    def __init__(self, owner: str, labels: dict[str, str]) -> None:
        self._owner, self._labels = owner, labels
        self._rung = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch-files", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ring(self) -> None:
        """Look at once."""
        self._rung.set()

    def ask_to_stop(self) -> None:
        """Give back what is under way, after the piece that runs."""
        self._stop.set()
        self._rung.set()

    def stop(self) -> None:
        """Wait until it has stopped."""
        self.ask_to_stop()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._rung.clear()
            if not self._work():
                self._rung.wait(LOOK_SECONDS)

    def _is_active(self) -> bool:
        """Whether operators let this worker take what comes: not if it is cordoned or drained."""
        duty = Worker.objects.filter(name=self._owner).values_list("duty", flat=True).first()
        return duty in {None, Worker.Duty.ACTIVE}

    def _work(self) -> bool:
        """Do a turn; whether there was anything to do."""
        close_old_connections()
        try:
            if not self._is_active():
                return False
            ran = running.run_next(self._owner, self._stop.is_set, self._labels)
            return checking.check_next(self._owner) or ran
        except DatabaseError:
            logger.warning("batch files", exc_info=True)
            connection.close()
        except Exception:  # the thread's edge: a lease that ends by itself, and the log, say so
            logger.exception("batch files")
        return False

"""What happens when limits cannot be counted: requests are let through, and operators see it.

One line in the log when it begins and one when it ends; one row with the number of requests that
were let through meanwhile.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from inference.limits import watching
from inference.models import LimiterOutage

logger = logging.getLogger(__name__)
# How often the row of an outage that goes on is brought up to date.
SAVE_SECONDS = 5.0


class Outages:
    """The outages of one process; written by the thread that counts, added to by all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_away = False
        self._uncounted = 0
        self._row: LimiterOutage | None = None
        self._saved_at = 0.0

    def add(self, requests: int) -> None:
        """Note requests that were let through."""
        watching.let_through(requests)
        with self._lock:
            self._uncounted += requests

    def began(self, error: Exception, requests: int) -> None:
        """Note that Redis could not be asked, again or for the first time."""
        self.add(requests)
        if not self.is_away:
            self.is_away = True
            logger.warning("limits are not counted, requests are let through: %s", error)
            now = timezone.now()
            self._row = LimiterOutage(
                process=f"{socket.gethostname()[:60]}:{os.getpid()}",
                error=f"{type(error).__name__}: {error}"[:200],
                started_at=now,
                seen_at=now,
            )
            self._save(self._row)
        elif self._row is not None and time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self._save(self._row)

    def ended(self) -> None:
        """Note that requests are counted again."""
        if self._row is None:
            return
        self.is_away = False
        row, self._row = self._row, None
        row.ended_at = timezone.now()
        self._save(row)
        logger.warning("limits are counted again; let through meanwhile: %s", row.uncounted)

    def _save(self, row: LimiterOutage) -> None:
        with self._lock:
            row.uncounted = self._uncounted
            if row.ended_at is not None:
                self._uncounted = 0
        row.seen_at = timezone.now()
        self._saved_at = time.monotonic()
        try:
            row.save()
        except (DatabaseError, InterfaceError) as error:
            # What took Redis away may have taken the database as well; the log has it.
            logger.warning("the outage of limits was not written down: %s", error)
        finally:
            # The thread that counts needs the database for nothing else.
            connection.close()

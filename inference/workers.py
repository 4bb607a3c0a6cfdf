"""Says that a worker lives: to gateways over Redis, to operators in the database."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import redis
from django.db import DatabaseError, close_old_connections

from inference.connections import PREDICT_DB, redis_client
from inference.models import Worker
from inference.wire import HEARTBEAT_EXPIRY_MS, HEARTBEAT_SECONDS, heartbeat_key

logger = logging.getLogger(__name__)
# The database is told less often: it is for the console.
ROW_SECONDS = 4.0


class Heartbeat:
    """A thread that says every half second that this process lives.

    Args:
        loaded: Returns what the worker has in memory, for the console.
    """

    def __init__(
        self, name: str, kind: str, pool: str, loaded: Callable[[], list[dict[str, Any]]]
    ) -> None:
        self.name = f"{name}:{os.getpid()}"
        self._kind, self._pool, self._loaded = kind, pool, loaded
        self._started_at = datetime.now(UTC)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and tell the console that the worker stopped on purpose."""
        self._stop.set()
        self._thread.join(timeout=5)
        with contextlib.suppress(redis.RedisError):
            redis_client(PREDICT_DB).delete(heartbeat_key(self.name))
        with contextlib.suppress(DatabaseError):
            Worker.objects.filter(name=self.name).update(stopped_at=datetime.now(UTC))

    def _run(self) -> None:
        next_row = 0.0
        elapsed = 0.0
        while True:
            self._tell_redis()
            if elapsed >= next_row:
                self._tell_database()
                next_row = elapsed + ROW_SECONDS
            if self._stop.wait(HEARTBEAT_SECONDS):
                return
            elapsed += HEARTBEAT_SECONDS

    def _tell_redis(self) -> None:
        try:
            redis_client(PREDICT_DB).set(heartbeat_key(self.name), 1, px=HEARTBEAT_EXPIRY_MS)
        except redis.RedisError as error:
            logger.warning("heartbeat: %s", error)

    def _tell_database(self) -> None:
        close_old_connections()
        try:
            Worker.objects.update_or_create(
                name=self.name,
                defaults={"seen_at": datetime.now(UTC), "loaded": self._loaded()},
                create_defaults={
                    "kind": self._kind,
                    "pool": self._pool,
                    "pid": os.getpid(),
                    "started_at": self._started_at,
                    "seen_at": datetime.now(UTC),
                    "loaded": self._loaded(),
                },
            )
        except DatabaseError as error:
            logger.warning("heartbeat: %s", error)

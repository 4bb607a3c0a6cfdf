"""Says that a worker lives: to gateways over Redis, to operators in the database."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections

from inference import registry
from inference.connections import PREDICT_DB, redis_client
from inference.models import Worker
from inference.runtime.memory import MIB, gpus, machine_bytes, resident_bytes
from inference.wire import HEARTBEAT_EXPIRY_MS, HEARTBEAT_SECONDS, heartbeat_key

logger = logging.getLogger(__name__)
# The database is told less often: it is for the console.
ROW_SECONDS = 4.0


def labels() -> dict[str, str]:
    """Return what this process can do: what the machine has, then what the settings say."""
    found = gpus()
    measured = {
        "cpu": str(os.cpu_count() or 1),
        "memory_mb": str(machine_bytes() // MIB),
        "gpu": str(len(found)),
    }
    if found:
        measured["gpu_name"] = found[0].name
    return measured | settings.WORKER_LABELS


class Heartbeat:
    """Says every half second to Redis, and every few to the database, that this process lives.

    Each has a thread of its own: a database that hangs must not make a worker look dead.
    """

    def __init__(self, node: str, kind: str, pool: str) -> None:
        self.node, self.kind, self.pool = node, kind, pool
        self.name = registry.name_of(node)
        self._started_at = datetime.now(UTC)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=each, name=f"heartbeat-{place}", daemon=True)
            for place, each in enumerate(
                [(self.tell_redis, HEARTBEAT_SECONDS), (self.tell_database, ROW_SECONDS)]
            )
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, and tell the console that the worker stopped on purpose."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        with contextlib.suppress(redis.RedisError):
            redis_client(PREDICT_DB).delete(heartbeat_key(self.name))
        with contextlib.suppress(DatabaseError, InterfaceError):
            Worker.objects.filter(name=self.name).update(stopped_at=datetime.now(UTC))

    def _keep(self, tell: Callable[[], None], seconds: float) -> None:
        while True:
            try:
                tell()
            except (redis.RedisError, DatabaseError, InterfaceError) as error:
                logger.warning("heartbeat: %s", error)
            if self._stop.wait(seconds):
                return

    def tell_redis(self) -> None:
        """Say that the process lives.

        Raises:
            RedisError: It cannot be reached; a little later it is told again.
        """
        redis_client(PREDICT_DB).set(heartbeat_key(self.name), 1, px=HEARTBEAT_EXPIRY_MS)

    def tell_database(self) -> None:
        """Write the row that operators see.

        Raises:
            DatabaseError: It cannot be reached; a little later it is told again.
        """
        close_old_connections()
        seen = {"seen_at": datetime.now(UTC), "resident_bytes": resident_bytes(), **self.row()}
        Worker.objects.update_or_create(
            name=self.name,
            defaults=seen,
            create_defaults={
                **seen,
                "node": self.node,
                "kind": self.kind,
                "pool": self.pool,
                "pid": os.getpid(),
                "started_at": self._started_at,
                **self.first_row(),
            },
        )

    def row(self) -> dict[str, Any]:
        """Return more fields of the row that may change."""
        return {}

    def first_row(self) -> dict[str, Any]:
        """Return more fields of the row that the process sets once."""
        return {"labels": labels()}


def gpu_rows() -> list[dict[str, Any]]:
    """Return the machine's GPUs as JSON."""
    return [asdict(gpu) for gpu in gpus()]

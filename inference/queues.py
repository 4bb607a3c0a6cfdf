"""How much waits for workers, and for how long."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
import redis
from celery import signals
from django.conf import settings

from inference.wire import batch_key, pending_key

# The header of a message that says when it was sent, in seconds since 1970.
SENT_AT = "sent_at"


def date_messages() -> None:
    """Write into each message that this process sends when that was."""
    signals.before_task_publish.connect(_date, dispatch_uid=SENT_AT)


def _date(headers: dict[str, Any], **_: Any) -> None:
    headers[SENT_AT] = time.time()


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits in one queue.

    Attributes:
        oldest_seconds: For how long the next message has waited; None if nothing waits.
    """

    messages: int
    oldest_seconds: float | None = None


def depth(client: redis.Redis, queue: str) -> Depth | None:
    """Look into a queue; None when it cannot be seen: another broker, or none that answers."""
    if settings.CELERY_BROKER_URL:
        return None
    try:
        both = client.pipeline(transaction=False)
        both.llen(queue)
        both.lindex(queue, -1)
        number, message = both.execute()
    except redis.RedisError:
        return None
    return Depth(number, _age(message) if message else None)


def pending(client: redis.Redis, worker: str) -> Depth | None:
    """Look at the batches that a worker has not begun; None when Redis does not answer."""
    try:
        both = client.pipeline(transaction=False)
        both.llen(pending_key(worker))
        both.lindex(pending_key(worker), 0)
        number, entry = both.execute()
        if not entry:
            return Depth(number)
        # A batch is stored for as long as its callers wait: what is left tells its age.
        left: Any = client.pttl(batch_key(entry.decode().partition(":")[2]))
    except redis.RedisError:
        return None
    return Depth(number, settings.PREDICT_TIMEOUT_SECONDS - left / 1000 if left >= 0 else None)


def _age(message: bytes) -> float | None:
    try:
        headers: dict[str, Any] = orjson.loads(message)["headers"]
        return max(time.time() - float(headers[SENT_AT]), 0.0)
    except (ValueError, KeyError, TypeError):
        # Sent by somebody else, or by an older program.
        return None

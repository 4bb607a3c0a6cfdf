"""The queues of Celery that this site's workers take from, for all who show them."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from inference import light_tasks, queues, registry
from inference.connections import JOBS_DB, PREDICT_DB, redis_client
from inference.queues import Depth
from training import doorbell


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and what waits in it; None when it cannot be seen."""

    name: str
    depth: Depth | None


def everyone() -> list[Queue]:
    """Look into all queues that more than one worker may take from."""
    named = [
        (registry.shared_queue(settings.PREDICT_POOL), PREDICT_DB),
        (doorbell.queue(settings.JOB_POOL), JOBS_DB),
        (light_tasks.QUEUE, JOBS_DB),
    ]
    return [Queue(name, queues.depth(redis_client(db), name)) for name, db in named]

"""What was sent to a worker that has died goes to the queue that all workers take from."""

from __future__ import annotations

import logging

from django.conf import settings

from inference import bells, dispatch, registry
from inference.connections import PREDICT_DB, redis_client
from inference.routing import Route

logger = logging.getLogger(__name__)


def reap() -> int:
    """Move the messages of dead workers, oldest first to be taken; returns how many.

    Another broker than Redis deletes such queues itself, and gateways ring again.
    """
    client, moved = redis_client(PREDICT_DB), 0
    shared = registry.shared_queue(settings.PREDICT_POOL)
    for name in registry.dead(client, settings.PREDICT_POOL):
        queue = registry.queue_of(name)
        # From the newest on, each put behind the other end: the oldest is taken next.
        while client.lmove(queue, shared, "LEFT", "RIGHT"):
            moved += 1
        while (batch := bells.take(name)) is not None:
            dispatch.ring(*batch, Route())
            moved += 1
        registry.forget(client, settings.PREDICT_POOL, name)
        client.delete(f"_kombu.binding.{queue}")
        logger.warning("worker %s has gone; what waited for it goes to others", name)
    return moved

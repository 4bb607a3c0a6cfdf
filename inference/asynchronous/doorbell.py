"""Tells predict workers that rows wait. One ring is under way at most: a flood of messages would
keep synchronous calls, which share the queue, waiting."""

from __future__ import annotations

import logging

import redis
from celery.exceptions import OperationalError
from django.conf import settings
from kombu.exceptions import OperationalError as BrokerError

from inference.connections import PREDICT_DB, predict_app, redis_client

TASK = "inference.run_queued"
# A ring that nobody heard for so long is lost.
_UNHEARD_MS = 5000

logger = logging.getLogger(__name__)


def _key() -> str:
    return f"rung:{settings.PREDICT_POOL}"


def ring() -> bool:
    """Ring, unless a ring is under way; False if the broker did not take it: the sweep rings."""
    try:
        if not redis_client(PREDICT_DB).set(_key(), 1, nx=True, px=_UNHEARD_MS):
            return True
        predict_app().send_task(
            TASK,
            queue=f"predict.{settings.PREDICT_POOL}",
            ignore_result=True,
            retry=False,
            expires=_UNHEARD_MS / 1000,
        )
    except (redis.RedisError, OperationalError, BrokerError, OSError) as error:
        logger.warning("doorbell: %s", error)
        return False
    return True


def heard() -> None:
    """Note that a ring was heard, before the rows are looked at: the next one rings again."""
    try:
        redis_client(PREDICT_DB).delete(_key())
    except redis.RedisError as error:
        logger.warning("doorbell: %s", error)

"""Tells job workers that there is work. The row is the truth; a lost ring is rung again."""

from __future__ import annotations

import logging
from functools import cache

from celery import Celery
from kombu.exceptions import OperationalError

from inference.connections import JOBS_DB, SHARED_CONF, broker_url

TASK = "training.run"
# A ring nobody hears in this time is worthless: the sweep has rung again.
_EXPIRES_SECONDS = 60

logger = logging.getLogger(__name__)


def queue(pool: str) -> str:
    """Return the queue that the job workers of a pool listen to."""
    return f"job.{pool}"


@cache
def _producer() -> Celery:
    app = Celery("training", fixups=[], set_as_current=False)
    app.conf.update(
        SHARED_CONF,
        broker_url=broker_url(JOBS_DB),
        broker_transport_options={"socket_timeout": 3, "socket_connect_timeout": 3},
    )
    return app


def ring(pool: str) -> bool:
    """Ring once for a pool; False if the broker did not take it."""
    try:
        _producer().send_task(
            TASK, args=[pool], queue=queue(pool), expires=_EXPIRES_SECONDS, retry=False
        )
    except (OperationalError, OSError):
        logger.warning("The broker took no ring for pool %s; the sweep rings again.", pool)
        return False
    return True

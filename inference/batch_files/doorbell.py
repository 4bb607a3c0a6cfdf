"""Tells predict workers that there is work. The rows are the truth; a lost ring is rung again."""

from __future__ import annotations

import logging

from celery.exceptions import OperationalError
from django.conf import settings
from kombu.exceptions import OperationalError as BrokerError

from inference import registry
from inference.connections import predict_app

TASK = "inference.work_on_batch_files"
# A ring nobody hears in this time is worthless: workers look by themselves.
_EXPIRES_SECONDS = 30

logger = logging.getLogger(__name__)


def ring() -> None:
    """Ring once; workers that hear nothing look every few seconds."""
    try:
        predict_app().send_task(
            TASK,
            queue=registry.shared_queue(settings.PREDICT_POOL),
            expires=_EXPIRES_SECONDS,
            ignore_result=True,
            retry=False,
        )
    except (OperationalError, BrokerError, OSError):
        logger.warning("The broker took no ring for batch files; workers look by themselves.")

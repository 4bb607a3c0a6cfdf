"""What beat asks of inference; may run twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from celery import shared_task, signals
from django.utils import timezone

from inference import predictions
from inference.models import Worker
from inference.webhooks import billing_events, deliveries
from inference.workers import Heartbeat

QUEUE = "light"
_heartbeat: list[Heartbeat] = []
# Receivers that hang take one thread of this worker, not all.
_sending = threading.Lock()


@signals.worker_ready.connect
def _begin(sender: Any = None, **_: Any) -> None:
    if QUEUE not in sender.app.amqp.queues.consume_from:
        return
    heartbeat = Heartbeat(str(sender.hostname), Worker.Kind.LIGHT, QUEUE, list)
    _heartbeat.append(heartbeat)
    heartbeat.start()


@signals.worker_shutdown.connect
def _end(sender: Any = None, **_: Any) -> None:
    for heartbeat in _heartbeat:
        heartbeat.stop()


@shared_task(name="inference.forget_predictions")
def forget_predictions() -> None:
    """Delete what is not kept any longer: predictions, webhooks, workers long gone."""
    predictions.forget_expired()
    deliveries.forget()
    Worker.objects.filter(seen_at__lt=timezone.now() - timedelta(days=7)).delete()


@shared_task(name="inference.send_webhooks")
def send_webhooks() -> None:
    """Make deliveries of what happened, and send what is due."""
    if _sending.acquire(blocking=False):
        try:
            billing_events.announce()
            deliveries.send_due()
        finally:
            _sending.release()

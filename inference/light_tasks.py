"""What beat asks of inference; may run twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from celery import shared_task, signals
from django.utils import timezone

from inference import predictions, reaping
from inference.asynchronous import announcing, sweeping
from inference.batch_files import leases, store
from inference.metrics import flushing, traces
from inference.models import Worker
from inference.traffic import watching
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
    flushing.start("light", keep=traces.keep_in_thread)
    heartbeat = Heartbeat(str(sender.hostname), Worker.Kind.LIGHT, QUEUE)
    _heartbeat.append(heartbeat)
    heartbeat.start()


@signals.worker_shutdown.connect
def _end(sender: Any = None, **_: Any) -> None:
    for heartbeat in _heartbeat:
        heartbeat.stop()
    if _heartbeat:
        flushing.stop()


@shared_task(name="inference.forget_predictions")
def forget_predictions() -> None:
    """Delete what is not kept any longer: predictions, webhooks, traces, workers long gone."""
    predictions.forget_expired()
    sweeping.end_abandoned()
    deliveries.forget()
    traces.forget()
    Worker.objects.filter(seen_at__lt=timezone.now() - timedelta(days=7)).delete()


@shared_task(name="inference.reap_queues")
def reap_queues() -> None:
    """Give what waits for dead workers to others."""
    reaping.reap()


@shared_task(name="inference.sweep_batch_files")
def sweep_batch_files() -> None:
    """Put right what dead workers left behind of batch files."""
    leases.sweep()


@shared_task(name="inference.forget_batch_files")
def forget_batch_files() -> None:
    """Delete batch files and results that are not kept any longer."""
    leases.forget()
    store.delete_orphans()


@shared_task(name="inference.watch_canaries")
def watch_canaries() -> None:
    """Roll back versions that do badly on the calls they are tried on."""
    watching.watch()


@shared_task(name="inference.send_webhooks")
def send_webhooks() -> None:
    """Make deliveries of what happened, and send what is due."""
    if _sending.acquire(blocking=False):
        try:
            billing_events.announce()
            announcing.announce()
            deliveries.send_due()
        finally:
            _sending.release()


@shared_task(name="inference.sweep_predictions")
def sweep_predictions() -> None:
    """Put right what dead workers and lost rings left behind; end what is late."""
    sweeping.sweep()

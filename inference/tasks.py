"""The predict worker's only task, and what happens when the process starts and stops."""

from __future__ import annotations

from typing import Any

from celery import shared_task, signals
from django.conf import settings

from inference import worker
from inference.models import Worker
from inference.workers import Heartbeat

_heartbeat: list[Heartbeat] = []


@signals.worker_init.connect
def _begin(sender: Any = None, **_: Any) -> None:
    if sender.app.main != "predict":
        return
    worker.preload()
    heartbeat = Heartbeat(
        str(sender.hostname), Worker.Kind.PREDICT, settings.PREDICT_POOL, worker.loaded
    )
    _heartbeat.append(heartbeat)
    heartbeat.start()


@signals.worker_shutdown.connect
def _end(sender: Any = None, **_: Any) -> None:
    for heartbeat in _heartbeat:
        heartbeat.stop()


@shared_task(name="inference.run_batch")
def run_batch(batch_id: str) -> None:
    """Run a batch that a lane has stored."""
    worker.run_batch(batch_id, _heartbeat[0].name)

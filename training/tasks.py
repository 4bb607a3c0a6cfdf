"""The doorbell, the sweep, and what happens when a job worker starts and stops."""

from __future__ import annotations

from typing import Any

from celery import shared_task, signals
from django.conf import settings

from inference.models import Worker
from inference.workers import Heartbeat
from training import doorbell, folders, leases, publishing, worker

_heartbeat: list[Heartbeat] = []


def _is_job_worker(sender: Any) -> bool:
    return doorbell.queue(settings.JOB_POOL) in sender.app.amqp.queues.consume_from


@signals.worker_ready.connect
def _begin(sender: Any = None, **_: Any) -> None:
    if not _is_job_worker(sender):
        return
    heartbeat = Heartbeat(str(sender.hostname), Worker.Kind.JOB, settings.JOB_POOL)
    _heartbeat.append(heartbeat)
    heartbeat.start()
    # Rings that came while no worker listened may have expired.
    doorbell.ring(settings.JOB_POOL)


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    worker.drain()


@signals.worker_shutdown.connect
def _end(sender: Any = None, **_: Any) -> None:
    for heartbeat in _heartbeat:
        heartbeat.stop()


@shared_task(name=doorbell.TASK)
def run(pool: str) -> None:
    """Run the next job of a pool."""
    worker.run_next(pool)


@shared_task(name="training.sweep")
def sweep() -> None:
    """Put right what dead workers left behind."""
    leases.sweep()
    publishing.publish_forgotten()


@shared_task(name="training.forget_folders")
def forget_folders() -> None:
    """Delete the files of trainings that ended long ago."""
    folders.forget()

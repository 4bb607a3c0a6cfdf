"""The doorbell that predict workers hear, and their thread for batch files."""

from __future__ import annotations

from typing import Any

from celery import shared_task, signals

from inference import registry
from inference.batch_files import doorbell
from inference.batch_files.loop import Loop
from inference.workers import labels

_loops: list[Loop] = []


@signals.worker_ready.connect
def _begin(sender: Any = None, **_: Any) -> None:
    if sender.app.main != "predict":
        return
    loop = Loop(registry.name_of(str(sender.hostname)), labels())
    _loops.append(loop)
    loop.start()


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    for loop in _loops:
        loop.ask_to_stop()


@signals.worker_shutdown.connect
def _end(sender: Any = None, **_: Any) -> None:
    for loop in _loops:
        loop.stop()


@shared_task(name=doorbell.TASK)
def work_on_batch_files() -> None:
    """Wake the thread; it looks at the rows."""
    for loop in _loops:
        loop.ring()

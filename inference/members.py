"""A predict worker as one of many: what it says of itself, and what operators have it do."""

from __future__ import annotations

import threading
import time
from typing import Any

from celery.worker import state as celery_state
from celery.worker.consumer import Consumer
from django.conf import settings
from django.utils import timezone

from inference import bells, loading, placing, registry
from inference.connections import PREDICT_DB, redis_client
from inference.models import Unload, Worker
from inference.registry import ACTIVE, DRAINED, DRAINING, Member
from inference.wire import pending_key
from inference.workers import Heartbeat, gpu_rows, labels

# Until then every gateway has seen that a worker drains.
_SETTLE_SECONDS = 3.0
Duty = Worker.Duty


def _running() -> int:
    """Return how many batches are being run; a thread that only listens runs none."""
    return max(len(celery_state.active_requests) - bells.idle(), 0)


def _undelivered() -> int:
    """Count the messages that are here and have no thread yet."""
    return len(celery_state.reserved_requests) - len(celery_state.active_requests)


class Membership(Heartbeat):
    """Says what this worker has loaded and has to do; gives it the duty that operators want."""

    def __init__(self, node: str, pool: str, consumer: Consumer) -> None:
        super().__init__(node, Worker.Kind.PREDICT, pool)
        self.queue = registry.queue_of(self.name)
        self.labels = labels()
        self._elsewhere = placing.elsewhere(self.labels)
        self._consumer = consumer
        self._duty = str(Duty.ACTIVE)
        self._drains_since = 0.0
        self._waiting = 0
        self._is_leaving = False
        self._applying = threading.Lock()

    def member(self) -> Member:
        """Return what to say of this worker now."""
        now = timezone.now()
        return Member(
            name=self.name,
            duty=self._shown_duty(),
            labels=self.labels,
            loaded=frozenset(loading.sessions.loaded()),
            starting={
                version_id: int((now - began_at).total_seconds() * 1000)
                for version_id, began_at in loading.starting().items()
            },
            waiting=self._waiting + _undelivered(),
            running=_running(),
        )

    @property
    def loads(self) -> bool:
        """Whether it takes what it would have to load."""
        return self._duty == Duty.ACTIVE

    def may_run(self, version_id: int) -> bool:
        """Whether it has the labels that a version needs."""
        return version_id not in self._elsewhere

    def _shown_duty(self) -> str:
        if self._is_leaving:
            return DRAINING
        if self._duty != Duty.DRAINED:
            return self._duty
        is_early = time.monotonic() - self._drains_since < _SETTLE_SECONDS
        is_busy = self._waiting or _undelivered() or _running() or loading.starting()
        return DRAINING if is_early or is_busy else DRAINED

    def leave(self) -> None:
        """Say that this process ends soon: what comes from now on goes to others."""
        self._is_leaving = True
        self.tell_redis()

    def tell_redis(self) -> None:
        """Say what this worker is, and see whether an operator has rung."""
        pipeline = redis_client(PREDICT_DB).pipeline(transaction=False)
        registry.tell(pipeline, self.pool, self.member())
        pipeline.getdel(registry.duty_key(self.name))
        pipeline.llen(self.queue)
        pipeline.llen(pending_key(self.name))
        *_, has_rung, in_queue, on_list = pipeline.execute()
        self._waiting = in_queue + on_list
        if has_rung:
            self.obey()

    def tell_database(self) -> None:
        """Write the row; then do what rows ask for."""
        super().tell_database()
        self.obey()
        loading.sessions.pin(placing.pinned(self.labels))
        loading.unload_idle()
        if self._duty == ACTIVE:
            for version_id in placing.wanted(self.name, self.pool, self.labels):
                if not loading.sessions.is_ready(version_id):
                    loading.start(version_id)

    def row(self) -> dict[str, Any]:
        """Return what is loaded, and the machine's memory."""
        return {
            "loaded": loading.loaded(),
            "capacity_bytes": settings.MODEL_CACHE_BYTES,
            "gpus": gpu_rows(),
        }

    def first_row(self) -> dict[str, Any]:
        """Keep the duty that the process before this one had on this node."""
        before = Worker.objects.filter(node=self.node, kind=self.kind).order_by("-started_at")
        duty = before.values_list("duty", flat=True).first()
        return {"labels": self.labels, "duty": duty or Duty.ACTIVE}

    def obey(self) -> None:
        """Do what operators have written into the database."""
        with self._applying:
            duty = Worker.objects.filter(name=self.name).values_list("duty", flat=True).first()
            if duty is not None and duty != self._duty:
                self._take_up(duty)
            for order in Unload.objects.filter(worker__name=self.name, done_at=None):
                loading.sessions.unload(order.version_id)
                Unload.objects.filter(pk=order.pk).update(done_at=timezone.now())
            self._elsewhere = placing.elsewhere(self.labels)
            for version_id in self._elsewhere & loading.sessions.loaded().keys():
                loading.sessions.unload(version_id)

    def _take_up(self, duty: str) -> None:
        shared = registry.shared_queue(self.pool)
        if duty == Duty.DRAINED:
            self._drains_since = time.monotonic()
        # Queues are the consumer's thread's: it is asked, not told.
        if duty == Duty.ACTIVE:
            self._consumer.call_soon(self._consumer.add_task_queue, shared)
        elif self._duty == Duty.ACTIVE:
            self._consumer.call_soon(self._consumer.cancel_task_queue, shared)
        self._duty = duty

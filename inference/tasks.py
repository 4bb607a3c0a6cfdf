"""The predict worker's tasks, and what happens when the process starts and stops."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import shared_task, signals
from django.conf import settings
from django.db.models import Q

from accounts.errors import OverloadedError
from inference import (
    bells,
    crashes,
    dispatch,
    garbage,
    loading,
    placing,
    registry,
    routing,
    worker,
)
from inference.asynchronous import choosing, doorbell
from inference.asynchronous.running import Runner
from inference.batch_files import giving_way
from inference.generation import engine, ringing
from inference.link import predict_link
from inference.members import Membership
from inference.metrics import flushing, traces
from inference.routing import Route
from inference.traffic import copies
from inference.traffic.comparing import Comparer
from inference.workers import labels

logger = logging.getLogger(__name__)
_members: list[Membership] = []
_runners: list[Runner] = []
_comparers: list[Comparer] = []
_DRAIN_SECONDS = 8.0


def _is_predict_worker(sender: Any) -> bool:
    return bool(sender.app.main == "predict")


@signals.worker_init.connect
def _prepare(sender: Any = None, **_: Any) -> None:
    """Load what will be asked for; then take from the queue that is this process's alone."""
    if not _is_predict_worker(sender):
        return
    flushing.start("predict", keep=traces.keep_in_thread)
    crashes.node = str(sender.hostname)
    able = labels()
    loading.sessions.pin(placing.pinned(able))
    loading.load_first(placing.first_loads(able))
    name = registry.name_of(str(sender.hostname))
    sender.app.amqp.queues.select_add(registry.worker_queue(name))


@signals.worker_ready.connect
def _begin(sender: Any = None, **_: Any) -> None:
    if not _is_predict_worker(sender):
        return
    garbage.collect_rarely()
    bells.share(sender.pool.limit)
    member = Membership(str(sender.hostname), settings.PREDICT_POOL, sender)
    _members.append(member)
    member.start()
    for texts in (False, True):
        runner = Runner(member.name, partial(_runnable, member, texts))
        _runners.append(runner)
        runner.start()
    comparer = Comparer(lambda: member.loads, member.may_run)
    _comparers.append(comparer)
    comparer.start()


def _runnable(member: Membership, texts: bool) -> Q | None:
    return choosing.runnable(member.member(), texts=texts)


@signals.worker_shutting_down.connect
def _leave(**_: Any) -> None:
    for runner in _runners:
        runner.leave()
    for comparer in _comparers:
        comparer.leave()
    for member in _members:
        member.leave()
    bells.close()


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    for runner in _runners:
        runner.stop()
    for comparer in _comparers:
        comparer.stop()
    # While texts under way are finished, their gateways must see that this worker lives.
    engine.drain(_DRAIN_SECONDS)
    for member in _members:
        member.stop()
    flushing.stop()


@shared_task(name="inference.listen")
def listen() -> None:
    """Run what lies on this worker's list, and what comes while it is awake."""
    bells.listen(_members[0].name, _run)


@shared_task(name="inference.run_batch")
def run_batch(batch_id: str, version_id: int) -> None:
    """Run a batch that whoever comes first may take."""
    _run(batch_id, version_id)
    # Who listens reads the answers with the next batch; here none may follow.
    predict_link().flush()


def _run(batch_id: str, version_id: int) -> None:
    """Run a batch that a lane has stored.

    If its model must be loaded first, it is sent here again when it is: the thread that would
    wait for it runs other models meanwhile. Who may not run it, or is to load nothing, gives it
    to others.
    """
    member = _members[0]
    may_run = member.may_run(version_id)
    if may_run and loading.is_settled(version_id):
        with giving_way.live_call():
            worker.run_batch(batch_id, member.name)
    elif not worker.is_waited_for(batch_id):
        return
    elif may_run and member.loads:
        here = Route(member.name)
        loading.start(version_id, partial(dispatch.ring, batch_id, version_id, here))
    else:
        _pass_on(partial(dispatch.ring, batch_id, version_id), version_id)


def _pass_on(ring: Callable[[Route], None], version_id: int) -> None:
    """Give something to a worker that may run it; if there is none, the gateway refuses it."""
    needed = placing.needed(version_id)
    try:
        route = routing.elsewhere(version_id, needed, _members[0].name)
    except OverloadedError as error:
        logger.warning("version %s cannot be run: %s", version_id, error.message)
        return
    ring(route)


@shared_task(name="inference.load_version")
def load_version(version_id: int) -> None:
    """Load a version that a gateway expects to need here."""
    if _members[0].may_run(version_id) and not loading.is_settled(version_id):
        loading.start(version_id)


@shared_task(name=doorbell.TASK)
def run_queued() -> None:
    """Look at the predictions that wait; threads of their own run them."""
    for runner in _runners:
        runner.ring()


@shared_task(name=copies.TASK)
def run_copies(shadow_id: int) -> None:
    """Look at the copies of a shadow; a thread of its own runs them."""
    for comparer in _comparers:
        comparer.ring(shadow_id)


@shared_task(name="inference.write_text")
def write_text(order_id: str, version_id: int) -> None:
    """Write a text that a gateway has ordered, together with the others of its version."""
    if not _members[0].may_run(version_id):
        _pass_on(partial(ringing.ring, order_id, version_id), version_id)
    elif loading.is_settled(version_id):
        engine.write(order_id, _members[0].name)
    else:
        here = Route(_members[0].name)
        loading.start(version_id, partial(ringing.ring, order_id, version_id, here))

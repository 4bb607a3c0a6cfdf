"""What there is now, asked of the database and of Redis: one query a kind of thing."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import redis
from django.conf import settings
from django.db.models import Count, F, Min, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing import reconciliation
from billing.models import Budget, Hold, ReconciliationRun
from inference import registry
from inference.connections import PREDICT_DB, redis_client
from inference.metrics.exposition import Samples
from inference.models import (
    BatchChunk,
    BatchFile,
    LimiterOutage,
    Prediction,
    WebhookDelivery,
    Worker,
)
from inference.registry import Member
from maas_site import queues
from training.models import Job

logger = logging.getLogger(__name__)
# An outage's row is brought up to date every five seconds; later, its process is gone.
_OUTAGE_SECONDS = 30

# Name, what it says, values.
Measured = tuple[str, str, Samples]


def measure() -> Iterator[Measured]:
    """Yield all of them; those of a Redis that is away have no values."""
    for group in (_holds, _workers, _trainings, _predictions, _files, _webhooks, _limiter, _books):
        yield from group()


def _holds() -> Iterator[Measured]:
    open_holds = Hold.objects.filter(state=Hold.State.AUTHORISED).aggregate(
        sum=Sum("reserved_nanos"), number=Count("pk"), oldest=Min("accepted_at")
    )
    yield "mercato_holds_open", "Runs that money is set aside for.", [({}, open_holds["number"])]
    yield "mercato_holds_open_nanos", "Money set aside, in nanos.", [({}, open_holds["sum"] or 0)]
    yield (
        "mercato_holds_oldest_seconds",
        "Age of the oldest run that money is set aside for.",
        [({}, _age(open_holds["oldest"]))],
    )
    unsettled = Hold.objects.unsettled().aggregate(number=Count("pk"), oldest=Min("finished_at"))
    yield "mercato_holds_unsettled", "Finished runs not booked yet.", [({}, unsettled["number"])]
    yield (
        "mercato_holds_unsettled_oldest_seconds",
        "Age of the oldest finished run that is not booked.",
        [({}, _age(unsettled["oldest"]))],
    )


def _workers() -> Iterator[Measured]:
    yield "mercato_queue_messages", "Messages that no worker has taken.", _queues()
    held, run = Counter[str](), Counter[str]()
    for member in _members():
        # Its pid is no label: each start would make new series.
        node = member.name.rpartition(":")[0]
        held[node] += member.waiting
        run[node] += member.running
    yield (
        "mercato_worker_waiting",
        "Batches in a predict worker's own queue.",
        [({"worker": node}, n) for node, n in held.items()],
    )
    yield (
        "mercato_worker_running",
        "Batches that a predict worker runs.",
        [({"worker": node}, n) for node, n in run.items()],
    )
    alive = Worker.objects.alive().values_list("kind").annotate(n=Count("pk"))
    yield (
        "mercato_workers_alive",
        "Workers with a heartbeat.",
        _by("kind", Worker.Kind.values, alive),
    )


def _trainings() -> Iterator[Measured]:
    jobs = Job.objects.values_list("state").annotate(n=Count("pk"))
    yield "mercato_jobs", "Trainings by state.", _by("state", Job.State.values, jobs)
    waiting = Job.objects.filter(state=Job.State.QUEUED).aggregate(oldest=Min("created_at"))
    yield (
        "mercato_jobs_oldest_seconds",
        "Age of the training that has waited longest for a worker.",
        [({}, _age(waiting["oldest"]))],
    )


def _predictions() -> Iterator[Measured]:
    queued = Prediction.objects.filter(turn__isnull=False).aggregate(
        number=Count("pk"), oldest=Min("created_at")
    )
    yield (
        "mercato_async_waiting",
        "Asynchronous predictions that no worker has begun.",
        [({}, queued["number"])],
    )
    yield (
        "mercato_async_oldest_seconds",
        "Age of the asynchronous prediction that has waited longest.",
        [({}, _age(queued["oldest"]))],
    )
    running = Prediction.objects.filter(lease_until__isnull=False)
    yield (
        "mercato_async_running",
        "Asynchronous predictions that a worker has.",
        [({}, running.count())],
    )


def _files() -> Iterator[Measured]:
    status = BatchFile.Status
    states = (status.CHECKING, status.PROCESSING, status.PAUSED)
    counted = BatchFile.objects.filter(status__in=states).order_by()
    yield (
        "mercato_batch_files",
        "Batch files under way, by status.",
        _by("status", states, counted.values_list("status").annotate(n=Count("pk"))),
    )
    chunks = BatchChunk.objects.filter(batch__status=status.PROCESSING)
    rows = chunks.filter(~Q(state=BatchChunk.State.DONE)).aggregate(rows=Sum("rows"))["rows"]
    yield (
        "mercato_batch_file_rows_waiting",
        "Rows of batch files that are still to be run.",
        [({}, rows or 0)],
    )
    taken = Coalesce(F("claimed_at"), F("started_at"), F("created_at"))
    idle = counted.filter(status=status.PROCESSING).aggregate(since=Min(taken))["since"]
    yield (
        "mercato_batch_files_idle_seconds",
        "Time since rows were taken of the batch file that has waited longest.",
        [({}, _age(idle))],
    )


def _webhooks() -> Iterator[Measured]:
    pending = WebhookDelivery.objects.filter(
        state=WebhookDelivery.State.PENDING, endpoint__is_active=True
    )
    found = pending.aggregate(
        waiting=Count("pk"),
        due=Count("pk", filter=Q(next_attempt_at__lte=timezone.now())),
        first=Min("next_attempt_at"),
    )
    yield (
        "mercato_webhooks_waiting",
        "Webhooks that were not delivered yet, also those that wait to be tried again.",
        [({}, found["waiting"])],
    )
    yield "mercato_webhooks_due", "Webhooks whose time has come.", [({}, found["due"])]
    yield (
        "mercato_webhooks_due_oldest_seconds",
        "For how long the webhook that has waited longest should have been sent.",
        [({}, _age(found["first"]))],
    )


def _limiter() -> Iterator[Measured]:
    since = timezone.now() - timedelta(seconds=_OUTAGE_SECONDS)
    away = LimiterOutage.objects.filter(ended_at=None, seen_at__gte=since).count()
    yield (
        "mercato_limiter_away",
        "Processes that let requests through uncounted at the moment.",
        [({}, away)],
    )


def _books() -> Iterator[Measured]:
    yield "mercato_wallets_nanos", "Sums over all wallets, in nanos.", _wallets()
    yield (
        "mercato_books_findings",
        "Findings of the comparison of the books that nobody has dealt with.",
        [({}, reconciliation.open_findings())],
    )
    # One line a night: the newest finished one is among the last.
    finished = ReconciliationRun.objects.exclude(finished_at=None).order_by("-pk").first()
    yield (
        "mercato_books_checked_seconds",
        "Time since the books were compared; no value before the first night.",
        [({}, _age(finished.finished_at))] if finished else [],
    )


def _members() -> list[Member]:
    try:
        return registry.read(redis_client(PREDICT_DB), settings.PREDICT_POOL)
    except redis.RedisError as error:
        logger.warning("metrics: %s", error)
        return []


def _age(instant: datetime | None) -> float:
    return 0 if instant is None else max((timezone.now() - instant).total_seconds(), 0)


def _queues() -> Samples:
    found = queues.everyone()
    return [({"queue": each.name}, each.depth.messages) for each in found if each.depth]


def _by(label: str, values: Iterable[str], counted: Iterable[tuple[str, int]]) -> Samples:
    found = dict(counted)
    return [({label: str(value)}, found.get(value, 0)) for value in values]


def _wallets() -> Samples:
    wallets = Budget.objects.filter(lock_rank=Budget.Rank.WALLET)
    sums = wallets.aggregate(*map(Sum, ("capacity", "posted", "held")))
    capacity, posted, held = (total or 0 for total in sums.values())
    parts = {
        "capacity": capacity,
        "posted": posted,
        "held": held,
        "available": capacity - posted - held,
    }
    return [({"part": part}, total) for part, total in parts.items()]

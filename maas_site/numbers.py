"""GET /metrics: the operators' numbers, in the text format of Prometheus.

What happened is counted by every process (`inference.metrics`); what there is now is asked of the
database and of Redis here.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import redis
from django.conf import settings
from django.db.models import Count, Min, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.authentication import bearer
from accounts.errors import AuthenticationError
from billing.models import Budget, Hold
from inference import registry
from inference.connections import JOBS_DB, PREDICT_DB, redis_client
from inference.metrics import exposition
from inference.metrics.exposition import Samples
from inference.models import Worker
from inference.registry import Member
from training.models import Job

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the operators' numbers; for all others there is nothing here."""
    if not _may_read(request):
        raise Http404
    lines: list[str] = []
    for name, text, samples in _measure():
        lines += exposition.gauge_lines(name, text, samples)
    try:
        lines += exposition.lines()
        is_there = 1
    except redis.RedisError as error:
        logger.warning("metrics: %s", error)
        is_there = 0
    lines += exposition.gauge_lines(
        "mercato_redis_up", "Whether Redis could be asked for what was counted.", [({}, is_there)]
    )
    body = "\n".join(lines) + "\n"
    return HttpResponse(body, content_type="text/plain; version=0.0.4; charset=utf-8")


def _may_read(request: HttpRequest) -> bool:
    return (
        _is_local(request) or _has_token(request) or bool(getattr(request.user, "is_staff", False))
    )


def _is_local(request: HttpRequest) -> bool:
    """Whether the request comes from this machine, and not through a proxy on it."""
    if "Forwarded" in request.headers or "X-Forwarded-For" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


def _has_token(request: HttpRequest) -> bool:
    if not settings.METRICS_TOKEN:
        return False
    try:
        given = bearer(request.headers.get("Authorization", ""))
    except AuthenticationError:
        return False
    return secrets.compare_digest(given.encode(), settings.METRICS_TOKEN.encode())


def _measure() -> Iterable[tuple[str, str, Samples]]:
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
    yield (
        "mercato_holds_unsettled",
        "Finished runs not booked yet.",
        [({}, unsettled["number"])],
    )
    yield (
        "mercato_holds_unsettled_oldest_seconds",
        "Age of the oldest finished run that is not booked.",
        [({}, _age(unsettled["oldest"]))],
    )
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
    jobs = Job.objects.values_list("state").annotate(n=Count("pk"))
    yield "mercato_jobs", "Trainings by state.", _by("state", Job.State.values, jobs)
    waiting = Job.objects.filter(state=Job.State.QUEUED).aggregate(oldest=Min("created_at"))
    yield (
        "mercato_jobs_oldest_seconds",
        "Age of the training that has waited longest for a worker.",
        [({}, _age(waiting["oldest"]))],
    )
    yield "mercato_wallets_nanos", "Sums over all wallets, in nanos.", _wallets()


def _members() -> list[Member]:
    try:
        return registry.read(redis_client(PREDICT_DB), settings.PREDICT_POOL)
    except redis.RedisError as error:
        logger.warning("metrics: %s", error)
        return []


def _age(instant: datetime | None) -> float:
    return 0 if instant is None else max((timezone.now() - instant).total_seconds(), 0)


def _queues() -> Samples:
    queues = [
        (PREDICT_DB, f"predict.{settings.PREDICT_POOL}"),
        (JOBS_DB, f"job.{settings.JOB_POOL}"),
        (JOBS_DB, "light"),
    ]
    if settings.CELERY_BROKER_URL:
        return []
    try:
        return [({"queue": name}, int(redis_client(db).llen(name))) for db, name in queues]
    except redis.RedisError as error:
        logger.warning("metrics: %s", error)
        return []


def _by(label: str, values: Iterable[str], counted: Iterable[tuple[str, int]]) -> Samples:
    found = dict(counted)
    return [({label: value}, found.get(value, 0)) for value in values]


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

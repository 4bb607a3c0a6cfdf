"""Is the site well: for load balancers, for the supervisor, and in numbers for operators."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Sum
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from billing.models import Budget, Hold
from inference.connections import JOBS_DB, PREDICT_DB, redis_client
from inference.models import Worker
from inference.wire import heartbeat_key
from training.models import Job

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer as long as this process can."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Tell whether a prediction could be served now, part by part."""
    checks: dict[str, Callable[[], str]] = {
        "database": _database,
        "redis": _redis,
        "predict_worker": _predict_worker,
    }
    parts = {name: check() for name, check in checks.items()}
    is_ready = all(state == "ok" for state in parts.values())
    answer = {"status": "ok" if is_ready else "unavailable", "parts": parts}
    return JsonResponse(answer, status=200 if is_ready else 503)


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        logger.warning("readyz: %s", error)
        return "unreachable"
    return "ok"


def _redis() -> str:
    try:
        redis_client(PREDICT_DB).ping()
    except redis.RedisError as error:
        logger.warning("readyz: %s", error)
        return "unreachable"
    return "ok"


def _predict_worker() -> str:
    """Ask the database who there is, and Redis who lived a moment ago."""
    try:
        names = (
            Worker.objects.alive().filter(kind=Worker.Kind.PREDICT).values_list("name", flat=True)
        )
        keys = [heartbeat_key(name) for name in names]
        return "ok" if keys and redis_client(PREDICT_DB).exists(*keys) else "none is alive"
    except (DatabaseError, redis.RedisError):
        return "unknown"


# Numbers ------------------------------------------------------------------------------------


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the operators' numbers in the text format of Prometheus."""
    if not (_is_local(request) or getattr(request.user, "is_staff", False)):
        raise Http404
    lines: list[str] = []
    for name, text, samples in _measure():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels(labels)} {value}" for labels, value in samples]
    body = "\n".join(lines) + "\n"
    return HttpResponse(body, content_type="text/plain; version=0.0.4; charset=utf-8")


def _is_local(request: HttpRequest) -> bool:
    """Whether the request comes from this machine, and not through a proxy on it."""
    if "Forwarded" in request.headers or "X-Forwarded-For" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


Samples = list[tuple[dict[str, str], int]]


def _measure() -> Iterable[tuple[str, str, Samples]]:
    open_holds = Hold.objects.filter(state=Hold.State.AUTHORISED)
    reserved = open_holds.aggregate(sum=Sum("reserved_nanos"))["sum"] or 0
    yield "mercato_holds_open", "Runs that money is set aside for.", [({}, open_holds.count())]
    yield "mercato_holds_open_nanos", "Money set aside, in nanos.", [({}, reserved)]
    unsettled = Hold.objects.unsettled().count()
    yield "mercato_holds_unsettled", "Finished runs not booked yet.", [({}, unsettled)]
    yield "mercato_queue_messages", "Messages that no worker has taken.", _queues()
    alive = Worker.objects.alive().values_list("kind").annotate(n=Count("pk"))
    yield (
        "mercato_workers_alive",
        "Workers with a heartbeat.",
        _by("kind", Worker.Kind.values, alive),
    )
    jobs = Job.objects.values_list("state").annotate(n=Count("pk"))
    yield "mercato_jobs", "Trainings by state.", _by("state", Job.State.values, jobs)
    yield "mercato_wallets_nanos", "Sums over all wallets, in nanos.", _wallets()


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


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""

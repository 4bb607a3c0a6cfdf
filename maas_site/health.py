"""Is the site well: for load balancers and for the supervisor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import redis
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.errors import OverloadedError, body_of
from inference.connections import PREDICT_DB, redis_client
from inference.models import Worker
from inference.wire import heartbeat_key

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
    parts = _parts()
    is_ready = _is_ready(parts)
    answer = {"status": "ok" if is_ready else "unavailable", "parts": parts}
    return JsonResponse(answer, status=200 if is_ready else 503)


@never_cache
@require_safe
def v2_live(request: HttpRequest) -> HttpResponse:
    """Answer as /healthz, in the Open Inference Protocol."""
    return JsonResponse({"live": True})


@never_cache
@require_safe
def v2_ready(request: HttpRequest) -> HttpResponse:
    """Answer as /readyz, in the Open Inference Protocol."""
    parts = _parts()
    if _is_ready(parts):
        return JsonResponse({"ready": True})
    wrong = ", ".join(f"{name}: {state}" for name, state in parts.items() if state != "ok")
    error = OverloadedError(f"Nothing can be run now ({wrong}).")
    body = body_of(error, getattr(request, "request_id", ""))
    headers = {"Retry-After": str(error.retry_after)}
    return JsonResponse(body, status=error.status_code, headers=headers)


def _parts() -> dict[str, str]:
    checks: dict[str, Callable[[], str]] = {
        "database": _database,
        "redis": _redis,
        "predict_worker": _predict_worker,
    }
    return {name: check() for name, check in checks.items()}


def _is_ready(parts: Mapping[str, str]) -> bool:
    return all(state == "ok" for state in parts.values())


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError) as error:
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
    except (DatabaseError, InterfaceError, redis.RedisError):
        return "unknown"

"""GET /metrics: the operators' numbers, in the text format of Prometheus.

What happened is counted by every process (`inference.metrics`); what there is now is asked of the
database and of Redis by `maas_site.gauges`.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets

import redis
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.authentication import bearer
from accounts.errors import AuthenticationError
from inference.metrics import exposition
from maas_site import gauges

logger = logging.getLogger(__name__)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the operators' numbers; for all others there is nothing here."""
    if not _may_read(request):
        raise Http404
    lines: list[str] = []
    for name, text, samples in gauges.measure():
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

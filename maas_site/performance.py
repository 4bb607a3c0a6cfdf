"""The operators' page of what happens now: rates, percentiles, errors, batches, what waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import redis
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from accounts.models import User
from billing.models import Hold
from billing.templatetags.units import duration, percent
from inference import performance
from inference.admin import age
from inference.metrics import exposition, families, live
from inference.metrics.exposition import Samples
from inference.metrics.live import Figures
from maas_site import queues
from maas_site.admin import Tile
from maas_site.queues import Queue
from training.models import Job

# Somebody waits longer than this for what takes milliseconds: worth a look.
LONG_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that waits: how much of it, and how long the oldest has; None: not known."""

    name: str
    depth: int | None
    oldest: float | None

    @property
    def age(self) -> str:
        """The age of the oldest, in words."""
        return age(self.oldest) if self.depth and self.oldest is not None else "–"

    @property
    def is_long(self) -> bool:
        """Whether it has waited for too long."""
        return bool(self.depth) and (self.oldest or 0) > LONG_SECONDS


@require_GET
def operator_performance(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    page = {**admin.site.each_context(request), "title": _("Performance"), **_page(request)}
    return render(request, "admin/performance.html", page)


@never_cache
@require_GET
def operator_performance_live(request: HttpRequest) -> HttpResponse:
    """Return the part of it that changes."""
    return render(request, "admin/_performance.html", _page(request))


def _page(request: HttpRequest) -> dict[str, Any]:
    if not cast(User, request.user).has_perm("billing.view_hold"):
        raise PermissionDenied
    span = performance.span_of(request.GET.get("span"))
    series = live.read(live.SITE_SERIES, span)
    return {
        "live": performance.shown(series),
        "span": span,
        "tiles": _tiles(series.total, series.seconds),
        "models": performance.by_model(span),
        "waiting": waiting(),
    }


def _tiles(total: Figures, seconds: int) -> list[Tile]:
    success, rows = total.success_permyriad, total.rows_per_batch
    return [
        Tile(
            _("Calls"),
            str(total.calls),
            _("%(rate)s per second on average") % {"rate": f"{total.calls / seconds:.1f}"},
        ),
        Tile(_("Latency p50"), duration(total.p50_us) or "–", _("half of the calls are faster")),
        Tile(_("Latency p95"), duration(total.p95_us) or "–", _("95 of 100 are faster")),
        Tile(
            _("Success"),
            "–" if success is None else percent(success),
            _("%(failed)s failed, %(refused)s refused")
            % {"failed": total.failed, "refused": total.refused},
            tone="danger" if total.failed else "",
        ),
        Tile(
            _("Rows per batch"),
            "–" if rows is None else f"{rows:.1f}",
            _("%(batches)s batches") % {"batches": total.batches},
        ),
    ]


def waiting() -> list[Waiting]:
    """Return what waits on the way of a call, and behind it, with the age of the oldest."""
    try:
        gauges = exposition.gauges()
    except redis.RedisError:
        gauges = {}
    unsettled = Hold.objects.unsettled().order_by().aggregate(oldest=Min("finished_at"))["oldest"]
    queued = Job.objects.filter(state=Job.State.QUEUED)
    return [
        Waiting(
            _("Requests in lanes"),
            int(sum(_values(gauges, families.LANE_WAITING.name))),
            max(_values(gauges, families.LANE_OLDEST.name), default=None),
        ),
        Waiting(
            _("Batches at workers"),
            int(sum(_values(gauges, families.BATCHES_AWAY.name))),
            max(_values(gauges, families.BATCH_OLDEST.name), default=None),
        ),
        Waiting(
            _("Trainings"),
            queued.count(),
            _age(queued.aggregate(oldest=Min("created_at"))["oldest"]),
        ),
        Waiting(_("Runs to settle"), Hold.objects.unsettled().order_by().count(), _age(unsettled)),
        *map(_messages, queues.everyone()),
    ]


def _messages(queue: Queue) -> Waiting:
    if queue.depth is None:
        return Waiting(queue.name, None, None)
    return Waiting(queue.name, queue.depth.messages, queue.depth.oldest_seconds)


def _values(gauges: dict[str, Samples], name: str) -> list[float]:
    return [value for _, value in gauges.get(name, [])]


def _age(instant: datetime | None) -> float | None:
    return None if instant is None else (timezone.now() - instant).total_seconds()

"""Calls as a tenant reads them: what is set aside, joined with what was used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from billing.models import Hold, UsageEvent, UsageRollup
from billing.models.holds import HoldQuerySet

State = Hold.State
# Percentiles are read from the newest calls: exact for a quiet tenant, cheap for a busy one.
LATENCY_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the usage page and of its CSV."""

    hold_id: UUID
    at: datetime
    source: str
    model: str
    key: str
    rows: int
    queue_us: int
    run_us: int
    batch_rows: int
    # None while the run is not finished.
    cost_nanos: int | None
    reserved_nanos: int
    # An outcome of the policy, an error code, or the state of a hold without either.
    outcome: str
    request_id: str

    @property
    def owner(self) -> str:
        """The organization whose model ran."""
        return self.model.partition("/")[0]

    @property
    def name(self) -> str:
        """The name of the model that ran, without its owner and version."""
        return self.model.partition("/")[2].partition(":")[0]

    @property
    def number(self) -> str:
        """The number of the version that ran."""
        return self.model.rpartition(":")[2]

    @property
    def is_open(self) -> bool:
        """Whether the run has not ended."""
        return self.cost_nanos is None

    @property
    def is_good(self) -> bool:
        """Whether the run ended well."""
        return self.outcome == "succeeded"

    @property
    def is_canceled(self) -> bool:
        """Whether its owner stopped the run."""
        return self.outcome == "canceled"

    @property
    def total_us(self) -> int:
        """Waiting and running together."""
        return self.queue_us + self.run_us


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the calls of a filter."""

    calls: int
    succeeded: int
    failed: int
    open: int
    cost_nanos: int
    held_nanos: int

    @property
    def success_permyriad(self) -> int | None:
        """Finished calls that succeeded, in 1/100 of a percent; None before the first."""
        finished = self.succeeded + self.failed
        return self.succeeded * 10_000 // finished if finished else None


def call_of(hold: Hold) -> Call:
    """Return a hold, with its usage event if there is one, as a line to read."""
    usage: UsageEvent | None = getattr(hold, "usage", None)
    ended = hold.state != State.AUTHORISED
    return Call(
        hold_id=hold.pk,
        at=hold.accepted_at,
        source=hold.source,
        model=hold.model_version.path if hold.model_version else "",
        key=f"{hold.api_key.name} …{hold.api_key.last4}" if hold.api_key else "",
        rows=usage.rows if usage else 0,
        queue_us=usage.queue_us if usage else 0,
        run_us=(usage.run_us or usage.compute_ms * 1000) if usage else 0,
        batch_rows=usage.batch_rows if usage else 0,
        cost_nanos=(hold.captured_nanos or 0) if ended else None,
        reserved_nanos=hold.reserved_nanos,
        outcome=usage.outcome if usage else hold.failure or hold.state,
        request_id=hold.request_id,
    )


def page(
    holds: HoldQuerySet, *, before: UUID | None, size: int
) -> tuple[Sequence[Call], UUID | None]:
    """Return one page of calls, newest first, and where the next one starts."""
    wanted = holds.with_usage().order_by("-pk")
    if before is not None:
        wanted = wanted.filter(pk__lt=before)
    found = list(wanted[: size + 1])
    following = found[size - 1].pk if len(found) > size else None
    return [call_of(hold) for hold in found[:size]], following


def totals(holds: HoldQuerySet) -> Totals:
    """Sum the calls of a filter."""
    succeeded = Q(usage__outcome="succeeded")
    is_open = Q(state=State.AUTHORISED)
    sums: Mapping[str, Any] = holds.aggregate(
        calls=Count("pk"),
        succeeded=Count("pk", filter=succeeded),
        open=Count("pk", filter=is_open),
        cost_nanos=Coalesce(Sum("captured_nanos"), 0),
        held_nanos=Coalesce(Sum("reserved_nanos", filter=is_open), 0),
    )
    failed = sums["calls"] - sums["succeeded"] - sums["open"]
    return Totals(failed=failed, **sums)


def cost_per_day(rollups: QuerySet[UsageRollup]) -> Iterable[tuple[date, int, int]]:
    """Return (day in UTC, charged calls, nanos) for each day that has any, oldest first.

    Read from the hourly sums: a tenant has thousands of calls per hour, and one sum.
    """
    return (
        rollups.annotate(day=TruncDate("hour"))
        .values("day")
        .annotate(count=Sum("calls"), cost=Sum("cost_nanos"))
        .order_by("day")
        .values_list("day", "count", "cost")
    )


def latencies(holds: HoldQuerySet) -> tuple[int, int] | None:
    """Return p50 and p99 of waiting and running, in microseconds, of the newest calls."""
    newest = (
        holds.filter(state=State.CAPTURED, source__in=[Hold.Source.API, Hold.Source.WEB])
        .order_by("-pk")
        .values_list("usage__queue_us", "usage__run_us")[:LATENCY_SAMPLE]
    )
    times = sorted(queue_us + run_us for queue_us, run_us in newest)
    if not times:
        return None
    return times[(len(times) - 1) * 50 // 100], times[(len(times) - 1) * 99 // 100]

"""What last month would have cost by another price: exact, and a part at a time.

Usage is grouped in the database by what the price counts, so that a million equal calls are rated
once. It is read one organization and day after the other: a preview that takes longer than a
person waits is stored with how far it got, and `continue_waiting` goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import TruncDay
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.models import Organization
from billing.errors import UnratedError
from billing.models import UsageEvent, UsageRollup
from billing.outcomes import TRAINING_POLICY, billed_percent
from billing.rating import PricePlan, for_source, plan_of_change, rate, share
from catalog.models import MLModel, ModelVersion, PriceChange

DAYS = 30
# How long somebody waits for a page, and how long one round of the task goes on.
PATIENCE_SECONDS = 2
ROUND_SECONDS = 20
_COLUMNS = {
    "row": "rows",
    "compute_ms": "compute_ms",
    "input_token": "input_tokens",
    "output_token": "output_tokens",
    "byte": "bytes",
}


@dataclass(frozen=True, slots=True)
class TenantLine:
    """What one organization paid, and would have paid."""

    organization: Organization
    calls: int
    old_nanos: int
    new_nanos: int

    @property
    def difference_nanos(self) -> int:
        """How much more it would have paid."""
        return self.new_nanos - self.old_nanos


@dataclass(frozen=True, slots=True)
class Preview:
    """A stored preview as a page shows it, the largest difference first."""

    lines: list[TenantLine]
    since: datetime
    until: datetime
    is_complete: bool
    # Calls that counted nothing of what the price names; they could not run by it.
    unrated: int

    @property
    def total(self) -> TenantLine:
        """The sum of all organizations."""
        return TenantLine(
            Organization(),
            sum(line.calls for line in self.lines),
            sum(line.old_nanos for line in self.lines),
            sum(line.new_nanos for line in self.lines),
        )


class _Source:
    """The usage that a price would have rated."""

    def __init__(self, model: MLModel | None, sku: str) -> None:
        self._sku = sku if model is None else ""
        # 0 is what trainings have in the hourly sums.
        self._policies: dict[int, Mapping[str, int]] = {0: TRAINING_POLICY}
        if model is not None:
            versions = ModelVersion.objects.filter(model=model)
            self._policies = dict(versions.values_list("pk", "outcome_policy"))

    def days(self, since: datetime, until: datetime) -> QuerySet[UsageRollup, Any]:
        """Return (organization, day) of everything that was used, in order."""
        used = UsageRollup.objects.filter(
            model_version_id__in=list(self._policies), hour__gte=since, hour__lt=until
        )
        days = used.order_by().annotate(day=TruncDay("hour")).values_list("organization_id", "day")
        return days.distinct().order_by("organization_id", "day")

    def groups(
        self, organization_id: int, start: datetime, end: datetime, plan: PricePlan
    ) -> Iterator[tuple[PricePlan, Mapping[str, int], int, int, int]]:
        """Yield (its plan, quantities, percent, calls, what they cost) of equal calls."""
        names = [name for name in _COLUMNS if name in plan.components]
        events = UsageEvent.objects.filter(
            organization_id=organization_id, occurred_at__gte=start, occurred_at__lt=end
        )
        if self._sku:
            events = events.filter(model_version=None, hold__price_version__sku=self._sku)
        else:
            events = events.filter(model_version_id__in=list(self._policies))
        columns = [
            "model_version_id",
            "hold__source",
            "outcome",
            *(_COLUMNS[name] for name in names),
        ]
        grouped = events.order_by().values_list(*columns)
        counted = grouped.annotate(calls=Count("pk"), cost=Sum("cost_nanos"))
        for version_id, source, outcome, *used, calls, cost in counted.iterator(chunk_size=2000):
            quantities = {
                "call": 1,
                **{name: n for name, n in zip(names, used, strict=True) if n is not None},
            }
            percent = billed_percent(self._policies[version_id or 0], outcome)
            yield for_source(plan, source), quantities, percent, calls, cost


def begin(model: MLModel | None, sku: str, plan: PricePlan) -> dict[str, Any]:
    """Start a preview of the last 30 days and count as much as somebody waits for.

    Returns:
        What `PriceChange.preview` stores; see `advance`.
    """
    until = timezone.now().replace(minute=0, second=0, microsecond=0)
    preview: dict[str, Any] = {
        "since": (until - timedelta(days=DAYS)).isoformat(),
        "until": until.isoformat(),
        "cursor": None,
        "is_complete": False,
        "unrated": 0,
        # Organization → [calls, what they cost, what they would have cost].
        "tenants": {},
    }
    return advance(preview, model, sku, plan, seconds=PATIENCE_SECONDS)


def advance(
    preview: Mapping[str, Any], model: MLModel | None, sku: str, plan: PricePlan, *, seconds: int
) -> dict[str, Any]:
    """Count on from where a preview stands, for some seconds; returns it as it is then."""
    done = {**preview, "tenants": {key: list(sums) for key, sums in preview["tenants"].items()}}
    since, until = _instant(preview["since"]), _instant(preview["until"])
    source, stop_at = _Source(model, sku), time.monotonic_ns() + seconds * 10**9
    for organization_id, day in source.days(since, until):
        place = [organization_id, day.isoformat()]
        if done["cursor"] is not None and place <= done["cursor"]:
            continue
        if time.monotonic_ns() > stop_at:
            return done
        start, end = max(day, since), min(day + timedelta(days=1), until)
        _count(done, organization_id, source.groups(organization_id, start, end, plan))
        done["cursor"] = place
    done["is_complete"] = True
    return done


def _count(
    done: dict[str, Any],
    organization_id: int,
    groups: Iterator[tuple[PricePlan, Mapping[str, int], int, int, int]],
) -> None:
    for plan, quantities, percent, calls, cost in groups:
        try:
            new = share(rate(plan, quantities), percent)
        except UnratedError:
            done["unrated"] += calls
            new = 0
        sums = done["tenants"].setdefault(str(organization_id), [0, 0, 0])
        sums[0] += calls
        sums[1] += int(cost)
        sums[2] += calls * new


def continue_waiting() -> int:
    """Go on with the previews of proposals that are not complete; returns how many are now."""
    open_ones = PriceChange.objects.filter(
        state=PriceChange.State.PROPOSED, preview__is_complete=False
    ).select_related("model")
    completed = 0
    for change in open_ones:
        plan = plan_of_change(change)
        preview = advance(change.preview, change.model, change.sku, plan, seconds=ROUND_SECONDS)
        # Sums and cursor are one value: of two that count at once, either one is right.
        PriceChange.objects.filter(pk=change.pk).update(preview=preview)
        completed += preview["is_complete"]
    return completed


def read(preview: Mapping[str, Any]) -> Preview | None:
    """Return a stored preview as a page shows it; None if there is none."""
    if not preview:
        return None
    tenants = preview["tenants"]
    known = {
        row.pk: row for row in Organization.objects.filter(pk__in=[int(key) for key in tenants])
    }
    lines = [TenantLine(known[int(key)], *sums) for key, sums in tenants.items()]
    return Preview(
        lines=sorted(lines, key=lambda line: -abs(line.difference_nanos)),
        since=_instant(preview["since"]),
        until=_instant(preview["until"]),
        is_complete=preview["is_complete"],
        unrated=preview["unrated"],
    )


def _instant(text: str) -> datetime:
    found = parse_datetime(text)
    assert found is not None
    return found

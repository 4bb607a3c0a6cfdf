"""What an invoice says was used: lines by model and key that sum to its total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from django.db.models import QuerySet, Sum
from django.db.models.functions import Coalesce

from accounts.models import ApiKey
from billing import meters, minor, months
from billing.models import BillingPeriod, Invoice, MeterBucket, MeterReport, UsageRollup
from catalog.models import ModelVersion

# A longer invoice says the rest in one line; all of it is in the CSV.
MAX_USAGE_LINES = 200


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a month comes to, in nanos and, what of it is billed, in coins."""

    used_nanos: int
    carried_in_nanos: int
    subtotal_minor: int
    currency: str

    @property
    def carried_out_nanos(self) -> int:
        """What is left for the next month: less than a coin, unless Stripe billed otherwise."""
        billed = minor.to_nanos(self.subtotal_minor, self.currency)
        return self.used_nanos + self.carried_in_nanos - billed

    def billed(self, subtotal: int) -> Amounts:
        """Return the same with another subtotal: the one that Stripe has made final."""
        return Amounts(self.used_nanos, self.carried_in_nanos, subtotal, self.currency)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an invoice.

    Attributes:
        kind: `usage`, `rest`, `credit`, `deferred`, `late`, `carried_in` or `carried_out`.
        model: `owner/name:version` of usage; of late usage its month.
        key: The name of the API key of usage; empty for none.
    """

    kind: str
    nanos: int
    model: str = ""
    key: str = ""
    calls: int = 0


def amounts(period: BillingPeriod) -> Amounts:
    """Work out what a month comes to; its reports must be complete."""
    used = meters.nanos(meters.counted_in(period))
    carried = carried_into(period)
    coins = (used + carried) // minor.coin(period.currency)
    return Amounts(used, carried, max(coins, 0), period.currency)


def carried_into(period: BillingPeriod) -> int:
    """Return what earlier months have left: of the last invoice, and of months without one."""
    earlier = Invoice.objects.filter(
        organization=period.organization_id,
        currency=period.currency,
        period__month__lt=period.month,
    )
    last = earlier.select_related("period").order_by("-period__month").first()
    reports = MeterReport.objects.filter(
        bucket__organization=period.organization_id,
        bucket__currency=period.currency,
        counted_at__lt=months.start(period.month),
    )
    if last is None:
        return meters.nanos(reports)
    since = reports.filter(counted_at__gte=months.end(last.period.month))
    return last.carried_out_nanos + meters.nanos(since)


def lines(period: BillingPeriod, found: Amounts) -> list[Line]:
    """Return what was used, what was paid already, and what is carried; sums to the subtotal.

    The caller holds the wallet's lock, so that no usage is booked between the queries.
    """
    used = _usage(period)
    buckets = _buckets(period)
    in_buckets = buckets.aggregate(total=Coalesce(Sum("nanos"), 0))["total"]
    reports = meters.counted_in(period)
    own = meters.nanos(reports.filter(bucket__in=buckets))
    paid = in_buckets - sum(line.nanos for line in used)
    rest = [
        Line("credit", paid),
        Line("deferred", own - in_buckets),
        *(Line("late", nanos, f"{month:%Y-%m}") for month, nanos in _late(period)),
        Line("carried_in", found.carried_in_nanos),
        Line("carried_out", -found.carried_out_nanos),
    ]
    return _shortened(used) + [line for line in rest if line.nanos]


def _buckets(period: BillingPeriod) -> QuerySet[MeterBucket]:
    return MeterBucket.objects.filter(
        organization=period.organization_id,
        currency=period.currency,
        hour__gte=months.start(period.month),
        hour__lt=months.end(period.month),
    )


def _usage(period: BillingPeriod) -> list[Line]:
    rows = (
        UsageRollup.objects.filter(
            organization=period.organization_id,
            hour__gte=months.start(period.month),
            hour__lt=months.end(period.month),
            cost_nanos__gt=0,
        )
        .order_by()
        .values_list("model_version_id", "api_key_id")
        .annotate(nanos=Sum("cost_nanos"), count=Sum("calls"))
    )
    found = list(rows)
    models = _models({row[0] for row in found})
    keys = dict(ApiKey.objects.filter(pk__in={row[1] for row in found}).values_list("pk", "name"))
    named = [
        Line("usage", nanos, models.get(version_id, ""), keys.get(key_id, ""), calls)
        for version_id, key_id, nanos, calls in found
    ]
    return sorted(named, key=lambda line: (-line.nanos, line.model, line.key))


def _models(version_ids: set[int]) -> Mapping[int, str]:
    found = ModelVersion.objects.filter(pk__in=version_ids).select_related("model__owner")
    return {version.pk: version.path for version in found}


def _shortened(used: Sequence[Line]) -> list[Line]:
    if len(used) <= MAX_USAGE_LINES:
        return list(used)
    shown, left = used[: MAX_USAGE_LINES - 1], used[MAX_USAGE_LINES - 1 :]
    nanos, calls = sum(line.nanos for line in left), sum(line.calls for line in left)
    return [*shown, Line("rest", nanos, calls=calls)]


def _late(period: BillingPeriod) -> list[tuple[date, int]]:
    """Return usage of earlier months that this one is billed for, by month."""
    sums: dict[date, int] = defaultdict(int)
    reports = meters.counted_in(period).filter(bucket__hour__lt=months.start(period.month))
    for report in reports.select_related("bucket"):
        sums[months.of(report.bucket.hour)] += report.nanos_to - report.nanos_from
    return sorted(sums.items())

"""What publishers read: what is accrued, payable and paid, and what earned it.

Who called a model is nobody's business but the caller's: sums only, over all who called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.db.models import Exists, F, OuterRef, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate, TruncMonth

from accounts.models import Organization
from billing import earnings, ledger, minor, payouts
from billing.models import ChargeRefund, Earning, Payout, UsageRollup
from catalog.models import MLModel, ModelVersion


@dataclass(frozen=True, slots=True)
class Totals:
    """What a publisher has earned, by where it is now; in nanos."""

    accrued: int
    payable: int
    on_the_way: int
    paid: int


@dataclass(frozen=True, slots=True)
class Line:
    """What one model earned in one day or month.

    Attributes:
        day: The day, or the first day of the month, in UTC.
        earned_nanos: The publisher's part of the charges.
        given_back_nanos: The publisher's part of what was given back then, of whatever charges.
    """

    day: date
    model: str
    calls: int
    earned_nanos: int
    given_back_nanos: int

    @property
    def nanos(self) -> int:
        """What is left of it."""
        return self.earned_nanos - self.given_back_nanos


@dataclass(frozen=True, slots=True)
class Release:
    """What becomes payable on one day."""

    day: date
    nanos: int


def is_publisher(organization: Organization) -> bool:
    """Whether the organization has models, or ever earned something."""
    found = Organization.objects.filter(pk=organization.pk).filter(
        Exists(MLModel.objects.filter(owner=OuterRef("pk")))
        | Exists(Earning.objects.filter(publisher=OuterRef("pk")))
    )
    return found.exists()


def totals(organization: Organization) -> Totals:
    """Return where a publisher's money is."""
    under_way, paid = 0, 0
    for payout in Payout.objects.filter(organization=organization).exclude(
        state=Payout.State.FAILED
    ):
        if payout.state in payouts.OPEN:
            under_way += payout.amount_nanos
        else:
            back = minor.to_nanos(payout.reversed_minor, payout.currency)
            paid += payout.amount_nanos - back
    return Totals(
        accrued=-ledger.balance_of(ledger.ACCRUED, organization),
        payable=payouts.payable(organization),
        on_the_way=under_way,
        paid=paid,
    )


def releases(organization: Organization) -> Sequence[Release]:
    """Return what is accrued by the day on which it becomes payable, soonest first."""
    rows = (
        Earning.objects.filter(publisher=organization, released_at=None)
        .annotate(day=TruncDate("created_at", tzinfo=UTC))
        .order_by("day")
        .values_list("day")
        .annotate(nanos=Sum(F("amount_nanos") - F("clawed_back_nanos")))
    )
    wait = earnings.hold_period()
    return [Release(day + wait, nanos) for day, nanos in rows if nanos]


def by_day(organization: Organization, first: date, last: date, model: str = "") -> list[Line]:
    """Return what each model earned on each day, newest first.

    Args:
        first: First day, in UTC.
        last: Last day, included.
        model: Only the model of this name.
    """
    return _lines(organization, first, last, model, TruncDate)


def by_month(organization: Organization, first: date, last: date, model: str = "") -> list[Line]:
    """Return the same for each month."""
    return _lines(organization, first, last, model, TruncMonth)


def _lines(
    organization: Organization,
    first: date,
    last: date,
    model: str,
    trunc: type[TruncDate] | type[TruncMonth],
) -> list[Line]:
    names = _models(organization, model)
    start, end = _midnight(first), _midnight(last + timedelta(days=1))
    sums: dict[tuple[date, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    rolled = UsageRollup.objects.filter(model_version_id__in=names, hour__gte=start, hour__lt=end)
    for at, version, calls, nanos in (
        rolled.annotate(at=trunc("hour", tzinfo=UTC))
        .order_by()
        .values_list("at", "model_version_id")
        .annotate(number=Sum("calls"), earned=Sum("publisher_nanos"))
    ):
        found = sums[_day(at), names[version]]
        found[0] += calls
        found[1] += nanos
    for at, version, nanos in _given_back(organization, names, start, end, trunc):
        sums[_day(at), names[version]][2] += nanos
    return [Line(*key, *sums[key]) for key in sorted(sums, reverse=True)]


def _given_back(
    organization: Organization,
    names: dict[int, str],
    start: datetime,
    end: datetime,
    trunc: type[TruncDate] | type[TruncMonth],
) -> QuerySet[ChargeRefund, tuple[datetime, int, int]]:
    return (
        ChargeRefund.objects.filter(
            publisher=organization,
            hold__model_version__in=names,
            created_at__gte=start,
            created_at__lt=end,
        )
        .annotate(at=trunc("created_at", tzinfo=UTC))
        .order_by()
        .values_list("at", "hold__model_version")
        .annotate(nanos=Coalesce(Sum("publisher_nanos"), 0))
    )


def _models(organization: Organization, name: str) -> dict[int, str]:
    """Return the publisher's versions, each with the path of its model."""
    versions = ModelVersion.objects.filter(model__owner=organization)
    if name:
        versions = versions.filter(model__name=name)
    return {
        pk: f"{organization.slug}/{model}"
        for pk, model in versions.values_list("pk", "model__name")
    }


def _day(at: date | datetime) -> date:
    return at.date() if isinstance(at, datetime) else at


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)

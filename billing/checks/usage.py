"""Usage: against holds, against the hourly sums, and against what meters report."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, F, Sum

from billing import rollups
from billing.checks.trouble import Trouble
from billing.models import Hold, LedgerEntry, MeterBucket, MeterReport, Settlement, UsageEvent

MICRO = 1000


def usage_is_captured_holds() -> list[Trouble]:
    """Usage events and captured holds are one to one, with the same amount."""
    without = Hold.objects.filter(state=Hold.State.CAPTURED, usage=None)
    other = UsageEvent.objects.exclude(
        hold__state=Hold.State.CAPTURED, cost_nanos=F("hold__captured_nanos")
    ).select_related("hold")
    return [
        Trouble(
            f"hold:{row.pk}",
            f"captured hold {row.pk} has no usage",
            row.organization_id,
            row.captured_nanos,
            None,
        )
        for row in without
    ] + [
        Trouble(
            f"hold:{row.pk}",
            f"usage {row.pk} differs from its hold",
            row.organization_id,
            row.hold.captured_nanos or 0,
            row.cost_nanos,
        )
        for row in other
    ]


def settlements_are_their_holds() -> list[Trouble]:
    """A settlement has the holds it says, and its transaction charges what they cost."""
    sums = {
        row["settlement"]: (row["number"], row["reserved"], row["captured"] or 0)
        for row in Hold.objects.filter(settlement__isnull=False)
        .order_by()
        .values("settlement")
        .annotate(
            number=Count("pk"), reserved=Sum("reserved_nanos"), captured=Sum("captured_nanos")
        )
    }
    booked = _charged_by_settlement()
    found = []
    for row in Settlement.objects.order_by("pk"):
        said = (row.hold_count, row.reserved_nanos, row.captured_nanos)
        real = sums.get(row.pk, (0, 0, 0))
        paid = booked.get(row.pk, 0)
        if said == real and paid == row.captured_nanos:
            continue
        text = (
            f"settlement {row.pk} says {said}, its holds say {real}"
            if said != real
            else f"settlement {row.pk} charges {said[2]}, its transaction {paid}"
        )
        subject, expected = f"settlement:{row.pk}", real[2]
        shown = said[2] if said != real else paid
        found.append(Trouble(subject, text, row.organization_id, expected, shown))
    return found


def _charged_by_settlement() -> dict[int, int]:
    """Return settlement → what its transaction takes from the tenant's accounts."""
    lines = LedgerEntry.objects.filter(
        transaction__settlement__isnull=False, account__code__startswith="tenant:"
    )
    return dict(
        lines.order_by()
        .values_list("transaction__settlement")
        .annotate(total=Sum("amount_nanos"))
        .values_list("transaction__settlement", "total")
    )


def rollups_are_usage() -> list[Trouble]:
    """Each hourly sum is the settled usage of its hour."""
    expected, stored = rollups.from_usage(), rollups.stored()
    found = []
    for key in sorted(expected.keys() | stored.keys()):
        right, is_there = expected.get(key, rollups.NOTHING), stored.get(key, rollups.NOTHING)
        if right != is_there:
            text = f"rollup {key} says {tuple(is_there)}, usage says {tuple(right)}"
            subject = f"rollup:{key.api_key_id}:{key.model_version_id}:{key.hour:%Y%m%d%H}"
            found.append(
                Trouble(
                    f"{subject}:{key.organization_id}",
                    text,
                    key.organization_id,
                    right.cost_nanos,
                    is_there.cost_nanos,
                )
            )
    return found


def meters_are_the_ledger() -> list[Trouble]:
    """What was used on a credit line is in the hours that are metered."""
    metered = _sums(MeterBucket.objects.values_list("organization"), "nanos")
    owed = _sums(
        LedgerEntry.objects.filter(
            transaction__kind="settlement", account__code__endswith=":receivable"
        ).values_list("account__organization"),
        "amount_nanos",
    )
    return [
        Trouble(
            f"meter:{owner}",
            f"settlements charged {owed.get(owner, 0)} on credit, meters count "
            f"{metered.get(owner, 0)}",
            owner,
            owed.get(owner, 0),
            metered.get(owner, 0),
        )
        for owner in sorted(metered.keys() | owed.keys())
        if metered.get(owner, 0) != owed.get(owner, 0)
    ]


def _sums(rows: Any, column: str) -> dict[int, int]:
    return dict(rows.order_by().annotate(total=Sum(column)))


def reports_are_their_meters() -> list[Trouble]:
    """The parts that are reported follow one another and are never more than was counted."""
    found, ends = [], dict[int, int]()
    for report in MeterReport.objects.select_related("bucket").order_by("bucket_id", "seq"):
        bucket, start = report.bucket, ends.get(report.bucket_id, 0)
        value = report.nanos_to // MICRO - report.nanos_from // MICRO
        follows = report.nanos_from == start and report.nanos_to <= bucket.nanos
        if not follows or report.value != value:
            text = f"report {report.identifier} is not what follows {start} of {bucket.nanos}"
            subject = f"report:{report.pk}"
            owner = bucket.organization_id
            found.append(Trouble(subject, text, owner, value * MICRO, report.value * MICRO))
        ends[report.bucket_id] = report.nanos_to
    return found

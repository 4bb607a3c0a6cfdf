"""Runs that have not come to their end: open, not settled, or charged without usage."""

from __future__ import annotations

from collections.abc import Mapping

from accounts.errors import ConflictError
from billing import bulk, holds, rating, settlement
from billing.models import Hold, UsageEvent
from billing.rating import PricePlan, rate
from billing.repairs.case import Case
from billing.reports import USAGE_COLUMNS, Report, Terms, usage_row


def expired(case: Case) -> None:
    """End what is overdue, and give its money back."""
    while holds.expire_due():
        pass
    settled(case)


def settled(case: Case) -> None:
    """Settle what has ended."""
    if Hold.objects.filter(
        organization=case.organization, state=Hold.State.CAPTURED, usage=None, settlement=None
    ).exists():
        raise ConflictError("A charge has no usage: correct that finding first.")
    while settlement.settle_organization(case.organization.pk):
        pass


def usage(case: Case) -> None:
    """Write the usage of a charge that has none: what was used follows from price and charge.

    Only before it is settled: a settlement's digest goes through all that was used.
    """
    hold = Hold.objects.select_related("price_version", "share_version").get(pk=case.key)
    if hold.settlement_id is not None or hold.failure or hasattr(hold, "usage"):
        raise ConflictError("What was used cannot be worked out. Give the charge back.")
    plan = rating.for_source(rating.plan_of(hold.price_version), hold.source)
    assert hold.finished_at is not None
    report = Report(
        hold_id=hold.pk,
        outcome="succeeded",
        terms=Terms(plan, hold.publisher_bps, {}),
        quantities=_quantities(plan, hold),
        organization_id=hold.organization_id,
        reserved_nanos=hold.reserved_nanos,
        accepted_at=hold.accepted_at,
        completed_at=hold.finished_at,
        model_version_id=hold.model_version_id,
    )
    bulk.insert(UsageEvent, USAGE_COLUMNS, [usage_row(report)])


def _quantities(plan: PricePlan, hold: Hold) -> Mapping[str, int]:
    """Return the one quantity whose price is the charge.

    Raises:
        ConflictError: The price has several dimensions, or several quantities cost the same.
    """
    charged = hold.captured_nanos or 0
    if len(plan.components) == 1:
        (dimension,) = plan.components
        # The price of a call does not depend on how much it is given.
        low, high = (1, 1) if dimension == "call" else (0, _bound(plan, dimension, charged))
        while low < high:
            middle = (low + high) // 2
            if rate(plan, {dimension: middle}) < charged:
                low = middle + 1
            else:
                high = middle
        is_only = dimension == "call" or rate(plan, {dimension: low + 1}) > charged
        if rate(plan, {dimension: low}) == charged and is_only:
            return {dimension: low}
    raise ConflictError("What was used cannot be worked out. Give the charge back.")


def _bound(plan: PricePlan, dimension: str, charged: int) -> int:
    most = 1
    while rate(plan, {dimension: most}) < charged and most < 2**62:
        most *= 2
    return most

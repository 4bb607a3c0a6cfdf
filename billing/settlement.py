"""The settler: finished holds → budgets, journal, rollups. The only place that moves `held`.

What a hold changes is written in the one transaction that marks it as settled, so several settlers
may run and be killed at any line. Locks, in this order: holds, wallet, book, budgets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from django.db import transaction
from django.db.models import F

from accounts.models import Organization
from billing import alerts, bookings, chains, crashes, finished, rollups, wallets
from billing.finished import Finished
from billing.models import Budget, BudgetSet, Hold, Settlement, Unit

BATCH = 2000


def settle() -> int:
    """Settle everything that is finished; returns how many holds were settled."""
    waiting = Hold.objects.unsettled().order_by().values_list("organization", flat=True).distinct()
    settled = 0
    for organization_id in list(waiting):
        while count := settle_organization(organization_id):
            settled += count
            if count < BATCH:
                break
    return settled


def settle_organization(organization_id: int) -> int:
    """Settle up to BATCH finished holds of one organization in one transaction."""
    with transaction.atomic():
        holds = finished.claim(organization_id, BATCH)
        if not holds:
            return 0
        crashes.point("settle.claimed")
        organization = Organization.objects.get(pk=organization_id)
        wallet = wallets.lock(organization)
        settlement = _open(organization, holds)
        crashes.point("settle.opened")
        bookings.book(settlement, wallet, holds)
        crashes.point("settle.booked")
        moved = _release(holds)
        rollups.add(organization, holds)
        alerts.raise_for(moved)
        Hold.objects.filter(pk__in=[hold.hold_id for hold in holds]).update(settlement=settlement)
        crashes.point("settle.marked")
    crashes.point("settle.committed")
    return len(holds)


def _open(organization: Organization, holds: Sequence[Finished]) -> Settlement:
    before = Settlement.objects.filter(organization=organization).order_by("-pk").first()
    return Settlement.objects.create(
        organization=organization,
        currency=holds[0].currency,
        hold_count=len(holds),
        reserved_nanos=sum(hold.reserved_nanos for hold in holds),
        captured_nanos=sum(hold.captured_nanos or 0 for hold in holds),
        digest=chains.of_settlement(before.digest if before else "", holds),
    )


def _release(holds: Sequence[Finished]) -> list[int]:
    """Move each hold's money and call from held to posted, in the order budgets are locked.

    Returns:
        The budgets of limits that have more posted now.
    """
    money: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    calls: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for hold in holds:
        is_captured = hold.captured_nanos is not None
        for sums, reserved, captured in (
            (money[hold.budget_set_id], hold.reserved_nanos, hold.captured_nanos or 0),
            (calls[hold.budget_set_id], 1, int(is_captured)),
        ):
            sums[0] += reserved
            sums[1] += captured
    members = BudgetSet.budgets.through.objects.filter(budgetset_id__in=money).values_list(
        "budgetset_id", "budget_id", "budget__unit"
    )
    changes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for set_id, budget_id, unit in members:
        sums = (calls if unit == Unit.CALLS else money)[set_id]
        changes[budget_id][0] += sums[0]
        changes[budget_id][1] += sums[1]
    locked = list(Budget.objects.filter(pk__in=changes).order_by("lock_rank", "id"))
    for budget in locked:
        less_held, more_posted = changes[budget.pk]
        Budget.objects.filter(pk=budget.pk).update(
            held=F("held") - less_held, posted=F("posted") + more_posted
        )
    return [
        budget.pk
        for budget in locked
        if changes[budget.pk][1] and budget.lock_rank != Budget.Rank.WALLET
    ]

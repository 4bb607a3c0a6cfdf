"""The settler: finished holds → budgets, journal, rollups. The only place that moves `held`.

What a hold changes is written in the one transaction that marks it as settled, so several settlers
may run and be killed at any line. On SQLite nobody else writes during that transaction, so all
that can be is read and worked out before; under the wallet's lock it is still right if nobody has
settled anything of the organization since. Locks, in this order: wallet, book, budgets, holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

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
    organization = Organization.objects.get(pk=organization_id)
    while True:
        # Before the holds: who settles some of them afterwards is noticed.
        before = _last(organization)
        holds = finished.waiting(organization_id, BATCH)
        if not holds or _settle(organization, before, holds):
            return len(holds)


def _settle(
    organization: Organization, before: Settlement | None, holds: Sequence[Finished]
) -> bool:
    """Settle holds; False if another settler has settled since `before`, some of these perhaps."""
    # All that can be worked out is, before anybody has to wait for it.
    settlement = _work_out(organization, before, holds)
    moved, hours = _moved(holds), rollups.by_hour(organization, holds)
    ids = [hold.hold_id for hold in holds]
    with transaction.atomic():
        wallet = wallets.lock(organization)
        if _last(organization) != before:
            return False
        crashes.point("settle.claimed")
        settlement.save(force_insert=True)
        crashes.point("settle.opened")
        bookings.book(settlement, wallet, holds)
        crashes.point("settle.booked")
        alerts.raise_for(_release(moved))
        rollups.add(hours)
        finished.mark(ids, settlement)
        crashes.point("settle.marked")
    crashes.point("settle.committed")
    return True


def _last(organization: Organization) -> Settlement | None:
    return Settlement.objects.filter(organization=organization).order_by("-pk").first()


def _work_out(
    organization: Organization, before: Settlement | None, holds: Sequence[Finished]
) -> Settlement:
    return Settlement(
        organization=organization,
        currency=holds[0].currency,
        hold_count=len(holds),
        reserved_nanos=sum(hold.reserved_nanos for hold in holds),
        captured_nanos=sum(hold.captured_nanos or 0 for hold in holds),
        digest=chains.of_settlement(before.digest if before else "", holds),
    )


class Moved(NamedTuple):
    """What a settlement changes in one budget, in its unit."""

    less_held: int
    more_posted: int


def _moved(holds: Sequence[Finished]) -> dict[int, Moved]:
    """Sum by budget what goes from held to posted: money, or calls."""
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
    moved: dict[int, Moved] = defaultdict(lambda: Moved(0, 0))
    for set_id, budget_id, unit in members:
        less_held, more_posted = (calls if unit == Unit.CALLS else money)[set_id]
        before = moved[budget_id]
        moved[budget_id] = Moved(before.less_held + less_held, before.more_posted + more_posted)
    return moved


def _release(moved: Mapping[int, Moved]) -> list[int]:
    """Move from held to posted, in the order budgets are locked.

    Returns:
        The budgets of limits that have more posted now.
    """
    ranks = Budget.objects.filter(pk__in=moved).order_by("lock_rank", "id")
    locked = list(ranks.values_list("pk", "lock_rank"))
    for budget_id, _rank in locked:
        less_held, more_posted = moved[budget_id]
        Budget.objects.filter(pk=budget_id).update(
            held=F("held") - less_held, posted=F("posted") + more_posted
        )
    return [
        budget_id
        for budget_id, rank in locked
        if moved[budget_id].more_posted and rank != Budget.Rank.WALLET
    ]

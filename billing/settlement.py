"""The settler: finished holds → budgets, journal, rollups. The only place that moves `held`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F

from accounts.models import Organization
from billing import ledger
from billing.models import Budget, BudgetSet, Hold, Settlement, UsageRollup

BATCH = 2000


def settle() -> int:
    """Settle everything that is finished; returns how many holds were settled.

    May run in several processes and be killed at any line: what a hold changes is written in the
    one transaction that marks it as settled.
    """
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
        holds = _claim(organization_id)
        if not holds:
            return 0
        organization = Organization.objects.get(pk=organization_id)
        settlement = Settlement.objects.create(
            organization=organization,
            currency=holds[0].currency,
            hold_count=len(holds),
            reserved_nanos=sum(hold.reserved_nanos for hold in holds),
            captured_nanos=sum(hold.captured_nanos or 0 for hold in holds),
        )
        _book(settlement, holds)
        _release(holds)
        _roll_up(organization, holds)
        Hold.objects.filter(pk__in=[hold.hold_id for hold in holds]).update(settlement=settlement)
    return len(holds)


class Finished(NamedTuple):
    """What settling needs of a finished hold: a row, not an object, for there are many."""

    hold_id: UUID
    currency: str
    reserved_nanos: int
    captured_nanos: int | None
    budget_set_id: int
    api_key_id: int | None
    model_version_id: int | None
    owner_id: int | None
    rows: int
    compute_ms: int
    publisher_nanos: int
    platform_nanos: int
    occurred_at: datetime


_COLUMNS = (
    *("pk", "currency", "reserved_nanos", "captured_nanos", "budget_set_id", "api_key_id"),
    *("model_version_id", "model_version__model__owner_id", "usage__rows", "usage__compute_ms"),
    *("usage__publisher_nanos", "usage__platform_nanos", "usage__occurred_at"),
)


def _claim(organization_id: int) -> list[Finished]:
    """Lock finished holds that nobody else settles."""
    queue = Hold.objects.unsettled().filter(organization_id=organization_id).order_by("id")
    if connection.features.has_select_for_update_skip_locked:
        queue = queue.select_for_update(skip_locked=True, of=("self",))
    holds = [Finished(*row) for row in queue.values_list(*_COLUMNS)[:BATCH]]
    # One currency per transaction; the rest is settled by the next round.
    return [hold for hold in holds if hold.currency == holds[0].currency]


def _book(settlement: Settlement, holds: Sequence[Finished]) -> None:
    """Tenant's credit → publishers' earnings and the platform's revenue."""
    if not settlement.captured_nanos:
        return
    revenue = 0
    earned: dict[int, int] = defaultdict(int)
    for hold in holds:
        if hold.captured_nanos is None:
            continue
        revenue += hold.platform_nanos
        if hold.owner_id is not None:
            earned[hold.owner_id] += hold.publisher_nanos
        else:
            revenue += hold.publisher_nanos
    credit = ledger.account(ledger.CREDIT, settlement.organization)
    entries = {credit: settlement.captured_nanos, ledger.account(ledger.REVENUE): -revenue}
    for owner in Organization.objects.filter(pk__in=earned):
        entries[ledger.account(ledger.EARNINGS, owner)] = -earned[owner.pk]
    booked, _ = ledger.post(
        "settlement", str(settlement.pk), entries, organization=settlement.organization
    )
    settlement.ledger_transaction = booked
    settlement.save(update_fields=["ledger_transaction"])


def _release(holds: Sequence[Finished]) -> None:
    """Move each hold's money from held to posted, in the order budgets are locked."""
    reserved: dict[int, int] = defaultdict(int)
    captured: dict[int, int] = defaultdict(int)
    for hold in holds:
        reserved[hold.budget_set_id] += hold.reserved_nanos
        captured[hold.budget_set_id] += hold.captured_nanos or 0
    members = BudgetSet.budgets.through.objects.filter(budgetset_id__in=reserved).values_list(
        "budgetset_id", "budget_id"
    )
    changes: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for set_id, budget_id in members:
        changes[budget_id][0] += reserved[set_id]
        changes[budget_id][1] += captured[set_id]
    for budget in Budget.objects.filter(pk__in=changes).order_by("lock_rank", "id").only("pk"):
        less_held, more_posted = changes[budget.pk]
        Budget.objects.filter(pk=budget.pk).update(
            held_nanos=F("held_nanos") - less_held, posted_nanos=F("posted_nanos") + more_posted
        )


def _roll_up(organization: Organization, holds: Sequence[Finished]) -> None:
    """Add the usage to its hours, in the order of the unique key."""
    sums: dict[tuple[int, int, datetime], list[int]] = defaultdict(lambda: [0] * 5)
    for hold in holds:
        if hold.captured_nanos is None:
            continue
        hour = hold.occurred_at.replace(minute=0, second=0, microsecond=0)
        row = sums[hold.api_key_id or 0, hold.model_version_id or 0, hour]
        added = (1, hold.rows, hold.compute_ms, hold.captured_nanos, hold.publisher_nanos)
        for place, value in enumerate(added):
            row[place] += value
    for (key_id, version_id, hour), values in sorted(sums.items(), key=lambda item: item[0]):
        rollup, _ = UsageRollup.objects.get_or_create(
            organization=organization, api_key_id=key_id, model_version_id=version_id, hour=hour
        )
        UsageRollup.objects.filter(pk=rollup.pk).update(
            calls=F("calls") + values[0],
            rows=F("rows") + values[1],
            compute_ms=F("compute_ms") + values[2],
            cost_nanos=F("cost_nanos") + values[3],
            publisher_nanos=F("publisher_nanos") + values[4],
        )

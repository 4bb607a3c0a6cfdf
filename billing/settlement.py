"""The settler: finished holds → budgets, journal, rollups. The only place that moves `held`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction
from django.db.models import F

from accounts.models import Organization
from billing import ledger
from billing.models import Budget, BudgetSet, Hold, LedgerAccount, Settlement, UsageRollup

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
        Hold.objects.filter(pk__in=[hold.pk for hold in holds]).update(settlement=settlement)
    return len(holds)


def _claim(organization_id: int) -> list[Hold]:
    """Lock finished holds that nobody else settles."""
    queue = (
        Hold.objects.unsettled()
        .filter(organization_id=organization_id)
        .select_related("usage", "model_version__model")
        .order_by("id")
    )
    if connection.features.has_select_for_update_skip_locked:
        queue = queue.select_for_update(skip_locked=True, of=("self",))
    holds = list(queue[:BATCH])
    # One currency per transaction; the rest is settled by the next round.
    return [hold for hold in holds if hold.currency == holds[0].currency]


def _book(settlement: Settlement, holds: Sequence[Hold]) -> None:
    """Tenant's credit → publishers' earnings and the platform's revenue."""
    if not settlement.captured_nanos:
        return
    entries: dict[LedgerAccount, int] = defaultdict(int)
    entries[ledger.account(ledger.CREDIT, settlement.organization)] += settlement.captured_nanos
    earned: dict[int, int] = defaultdict(int)
    for hold in holds:
        if hold.state != Hold.State.CAPTURED:
            continue
        if hold.model_version is not None:
            earned[hold.model_version.model.owner_id] += hold.usage.publisher_nanos
        else:
            entries[ledger.account(ledger.REVENUE)] -= hold.usage.publisher_nanos
        entries[ledger.account(ledger.REVENUE)] -= hold.usage.platform_nanos
    for owner in Organization.objects.filter(pk__in=earned):
        entries[ledger.account(ledger.EARNINGS, owner)] -= earned[owner.pk]
    booked, _ = ledger.post(
        "settlement", str(settlement.pk), entries, organization=settlement.organization
    )
    settlement.ledger_transaction = booked
    settlement.save(update_fields=["ledger_transaction"])


def _release(holds: Sequence[Hold]) -> None:
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


def _roll_up(organization: Organization, holds: Sequence[Hold]) -> None:
    """Add the usage to its hours, in the order of the unique key."""
    sums: dict[tuple[int, int, datetime], list[int]] = defaultdict(lambda: [0] * 5)
    for hold in holds:
        if hold.state != Hold.State.CAPTURED:
            continue
        usage = hold.usage
        hour = usage.occurred_at.replace(minute=0, second=0, microsecond=0)
        row = sums[hold.api_key_id or 0, hold.model_version_id or 0, hour]
        added = (1, usage.rows, usage.compute_ms, usage.cost_nanos, usage.publisher_nanos)
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

"""Books a settlement: tenant's credit → publishers' earnings and the platform's revenue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db.models import F

from accounts.models import Organization
from billing import ledger, wallets
from billing.finished import Finished
from billing.models import Earning, LedgerAccount, MeterBucket, Settlement, Wallet


def book(settlement: Settlement, wallet: Wallet, holds: Sequence[Finished]) -> None:
    """Write the transaction of a settlement; the caller holds the wallet's lock."""
    charges = [hold for hold in holds if hold.captured_nanos is not None]
    overrun = sum(max(hold.uncapped_nanos - (hold.captured_nanos or 0), 0) for hold in charges)
    if not settlement.captured_nanos and not overrun:
        return
    spent = wallets.spend(wallet, settlement.captured_nanos)
    earned = _earned(charges)
    entries = _paid_with(settlement, spent) | _received(settlement, charges, earned)
    if overrun:
        # Used beyond what was set aside: earned, and given up in the same breath.
        entries[ledger.account(ledger.WRITE_OFF)] = overrun
        entries[ledger.account(ledger.REVENUE)] -= overrun
    booked, _ = ledger.post(
        "settlement",
        str(settlement.pk),
        entries,
        organization=settlement.organization,
        details={"charges": len(charges), "digest": settlement.digest},
    )
    settlement.ledger_transaction = booked
    settlement.save(update_fields=["ledger_transaction"])
    Earning.objects.bulk_create(
        Earning(publisher_id=owner_id, settlement=settlement, amount_nanos=nanos)
        for owner_id, nanos in sorted(earned.items())
    )
    if spent.owed:
        _meter(settlement, charges, spent.owed)


def _paid_with(settlement: Settlement, spent: wallets.Spent) -> dict[LedgerAccount, int]:
    organization, currency = settlement.organization, settlement.currency
    parts = {
        ledger.PROMOTIONAL: spent.promotional,
        ledger.CREDIT: spent.paid,
        ledger.RECEIVABLE: spent.owed,
    }
    return {
        ledger.account(template, organization, currency): nanos
        for template, nanos in parts.items()
        if nanos
    }


def _earned(charges: Sequence[Finished]) -> dict[int, int]:
    """Sum what each publisher earned; what has no publisher, such as a training, is ours."""
    earned: dict[int, int] = defaultdict(int)
    for hold in charges:
        if hold.owner_id is not None and hold.publisher_nanos:
            earned[hold.owner_id] += hold.publisher_nanos
    return earned


def _received(
    settlement: Settlement, charges: Sequence[Finished], earned: Mapping[int, int]
) -> dict[LedgerAccount, int]:
    total = sum(hold.captured_nanos or 0 for hold in charges)
    revenue = ledger.account(ledger.REVENUE, currency=settlement.currency)
    entries = {revenue: sum(earned.values()) - total}
    for owner in Organization.objects.filter(pk__in=earned):
        account = ledger.account(ledger.ACCRUED, owner, settlement.currency)
        entries[account] = -earned[owner.pk]
    return entries


def _meter(settlement: Settlement, charges: Sequence[Finished], owed: int) -> None:
    """Add what was used on the credit line to its hours; the newest charges are the ones owed."""
    hours: dict[datetime, int] = defaultdict(int)
    left = owed
    for hold in reversed(charges):
        part = min(left, hold.captured_nanos or 0)
        hours[hold.occurred_at.replace(minute=0, second=0, microsecond=0)] += part
        left -= part
        if not left:
            break
    for hour, nanos in sorted(hours.items()):
        bucket, _ = MeterBucket.objects.get_or_create(
            organization=settlement.organization, currency=settlement.currency, hour=hour
        )
        MeterBucket.objects.filter(pk=bucket.pk).update(nanos=F("nanos") + nanos)

"""Money: what may be spent, what is set aside, what was used, what was booked."""

from __future__ import annotations

from billing.models.budgets import Budget, BudgetSet, SpendLimit
from billing.models.holds import Hold
from billing.models.ledger import LedgerAccount, LedgerEntry, LedgerTransaction, Settlement
from billing.models.shares import ShareVersion
from billing.models.usage import UsageEvent, UsageOrphan, UsageRollup

__all__ = [
    "Budget",
    "BudgetSet",
    "Hold",
    "LedgerAccount",
    "LedgerEntry",
    "LedgerTransaction",
    "Settlement",
    "ShareVersion",
    "SpendLimit",
    "UsageEvent",
    "UsageOrphan",
    "UsageRollup",
]

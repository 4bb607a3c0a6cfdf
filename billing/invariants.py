"""Proves the books: each check returns what is wrong, in words; nothing is repaired."""

from __future__ import annotations

from collections.abc import Callable

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import AuditEntry
from billing import ledger
from billing.models import (
    Budget,
    Hold,
    LedgerAccount,
    LedgerTransaction,
    UsageEvent,
    UsageRollup,
)

Check = Callable[[], list[str]]


def transactions_balance() -> list[str]:
    """Every ledger transaction has two entries or more and sums to zero."""
    wrong = LedgerTransaction.objects.annotate(
        total=Sum("entries__amount_nanos"), lines=Count("entries")
    ).filter(~Q(total=0) | Q(lines__lt=2))
    return [f"transaction {row.pk} has {row.lines} entries, sum {row.total}" for row in wrong]


def held_is_open_holds() -> list[str]:
    """A budget's `held` is the sum of its unsettled holds."""
    return _budgets_differ("held_nanos", Q(settlement=None), "reserved_nanos")


def posted_is_captured_holds() -> list[str]:
    """A budget's `posted` is the sum of its settled, captured holds."""
    return _budgets_differ("posted_nanos", Q(settlement__isnull=False), "captured_nanos")


def _budgets_differ(column: str, which: Q, amount: str) -> list[str]:
    sums = dict(
        Hold.objects.filter(which)
        .values_list("budget_set__budgets")
        .annotate(total=Coalesce(Sum(amount), 0))
        .values_list("budget_set__budgets", "total")
    )
    return [
        f"budget {row['pk']}: {column} is {row[column]}, its holds say {sums.get(row['pk'], 0)}"
        for row in Budget.objects.values("pk", column)
        if row[column] != sums.get(row["pk"], 0)
    ]


def caps_are_kept() -> list[str]:
    """No spending limit is passed; a wallet only after credit was taken back."""
    passed = Budget.objects.filter(capacity_nanos__lt=F("posted_nanos") + F("held_nanos"))
    return [
        f"budget {row.pk}: {row.posted_nanos} + {row.held_nanos} > {row.capacity_nanos}"
        for row in passed.select_related("organization")
        if not _was_lowered(row)
    ]


def _was_lowered(budget: Budget) -> bool:
    """Whether somebody lowered the capacity after the money was spent, which is allowed."""
    if budget.lock_rank != Budget.Rank.WALLET:
        return AuditEntry.objects.filter(
            organization=budget.organization, action="limit.set"
        ).exists()
    return LedgerTransaction.objects.filter(
        organization=budget.organization, kind="credit_taken"
    ).exists()


def usage_is_captured_holds() -> list[str]:
    """Usage events and captured holds are one to one, with the same amount."""
    without = Hold.objects.filter(state=Hold.State.CAPTURED, usage=None)
    other = UsageEvent.objects.exclude(
        hold__state=Hold.State.CAPTURED, cost_nanos=F("hold__captured_nanos")
    )
    return [f"captured hold {row.pk} has no usage" for row in without] + [
        f"usage {row.pk} differs from its hold" for row in other
    ]


def wallets_are_the_ledger() -> list[str]:
    """A wallet's capacity less what was posted is the tenant's credit in the ledger."""
    found = []
    for budget in Budget.objects.filter(lock_rank=Budget.Rank.WALLET).select_related(
        "organization"
    ):
        account = LedgerAccount.objects.filter(
            code=ledger.CREDIT[0].format(budget.organization_id)
        ).first()
        credit = -ledger.balance(account) if account else 0
        if credit != budget.capacity_nanos - budget.posted_nanos:
            found.append(
                f"wallet {budget.pk}: {budget.capacity_nanos} - {budget.posted_nanos}, "
                f"ledger says {credit}"
            )
    return found


def rollups_are_usage() -> list[str]:
    """The hourly sums are the settled usage."""
    settled = UsageEvent.objects.filter(hold__settlement__isnull=False).aggregate(
        cost=Coalesce(Sum("cost_nanos"), 0), calls=Count("pk")
    )
    rolled = UsageRollup.objects.aggregate(
        cost=Coalesce(Sum("cost_nanos"), 0), calls=Coalesce(Sum("calls"), 0)
    )
    return [] if settled == rolled else [f"rollups say {rolled}, usage says {settled}"]


CHECKS: tuple[Check, ...] = (
    transactions_balance,
    held_is_open_holds,
    posted_is_captured_holds,
    caps_are_kept,
    usage_is_captured_holds,
    wallets_are_the_ledger,
    rollups_are_usage,
)


def violations() -> list[str]:
    """Run every check; an empty list means that the books are right."""
    return [f"{check.__name__}: {text}" for check in CHECKS for text in check()]

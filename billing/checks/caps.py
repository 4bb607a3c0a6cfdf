"""Budgets: what is held, what is posted, and that no cap is passed."""

from __future__ import annotations

from collections import defaultdict

from django.db.models import Count, F, Q, Sum

from accounts.models import AuditEntry
from billing.checks.trouble import Trouble
from billing.models import Budget, BudgetSet, Hold, LedgerTransaction, Unit

# What takes from a wallet that may have spent it already: its balance may fall below zero.
_TAKES = ("credit_taken", "clawback", "invoice_disputed", "correction")


def held_is_open_holds() -> list[Trouble]:
    """A budget's `held` is the sum, or the number, of its unsettled holds."""
    return _budgets_differ("held", Q(settlement=None), "reserved_nanos")


def posted_is_captured_holds() -> list[Trouble]:
    """A budget's `posted` is the sum, or the number, of its settled, captured holds."""
    captured = Q(settlement__isnull=False, captured_nanos__isnull=False)
    return _budgets_differ("posted", captured, "captured_nanos")


def _budgets_differ(column: str, which: Q, amount: str) -> list[Trouble]:
    counted = (
        Hold.objects.filter(which)
        .order_by()
        .values("budget_set")
        .annotate(nanos=Sum(amount), calls=Count("pk"))
    )
    by_set = {row["budget_set"]: (row["nanos"], row["calls"]) for row in counted}
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    members = BudgetSet.budgets.through.objects.filter(budgetset_id__in=by_set)
    for set_id, budget_id in members.values_list("budgetset_id", "budget_id"):
        for place, value in enumerate(by_set[set_id]):
            sums[budget_id][place] += value
    found = []
    for row in Budget.objects.order_by("pk").values("pk", "organization", "unit", column):
        said = sums[row["pk"]][row["unit"] == Unit.CALLS]
        if row[column] != said:
            text = f"budget {row['pk']}: {column} is {row[column]}, its holds say {said}"
            subject = f"budget:{row['pk']}"
            found.append(Trouble(subject, text, row["organization"], said, row[column]))
    return found


def caps_are_kept() -> list[Trouble]:
    """No spending limit is passed; a wallet only after credit was taken back."""
    passed = Budget.objects.filter(capacity__lt=F("posted") + F("held"))
    return [
        Trouble(
            f"budget:{row.pk}",
            f"budget {row.pk}: {row.posted} + {row.held} > {row.capacity}",
            row.organization_id,
            row.capacity,
            row.posted + row.held,
        )
        for row in passed.select_related("organization")
        if not _was_lowered(row)
    ]


def _was_lowered(budget: Budget) -> bool:
    """Whether somebody lowered the capacity after the money was spent, which is allowed."""
    actions = ["limit.set", "credit_line.set"]
    if AuditEntry.objects.filter(organization=budget.organization, action__in=actions).exists():
        return True
    return (
        budget.lock_rank == Budget.Rank.WALLET
        and LedgerTransaction.objects.filter(
            organization=budget.organization, kind__in=_TAKES
        ).exists()
    )

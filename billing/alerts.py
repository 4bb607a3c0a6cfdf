"""Soft thresholds: a budget's owner is told once per window and threshold."""

from __future__ import annotations

from collections.abc import Sequence

from billing.models import Budget, BudgetAlert

THRESHOLDS = (50, 80, 95, 100)


def raise_for(budget_ids: Sequence[int]) -> None:
    """Note which thresholds were passed; inside the transaction that moved the budgets."""
    passed = [
        BudgetAlert(budget=budget, percent=percent, used=budget.used)
        for budget in Budget.objects.filter(pk__in=budget_ids)
        for percent in THRESHOLDS
        if budget.limit > 0 and budget.used * 100 >= budget.limit * percent
    ]
    BudgetAlert.objects.bulk_create(passed, ignore_conflicts=True)

"""Makes events of what billing has noted: budgets that were passed, balances that are low."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from billing.api.budgets import alert_json
from billing.models import BalanceAlert, BudgetAlert
from billing.money import decimal_text
from inference.webhooks import events


def announce(limit: int = 200) -> int:
    """Make deliveries of alerts that were not announced yet, once; returns how many alerts."""
    return _budgets(limit) + _balances(limit)


def _budgets(limit: int) -> int:
    waiting = BudgetAlert.objects.filter(announced_at=None).select_related("budget__api_key")
    found = list(waiting.order_by("pk")[:limit])
    for alert in found:
        with transaction.atomic():
            events.emit(
                alert.budget.organization_id,
                events.BUDGET_ALERT,
                f"evt_budget_alert_{alert.pk}",
                alert_json(alert),
                occurred_at=alert.created_at,
            )
            BudgetAlert.objects.filter(pk=alert.pk).update(announced_at=timezone.now())
    return len(found)


def _balances(limit: int) -> int:
    found = list(BalanceAlert.objects.filter(announced_at=None).order_by("pk")[:limit])
    for alert in found:
        with transaction.atomic():
            events.emit(
                alert.organization_id,
                events.BALANCE_LOW,
                f"evt_balance_low_{alert.pk}",
                {
                    "id": str(alert.pk),
                    "object": "balance_alert",
                    "balance": decimal_text(alert.balance_nanos),
                    "threshold": decimal_text(alert.threshold_nanos),
                },
                occurred_at=alert.created_at,
            )
            BalanceAlert.objects.filter(pk=alert.pk).update(announced_at=timezone.now())
    return len(found)

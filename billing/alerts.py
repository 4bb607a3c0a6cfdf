"""Tells an organization's owners that a cap is nearly used up, or the balance is low; once.

The settler notes thresholds in the transaction that passes them; a refusal counts as reaching the
whole cap. Rows are made first; mails and webhooks are made from them later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import audit, mail
from accounts.models import Organization, User
from billing import budgets
from billing.errors import CapReachedError
from billing.models import BalanceAlert, BalanceWatch, Budget, BudgetAlert

logger = logging.getLogger(__name__)
THRESHOLDS = (50, 80, 95, 100)
# Budgets whose refusal this process has noted: a refusal must stay cheap.
_noted: set[int] = set()


def raise_for(budget_ids: Sequence[int]) -> None:
    """Note which thresholds were passed; inside the transaction that moved the budgets."""
    passed = [
        BudgetAlert(budget=budget, percent=percent, used=budget.used)
        for budget in Budget.objects.filter(pk__in=budget_ids)
        for percent in THRESHOLDS
        if budget.limit > 0 and budget.used * 100 >= budget.limit * percent
    ]
    BudgetAlert.objects.bulk_create(passed, ignore_conflicts=True)


def note_refusals(outcomes: Iterable[object]) -> None:
    """Note caps that refused a run, once per process and window.

    Outside any transaction: what refused has been rolled back. A database that is away must not
    make more of a refusal than it is.
    """
    for outcome in outcomes:
        if not isinstance(outcome, CapReachedError) or outcome.budget_id in _noted:
            continue
        try:
            _note(outcome.budget_id)
        except (DatabaseError, InterfaceError):
            logger.warning("the refusal of budget %s was not noted", outcome.budget_id)
            return
        if len(_noted) >= 100_000:
            _noted.clear()
        _noted.add(outcome.budget_id)


def _note(budget_id: int) -> None:
    budget = Budget.objects.get(pk=budget_id)
    alert, is_new = BudgetAlert.objects.get_or_create(
        budget=budget, percent=100, defaults={"used": budget.used, "was_refused": True}
    )
    if not is_new and not alert.was_refused:
        BudgetAlert.objects.filter(pk=alert.pk).update(was_refused=True)


def of(organization: Organization) -> QuerySet[BudgetAlert]:
    """Return an organization's alerts of caps, with the cap and the key."""
    return BudgetAlert.objects.filter(budget__organization=organization).select_related(
        "budget__api_key"
    )


def watch_balance(
    organization: Organization, nanos: int | None, *, actor: User | None = None, via: str = ""
) -> None:
    """Set below which balance the owners are told; None or 0: never."""
    with transaction.atomic():
        if not nanos:
            BalanceWatch.objects.filter(organization=organization).delete()
        else:
            BalanceWatch.objects.update_or_create(
                organization=organization, defaults={"threshold_nanos": nanos}
            )
        audit.record(
            actor,
            "balance_watch.set",
            organization,
            organization=organization,
            details={"nanos": nanos or None},
            via=via,
        )


def check_balances() -> int:
    """Note balances that have fallen below their threshold; returns how many.

    Counted without what is held: it would come and go with every run.
    """
    noted = 0
    for watch in BalanceWatch.objects.select_related("organization").order_by("pk"):
        wallet = budgets.wallet(watch.organization)
        balance = wallet.capacity - wallet.posted
        is_low = balance < watch.threshold_nanos
        if is_low != watch.is_low:
            noted += _turn(watch, balance, is_low=is_low)
    return noted


def _turn(watch: BalanceWatch, balance: int, *, is_low: bool) -> bool:
    """Remember on which side the balance is; who turns it to low makes the alert."""
    with transaction.atomic():
        turned = BalanceWatch.objects.filter(
            pk=watch.pk, is_low=not is_low, threshold_nanos=watch.threshold_nanos
        ).update(is_low=is_low)
        if not turned or not is_low:
            return False
        BalanceAlert.objects.create(
            organization=watch.organization,
            threshold_nanos=watch.threshold_nanos,
            balance_nanos=balance,
        )
    return True


def mail_due(limit: int = 200) -> int:
    """Put the mails about new alerts into the outbox; returns how many alerts were handled."""
    waiting = BudgetAlert.objects.filter(mailed_at=None).select_related(
        "budget__organization", "budget__api_key"
    )
    found = list(waiting.order_by("pk")[:limit])
    # Several thresholds passed at once are one mail, about the highest.
    highest = {alert.budget_id: alert for alert in sorted(found, key=lambda each: each.percent)}
    for alert in found:
        with transaction.atomic():
            if highest[alert.budget_id] is alert:
                _mail_budget(alert)
            BudgetAlert.objects.filter(pk=alert.pk).update(mailed_at=timezone.now())
    return len(found) + _mail_low_balances(limit)


def _mail_budget(alert: BudgetAlert) -> None:
    budget, organization = alert.budget, alert.budget.organization
    closes = budgets.window_end(budget.window, budget.window_start)
    mail.queue(
        f"budget_alert:{alert.pk}",
        mail.owners(organization),
        "billing/email/budget_alert",
        {
            "organization": organization.slug,
            "key": budget.api_key.name if budget.api_key else "",
            "window": budget.window,
            "unit": budget.unit,
            "percent": alert.percent,
            "used": alert.used,
            "limit": budget.limit,
            "opens_on": closes.isoformat() if closes else "",
            "was_refused": alert.was_refused,
        },
    )


def _mail_low_balances(limit: int) -> int:
    waiting = BalanceAlert.objects.filter(mailed_at=None).select_related("organization")
    found = list(waiting.order_by("pk")[:limit])
    for alert in found:
        with transaction.atomic():
            mail.queue(
                f"balance_alert:{alert.pk}",
                mail.owners(alert.organization),
                "billing/email/low_balance",
                {
                    "organization": alert.organization.slug,
                    "balance": alert.balance_nanos,
                    "threshold": alert.threshold_nanos,
                },
            )
            BalanceAlert.objects.filter(pk=alert.pk).update(mailed_at=timezone.now())
    return len(found)

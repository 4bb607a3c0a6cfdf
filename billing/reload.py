"""Buys credit with the saved card when the balance falls below a threshold.

One automatic top-up is pending at a time (a partial unique index says so), and each attempt is a
row whose id is part of its key at Stripe: an attempt whose outcome is not known is asked for again
under the same key, and never made twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, QuerySet, Sum
from django.utils import timezone

from accounts import audit, mail
from accounts.models import AuditEntry, Organization, User
from billing import budgets, customers, ids, minor, payment_states, payments, stripe_ops, wallets
from billing.errors import TopUpError
from billing.models import AutoReload, Budget, StripeOp, TopUp
from billing.money import decimal_text
from billing.staleness import StaleError
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError, StripeCallError

log = logging.getLogger(__name__)
OP = "autotop"
_COUNTED = (TopUp.State.PENDING, TopUp.State.CREDITED)
_LIMIT_REACHED = "auto_reload.limit_reached"


def settings_of(organization: Organization) -> AutoReload | None:
    """Return what the organization has set; None if it never did."""
    return AutoReload.objects.filter(organization=organization).first()


def configure(
    organization: Organization,
    *,
    is_enabled: bool,
    threshold_nanos: int,
    amount_nanos: int,
    monthly_limit_nanos: int,
    actor: User,
) -> AutoReload:
    """Set when credit is bought by itself, and how much; saving lifts a pause.

    Raises:
        TopUpError: There is no saved card.
    """
    if is_enabled and not wallets.of(organization).payment_method:
        raise TopUpError("Save a card first.")
    with transaction.atomic():
        chosen, _ = AutoReload.objects.update_or_create(
            organization=organization,
            defaults={
                "is_enabled": is_enabled,
                "threshold_nanos": threshold_nanos,
                "amount_nanos": amount_nanos,
                "monthly_limit_nanos": monthly_limit_nanos,
                "paused_reason": "",
            },
        )
        audit.record(
            actor,
            "auto_reload.set",
            organization,
            organization=organization,
            details={
                "enabled": is_enabled,
                "threshold": threshold_nanos,
                "amount": amount_nanos,
                "monthly_limit": monthly_limit_nanos,
            },
        )
    return chosen


def pause(chosen: AutoReload, *, actor: User, reason: str) -> None:
    """Let nothing be bought until the owner saves the settings again."""
    organization = chosen.organization
    with transaction.atomic():
        AutoReload.objects.filter(pk=chosen.pk).update(paused_reason=reason[:120])
        audit.record(
            actor, "auto_reload.paused", organization, organization=organization, reason=reason
        )


def spent_this_month(organization: Organization, now: datetime | None = None) -> int:
    """Return what was bought automatically this month (UTC), with what is under way."""
    total = TopUp.objects.filter(
        organization=organization,
        kind=TopUp.Kind.AUTO,
        state__in=_COUNTED,
        created_at__gte=_month(now or timezone.now()),
    ).aggregate(total=Sum("credit_nanos"))["total"]
    return int(total or 0)


def _month(now: datetime) -> datetime:
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def due() -> QuerySet[AutoReload]:
    """Return whose balance is below the threshold, and who may be charged now."""
    enough = Budget.objects.filter(
        organization=OuterRef("organization"),
        lock_rank=Budget.Rank.WALLET,
        capacity__gte=F("posted") + F("held") + OuterRef("threshold_nanos"),
    )
    pending = TopUp.objects.filter(
        organization=OuterRef("organization"), kind=TopUp.Kind.AUTO, state=TopUp.State.PENDING
    )
    return (
        AutoReload.objects.filter(
            ~Exists(enough),
            ~Exists(pending),
            is_enabled=True,
            paused_reason="",
            organization__is_frozen=False,
        )
        .exclude(organization__wallet__payment_method="")
        .select_related("organization")
    )


def run_due(limit: int = 100) -> int:
    """Charge whose balance is low, and ask again about what is not known; returns how many."""
    pending = TopUp.objects.filter(kind=TopUp.Kind.AUTO, state=TopUp.State.PENDING).select_related(
        "organization"
    )
    waiting = list(pending.order_by("created_at")[:limit])
    for chosen in list(due()[:limit]):
        if top_up := _begin(chosen):
            waiting.append(top_up)
    return sum(_try(top_up) for top_up in waiting)


def _try(top_up: TopUp) -> bool:
    try:
        return charge(top_up)
    except (StripeCallError, stripe_ops.OutcomeUnknownError, StaleError) as error:
        # Still pending, asked again in the next round; the others must not wait for it.
        log.warning("automatic top-up %s: %s", top_up.pk, error)
        return False


def _begin(chosen: AutoReload) -> TopUp | None:
    """Write down an attempt before anything is charged; None if there is nothing to do."""
    organization = chosen.organization
    try:
        with transaction.atomic():
            wallet = wallets.lock(organization)
            chosen = AutoReload.objects.select_for_update().get(pk=chosen.pk)
            if not wallet.payment_method or not _may_begin(organization, chosen):
                return None
            chosen.attempts += 1
            chosen.save(update_fields=["attempts"])
            return TopUp.objects.create(
                pk=ids.uuid7(),
                organization=organization,
                kind=TopUp.Kind.AUTO,
                currency=wallet.currency,
                credit_nanos=chosen.amount_nanos,
                charge_minor=minor.to_minor(chosen.amount_nanos, wallet.currency),
            )
    except IntegrityError:
        # Another process was faster.
        return None


def _may_begin(organization: Organization, chosen: AutoReload) -> bool:
    """Look again under the lock: somebody may have topped up, or the settings may be new."""
    if not chosen.is_enabled or chosen.paused_reason:
        return False
    if budgets.wallet(organization).available >= chosen.threshold_nanos:
        return False
    if spent_this_month(organization) + chosen.amount_nanos > chosen.monthly_limit_nanos:
        _tell_limit(organization, chosen)
        return False
    return True


def _tell_limit(organization: Organization, chosen: AutoReload) -> None:
    """Say once a month that the limit is reached."""
    month = _month(timezone.now())
    told = AuditEntry.objects.filter(
        organization=organization, action=_LIMIT_REACHED, at__gte=month
    )
    if told.exists():
        return
    audit.record(None, _LIMIT_REACHED, organization, organization=organization)
    mail.queue(
        f"auto_reload_limit:{organization.pk}:{month:%Y-%m}",
        mail.owners(organization),
        "mail/auto_reload_limit",
        {
            "organization": organization.name,
            "limit": decimal_text(chosen.monthly_limit_nanos),
        },
    )


def charge(top_up: TopUp) -> bool:
    """Charge the saved card for an attempt, once; returns whether it is credited.

    Raises:
        StripeCallError: The outcome is not known.
        OutcomeUnknownError: For so long that an operator must look.
    """
    # The row is the attempt: its id says which.
    business_key = f"{top_up.organization_id}:{top_up.pk}"
    params = customers.stripe_params(OP, business_key, _params(top_up))
    try:
        made = stripe_ops.run(OP, business_key, _call, params, find=lambda: _find(top_up))
    except RejectedError as error:
        with transaction.atomic():
            payment_states.decline(
                top_up, error.decline_code or error.code or "rejected", error.object_id
            )
        return False
    synced = payments.sync(lambda: payments.of_intent(made.stripe_id))
    return synced is not None and synced.state == TopUp.State.CREDITED


def _params(top_up: TopUp) -> dict[str, Any]:
    wallet = wallets.of(top_up.organization)
    return {
        "customer": wallet.stripe_customer,
        "card": wallet.payment_method,
        "amount": top_up.charge_minor,
        "currency": top_up.currency,
        "description": "Mercato credit",
        "metadata": {
            "top_up": str(top_up.pk),
            "organization": str(top_up.organization_id),
        },
    }


def _call(params: Mapping[str, Any], key: str) -> objects.PaymentIntent:
    return client.gateway().charge_saved_card(**params, key=key)


def _find(top_up: TopUp) -> objects.PaymentIntent | None:
    op = StripeOp.objects.filter(kind=OP, params__metadata__top_up=str(top_up.pk)).first()
    if op is None:
        return None
    found = client.gateway().list_payment_intents(
        customer=op.params["customer"], since=top_up.created_at
    )
    number = str(top_up.pk)
    return next((each for each in found if each.metadata.get("top_up") == number), None)

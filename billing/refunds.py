"""Gives unspent credit back to the card it was bought with.

First the credit goes, in the ledger, with a row that says so; then Stripe is asked, under one key
until the outcome is known. A refund that fails gives the credit back once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from accounts import audit
from accounts.models import Organization, User
from billing import budgets, minor, payments, refund_states, stripe_ops, wallets
from billing.errors import CreditRefundError
from billing.models import Budget, CreditRefund, Dispute, TopUp, Wallet
from billing.money import decimal_text
from billing.staleness import StaleError
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError, StripeCallError

OP = "credit_refund"
State = CreditRefund.State


def refundable(top_up: TopUp) -> int:
    """Return how much of a top-up can be given back now, in nanos: whole coins."""
    organization = top_up.organization
    return _most(top_up, wallets.of(organization), budgets.wallet(organization))


def _most(top_up: TopUp, wallet: Wallet, budget: Budget) -> int:
    if top_up.state != TopUp.State.CREDITED or not top_up.payment_intent:
        return 0
    if top_up.disputes.filter(state=Dispute.State.OPEN).exists():
        return 0
    left = top_up.credit_nanos - top_up.refunded_nanos - top_up.clawed_back_nanos
    most = min(left, wallet.paid_nanos, budget.available)
    return max(minor.floor(most, top_up.currency), 0)


def start(
    top_up: TopUp, nanos: int, *, number: UUID, reason: str, actor: User | None
) -> CreditRefund:
    """Give credit of a top-up back to its card.

    Args:
        nanos: How much credit; tax that was paid on it is given back too.
        number: What makes it the same refund if this is called again.
        reason: For the ledger and the audit log.

    Returns:
        The refund: pending, if Stripe has not said yet what became of it.

    Raises:
        CreditRefundError: So much cannot be given back.
    """
    refund = _book(top_up, nanos, number, reason, actor)
    return send(refund)


def _book(top_up: TopUp, nanos: int, number: UUID, reason: str, actor: User | None) -> CreditRefund:
    organization: Organization = top_up.organization
    with transaction.atomic():
        wallet = wallets.lock(organization)
        top_up = TopUp.objects.select_for_update().get(pk=top_up.pk)
        top_up.organization = organization
        if known := CreditRefund.objects.filter(pk=number, top_up=top_up).first():
            return known
        _require(nanos, _most(top_up, wallet, budgets.wallet(organization)), top_up.currency)
        coins = minor.to_minor(nanos, top_up.currency)
        refund = CreditRefund.objects.create(
            pk=number,
            top_up=top_up,
            amount_nanos=nanos,
            amount_minor=coins + coins * top_up.tax_minor // top_up.charge_minor,
            reason=reason[:500],
            actor=actor,
        )
        wallets.add_paid(
            organization,
            -nanos,
            refund_states.entries(top_up, refund),
            kind="credit_refund",
            external_ref=str(refund.pk),
            actor=actor,
            reason=reason,
        )
        # A run may have set money aside since the look above; now the wallet's budget is locked.
        budget = Budget.objects.get(pk=budgets.wallet(organization).pk)
        if budget.available < 0:
            _require(nanos, nanos + budget.available, top_up.currency)
        TopUp.objects.filter(pk=top_up.pk).update(refunded_nanos=F("refunded_nanos") + nanos)
        audit.record(
            actor,
            "credit_refund.started",
            refund,
            organization=organization,
            reason=reason,
            details={"nanos": nanos, "top_up": str(top_up.pk)},
        )
    return refund


def _require(nanos: int, most: int, currency: str) -> None:
    if not 0 < nanos <= most or nanos % minor.coin(currency):
        raise CreditRefundError(
            f"At most {decimal_text(max(minor.floor(most, currency), 0))} of this top-up can be "
            "given back now, in whole cents.",
            param="amount",
        )


def send(refund: CreditRefund) -> CreditRefund:
    """Ask Stripe for a refund that is booked; again and again asks for the same one.

    Returns:
        The refund as it is now; still pending if Stripe did not answer.
    """
    top_up = refund.top_up
    if refund.state != State.PENDING or refund.stripe_refund:
        return refund
    params = {
        "payment_intent": top_up.payment_intent,
        "amount": refund.amount_minor,
        "metadata": {
            "credit_refund": str(refund.pk),
            "top_up": str(top_up.pk),
            "organization": str(top_up.organization_id),
        },
    }
    try:
        made = stripe_ops.run(OP, str(refund.pk), _call, params, find=lambda: _find(refund))
    except RejectedError as error:
        _give_back(refund, error.code or "rejected")
    except (StripeCallError, stripe_ops.OutcomeUnknownError):
        # Not known: `resume` asks again, under the same key.
        return refund
    else:
        CreditRefund.objects.filter(pk=refund.pk, stripe_refund="").update(
            stripe_refund=made.stripe_id
        )
    _learn(top_up)
    refund.refresh_from_db()
    return refund


def _call(params: Mapping[str, Any], key: str) -> objects.Refund:
    return client.gateway().create_refund(**params, key=key)


def _find(refund: CreditRefund) -> objects.Refund | None:
    found = client.gateway().list_refunds(payment_intent=refund.top_up.payment_intent)
    number = str(refund.pk)
    return next((each for each in found if each.metadata.get("credit_refund") == number), None)


def _give_back(refund: CreditRefund, why: str) -> None:
    top_up = refund.top_up
    with transaction.atomic():
        wallets.lock(top_up.organization)
        locked = TopUp.objects.select_for_update().get(pk=top_up.pk)
        locked.organization = top_up.organization
        refund_states.fail(locked, refund, why)


def _learn(top_up: TopUp) -> None:
    """Let take effect what Stripe says now; if it does not answer, its webhook will."""
    try:
        payments.sync(lambda: payments.of_intent(top_up.payment_intent, is_thorough=True))
    except (StripeCallError, StaleError):
        return


def resume(limit: int = 100) -> int:
    """Ask again about refunds whose outcome is not known; returns how many are now."""
    waiting = CreditRefund.objects.filter(state=State.PENDING, stripe_refund="")
    found = waiting.select_related("top_up__organization").order_by("created_at")[:limit]
    return sum(bool(send(refund).stripe_refund) for refund in found)

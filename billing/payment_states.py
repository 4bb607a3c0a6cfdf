"""What becomes of a top-up: credited, refused, failed, expired. The caller holds its locks."""

from __future__ import annotations

from django.utils import timezone

from accounts import audit, mail
from billing import ledger, minor, wallets
from billing.models import AutoReload, TopUp
from billing.money import decimal_text
from billing.stripe import objects

_FAILURE_MAX = 80
State = TopUp.State


def credit(top_up: TopUp, reference: str, tax: int, intent: objects.PaymentIntent | None) -> None:
    """Credit a top-up that is paid, once.

    Args:
        top_up: Locked, with its organization's wallet.
        reference: Stripe's id of what was paid: it is credited once, whoever says so.
        tax: Coins on top of the amount.
        intent: The payment.
    """
    currency = top_up.currency
    tax_nanos = minor.to_nanos(tax, currency)
    wallets.add_paid(
        top_up.organization,
        top_up.credit_nanos,
        {
            ledger.account(ledger.CLEARING, currency=currency): top_up.credit_nanos + tax_nanos,
            ledger.account(ledger.TAX, currency=currency): -tax_nanos,
        },
        kind="top_up",
        external_ref=reference,
        actor=top_up.created_by,
    )
    top_up.state, top_up.failure = State.CREDITED, ""
    top_up.tax_minor, top_up.finished_at = tax, timezone.now()
    if top_up.kind == TopUp.Kind.CHECKOUT:
        top_up.checkout_session = reference
    if intent is not None:
        top_up.payment_intent, top_up.charge = intent.id, intent.charge_id
    top_up.save()
    audit.record(
        None,
        "top_up.credited",
        top_up,
        organization=top_up.organization,
        details={"nanos": top_up.credit_nanos, "ref": reference},
    )


def refuse(top_up: TopUp, wrong: str) -> None:
    """Credit nothing: what was paid is not what was ordered. An operator must look."""
    failure = f"mismatch: {wrong}"[:_FAILURE_MAX]
    if top_up.failure == failure:
        return
    top_up.state, top_up.failure, top_up.finished_at = State.FAILED, failure, timezone.now()
    top_up.save(update_fields=["state", "failure", "finished_at"])
    audit.record(None, "top_up.refused", top_up, organization=top_up.organization, reason=failure)


def fail(top_up: TopUp, why: str) -> bool:
    """End a top-up that was not paid; False if it had ended."""
    return _end(top_up, State.FAILED, why)


def expire(top_up: TopUp) -> bool:
    """End a top-up whose page nobody used; False if it had ended."""
    return _end(top_up, State.EXPIRED, "")


def _end(top_up: TopUp, state: TopUp.State, why: str) -> bool:
    ended = TopUp.objects.filter(pk=top_up.pk, state=State.PENDING).update(
        state=state, failure=why[:_FAILURE_MAX], finished_at=timezone.now()
    )
    return ended == 1


def decline(top_up: TopUp, why: str, intent_id: str = "") -> None:
    """End an automatic top-up that the bank refused; nothing is tried until its owner acts.

    Args:
        top_up: Inside a transaction.
        why: The bank's code, such as `insufficient_funds` or `authentication_required`.
        intent_id: The payment that the refusal left behind.
    """
    if not fail(top_up, why):
        return
    if intent_id:
        TopUp.objects.filter(pk=top_up.pk, payment_intent="").update(payment_intent=intent_id)
    organization = top_up.organization
    AutoReload.objects.filter(organization=organization).update(paused_reason=why[:120])
    audit.record(None, "auto_reload.paused", organization, organization=organization, reason=why)
    mail.queue(
        f"auto_reload_paused:{top_up.pk}",
        mail.owners(organization),
        "mail/auto_reload_paused",
        {
            "organization": organization.name,
            "amount": decimal_text(top_up.credit_nanos),
            "needs_person": why == "authentication_required",
        },
    )

"""What becomes of a refund that the site made: it arrived, or the bank sent it back.

The caller holds the locks of the wallet and of the top-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from accounts import audit
from billing import ledger, minor, wallets
from billing.models import CreditRefund, LedgerAccount, TopUp
from billing.stripe import objects

ENDED_BADLY = {"failed", "canceled"}
State = CreditRefund.State


def ours(refund: objects.Refund, top_up: TopUp) -> CreditRefund | None:
    """Return the row of a refund at Stripe, if the site made it."""
    try:
        number = UUID(refund.metadata.get("credit_refund", ""))
    except ValueError:
        return None
    return CreditRefund.objects.filter(pk=number, top_up=top_up).first()


def follow(top_up: TopUp, found: Iterable[objects.Refund]) -> None:
    """Let each refund that the site made be what it is at Stripe."""
    for each in found:
        refund = ours(each, top_up)
        if refund is None:
            continue
        if not refund.stripe_refund:
            CreditRefund.objects.filter(pk=refund.pk).update(stripe_refund=each.id)
        if each.status == "succeeded":
            CreditRefund.objects.filter(pk=refund.pk, state=State.PENDING).update(
                state=State.REFUNDED, finished_at=timezone.now()
            )
        elif each.status in ENDED_BADLY:
            fail(top_up, refund, each.failure_reason or each.status)


def fail(top_up: TopUp, refund: CreditRefund, why: str) -> bool:
    """Give back the credit of a refund that did not arrive, once; False if it was given back."""
    ended = (
        CreditRefund.objects.filter(pk=refund.pk)
        .exclude(state=State.FAILED)
        .update(state=State.FAILED, failure=why[:80], finished_at=timezone.now())
    )
    if not ended:
        return False
    wallets.add_paid(
        top_up.organization,
        refund.amount_nanos,
        {account: -nanos for account, nanos in entries(top_up, refund).items()},
        kind="credit_refund_failed",
        external_ref=str(refund.pk),
        reason=why,
    )
    TopUp.objects.filter(pk=top_up.pk).update(
        refunded_nanos=F("refunded_nanos") - refund.amount_nanos
    )
    top_up.refresh_from_db(fields=["refunded_nanos"])
    audit.record(None, "credit_refund.failed", refund, organization=top_up.organization, reason=why)
    return True


def entries(top_up: TopUp, refund: CreditRefund) -> dict[LedgerAccount, int]:
    """Return where a refund's money comes from, besides the credit: {tax: 1, clearing: -6}."""
    currency = top_up.currency
    sent = minor.to_nanos(refund.amount_minor, currency)
    return {
        ledger.account(ledger.CLEARING, currency=currency): -sent,
        ledger.account(ledger.TAX, currency=currency): sent - refund.amount_nanos,
    }

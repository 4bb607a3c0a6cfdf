"""Takes credit back that Stripe has given or taken back: cumulative, per top-up.

What should be gone by now is worked out from all refunds and disputes together, and only the
difference to what the ledger shows is booked. So events may come twice, late, or in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.db.models import F, Sum

from billing import disputes, ledger, minor, refund_states, wallets
from billing.models import LedgerEntry, LedgerTransaction, TopUp
from billing.stripe import objects

KIND = "clawback"
_TEMPLATES = {
    "credit": ledger.CREDIT,
    "clearing": ledger.CLEARING,
    "tax": ledger.TAX,
    "loss": ledger.WRITE_OFF,
}


def follow(
    top_up: TopUp, refunds: Iterable[objects.Refund], found: Sequence[objects.Dispute]
) -> None:
    """Book what is still to be taken back, or given back, and freeze who disputes.

    Args:
        top_up: Credited and locked, with its organization's wallet.
        refunds: All that Stripe knows of this payment.
        found: All disputes that Stripe knows of this payment.
    """
    changed = disputes.follow(top_up, found)
    gone = disputes.withdrawn(found) + sum(
        each.amount
        for each in refunds
        if each.status not in refund_states.ENDED_BADLY
        # What the site gave back itself is booked already.
        and refund_states.ours(each, top_up) is None
    )
    changed |= _book(top_up, gone)
    if changed:
        TopUp.objects.filter(pk=top_up.pk).update(revision=F("revision") + 1)


def target(top_up: TopUp, gone: int) -> dict[str, int]:
    """Return what the clawbacks of a top-up sum to in the ledger: debit positive, in nanos.

    Of what is gone, tax and credit have the same part as they had of the payment. No more credit
    is taken than was given and not refunded; if more money is gone, that is a loss of the site's.

    Args:
        top_up: Locked.
        gone: Coins that Stripe no longer has for us, without what the site refunded itself.
    """
    money = minor.to_nanos(gone, top_up.currency)
    paid = top_up.charge_minor + top_up.tax_minor
    of_credit = min(
        minor.to_nanos(gone * top_up.charge_minor // paid, top_up.currency),
        top_up.credit_nanos - top_up.refunded_nanos,
    )
    of_tax = minor.to_nanos(min(gone * top_up.tax_minor // paid, top_up.tax_minor), top_up.currency)
    return {
        "credit": of_credit,
        "tax": of_tax,
        "loss": money - of_credit - of_tax,
        "clearing": -money,
    }


def _book(top_up: TopUp, gone: int) -> bool:
    wanted, booked = target(top_up, max(gone, 0)), _booked(top_up)
    delta = {name: nanos - booked[name] for name, nanos in wanted.items()}
    if not any(delta.values()):
        return False
    number = LedgerTransaction.objects.filter(
        kind=KIND, external_ref__startswith=f"{top_up.pk}:"
    ).count()
    wallets.add_paid(
        top_up.organization,
        -delta["credit"],
        {
            ledger.account(_TEMPLATES[name], currency=top_up.currency): nanos
            for name, nanos in delta.items()
            if name != "credit"
        },
        kind=KIND,
        external_ref=f"{top_up.pk}:{number + 1}",
        reason="Payment given back" if delta["credit"] > 0 else "Dispute won",
    )
    TopUp.objects.filter(pk=top_up.pk).update(clawed_back_nanos=wanted["credit"])
    return True


def _booked(top_up: TopUp) -> Mapping[str, int]:
    """Return what the ledger shows so far."""
    sums = dict(
        LedgerEntry.objects.filter(
            transaction__kind=KIND, transaction__external_ref__startswith=f"{top_up.pk}:"
        )
        .order_by()
        .values_list("account__code")
        .annotate(total=Sum("amount_nanos"))
        .values_list("account__code", "total")
    )
    return {
        name: sums.get(template[0].format(top_up.organization_id), 0)
        for name, template in _TEMPLATES.items()
    }

"""Takes credit back that Stripe has given or taken back: cumulative, per top-up.

What should be gone by now is worked out from all refunds and disputes together, and only the
difference to what the ledger shows is booked. So events may come twice, late, or in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.db.models import F, Q, QuerySet, Sum
from django.utils import timezone

from accounts import audit, mail, organizations
from accounts.models import AuditEntry, Organization
from billing import ledger, minor, payment_states, refund_states, wallets
from billing.models import Dispute, LedgerEntry, LedgerTransaction, TopUp
from billing.money import decimal_text
from billing.stripe import objects

KIND = "clawback"
State = Dispute.State
_STATES = {
    "won": State.WON,
    "lost": State.LOST,
    "warning_closed": State.WON,
    "prevented": State.WON,
}
_TEMPLATES = {
    "credit": ledger.CREDIT,
    "clearing": ledger.CLEARING,
    "tax": ledger.TAX,
    "loss": ledger.WRITE_OFF,
}


def follow(
    top_up: TopUp, refunds: Iterable[objects.Refund], disputes: Iterable[objects.Dispute]
) -> None:
    """Book what is still to be taken back, or given back, and freeze who disputes.

    Args:
        top_up: Credited and locked, with its organization's wallet.
        refunds: All that Stripe knows of this payment.
        disputes: All that Stripe knows of this payment.
    """
    all_disputes = list(disputes)
    changed = False
    for dispute in all_disputes:
        changed |= _note(top_up, dispute)
    gone = sum(each.net_withdrawn for each in all_disputes) + sum(
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


# Disputes -----------------------------------------------------------------------------------


def _note(top_up: TopUp, found: objects.Dispute) -> bool:
    """Write down a dispute as it is now; returns whether that is news."""
    for movement in found.balance_transactions:
        payment_states.book_fee(top_up, movement.id, movement.fee)
    state = _STATES.get(found.status, State.OPEN)
    row, is_new = Dispute.objects.select_for_update().get_or_create(
        pk=found.id,
        defaults={
            "top_up": top_up,
            "state": State.OPEN,
            "amount_minor": found.amount,
            "reason": found.reason[:80],
            "due_at": found.evidence_due_at,
        },
    )
    is_news = is_new or (row.state, row.withdrawn_minor) != (state, found.net_withdrawn)
    has_ended = row.state == State.OPEN and state != State.OPEN
    # A bank that only asks takes nothing.
    takes_money = state != State.WON and not found.status.startswith("warning_")
    stops = takes_money and (is_new or row.withdrawn_minor == 0 < found.net_withdrawn)
    row.state, row.withdrawn_minor = state, found.net_withdrawn
    if has_ended:
        row.closed_at = timezone.now()
    row.save()
    if is_new:
        _record(top_up, row)
    if stops:
        _stop(top_up, row)
    if has_ended and state == State.WON:
        _unfreeze(top_up.organization, row)
    return is_news


def _record(top_up: TopUp, dispute: Dispute) -> None:
    audit.record(
        None,
        "dispute.opened",
        dispute,
        organization=top_up.organization,
        reason=dispute.reason,
        details={"minor": dispute.amount_minor},
    )


def _stop(top_up: TopUp, dispute: Dispute) -> None:
    """Let the organization spend no more until the dispute is won, or an operator decides."""
    organization = top_up.organization
    organizations.set_frozen(organization, True, actor=None, reason=_reason(dispute))
    nanos = minor.to_nanos(dispute.amount_minor, top_up.currency)
    mail.queue(
        f"dispute:{dispute.pk}",
        mail.owners(organization),
        "mail/dispute_opened",
        {"organization": organization.name, "amount": decimal_text(nanos)},
    )


def _reason(dispute: Dispute) -> str:
    return f"Dispute {dispute.pk}"


def _unfreeze(organization: Organization, won: Dispute) -> None:
    """Let an organization spend again if only disputes had stopped it, and none is left."""
    frozen = (
        AuditEntry.objects.filter(organization=organization, action="organization.frozen")
        .order_by("-pk")
        .first()
    )
    if frozen is None or frozen.actor_id is not None or not frozen.reason.startswith("Dispute "):
        return
    if not _unresolved(organization, frozen.at).exclude(pk=won.pk).exists():
        organizations.set_frozen(organization, False, actor=None, reason=f"{_reason(won)} was won")


def _unresolved(organization: Organization, since: datetime) -> QuerySet[Dispute]:
    return Dispute.objects.filter(top_up__organization=organization).filter(
        Q(state=State.OPEN) | Q(state=State.LOST, closed_at__gte=since)
    )

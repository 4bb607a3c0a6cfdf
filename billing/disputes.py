"""Payments that a bank takes back: written down, and who paid so is stopped until it is won.

What a dispute does to the books is the business of what was paid: a top-up (billing.clawback), or
an invoice (billing.invoice_disputes).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts import audit, mail, organizations
from accounts.models import AuditEntry, Organization
from billing import minor, stripe_fees
from billing.models import Dispute, Invoice, TopUp
from billing.money import decimal_text
from billing.stripe import objects

State = Dispute.State
_STATES = {
    "won": State.WON,
    "lost": State.LOST,
    "warning_closed": State.WON,
    "prevented": State.WON,
}


def withdrawn(found: Iterable[objects.Dispute]) -> int:
    """Return what Stripe has taken for all of these and not given back, in coins."""
    return sum(each.net_withdrawn for each in found)


def follow(payment: TopUp | Invoice, found: Iterable[objects.Dispute]) -> bool:
    """Write down each dispute as it is now, book its fees, and stop who disputes.

    Args:
        payment: Locked, with its organization's wallet.
        found: All that Stripe knows of this payment.

    Returns:
        Whether anything is news.
    """
    news = [_note(payment, each) for each in found]
    return any(news)


def _note(payment: TopUp | Invoice, found: objects.Dispute) -> bool:
    for movement in found.balance_transactions:
        stripe_fees.book(
            payment.organization, payment.currency, movement.id, movement.fee, _about(payment)
        )
    state = _STATES.get(found.status, State.OPEN)
    row, is_new = Dispute.objects.select_for_update().get_or_create(
        pk=found.id,
        defaults={
            "top_up" if isinstance(payment, TopUp) else "invoice": payment,
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
    if is_new:
        _record(row)
    # Before it is closed: what is lost after the organization was frozen keeps it frozen.
    if stops:
        _stop(row)
    row.state, row.withdrawn_minor = state, found.net_withdrawn
    if has_ended:
        row.closed_at = timezone.now()
    row.save()
    if has_ended and state == State.WON:
        _unfreeze(row)
    return is_news


def _about(payment: TopUp | Invoice) -> dict[str, str]:
    if isinstance(payment, TopUp):
        return {"top_up": str(payment.pk), "charge": payment.charge}
    return {"invoice": payment.number}


def _record(dispute: Dispute) -> None:
    audit.record(
        None,
        "dispute.opened",
        dispute,
        organization=dispute.payment.organization,
        reason=dispute.reason,
        details={"minor": dispute.amount_minor},
    )


def _stop(dispute: Dispute) -> None:
    """Let the organization spend no more until the dispute is won, or an operator decides."""
    payment = dispute.payment
    organization = payment.organization
    organizations.set_frozen(organization, True, actor=None, reason=_reason(dispute))
    nanos = minor.to_nanos(dispute.amount_minor, payment.currency)
    mail.queue(
        f"dispute:{dispute.pk}",
        mail.owners(organization),
        "mail/dispute_opened",
        {
            "organization": organization.name,
            "amount": decimal_text(nanos),
            "invoice": dispute.invoice.number if dispute.invoice else "",
        },
    )


def _reason(dispute: Dispute) -> str:
    return f"Dispute {dispute.pk}"


def _unfreeze(won: Dispute) -> None:
    """Let an organization spend again if only disputes had stopped it, and none is left."""
    organization = won.payment.organization
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
    return Dispute.objects.filter(
        Q(top_up__organization=organization) | Q(invoice__organization=organization)
    ).filter(Q(state=State.OPEN) | Q(state=State.LOST, closed_at__gte=since))

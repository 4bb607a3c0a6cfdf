"""What Stripe tells us about transfers to publishers."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from billing import payouts, webhooks
from billing.models import Payout, StripeEvent
from billing.stripe import client, objects


def _transfer_now(event: StripeEvent) -> objects.Transfer:
    return client.gateway().retrieve_transfer(event.object_id)


@webhooks.handles("transfer.created", "transfer.updated", "transfer.reversed", fetch=_transfer_now)
def transfer_changed(event: StripeEvent, found: objects.Transfer) -> None:
    """Follow a transfer: it exists, and so much of it has come back.

    Raises:
        QuarantinedError: It names a payout and is not what that payout asked for.
    """
    payout = _payout_of(found)
    if payout is None:
        return
    if not _is_ours(payout, found):
        raise webhooks.QuarantinedError(f"{found.id} is not what payout {payout.pk} asked for")
    if payout.state == Payout.State.FAILED and found.amount_reversed < found.amount:
        raise webhooks.QuarantinedError(f"payout {payout.pk} was refused, yet {found.id} exists")
    with transaction.atomic():
        payouts.paid(payout.pk, found.id)
        payouts.book_reversed(payout.pk, found.amount_reversed)


def _payout_of(found: objects.Transfer) -> Payout | None:
    """Find the payout by its group, which is in what we sent; None if somebody else sent it."""
    name, _, text = found.transfer_group.partition(":")
    try:
        payout_id = UUID(text) if name == "payout" else None
    except ValueError:
        payout_id = None
    return Payout.objects.filter(pk=payout_id).first() if payout_id else None


def _is_ours(payout: Payout, found: objects.Transfer) -> bool:
    asked = (payout.amount_minor, payout.currency, payout.stripe_account)
    is_same = asked == (found.amount, found.currency, found.destination)
    return is_same and payout.stripe_transfer in {"", found.id}

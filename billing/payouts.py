"""Payouts that never pay twice: booked first, then sent under one key until the end is known.

A payout is one row, one ledger transaction (payable → clearing) and one operation of the outbox,
named after the row. An outcome that is not known is asked for again under the same key, later
looked up at Stripe. A refusal takes the booking back and ends the payout: the next one is a new
row with a key of its own. Locks, in this order: payout account, payout, book.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import crashes, ledger, minor, stripe_ops
from billing.errors import PayoutError
from billing.ids import uuid7
from billing.models import Payout, PayoutAccount, StripeOp
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError, StripeCallError

log = logging.getLogger(__name__)

KIND = "payout"
KIND_FAILED = "payout_failed"
KIND_REVERSED = "payout_reversed"
_TRANSFER = "transfer"
OPEN = (Payout.State.PENDING, Payout.State.SENT)
# A webhook may say that it is paid before the answer to the transfer came: that is asked for again.
_LIVE = (Payout.State.SENT, Payout.State.PAID)
# A refused payout is made anew by the beat after this long; an operator may do so at once.
RETRY_AFTER = timedelta(days=1)
# An attempt that Stripe refused changed nothing, here or there: it may always be made again.
_ANY_ATTEMPT = 32_767


def payable(organization: Organization) -> int:
    """Return what can be paid out to a publisher, in nanos; below zero after a clawback."""
    return -ledger.balance_of(ledger.PAYABLE, organization)


# Booking -------------------------------------------------------------------------------------


def make(organization: Organization, *, actor: User | None = None, reason: str = "") -> Payout:
    """Book all that is payable as one payout; `send` carries it out.

    Raises:
        PayoutError: The account cannot receive money, another payout is open, the organization is
            frozen, or less is payable than the minimum.
    """
    with transaction.atomic():
        # Its row is the lock: whoever waits here finds the payout of the other.
        account = PayoutAccount.objects.select_for_update().filter(organization=organization)
        found = account.first()
        if found is None or not found.payouts_enabled:
            raise PayoutError("The publisher's account at Stripe cannot receive money yet.")
        if Organization.objects.filter(pk=organization.pk, is_frozen=True).exists():
            raise PayoutError("The organization is frozen.")
        if Payout.objects.filter(organization=organization, state__in=OPEN).exists():
            raise PayoutError("A payout of this publisher is under way.")
        return _book(found, actor, reason)


def _book(account: PayoutAccount, actor: User | None, reason: str) -> Payout:
    organization, currency = account.organization, settings.CURRENCY
    has = payable(organization)
    nanos = minor.floor(has, currency)
    if nanos < max(settings.PAYOUT_MINIMUM_NANOS, minor.coin(currency)):
        raise PayoutError("Less is payable than the smallest amount that is paid out.")
    payout_id = uuid7()
    booked, _ = ledger.post(
        KIND,
        str(payout_id),
        {
            ledger.account(ledger.PAYABLE, organization, currency): nanos,
            ledger.account(ledger.CLEARING, currency=currency): -nanos,
        },
        organization=organization,
        actor=actor,
        reason=reason,
    )
    made = Payout.objects.create(
        id=payout_id,
        organization=organization,
        currency=currency,
        period=_period(timezone.now()),
        amount_nanos=nanos,
        amount_minor=minor.to_minor(nanos, currency),
        carry_nanos=has - nanos,
        stripe_account=account.stripe_account,
        ledger_transaction=booked,
    )
    audit.record(
        actor,
        "payout.made",
        made,
        organization=organization,
        reason=reason,
        details={"nanos": nanos},
    )
    crashes.point("payout.made")
    return made


def _period(now: datetime) -> date:
    return now.astimezone(UTC).date().replace(day=1)


# Sending -------------------------------------------------------------------------------------


def send(payout: Payout) -> Payout:
    """Carry a payout out, or find out what became of it; may be called again and again.

    Raises:
        billing.stripe.errors.StripeCallError: Not known yet; call again later.
        billing.stripe_ops.OutcomeUnknownError: An operator must look.
    """
    Payout.objects.filter(pk=payout.pk, state=Payout.State.PENDING).update(state=Payout.State.SENT)
    crashes.point("payout.claimed")
    payout.refresh_from_db()
    if payout.state not in _LIVE:
        return payout
    try:
        op = stripe_ops.run(
            _TRANSFER, str(payout.pk), _transfer, _params(payout), find=lambda: _find(payout)
        )
    except RejectedError as error:
        _fail(payout.pk, error.code or error.message)
    else:
        crashes.point("payout.sent")
        paid(payout.pk, op.stripe_id)
    payout.refresh_from_db()
    return payout


def _params(payout: Payout) -> dict[str, Any]:
    """Return what is frozen with the first attempt: nothing in it may ever change."""
    return {
        "amount": payout.amount_minor,
        "currency": payout.currency,
        "destination": payout.stripe_account,
        "transfer_group": group(payout.pk),
        "description": f"Earnings {payout.period:%Y-%m}",
        "metadata": {"payout_id": str(payout.pk)},
    }


def group(payout_id: UUID) -> str:
    """Return the name under which a payout's transfer is found at Stripe."""
    return f"payout:{payout_id}"


def _transfer(params: Mapping[str, Any], key: str) -> objects.Transfer:
    return client.gateway().create_transfer(**params, key=key)


def _find(payout: Payout) -> objects.Transfer | None:
    found = client.gateway().list_transfers(transfer_group=group(payout.pk))
    return found[-1] if found else None


def paid(payout_id: UUID, transfer: str) -> bool:
    """Note that the transfer exists at Stripe; returns whether this was news."""
    changed = Payout.objects.filter(pk=payout_id, state__in=OPEN).update(
        state=Payout.State.PAID, stripe_transfer=transfer, finished_at=timezone.now()
    )
    return changed == 1


def _fail(payout_id: UUID, why: str) -> None:
    """Take the booking of a refused payout back: it is payable again."""
    with transaction.atomic():
        payout = Payout.objects.select_for_update().get(pk=payout_id)
        if payout.state not in OPEN:
            return
        ledger.reverse(payout.ledger_transaction, kind=KIND_FAILED, actor=None, reason=why)
        crashes.point("payout.failing")
        payout.state = Payout.State.FAILED
        payout.failure = why[:200]
        payout.finished_at = timezone.now()
        payout.save(update_fields=["state", "failure", "finished_at"])
        audit.record(None, "payout.failed", payout, organization=payout.organization, reason=why)


# Coming back ---------------------------------------------------------------------------------


def take_back(payout: Payout, *, actor: User, reason: str) -> Payout:
    """Ask Stripe for a paid payout back: all that has not come back yet.

    Raises:
        PayoutError: It is not paid, or Stripe refused.
        billing.stripe.errors.StripeCallError: Not known yet; call again.
    """
    if payout.state != Payout.State.PAID:
        raise PayoutError("Only a payout that was paid can be taken back.")
    _follow(payout, actor=None, reason="")
    if payout.state != Payout.State.PAID:
        return payout
    left = payout.amount_minor - payout.reversed_minor
    audit.record(actor, "payout.take_back", payout, organization=payout.organization, reason=reason)
    try:
        stripe_ops.run(
            "transfer_reversal",
            # The next part of it is another operation.
            f"{payout.pk}:{payout.reversed_minor}",
            lambda params, key: client.gateway().reverse_transfer(**params, key=key),
            {
                "transfer": payout.stripe_transfer,
                "amount": left,
                "metadata": {"payout_id": str(payout.pk), "from": str(payout.reversed_minor)},
            },
            find=lambda: _find_reversal(payout),
            compensated=_ANY_ATTEMPT,
        )
    except RejectedError as error:
        raise PayoutError(f"Stripe refused: {error.message}") from error
    _follow(payout, actor=actor, reason=reason)
    return payout


def _follow(payout: Payout, *, actor: User | None, reason: str) -> None:
    """Book what has come back by now, whoever took it."""
    now = client.gateway().retrieve_transfer(payout.stripe_transfer)
    book_reversed(payout.pk, now.amount_reversed, actor=actor, reason=reason)
    payout.refresh_from_db()


def _find_reversal(payout: Payout) -> objects.TransferReversal | None:
    wanted = str(payout.reversed_minor)
    found = client.gateway().list_reversals(payout.stripe_transfer)
    return next((each for each in found if each.metadata.get("from") == wanted), None)


def book_reversed(
    payout_id: UUID, reversed_minor: int, *, actor: User | None = None, reason: str = ""
) -> bool:
    """Make payable again what has come back; only what is more than was booked before.

    Args:
        reversed_minor: All that has come back of the transfer so far, as Stripe says now.
    """
    with transaction.atomic():
        payout = Payout.objects.select_for_update().get(pk=payout_id)
        more = reversed_minor - payout.reversed_minor
        if more <= 0:
            return False
        organization, nanos = payout.organization, minor.to_nanos(more, payout.currency)
        ledger.post(
            KIND_REVERSED,
            f"{payout.pk}:{reversed_minor}",
            {
                ledger.account(ledger.CLEARING, currency=payout.currency): nanos,
                ledger.account(ledger.PAYABLE, organization, payout.currency): -nanos,
            },
            organization=organization,
            actor=actor,
            reason=reason,
        )
        payout.reversed_minor = reversed_minor
        if reversed_minor == payout.amount_minor:
            payout.state = Payout.State.REVERSED
        payout.save(update_fields=["reversed_minor", "state"])
    return True


# By the clock --------------------------------------------------------------------------------


def run(now: datetime | None = None) -> int:
    """Go on with what is open and, from the day of the month on, pay who is due.

    Returns:
        How many payouts were made.
    """
    for payout in unknown():
        _attempt(payout)
    now = now or timezone.now()
    if now.astimezone(UTC).day < settings.PAYOUT_DAY:
        return 0
    return sum(pay(organization, now) for organization in list(_due(now)))


def unknown() -> list[Payout]:
    """Return payouts that are under way, or whose answer from Stripe is still not known."""
    asked = StripeOp.objects.filter(
        kind=_TRANSFER, state__in=[StripeOp.State.SENT, StripeOp.State.UNKNOWN]
    ).values_list("business_key", flat=True)
    return list(Payout.objects.filter(Q(state__in=OPEN) | Q(pk__in=list(asked))))


def _due(now: datetime) -> list[Organization]:
    """Return publishers without a payout this month, and whose last refusal is a day ago."""
    done = Payout.objects.filter(period=_period(now)).exclude(
        state=Payout.State.FAILED, finished_at__lte=now - RETRY_AFTER
    )
    ready = PayoutAccount.objects.filter(payouts_enabled=True, organization__is_frozen=False)
    waiting = ready.exclude(organization__in=done.values("organization"))
    accounts = waiting.select_related("organization").order_by("pk")
    return [account.organization for account in accounts]


def pay(organization: Organization, now: datetime, *, actor: User | None = None) -> bool:
    """Make and send a publisher's payout if there is enough, here and at Stripe."""
    if payable(organization) < settings.PAYOUT_MINIMUM_NANOS:
        return False
    try:
        require_balance(organization)
        payout = make(organization, actor=actor)
    except (PayoutError, StripeCallError) as error:
        log.warning("no payout for organization %s: %s", organization.pk, error)
        return False
    _attempt(payout)
    return True


def require_balance(organization: Organization) -> None:
    """Insist that our balance at Stripe is enough: only what is available can be transferred.

    Raises:
        PayoutError: It is not; card payments take some days to become available.
        billing.stripe.errors.StripeCallError: Stripe did not say.
    """
    currency = settings.CURRENCY
    needed = minor.floor(payable(organization), currency)
    available = client.gateway().retrieve_balance().available.get(currency, 0)
    if minor.to_nanos(available, currency) < needed:
        raise PayoutError("The balance at Stripe is too low for this payout now.")


def _attempt(payout: Payout) -> None:
    """Send a payout; one that hangs must not keep others waiting."""
    try:
        send(payout)
    except (StripeCallError, stripe_ops.OutcomeUnknownError) as error:
        log.warning("payout %s is not known yet: %s", payout.pk, error)

"""Credit bought on Stripe's payment page: a row first, then the page, then the money, once.

Whoever learns that a payment may have changed (a webhook, the page the person comes back to, the
reconciliation) calls `fulfil`: it asks Stripe and believes nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.errors import IdempotencyMismatchError, InvalidRequestError
from accounts.models import Organization, User
from billing import customers, ids, minor, payment_states, payments, stripe_ops, wallets
from billing.errors import OrganizationFrozenError, StripeUnavailableError
from billing.models import StripeOp, TopUp
from billing.money import decimal_text
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError, StripeCallError

OP = "topup"
# Stripe allows from half an hour to a day.
_PAGE_LIVES = timedelta(hours=23)
_STUCK = timedelta(minutes=15)
_SPACE = uuid.UUID("6a3e6d1e-6b0f-4c0e-9d58-0d6f1b5b7a51")

State = TopUp.State


@dataclass(frozen=True, slots=True)
class Started:
    """A top-up, and the page on which it is paid; empty when that is over."""

    top_up: TopUp
    url: str


def start(
    organization: Organization,
    nanos: int,
    *,
    save_card: bool = False,
    actor: User | None = None,
    idempotency_key: str = "",
) -> Started:
    """Begin to buy credit; the person pays on the page that is returned.

    Args:
        nanos: The credit, without tax.
        save_card: Whether the card may be charged later without the person.
        idempotency_key: The same key of the same organization gives the same top-up.

    Raises:
        InvalidRequestError: The amount is not one that can be bought.
        IdempotencyMismatchError: The key was used for another amount.
        OrganizationFrozenError: The organization may not spend.
        StripeUnavailableError: No page could be opened; the same key may be tried again.
    """
    check_amount(nanos)
    if organization.is_frozen:
        raise OrganizationFrozenError("The organization is frozen: ask the operator.")
    top_up, is_new = _open(organization, nanos, actor, idempotency_key)
    if top_up.credit_nanos != nanos:
        raise IdempotencyMismatchError(
            "This Idempotency-Key was used with another request.", param="Idempotency-Key"
        )
    if is_new or not top_up.checkout_session:
        _open_page(top_up, save_card=save_card)
    return Started(top_up, page_of(top_up))


def check_amount(nanos: int) -> None:
    """Refuse an amount that cannot be bought.

    Raises:
        InvalidRequestError: It is too small, too large, or has parts of a cent.
    """
    low, high = settings.TOP_UP_MIN_NANOS, settings.TOP_UP_MAX_NANOS
    if not low <= nanos <= high or nanos % minor.coin(settings.CURRENCY):
        raise InvalidRequestError(
            f"`amount` must be from {decimal_text(low)} to {decimal_text(high)}, in whole cents.",
            param="amount",
        )


def _open(
    organization: Organization, nanos: int, actor: User | None, key: str
) -> tuple[TopUp, bool]:
    currency = wallets.of(organization).currency
    number = uuid.uuid5(_SPACE, f"{organization.pk}:{key}") if key else ids.uuid7()
    with transaction.atomic():
        top_up, is_new = TopUp.objects.get_or_create(
            pk=number,
            organization=organization,
            defaults={
                "kind": TopUp.Kind.CHECKOUT,
                "currency": currency,
                "credit_nanos": nanos,
                "charge_minor": minor.to_minor(nanos, currency),
                "created_by": actor,
            },
        )
        if is_new:
            audit.record(
                actor,
                "top_up.started",
                top_up,
                organization=organization,
                details={"nanos": nanos},
            )
    return top_up, is_new


def _open_page(top_up: TopUp, *, save_card: bool = False) -> None:
    """Open the payment page; again and again gives the same one."""
    try:
        customer = customers.ensure(top_up.organization)
        wanted = _page_params(top_up, customer, save_card=save_card)
        params = customers.stripe_params(OP, str(top_up.pk), wanted)
        made = stripe_ops.run(OP, str(top_up.pk), _call, params)
    except RejectedError as error:
        payment_states.fail(top_up, error.code or "rejected")
        raise StripeUnavailableError("Stripe did not open a payment page.") from error
    except (StripeCallError, stripe_ops.OutcomeUnknownError) as error:
        raise StripeUnavailableError("Stripe does not answer. Nothing was paid.") from error
    TopUp.objects.filter(pk=top_up.pk, checkout_session="").update(checkout_session=made.stripe_id)
    top_up.refresh_from_db()


def _page_params(top_up: TopUp, customer: str, *, save_card: bool) -> dict[str, Any]:
    page = settings.PUBLIC_URL + customers.WALLET_PATH
    return {
        "customer": customer,
        "amount": top_up.charge_minor,
        "currency": top_up.currency,
        "description": "Mercato credit",
        "reference": str(top_up.pk),
        "metadata": {
            "top_up": str(top_up.pk),
            "organization": str(top_up.organization_id),
            **({"save_card": "1"} if save_card else {}),
        },
        "success_url": f"{page}/topup/done?session={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{page}/topup/canceled",
        "expires_at": int((top_up.created_at + _PAGE_LIVES).timestamp()),
        "save_card": save_card,
        "tax": settings.STRIPE_TAX,
    }


def _call(params: Mapping[str, Any], key: str) -> objects.CheckoutSession:
    given = {**params, "expires_at": datetime.fromtimestamp(params["expires_at"], UTC)}
    return client.gateway().create_topup_session(**given, key=key)


def page_of(top_up: TopUp) -> str:
    """Return the address of the payment page; empty once nothing is to be paid there."""
    if top_up.state != State.PENDING or top_up.kind != TopUp.Kind.CHECKOUT:
        return ""
    op = StripeOp.objects.filter(kind=OP, business_key=str(top_up.pk), state=StripeOp.State.OK)
    made = op.values_list("response", flat=True).first()
    return str((made or {}).get("url", ""))


def fulfil(session_id: str) -> TopUp | None:
    """Credit what was paid on a payment page, once, however often and by whomever it is called.

    Returns:
        The top-up as it is now; None if the page is none of ours.

    Raises:
        StripeCallError: Stripe did not answer, or does not know the page.
    """
    return payments.sync(lambda: payments.of_session(session_id))


def reconcile(limit: int = 100) -> int:
    """Look after top-ups whose webhook never came; returns how many are no longer pending."""
    now = timezone.now()
    stuck = TopUp.objects.filter(
        kind=TopUp.Kind.CHECKOUT, state=State.PENDING, created_at__lt=now - _STUCK
    ).order_by("created_at")
    count = 0
    for top_up in stuck[:limit]:
        try:
            count += _reconcile(top_up, now)
        except (StripeCallError, StripeUnavailableError):
            # Later again: one that cannot be asked about must not keep others waiting.
            continue
    return count


def _reconcile(top_up: TopUp, now: datetime) -> bool:
    if top_up.checkout_session:
        found = fulfil(top_up.checkout_session)
        return found is not None and found.state != State.PENDING
    if top_up.created_at + _PAGE_LIVES < now:
        # Its page was never shown to anybody, and it is too old to be paid now.
        return payment_states.expire(top_up)
    _open_page(top_up)
    return False

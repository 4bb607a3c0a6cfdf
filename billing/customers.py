"""Who an organization is at Stripe: one customer, one saved card, a page to manage both."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts import audit, mail
from accounts.errors import ConflictError
from accounts.models import Organization, User
from billing import stripe_ops, wallets
from billing.models import StripeOp, Wallet
from billing.stripe import client, objects
from billing.stripe.errors import StripeCallError

WALLET_PATH = "/console/balance"
_LABEL_MAX = 40


def ensure(organization: Organization) -> str:
    """Return the organization's customer at Stripe, made on first use.

    Two requests at once make one: they send the same frozen parameters under the same key.

    Raises:
        StripeCallError: Stripe did not answer, or refused.
    """
    wallet = wallets.of(organization)
    if wallet.stripe_customer:
        return wallet.stripe_customer

    def call(given: Any, key: str) -> objects.Customer:
        return client.gateway().create_customer(**given, key=key)

    wanted = {
        "email": next((user.email for user in mail.owners(organization)), ""),
        "name": organization.name,
        "metadata": {"organization": str(organization.pk)},
    }
    params = stripe_params("customer", str(organization.pk), wanted)
    made = stripe_ops.run("customer", str(organization.pk), call, params)
    Wallet.objects.filter(pk=wallet.pk, stripe_customer="").update(stripe_customer=made.stripe_id)
    wallet.refresh_from_db()
    return wallet.stripe_customer


def stripe_params(kind: str, business_key: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters an operation was opened with, or those it shall be opened with.

    What is said of an operation may have changed since, such as an organization's name; what was
    frozen has not.
    """
    opened = StripeOp.objects.filter(kind=kind, business_key=business_key).order_by("-attempt")
    frozen = opened.values_list("params", flat=True).first()
    return wanted if frozen is None else dict(frozen)


def portal(organization: Organization) -> str:
    """Return the address of Stripe's page for the organization's cards and receipts.

    Raises:
        StripeCallError: Stripe did not answer, or refused.
    """
    made = client.gateway().create_portal_session(
        customer=ensure(organization),
        return_url=f"{settings.PUBLIC_URL}{WALLET_PATH}/card",
        # A link is for one visit: each call wants a new one.
        key=f"portal:{organization.pk}:{secrets.token_hex(12)}",
    )
    return made.url


def start_saving_card(organization: Organization) -> str:
    """Return the address of Stripe's page on which a card is saved and nothing is paid.

    Raises:
        StripeCallError: Stripe did not answer, or refused.
    """
    page = settings.PUBLIC_URL + WALLET_PATH
    made = client.gateway().create_setup_session(
        customer=ensure(organization),
        currency=wallets.of(organization).currency,
        metadata={"organization": str(organization.pk), "purpose": "card"},
        success_url=f"{page}/card?session={{CHECKOUT_SESSION_ID}}",
        cancel_url=page,
        key=f"card:{organization.pk}:{secrets.token_hex(12)}",
    )
    return made.url


@dataclass(frozen=True, slots=True)
class SavedCard:
    """A card that may be charged without its owner: whose, and what people call it."""

    customer: str
    card: str
    label: str


def look_at_card(customer: str, card: str) -> SavedCard | None:
    """Ask Stripe about a card; None if it is not this customer's, or cannot be charged again."""
    found = client.gateway().retrieve_card(card)
    if not customer or found.customer != customer:
        return None
    label = f"{found.brand.title()} •••• {found.last4}"
    return SavedCard(customer, card, label[:_LABEL_MAX])


def remember(saved: SavedCard) -> bool:
    """Make a card the one that is charged; False if nobody here is this customer."""
    with transaction.atomic():
        wallet = (
            Wallet.objects.select_for_update()
            .filter(stripe_customer=saved.customer)
            .select_related("organization")
            .first()
        )
        if wallet is None:
            return False
        if wallet.payment_method != saved.card:
            wallet.payment_method, wallet.card_label = saved.card, saved.label
            wallet.save(update_fields=["payment_method", "card_label"])
            organization = wallet.organization
            audit.record(None, "card.saved", organization, organization=organization)
    return True


def refresh(organization: Organization) -> None:
    """Charge from now on the card that its owner has chosen at Stripe, or none.

    Raises:
        StripeCallError: Stripe did not answer.
    """
    wallet = wallets.of(organization)
    if not wallet.stripe_customer:
        return
    chosen = client.gateway().retrieve_customer(wallet.stripe_customer)
    saved = None
    if chosen.default_payment_method:
        saved = look_at_card(chosen.id, chosen.default_payment_method)
    if saved is not None:
        remember(saved)
    elif wallet.payment_method and look_at_card(chosen.id, wallet.payment_method) is None:
        forget(wallet.payment_method)


def forget(card: str) -> bool:
    """No longer charge a card that its owner removed at Stripe."""
    return bool(Wallet.objects.filter(payment_method=card).update(payment_method="", card_label=""))


def remove(organization: Organization, *, actor: User) -> None:
    """Remove the saved card, here first: from then on it is not charged.

    Raises:
        ConflictError: There is none.
    """
    card = wallets.of(organization).payment_method
    if not card:
        raise ConflictError("There is no saved card.")
    with transaction.atomic():
        forget(card)
        audit.record(actor, "card.removed", organization, organization=organization)
    try:
        client.gateway().detach_card(card, key=f"detach:{card}")
    except StripeCallError:
        # It is not charged any more; at Stripe it can be removed in the portal.
        return

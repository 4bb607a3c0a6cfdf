"""Publishers' accounts at Stripe Connect: opened once, and known as Stripe knows them now.

What Stripe says about an account is asked for, never taken from a webhook. A webhook only says
when to ask.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import stripe_ops, webhooks
from billing.models import PayoutAccount, StripeEvent
from billing.stripe import client, objects

# Where publishers may be at home: Stripe opens accounts for transfers there.
COUNTRIES = (
    *("AT", "AU", "BE", "BG", "CA", "CH", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB"),
    *("GR", "HK", "HR", "HU", "IE", "IT", "JP", "LT", "LU", "LV", "MT", "MX", "NL", "NO", "NZ"),
    *("PL", "PT", "RO", "SE", "SG", "SI", "SK", "TH", "US"),
)


def start(organization: Organization, *, country: str, actor: User) -> PayoutAccount:
    """Open the publisher's account at Stripe, once, however often this is called.

    Args:
        country: Where the publisher is at home: two capital letters of `COUNTRIES`.

    Raises:
        ValueError: Not one of the countries.
        billing.stripe.errors.StripeCallError: Stripe refused or did not answer; try again.
    """
    if country not in COUNTRIES:
        raise ValueError(f"{country!r} is not a country that is paid out to.")
    known = PayoutAccount.objects.filter(organization=organization).first()
    if known is not None:
        return known
    op = stripe_ops.run(
        "account",
        f"{organization.pk}:{country}:{actor.pk}",
        _create,
        {
            "email": actor.email,
            "country": country,
            "metadata": {"organization": str(organization.pk)},
        },
        find=_nothing,
    )
    with transaction.atomic():
        account, is_new = PayoutAccount.objects.get_or_create(
            organization=organization,
            defaults={"stripe_account": op.stripe_id, "country": country},
        )
        if is_new:
            audit.record(
                actor,
                "payout_account.opened",
                account,
                organization=organization,
                details={"country": country},
            )
    return account


def _create(params: Mapping[str, Any], key: str) -> objects.Account:
    return client.gateway().create_account(**params, key=key)


def _nothing() -> None:
    """An account that nobody knows of is empty: opening another one costs nobody anything."""
    return


def link(account: PayoutAccount, *, return_url: str, refresh_url: str) -> str:
    """Return the address of the page on which the publisher tells Stripe who they are.

    Works once and for minutes: make a new one for each visit.
    """
    made = client.gateway().create_account_link(
        account=account.stripe_account,
        return_url=return_url,
        refresh_url=refresh_url,
        key=f"account_link:{uuid.uuid4()}",
    )
    return made.url


def refresh(account: PayoutAccount) -> PayoutAccount:
    """Ask Stripe how the account is now, and remember it."""
    found = client.gateway().retrieve_account(account.stripe_account)
    _remember(found)
    account.refresh_from_db()
    return account


def _remember(found: objects.Account) -> None:
    """Write down what Stripe says; whose account it is, only our own row knows."""
    PayoutAccount.objects.filter(stripe_account=found.id).update(
        country=found.country,
        payouts_enabled=found.can_receive,
        details_submitted=found.details_submitted,
        requirements=sorted({*found.currently_due, *found.past_due}),
        disabled_reason=found.disabled_reason[:120],
        updated_at=timezone.now(),
    )


def _account_now(event: StripeEvent) -> objects.Account | None:
    name = event.account or event.object_id
    if not PayoutAccount.objects.filter(stripe_account=name).exists():
        # Not one of ours, or opened a moment ago: then there is nothing to know yet.
        return None
    return client.gateway().retrieve_account(name)


@webhooks.handles("account.updated", fetch=_account_now)
def account_updated(event: StripeEvent, found: objects.Account | None) -> None:
    """Remember what Stripe says of a publisher's account."""
    if found is not None:
        _remember(found)


def _bank_now(event: StripeEvent) -> objects.BankPayment | None:
    if not PayoutAccount.objects.filter(stripe_account=event.account).exists():
        return None
    return client.gateway().last_bank_payment(event.account)


@webhooks.handles("payout.paid", "payout.failed", fetch=_bank_now)
def bank_answered(event: StripeEvent, found: objects.BankPayment | None) -> None:
    """Remember whether the bank took the last payment: the publisher must act if it did not.

    Nothing is booked: the money is on the publisher's own account at Stripe.
    """
    if found is not None:
        PayoutAccount.objects.filter(stripe_account=event.account).update(
            bank_failure=found.failure[:200], updated_at=timezone.now()
        )

"""Steps that tests of prepaid money share: what people do, and what the site does about it."""

from __future__ import annotations

from accounts.models import Organization
from billing import budgets, customers, ledger, payment_events, topups
from billing.models import AutoReload, TopUp, Wallet
from billing.money import NANOS
from billing.stripe.fake import FakeStripe
from billing.stripe.fake.payments import PAYING_CARD

TEN = 10 * NANOS


def buy(
    fake: FakeStripe, organization: Organization, nanos: int = TEN, *, save_card: bool = False
) -> TopUp:
    """Top up: the person pays, and no webhook has arrived yet."""
    top_up = topups.start(organization, nanos, save_card=save_card).top_up
    fake.people.pay(top_up.checkout_session)
    return top_up


def bought(fake: FakeStripe, organization: Organization, nanos: int = TEN) -> TopUp:
    """Top up, and credit it as the page does that the person comes back to."""
    top_up = buy(fake, organization, nanos)
    credited = topups.fulfil(top_up.checkout_session)
    assert credited is not None
    assert credited.state == TopUp.State.CREDITED
    return credited


def save_card(fake: FakeStripe, organization: Organization, number: str = PAYING_CARD) -> str:
    """Save a card on Stripe's page, and come back; returns its id."""
    session = customers.start_saving_card(organization).rpartition("/")[2]
    fake.people.pay(session, number)
    saved = payment_events.saved_card(session)
    assert saved is not None
    assert customers.remember(saved)
    return saved.card


def reload_at(
    organization: Organization, *, threshold: int = 2, amount: int = 10, limit: int = 100
) -> AutoReload:
    """Switch auto-reload on, with amounts in dollars."""
    chosen, _ = AutoReload.objects.update_or_create(
        organization=organization,
        defaults={
            "is_enabled": True,
            "threshold_nanos": threshold * NANOS,
            "amount_nanos": amount * NANOS,
            "monthly_limit_nanos": limit * NANOS,
            "paused_reason": "",
        },
    )
    return chosen


def paid(organization: Organization) -> int:
    """Return the paid credit."""
    return Wallet.objects.get(organization=organization).paid_nanos


def available(organization: Organization) -> int:
    """Return what may be spent."""
    return budgets.wallet(organization).available


def balances(organization: Organization) -> dict[str, int]:
    """Return what the ledger says of everything that payments touch."""
    return {
        "credit": ledger.balance_of(ledger.CREDIT, organization),
        "clearing": ledger.balance_of(ledger.CLEARING),
        "fees": ledger.balance_of(ledger.FEES),
        "tax": ledger.balance_of(ledger.TAX),
        "loss": ledger.balance_of(ledger.WRITE_OFF),
    }

"""The saved card follows what its owner does at Stripe, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.errors import ConflictError
from accounts.models import Organization, User
from billing import customers, topups, wallets, webhooks
from billing.models import StripeEvent
from billing.stripe import signatures
from billing.stripe.errors import AmbiguousError
from billing.stripe.fake import FakeStripe, Fault
from billing.stripe.fake.events import emit
from tests.billing.prepaid import TEN, save_card
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization

pytestmark = pytest.mark.django_db
OTHER_CARD = "5555555555554444"


def saved(organization: Organization) -> str:
    return wallets.of(organization).payment_method


def test_the_webhook_of_a_saving_page_keeps_the_card(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    session = customers.start_saving_card(organization).rpartition("/")[2]
    fake_stripe.people.pay(session, OTHER_CARD)

    deliver_all()

    assert wallets.of(organization).card_label == "Mastercard •••• 4444"


def test_a_card_is_saved_with_a_payment_only_if_asked(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    for save, expected in ((False, False), (True, True)):
        page = topups.start(organization, TEN, save_card=save).top_up.checkout_session
        fake_stripe.people.pay(page)
        topups.fulfil(page)
        assert bool(saved(organization)) is expected


def test_a_first_card_added_in_the_portal_is_kept(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    customer = customers.ensure(organization)

    first = fake_stripe.people.save_card(customer)
    deliver_all()
    fake_stripe.people.save_card(customer, OTHER_CARD)
    deliver_all()

    assert saved(organization) == first["id"]


def changed(fake: FakeStripe, customer: str, before: dict[str, Any]) -> None:
    """Say that a customer was changed, as Stripe would."""
    with fake._store.transaction() as world:
        body = world.find(customer)
        assert body is not None
        emit(world, "customer.updated", body)
        event = world.newest("event")[0]
        event["data"]["previous_attributes"] = before
        world.save(event)


def test_the_default_of_the_portal_is_charged(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    first = save_card(fake_stripe, organization)
    customer = customers.ensure(organization)
    other = fake_stripe.people.save_card(customer, OTHER_CARD)
    fake_stripe.people.prefer_card(customer, other["id"])
    changed(fake_stripe, customer, {"name": "Before"})
    deliver_all()
    assert saved(organization) == first

    changed(fake_stripe, customer, {"invoice_settings": {"default_payment_method": first}})
    deliver_all()

    assert saved(organization) == other["id"]


def test_a_card_of_nobody_here_is_nobodys(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Invariant 35: a forged event names a card, and no wallet gets it."""
    card = save_card(fake_stripe, make_organization())
    deliver_all()
    event = StripeEvent.objects.filter(type="payment_method.attached").get()

    def forge(body: dict[str, Any]) -> None:
        body["id"] = "evt_forged"
        body["data"]["object"]["customer"] = customers.ensure(organization)

    payload = fake_stripe.post.forge(event.pk, forge)
    webhooks.receive(payload, signatures.sign(payload, signatures.secrets()[0]))
    webhooks.handle_due()

    assert saved(organization) == ""
    assert card


def test_the_card_is_removed_here_first(
    fake_stripe: FakeStripe, organization: Organization, owner: User
) -> None:
    card = save_card(fake_stripe, organization)
    fake_stripe.fail(Fault.BEFORE_SEND, "POST /v1/payment_methods/*")

    customers.remove(organization, actor=owner)

    assert saved(organization) == ""
    assert (fake_stripe.people.look(card) or {})["customer"]
    with pytest.raises(ConflictError):
        customers.remove(organization, actor=owner)


def test_a_portal_is_of_one_customer(fake_stripe: FakeStripe, organization: Organization) -> None:
    page = customers.portal(organization)

    visit = fake_stripe.people.look(page.rpartition("/")[2])

    assert visit is not None
    assert visit["customer"] == wallets.of(organization).stripe_customer


def test_coming_back_from_the_portal_without_an_answer_changes_nothing(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    card = save_card(fake_stripe, organization)
    fake_stripe.fail(Fault.BEFORE_SEND, "GET /v1/customers/*")

    with pytest.raises(AmbiguousError):
        customers.refresh(organization)

    assert saved(organization) == card

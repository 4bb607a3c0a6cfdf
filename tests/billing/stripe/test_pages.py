"""The pages that stand for Stripe's."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client

from accounts.models import User
from billing.stripe import client as stripe_client
from billing.stripe import objects
from billing.stripe.fake import FakeStripe
from tests.billing.stripe_world import make_customer, open_topup

pytestmark = pytest.mark.django_db
DECLINED, ASKS = "4000000000000002", "4000002500003155"
PAYS = "4242424242424242"


@pytest.fixture
def payer(client: Client, owner: User, fake_stripe: FakeStripe) -> Client:
    client.force_login(owner)
    return client


@pytest.fixture
def session(fake_stripe: FakeStripe) -> objects.CheckoutSession:
    return open_topup(make_customer(), 2000)


def path(address: str) -> str:
    return urlsplit(address).path


def now(session: objects.CheckoutSession) -> objects.CheckoutSession:
    return stripe_client.gateway().retrieve_session(session.id)


def test_the_payment_page_says_that_no_real_money_moves(
    payer: Client, session: objects.CheckoutSession
) -> None:
    page = payer.get(path(session.url)).content.decode()

    assert "No real money moves" in page
    assert "Pay $20.00" in page


def test_paying_leads_back_to_the_site(payer: Client, session: objects.CheckoutSession) -> None:
    answer = payer.post(path(session.url), {"card": PAYS, "action": "pay"})

    assert (answer.status_code, answer["Location"]) == (302, "http://testserver/ok")
    assert now(session).is_paid
    assert "This is paid" in payer.get(path(session.url)).content.decode()


def test_a_declined_card_is_told_and_another_may_pay(
    payer: Client, session: objects.CheckoutSession
) -> None:
    answer = payer.post(path(session.url), {"card": DECLINED, "action": "pay"})

    assert answer.status_code == 402
    assert "Your card was declined." in answer.content.decode()
    payer.post(path(session.url), {"card": PAYS, "action": "pay"})
    assert now(session).is_paid


@pytest.mark.parametrize(("action", "paid"), [("arrive", True), ("fail", False)])
def test_a_slow_payment_arrives_or_fails(
    payer: Client, session: objects.CheckoutSession, action: str, paid: bool
) -> None:
    payer.post(path(session.url), {"card": PAYS, "action": "later"})
    assert (now(session).status, now(session).is_paid) == ("complete", False)
    assert "on its way" in payer.get(path(session.url)).content.decode()

    payer.post(path(session.url), {"action": action})

    assert now(session).is_paid is paid


def test_a_page_that_is_too_old_takes_nothing(
    payer: Client, session: objects.CheckoutSession, fake_stripe: FakeStripe
) -> None:
    fake_stripe.people.wait(7200)

    assert "too old" in payer.get(path(session.url)).content.decode()
    assert payer.post(path(session.url), {"card": PAYS, "action": "pay"}).status_code == 402
    assert not now(session).is_paid


def test_nonsense_pays_nothing(payer: Client, session: objects.CheckoutSession) -> None:
    for form in ({}, {"action": "pay"}, {"action": "pay", "card": "1"}, {"action": "arrive"}):
        assert payer.post(path(session.url), form).status_code == 402

    assert not now(session).is_paid


def test_cards_are_saved_chosen_and_removed(payer: Client, fake_stripe: FakeStripe) -> None:
    customer, gateway = make_customer(), stripe_client.gateway()
    visit = gateway.create_portal_session(
        customer=customer.id, return_url="http://testserver/console/balance", key="b1"
    )
    assert "No card is saved" in payer.get(path(visit.url)).content.decode()

    payer.post(path(visit.url), {"add": "1", "card": PAYS})
    payer.post(path(visit.url), {"add": "1", "card": ASKS})
    second, first = gateway.list_cards(customer.id)
    assert gateway.retrieve_customer(customer.id).default_payment_method == first.id
    payer.post(path(visit.url), {"prefer": second.id})
    assert gateway.retrieve_customer(customer.id).default_payment_method == second.id
    payer.post(path(visit.url), {"remove": second.id})

    assert gateway.list_cards(customer.id) == [first]
    assert "•••• 4242" in payer.get(path(visit.url)).content.decode()


def test_the_card_of_another_customer_stays(payer: Client, fake_stripe: FakeStripe) -> None:
    mine, theirs = make_customer("mine"), make_customer("theirs")
    card = fake_stripe.people.save_card(theirs.id)["id"]
    visit = stripe_client.gateway().create_portal_session(
        customer=mine.id, return_url="http://testserver/", key="b1"
    )

    payer.post(path(visit.url), {"remove": card})

    assert len(stripe_client.gateway().list_cards(theirs.id)) == 1


def test_a_publisher_tells_who_they_are(payer: Client, fake_stripe: FakeStripe) -> None:
    gateway = stripe_client.gateway()
    account = gateway.create_account(email="p@q.r", country="US", metadata={}, key="a1").id
    link = gateway.create_account_link(
        account=account, return_url="http://testserver/done", refresh_url="http://x/", key="l1"
    )
    assert "not allowed yet" in payer.get(path(link.url)).content.decode()

    answer = payer.post(path(link.url), {"action": "finish"})
    assert answer["Location"] == "http://testserver/done"
    assert gateway.retrieve_account(account).can_receive

    payer.post(path(link.url), {"action": "stop"})
    assert not gateway.retrieve_account(account).can_receive


def test_the_invoice_of_a_payment_can_be_read(
    payer: Client, session: objects.CheckoutSession
) -> None:
    payer.post(path(session.url), {"card": PAYS, "action": "pay"})
    invoice = stripe_client.gateway().retrieve_invoice(now(session).invoice_id)

    page = payer.get(path(invoice.hosted_url)).content.decode()

    assert "$20.00" in page
    assert "This invoice is paid" in page


def test_there_are_no_such_pages_with_a_key(
    payer: Client, session: objects.CheckoutSession, settings: Any
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_123"

    assert payer.get(path(session.url)).status_code == 404
    assert payer.post(path(session.url), {"card": PAYS, "action": "pay"}).status_code == 404


def test_what_is_not_there_is_not_found(payer: Client, session: objects.CheckoutSession) -> None:
    for page in ("checkout/cs_test_1", f"portal/{session.id}", "connect/x", "invoice/x"):
        assert payer.get(f"/dev/stripe/{page}").status_code == 404


def test_only_people_who_are_signed_in_may_pay(
    client: Client, session: objects.CheckoutSession
) -> None:
    answer = client.post(path(session.url), {"card": PAYS, "action": "pay"})

    assert answer.status_code == 302
    assert "/login" in answer["Location"]
    assert not now(session).is_paid


def test_a_site_that_others_reach_gives_nothing_for_nothing(
    payer: Client, session: objects.CheckoutSession, settings: Any
) -> None:
    settings.PLAY_MONEY = False

    page = payer.get(path(session.url)).content.decode()

    assert "nothing can be paid here" in page
    assert 'name="action"' not in page
    assert payer.post(path(session.url), {"card": PAYS, "action": "pay"}).status_code == 403
    assert not now(session).is_paid

"""The wallet: what it shows, and everything an owner does there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, User
from billing import promotions, wallets
from billing.models import AutoReload, CreditRefund, TopUp
from billing.money import NANOS
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.prepaid import available, bought, buy, paid, reload_at, save_card
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization, make_user

pytestmark = pytest.mark.django_db
Page = Callable[..., str]
SUBMISSION = "0193e2f0-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _no_guesses() -> None:
    cache.clear()


@pytest.fixture
def member(client: Client, owner: User, organization: Organization) -> Client:
    """The owner, signed in."""
    client.force_login(owner)
    return client


def start(client: Client, **fields: str) -> Any:
    return client.post(reverse("topup_start"), {"submission": SUBMISSION, **fields})


def test_the_wallet_says_what_the_balance_is_made_of(
    fake_stripe: FakeStripe, page: Page, organization: Organization
) -> None:
    bought(fake_stripe, organization)

    text = page(reverse("balance"))

    assert re.search(r"Available<b>\$15\.00</b>", text)
    assert re.search(r"Paid credit<b>\$10\.00</b>", text)
    assert re.search(r"Promotional credit<b>\$5\.00</b>", text)
    assert "never" in text
    assert "Credited" in text


def test_without_a_key_every_page_says_that_no_real_money_moves(
    fake_stripe: FakeStripe, page: Page, organization: Organization, settings: Any
) -> None:
    settings.OWNER_REFUNDS = True
    top_up = bought(fake_stripe, organization)
    done = f"{reverse('topup_done')}?session={top_up.checkout_session}"
    addresses = [reverse("balance"), done, reverse("topup_refund", args=[top_up.pk])]

    assert all("No real money moves" in page(address) for address in addresses)


def test_with_a_key_the_page_does_not_say_so(page: Page, settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_1"

    assert "No real money" not in page(reverse("balance"))


# Buying ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "nanos"),
    [({"preset": "25"}, 25 * NANOS), ({"amount": "12.34"}, 1234 * NANOS // 100)],
)
def test_a_top_up_ends_in_the_wallet(
    fake_stripe: FakeStripe,
    member: Client,
    organization: Organization,
    fields: dict[str, str],
    nanos: int,
) -> None:
    answer = start(member, **fields)
    top_up = TopUp.objects.get()
    assert answer.status_code == 302
    assert answer["Location"].endswith(f"/dev/stripe/checkout/{top_up.checkout_session}")

    paid_page = member.post(
        reverse("fake_checkout", args=[top_up.checkout_session]),
        {"card": "4242424242424242", "action": "pay"},
    )
    back = member.get(paid_page["Location"].removeprefix("http://127.0.0.1:8000"))

    assert "was credited" in back.content.decode()
    assert (paid(organization), top_up.created_by) == (nanos, User.objects.get())


def test_a_form_sent_twice_opens_one_page(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    first, again = start(member, preset="10"), start(member, preset="10")

    assert first["Location"] == again["Location"]
    assert TopUp.objects.count() == 1


@pytest.mark.parametrize("amount", ["", "1", "abc", "10.001", "99999", "-5"])
def test_a_wrong_amount_is_told_on_the_form(
    fake_stripe: FakeStripe, member: Client, amount: str
) -> None:
    answer = start(member, amount=amount)

    assert answer.status_code == 422
    assert "field-error" in answer.content.decode()
    assert not TopUp.objects.exists()


def test_when_stripe_is_away_the_person_is_told(fake_stripe: FakeStripe, member: Client) -> None:
    fake_stripe.fail(Fault.BEFORE_SEND, times=3)

    answer = start(member, preset="10")

    assert "Nothing was paid" in member.get(answer["Location"]).content.decode()


def test_the_page_after_a_slow_payment_waits(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    start(member, preset="10")
    session = TopUp.objects.get().checkout_session
    fake_stripe.people.pay(session, later=True)

    text = member.get(f"{reverse('topup_done')}?session={session}").content.decode()

    assert "on its way" in text
    assert 'http-equiv="refresh"' in text


def test_another_tenants_payment_is_not_there(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    theirs = buy(fake_stripe, make_organization())

    answer = member.get(f"{reverse('topup_done')}?session={theirs.checkout_session}")

    assert answer.status_code == 404
    assert member.get(reverse("topup_done"))["Location"] == reverse("balance")
    theirs.refresh_from_db()
    assert theirs.state == TopUp.State.PENDING


def test_coming_back_without_paying(member: Client) -> None:
    answer = member.get(reverse("topup_canceled"))

    assert "Nothing was paid." in member.get(answer["Location"]).content.decode()


@pytest.mark.parametrize(
    "name", ["topup_start", "redeem", "reload_set", "card_save", "card_remove", "portal"]
)
def test_a_viewer_only_looks(viewer: Client, name: str) -> None:
    assert viewer.post(reverse(name)).status_code == 403
    assert "An owner tops up" in viewer.get(reverse("balance")).content.decode()


# Cards and automatic top-ups ------------------------------------------------------------------


def test_a_card_is_saved_and_charged_from_then_on(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    there = member.post(reverse("card_save"))["Location"]
    session = there.rpartition("/")[2]
    after = member.post(
        reverse("fake_checkout", args=[session]), {"card": "5555555555554444", "action": "pay"}
    )

    member.get(after["Location"].removeprefix("http://127.0.0.1:8000"))

    assert wallets.of(organization).card_label == "Mastercard •••• 4444"
    assert "Mastercard •••• 4444" in member.get(reverse("balance")).content.decode()


def test_a_card_saved_by_somebody_else_is_not_ours(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    other = make_organization()
    save_card(fake_stripe, other)
    session = fake_stripe.calls("POST /v1/checkout/sessions")
    assert session
    with fake_stripe._store.transaction() as world:
        name = world.newest("checkout.session")[0]["id"]

    member.get(f"{reverse('card_back')}?session={name}")

    assert wallets.of(organization).payment_method == ""


def test_the_card_chosen_in_the_portal_is_charged(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    save_card(fake_stripe, organization)
    customer = wallets.of(organization).stripe_customer
    other = fake_stripe.people.save_card(customer, "5555555555554444")
    assert "/dev/stripe/portal/" in member.post(reverse("portal"))["Location"]
    fake_stripe.people.prefer_card(customer, other["id"])

    member.get(reverse("card_back"))

    assert wallets.of(organization).payment_method == other["id"]


def test_a_card_is_removed_here_and_at_stripe(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    save_card(fake_stripe, organization)

    member.post(reverse("card_remove"))

    assert wallets.of(organization).payment_method == ""
    assert fake_stripe.people.cards(wallets.of(organization).stripe_customer) == []


def test_automatic_top_ups_are_set_and_shown(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    form = {
        "is_enabled": "on",
        "threshold_nanos": "5",
        "amount_nanos": "20",
        "monthly_limit_nanos": "100",
    }
    refused = member.post(reverse("reload_set"), form)
    assert "Save a card first" in refused.content.decode()
    save_card(fake_stripe, organization)

    member.post(reverse("reload_set"), form)

    chosen = AutoReload.objects.get()
    assert (chosen.is_enabled, chosen.threshold_nanos) == (True, 5 * NANOS)
    assert "of $100.00 bought automatically" in member.get(reverse("balance")).content.decode()


def test_a_limit_below_one_top_up_is_refused(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    answer = member.post(
        reverse("reload_set"),
        {"threshold_nanos": "5", "amount_nanos": "20", "monthly_limit_nanos": "10"},
    )

    assert (answer.status_code, AutoReload.objects.count()) == (422, 0)
    assert "Less than one top-up" in answer.content.decode()


def test_a_pause_says_why(member: Client, organization: Organization) -> None:
    chosen = reload_at(organization)
    chosen.paused_reason = "insufficient_funds"
    chosen.save()

    text = member.get(reverse("balance")).content.decode()

    assert "Automatic top-ups are paused: The card has too little money." in text


# Codes and refunds ----------------------------------------------------------------------------


def test_a_code_is_redeemed(member: Client, organization: Organization) -> None:
    _, text = promotions.make_code(3 * NANOS, actor=make_user())

    answer = member.post(reverse("redeem"), {"code": text}, follow=True)
    again = member.post(reverse("redeem"), {"code": text})

    assert "$3.00 of credit is yours." in answer.content.decode()
    assert (again.status_code, available(organization)) == (422, 8 * NANOS)


def test_an_owner_refunds_where_the_site_allows_it(
    fake_stripe: FakeStripe, member: Client, organization: Organization, settings: Any
) -> None:
    top_up = bought(fake_stripe, organization)
    address = reverse("topup_refund", args=[top_up.pk])
    assert member.get(address).status_code == 403
    assert "Refund</a>" not in member.get(reverse("balance")).content.decode()
    settings.OWNER_REFUNDS = True
    assert "Refund</a>" in member.get(reverse("balance")).content.decode()

    form = {"submission": SUBMISSION, "amount": "4"}
    for _ in range(2):
        answer = member.post(address, form, follow=True)

    assert "$4.00 goes back" in answer.content.decode()
    assert (paid(organization), CreditRefund.objects.count()) == (6 * NANOS, 1)
    deliver_all()
    assert paid(organization) == 6 * NANOS


def test_too_much_is_told_on_the_form(
    fake_stripe: FakeStripe, member: Client, organization: Organization, settings: Any
) -> None:
    settings.OWNER_REFUNDS = True
    top_up = bought(fake_stripe, organization)

    answer = member.post(
        reverse("topup_refund", args=[top_up.pk]), {"submission": SUBMISSION, "amount": "11"}
    )

    assert answer.status_code == 422
    assert "At most 10 of this top-up" in answer.content.decode()


def test_nobody_elses_top_up_is_refunded(
    fake_stripe: FakeStripe, member: Client, settings: Any
) -> None:
    settings.OWNER_REFUNDS = True
    theirs = bought(fake_stripe, make_organization())

    assert member.get(reverse("topup_refund", args=[theirs.pk])).status_code == 404


def test_a_frozen_organization_is_told(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    Organization.objects.filter(pk=organization.pk).update(is_frozen=True)

    answer = start(member, preset="10")
    text = member.get(answer["Location"]).content.decode()

    assert "This organization is frozen" in text
    assert not TopUp.objects.exists()
    assert paid(organization) == 0


def test_the_states_of_past_top_ups(
    fake_stripe: FakeStripe, member: Client, organization: Organization
) -> None:
    expired = buy(fake_stripe, organization)
    TopUp.objects.filter(pk=expired.pk).update(state="expired")
    failed = buy(fake_stripe, organization)
    TopUp.objects.filter(pk=failed.pk).update(state="failed", failure="mismatch: amount")

    text = member.get(reverse("balance")).content.decode()

    assert "Not paid" in text
    assert "an operator looks at it" in text

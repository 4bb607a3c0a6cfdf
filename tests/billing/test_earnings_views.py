from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import Membership, Organization
from billing import charge_refunds, connect, payouts
from billing.models import ChargeRefund, Payout, PayoutAccount
from billing.money import decimal_text
from billing.stripe import client as stripe_client
from billing.stripe.fake import Fault
from catalog.models import ModelVersion
from tests.billing.publishing import PRICE, earn, make_seller, onboard
from tests.factories import make_key, make_organization, make_user

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("fake_stripe"),
]
Page = Callable[[str], str]


@pytest.fixture
def seller() -> tuple[Organization, ModelVersion]:
    return make_seller(calls=0, slug="lab")


@pytest.fixture
def page(client: Client, seller: tuple[Organization, ModelVersion]) -> Page:
    member = seller[0].memberships.get()
    client.force_login(member.user)

    def read(address: str) -> str:
        answer = client.get(address)
        assert answer.status_code == 200
        return answer.content.decode()

    return read


def api_of(organization: Organization) -> APIClient:
    _key, secret = make_key(organization)
    return APIClient(headers={"authorization": f"Bearer {secret}"})


# Pages -----------------------------------------------------------------------------------------


def test_the_page_shows_where_the_money_is_and_what_earned_it(
    page: Page, seller: tuple[Organization, ModelVersion]
) -> None:
    organization, version = seller
    earn(version)
    earn(version, release=False)
    onboard(organization)
    payouts.run()

    shown = page("/console/earnings")

    assert "$16.000000098<" in shown, "accrued"
    assert ">$16.00<" in shown, "accrued and paid, in cents"
    assert ">$0.000000098<" in shown, "what is carried stays payable"
    assert "$32.000000196<" in shown, "earned by the model"
    assert f"lab/{version.model.name}" in shown
    assert "Becomes payable" in shown
    assert Payout.objects.get().stripe_transfer in shown


def test_who_has_no_models_is_told_and_sees_no_menu_entry(client: Client) -> None:
    owner = make_user()
    make_organization(owner=owner)
    client.force_login(owner)

    assert "no models" in client.get("/console/earnings").content.decode()
    assert "/console/earnings" not in client.get("/console/budgets").content.decode()


def test_the_menu_has_the_page_for_publishers(page: Page) -> None:
    assert 'href="/console/earnings"' in page("/console/budgets")


def test_nothing_of_who_called_is_shown(
    page: Page, seller: tuple[Organization, ModelVersion]
) -> None:
    """Invariant 35: a publisher sees sums, and nothing of the tenants who called."""
    earn(seller[1])
    buyers = Organization.objects.exclude(pk=seller[0].pk)

    shown = page("/console/earnings") + page("/console/earnings.csv")

    for buyer in buyers:
        assert buyer.slug not in shown


def test_another_publishers_earnings_are_not_shown(page: Page) -> None:
    other, version = make_seller(slug="other")
    onboard(other)
    payouts.run()

    shown = page("/console/earnings") + page("/console/earnings.csv")

    assert version.model.name not in shown
    assert str(Payout.objects.get().pk) not in shown


def test_the_statement_sums_to_what_is_owed(
    page: Page, seller: tuple[Organization, ModelVersion]
) -> None:
    organization, version = seller
    (hold_id,) = earn(version)
    onboard(organization)
    payouts.run()
    charge_refunds.refund(hold_id, PRICE // 2, external_ref="x", reason="x", actor=make_user())

    rows = list(csv.DictReader(io.StringIO(page("/console/earnings.csv"))))

    found = [(row["what"], row["amount_usd"]) for row in rows]
    back = ChargeRefund.objects.get().publisher_nanos
    assert found == [
        ("earned", "16.000000098"),
        ("given_back", decimal_text(-back)),
        ("payout_paid", "-16"),
    ]


@pytest.mark.parametrize(
    ("query", "lines"),
    [("", 1), ("?model={name}", 1), ("?model=nothing", 1), ("?end=2020-01-01&start=2019-12-01", 0)],
)
def test_earnings_are_filtered_by_the_address(
    client: Client,
    page: Page,
    seller: tuple[Organization, ModelVersion],
    query: str,
    lines: int,
) -> None:
    earn(seller[1])

    answer = client.get("/console/earnings" + query.format(name=seller[1].model.name))

    assert len(answer.context["lines"]) == lines


def test_the_page_takes_as_many_queries_for_one_model_as_for_many(
    page: Page, seller: tuple[Organization, ModelVersion], count_queries: Any
) -> None:
    earn(seller[1])
    page("/console/earnings")
    for_one = count_queries(lambda: page("/console/earnings"))
    for _ in range(3):
        earn(seller[1])

    assert count_queries(lambda: page("/console/earnings")) == for_one <= 20


# The account -----------------------------------------------------------------------------------


def test_an_owner_opens_an_account_and_comes_back_with_it_ready(
    client: Client, page: Page, seller: tuple[Organization, ModelVersion]
) -> None:
    answer = client.post("/console/earnings/account", {"country": "DE"})

    assert answer.status_code == 302
    assert "/dev/stripe/connect/" in answer["Location"]
    account = PayoutAccount.objects.get()
    assert (account.organization, account.country) == (seller[0], "DE")
    stripe_client.fake().people.onboard(account.stripe_account)
    client.get("/console/earnings/account/back")
    assert PayoutAccount.objects.get().payouts_enabled
    assert "Ready" in page("/console/earnings")


def test_what_is_missing_is_said(
    client: Client, page: Page, seller: tuple[Organization, ModelVersion]
) -> None:
    client.post("/console/earnings/account", {"country": "DE"})
    client.get("/console/earnings/account/back")

    shown = page("/console/earnings")

    assert "A bank account" in shown
    assert "Go on at Stripe" in shown


def test_a_second_visit_makes_a_new_link_and_no_new_account(client: Client, page: Page) -> None:
    first = client.post("/console/earnings/account", {"country": "DE"})["Location"]
    second = client.post("/console/earnings/account", {"country": "US"})["Location"]

    assert first != second
    assert PayoutAccount.objects.get().country == "DE"


def test_an_unknown_country_is_refused(client: Client, page: Page) -> None:
    assert client.post("/console/earnings/account", {"country": "XX"}).status_code == 422
    assert not PayoutAccount.objects.exists()


def test_when_stripe_is_away_the_page_says_so(client: Client, page: Page) -> None:
    stripe_client.fake().fail(Fault.BEFORE_SEND, "POST /v1/accounts")

    answer = client.post("/console/earnings/account", {"country": "DE"}, follow=True)

    assert "Stripe gave no answer" in answer.content.decode()
    assert client.post("/console/earnings/account", {"country": "DE"}).status_code == 302


@pytest.mark.parametrize("role", [Membership.Role.DEVELOPER, Membership.Role.VIEWER])
def test_only_owners_open_accounts(
    client: Client, seller: tuple[Organization, ModelVersion], role: str
) -> None:
    person = make_user()
    Membership.objects.create(organization=seller[0], user=person, role=role)
    client.force_login(person)

    assert client.post("/console/earnings/account", {"country": "DE"}).status_code == 403
    assert "An owner" in client.get("/console/earnings").content.decode()


# API -------------------------------------------------------------------------------------------


def test_the_api_says_where_the_money_is(seller: tuple[Organization, ModelVersion]) -> None:
    organization, version = seller
    earn(version)
    earn(version, release=False)
    onboard(organization)
    payouts.run()

    answer = api_of(organization).get("/v1/earnings")

    assert answer.status_code == 200
    said = answer.json()
    assert (said["accrued"], said["payable"], said["paid"]) == (
        "16.000000098",
        "0.000000098",
        "16",
    )
    (month,) = said["months"]
    assert (month["model"], month["calls"], month["earned"], month["given_back"]) == (
        f"lab/{version.model.name}",
        2,
        "32.000000196",
        "0",
    )
    assert [each["amount"] for each in said["releases"]] == ["16.000000098"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("model=lab/{name}", 1),
        ("model=lab/other", 0),
        ("model=other/{name}", 0),
        ("since=2019-01-01&until=2019-12-31", 0),
    ],
)
def test_the_api_filters(seller: tuple[Organization, ModelVersion], query: str, count: int) -> None:
    earn(seller[1])

    answer = api_of(seller[0]).get(f"/v1/earnings?{query.format(name=seller[1].model.name)}")

    assert len(answer.json()["months"]) == count


@pytest.mark.parametrize("query", ["since=yesterday", "until=0001-01-01", "month=2026-01"])
def test_the_api_is_strict(seller: tuple[Organization, ModelVersion], query: str) -> None:
    assert api_of(seller[0]).get(f"/v1/earnings?{query}").status_code == 400


def test_payouts_are_listed_to_their_publisher_alone(
    seller: tuple[Organization, ModelVersion],
) -> None:
    organization, version = seller
    earn(version)
    onboard(organization)
    payouts.run()
    other, _ = make_seller(slug="other")

    said = api_of(organization).get("/v1/payouts").json()

    (row,) = said["data"]
    assert (row["object"], row["state"], row["amount"], row["reversed"]) == (
        "payout",
        "paid",
        "16",
        "0",
    )
    assert api_of(other).get("/v1/payouts").json()["data"] == []


def test_an_account_of_another_organization_is_not_touched(
    client: Client, page: Page, seller: tuple[Organization, ModelVersion]
) -> None:
    """Invariant 35: the account that is opened is the signed-in organization's."""
    other, _ = make_seller(calls=0, slug="other")
    connect.start(other, country="US", actor=make_user())

    client.post("/console/earnings/account", {"country": "DE"})

    owners = set(PayoutAccount.objects.values_list("organization__slug", flat=True))
    assert owners == {"lab", "other"}

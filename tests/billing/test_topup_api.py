"""/v1/topups and /v1/redemptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import Organization
from billing import promotions, topups
from billing.models import TopUp
from billing.money import NANOS
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.prepaid import TEN, available, bought
from tests.factories import make_key, make_organization, make_user

pytestmark = pytest.mark.django_db
Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_guesses() -> None:
    cache.clear()


@pytest.fixture
def call(client: Client, organization: Organization) -> Call:
    """Call the API with a key that may buy."""
    _, secret = make_key(organization, scopes=["read", "billing"])

    def send(path: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
        headers = {"Authorization": f"Bearer {secret}", **headers}
        if body is None:
            return client.get(path, headers=headers)
        return client.post(path, json.dumps(body), content_type="application/json", headers=headers)

    return send


def test_a_top_up_is_opened_and_read(
    fake_stripe: FakeStripe, call: Call, organization: Organization
) -> None:
    answer = call("/v1/topups", {"amount": "10.00"})
    made = answer.json()

    assert answer.status_code == 201
    assert answer["Location"] == f"/v1/topups/{made['id']}"
    assert (made["object"], made["state"], made["amount"]) == ("top_up", "pending", "10")
    assert made["url"].startswith("http")
    session = TopUp.objects.get().checkout_session
    fake_stripe.people.pay(session)
    topups.fulfil(session)
    read = call(answer["Location"]).json()
    assert (read["state"], read["url"], read["refunded"]) == ("credited", None, "0")


def test_the_same_key_gives_the_same_top_up(fake_stripe: FakeStripe, call: Call) -> None:
    """Invariant 28: same key and body, same answer; another body is refused."""
    headers = {"Idempotency-Key": "k1"}
    fake_stripe.fail(Fault.AFTER_SEND, "POST /v1/checkout/sessions")

    lost = call("/v1/topups", {"amount": "10"}, **headers)
    first = call("/v1/topups", {"amount": "10"}, **headers)
    again = call("/v1/topups", {"amount": "10"}, **headers)
    other = call("/v1/topups", {"amount": "20"}, **headers)

    assert (lost.status_code, lost.json()["error"]["code"]) == (503, "stripe_unavailable")
    assert lost["Retry-After"] == "10"
    assert first.json() == again.json()
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert TopUp.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "amount"),
        ({"amount": 10}, "amount"),
        ({"amount": "1"}, "amount"),
        ({"amount": "10.001"}, "amount"),
        ({"amount": "-10"}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"amount": "10", "save_card": "yes"}, "save_card"),
        ({"amount": "10", "currency": "eur"}, "currency"),
    ],
)
def test_a_wrong_body_names_its_field(call: Call, body: dict[str, Any], param: str) -> None:
    answer = call("/v1/topups", body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not TopUp.objects.exists()


def test_the_list_has_pages_and_nobody_elses(
    fake_stripe: FakeStripe, call: Call, organization: Organization
) -> None:
    """Invariant 35: no other tenant's payment is seen."""
    theirs = bought(fake_stripe, make_organization())
    for _ in range(3):
        topups.start(organization, TEN)

    first = call("/v1/topups?limit=2").json()
    second = call(f"/v1/topups?limit=2&cursor={first['next_cursor']}").json()

    found = [each["id"] for each in first["data"] + second["data"]]
    assert (first["has_more"], second["has_more"], len(set(found))) == (True, False, 3)
    assert str(theirs.pk) not in found
    assert call(f"/v1/topups/{theirs.pk}").status_code == 404


def test_a_key_must_be_allowed_to_buy(client: Client, organization: Organization) -> None:
    _, secret = make_key(organization)
    headers = {"Authorization": f"Bearer {secret}"}

    for path in ("/v1/topups", "/v1/redemptions"):
        answer = client.post(path, "{}", content_type="application/json", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    assert client.get("/v1/topups", headers=headers).status_code == 200


def test_a_code_is_redeemed_once(call: Call, organization: Organization) -> None:
    _, text = promotions.make_code(3 * NANOS, actor=make_user(), credit_days=10)
    headers = {"Idempotency-Key": "k1"}

    first = call("/v1/redemptions", {"code": text}, **headers)
    again = call("/v1/redemptions", {"code": text}, **headers)
    later = call("/v1/redemptions", {"code": text})

    assert first.status_code == 201
    assert (first.json()["object"], first.json()["amount"]) == ("redemption", "3")
    assert first.json()["expires_at"] is not None
    assert again.json() == first.json()
    assert (later.status_code, later.json()["error"]["code"]) == (409, "redeem_code_not_valid")
    assert available(organization) == 8 * NANOS


def test_guessing_codes_is_stopped(call: Call, organization: Organization) -> None:
    answers = [call("/v1/redemptions", {"code": "x"}) for _ in range(promotions.GUESSES + 1)]

    assert answers[0].status_code == 409
    assert (answers[-1].status_code, answers[-1]["Retry-After"]) == (429, "3600")


def test_the_balance_tells_the_kinds_of_credit_apart(
    fake_stripe: FakeStripe, call: Call, organization: Organization
) -> None:
    bought(fake_stripe, organization)

    answer = call("/v1/balance").json()

    assert (answer["available"], answer["paid"], answer["promotional"]) == ("15", "10", "5")
    assert (answer["line"], answer["owed"]) == ("0", "0")
    assert answer["grants"] == [{"amount": "5", "expires_at": None}]

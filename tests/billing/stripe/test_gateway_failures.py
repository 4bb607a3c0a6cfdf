"""Each failure of Stripe's side is told apart at the boundary."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import stripe

from billing.stripe import client, objects
from billing.stripe.errors import (
    AmbiguousError,
    KeyReusedError,
    MisconfiguredError,
    RateLimitedError,
    RejectedError,
    StripeCallError,
    mapped,
)
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.stripe_world import LONG_AGO, make_customer

DECEMBER, JANUARY = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.BEFORE_SEND, AmbiguousError),
        (Fault.AFTER_SEND, AmbiguousError),
        (Fault.CONFLICT, AmbiguousError),
        (Fault.CACHED_500, AmbiguousError),
        (Fault.DONE_500, AmbiguousError),
        (Fault.BAD_GATEWAY, AmbiguousError),
        (Fault.RATE_LIMITED, RateLimitedError),
    ],
)
def test_each_failure_of_the_way_is_told_apart(
    fake_stripe: FakeStripe, fault: Fault, kind: type[StripeCallError]
) -> None:
    fake_stripe.fail(fault, "POST /v1/customers")

    with pytest.raises(StripeCallError) as caught:
        make_customer()

    assert type(caught.value) is kind


def test_a_refusal_says_why(fake_stripe: FakeStripe) -> None:
    customer = make_customer()
    card = fake_stripe.people.save_card(customer.id, "4000000000009995")["id"]

    with pytest.raises(RejectedError) as caught:
        charge(customer.id, card)

    refusal = caught.value
    assert (refusal.status, refusal.code) == (402, "card_declined")
    assert refusal.decline_code == "insufficient_funds"
    left = client.gateway().retrieve_payment_intent(refusal.object_id)
    assert (left.status, left.error_code) == ("requires_payment_method", "card_declined")


def test_a_card_that_asks_its_owner_cannot_be_charged_alone(fake_stripe: FakeStripe) -> None:
    customer = make_customer()
    card = fake_stripe.people.save_card(customer.id, "4000002500003155")["id"]

    with pytest.raises(RejectedError) as caught:
        charge(customer.id, card)

    assert caught.value.code == "authentication_required"


def test_the_card_of_somebody_else_cannot_be_charged(fake_stripe: FakeStripe) -> None:
    """Invariant 35: not with another tenant's card."""
    mine, theirs = make_customer("mine"), make_customer("theirs")
    card = fake_stripe.people.save_card(theirs.id)["id"]

    with pytest.raises(RejectedError):
        charge(mine.id, card)


def charge(customer: str, card: str, amount: int = 500, key: str = "p1") -> objects.PaymentIntent:
    return client.gateway().charge_saved_card(
        customer=customer,
        card=card,
        amount=amount,
        currency="usd",
        description="Automatic",
        metadata={},
        key=key,
    )


def test_the_same_key_with_another_amount_is_not_a_refusal(fake_stripe: FakeStripe) -> None:
    """Regression 31: liberapay#1533: same key, other amount: what the first did is not known."""
    customer = make_customer()
    card = fake_stripe.people.save_card(customer.id)["id"]
    charge(customer.id, card, 500)

    with pytest.raises(KeyReusedError):
        charge(customer.id, card, 600)

    assert [each.amount for each in payments(customer.id)] == [500]


def payments(customer: str) -> list[objects.PaymentIntent]:
    return client.gateway().list_payment_intents(customer=customer, since=LONG_AGO)


def test_a_wrong_secret_key_is_told_apart() -> None:
    with pytest.raises(MisconfiguredError), mapped():
        raise stripe.AuthenticationError("no", http_status=401)


def test_a_call_without_a_key_of_ours_is_a_mistake(fake_stripe: FakeStripe) -> None:
    for key in ("", "x" * 256):
        with pytest.raises(ValueError, match="idempotency key"):
            client.gateway().create_customer(email="a@b.c", name="A", metadata={}, key=key)


def test_our_objects_are_no_dicts_and_the_sdks_are_not_either(fake_stripe: FakeStripe) -> None:
    """Regression 32: superdesigndev/treg#159: fakes made of dicts hid that StripeObject is none."""
    made = make_customer()
    raw = stripe.StripeClient(client.FAKE_KEY, http_client=fake_stripe).v1.customers.retrieve(
        made.id
    )

    assert isinstance(raw, stripe.Customer)
    assert not isinstance(raw, dict)
    with pytest.raises(AttributeError):
        raw.get("email")  # type: ignore[attr-defined]  # what broke
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.id = "other"  # type: ignore[misc]  # what must not be possible


def test_the_prices_decimals_are_exact_on_the_wire(fake_stripe: FakeStripe) -> None:
    gateway = client.gateway()
    meter = gateway.adopt_meter(event_name="usd", display_name="Usage", key="m1")
    product = gateway.create_product(name="Usage", metadata={}, key="pr1")
    gateway.create_metered_price(
        product=product.id,
        meter=meter.id,
        currency="usd",
        unit_amount=Decimal("0.0001"),
        lookup_key="usd",
        key="pr2",
    )

    sent = fake_stripe.calls("POST /v1/prices")[0].params

    assert sent["unit_amount_decimal"] == "0.0001"


def test_a_meter_is_made_once(fake_stripe: FakeStripe) -> None:
    gateway = client.gateway()

    made = {
        gateway.adopt_meter(event_name="usd", display_name="Usage", key=f"m{i}").id
        for i in range(3)
    }

    assert len(made) == 1


def test_there_is_one_gateway_per_process_and_key(fake_stripe: FakeStripe, settings: Any) -> None:
    first = client.gateway()
    assert client.gateway() is first
    assert client.is_fake()
    assert not client.is_live()

    settings.STRIPE_SECRET_KEY = "sk_live_123"
    assert client.gateway() is not first
    assert client.is_live()
    assert not client.is_fake()
    with pytest.raises(RuntimeError):
        client.fake()


def test_the_real_client_is_pinned_and_patient_but_not_endlessly(settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_123"

    sdk = client._sdk()

    options = sdk._requestor._options
    transport = sdk._requestor._get_http_client()
    assert isinstance(transport, stripe.RequestsClient)
    assert str(transport._timeout) == "(3.05, 15.0)"
    assert options.max_network_retries == 2
    assert options.stripe_version == client.API_VERSION == stripe._api_version._ApiVersion.CURRENT
    assert stripe.enable_telemetry is False

"""The fake counts usage and moves money as Stripe does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing.stripe import client, objects
from billing.stripe.errors import AmbiguousError, RateLimitedError, RejectedError, mapped
from billing.stripe.fake import FakeStripe, Fault
from billing.stripe.fake.routes import Refusal
from tests.billing.stripe_world import LONG_AGO, make_customer, open_topup

DAY = 86400

NOON = datetime(2026, 12, 10, 12, tzinfo=UTC)


def transfer(amount: int = 300, key: str = "t1", destination: str = "") -> objects.Transfer:
    return client.gateway().create_transfer(
        amount=amount,
        currency="usd",
        destination=destination or publisher(),
        transfer_group="payout:1",
        description="x",
        metadata={"payout_id": "1"},
        key=key,
    )


def publisher() -> str:
    account = client.gateway().create_account(email="p@q.r", country="US", metadata={}, key="acct1")
    client.fake().people.onboard(account.id)
    return account.id


# Usage ---------------------------------------------------------------------------------------


@pytest.fixture
def meter(fake_stripe: FakeStripe) -> objects.Meter:
    fake_stripe.people.stop_the_clock(NOON)
    return client.gateway().adopt_meter(event_name="usd", display_name="Usage", key="m1")


def report(customer: str, identifier: str = "u1", value: int = 7, at: datetime = NOON) -> None:
    client.gateway().report_usage(
        event_name="usd", customer=customer, value=value, at=at, identifier=identifier
    )


def counted(meter: objects.Meter, customer: str) -> int:
    found = client.gateway().usage_summaries(
        meter=meter.id, customer=customer, start=NOON - timedelta(days=40), end=NOON
    ) + client.gateway().usage_summaries(
        meter=meter.id, customer=customer, start=NOON, end=NOON + timedelta(days=40)
    )
    return sum(each.value for each in found)


def test_usage_is_counted_once_per_identifier(
    fake_stripe: FakeStripe, meter: objects.Meter
) -> None:
    """Regression 19: langfuse#16292: the duplicate's 400 says that it was counted: success."""
    customer = make_customer().id
    fake_stripe.fail(Fault.AFTER_SEND, "POST /v1/billing/meter_events")
    with pytest.raises(AmbiguousError):
        report(customer)
    report(customer)
    # Stripe has lost the key but not the identifier.
    with pytest.raises(RejectedError) as caught:
        _report_under_another_key(customer)

    assert caught.value.is_duplicate_usage
    assert counted(meter, customer) == 7


def _report_under_another_key(customer: str) -> None:
    with mapped():
        client.gateway()._v1.billing.meter_events.create(
            {
                "event_name": "usd",
                "identifier": "u1",
                "timestamp": int(NOON.timestamp()),
                "payload": {"stripe_customer_id": customer, "value": "7"},
            },
            {"idempotency_key": "another"},
        )


def test_the_gateway_never_reports_without_an_identifier(
    fake_stripe: FakeStripe, meter: objects.Meter
) -> None:
    """Regression 18: langfuse/langfuse#15917, diggerhq/opencomputer#276: no identifier, twice."""
    customer = make_customer().id
    report(customer)

    sent = fake_stripe.calls("POST /v1/billing/meter_events")[0]

    assert sent.params["identifier"] == sent.key == "u1"
    with pytest.raises(ValueError, match="idempotency key"):
        report(customer, "")


def test_an_identifier_is_forgotten_after_a_day(
    fake_stripe: FakeStripe, meter: objects.Meter
) -> None:
    """Invariant 22: so nothing may be sent again after 23 hours without looking."""
    customer = make_customer().id
    report(customer)
    fake_stripe.people.wait(DAY + 1)

    report(customer)

    assert counted(meter, customer) == 14


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (NOON - timedelta(days=35, seconds=1), 1),
        (NOON + timedelta(minutes=5, seconds=1), 1),
        (NOON, 10**15),
    ],
)
def test_usage_out_of_bounds_is_refused(
    fake_stripe: FakeStripe, meter: objects.Meter, at: datetime, value: int
) -> None:
    customer = make_customer().id

    with pytest.raises(RejectedError) as caught:
        report(customer, value=value, at=at)

    assert not caught.value.is_duplicate_usage
    assert counted(meter, customer) == 0


def test_usage_at_the_bounds_is_counted(fake_stripe: FakeStripe, meter: objects.Meter) -> None:
    customer = make_customer().id
    report(customer, "old", 1, NOON - timedelta(days=35))
    report(customer, "soon", 2, NOON + timedelta(minutes=5))
    report(customer, "much", 10**15 - 10, NOON)
    report(customer, "back", -3, NOON)

    assert counted(meter, customer) == 10**15 - 10


def test_one_call_at_a_time_per_customer_and_meter(
    fake_stripe: FakeStripe, meter: objects.Meter
) -> None:
    mine, theirs = make_customer("mine").id, make_customer("theirs").id
    refused: list[int] = []

    def meanwhile(name: str) -> None:
        fake_stripe.on_execute = None
        report(theirs, "t1")
        with pytest.raises(RateLimitedError) as caught:
            report(mine, "u2")
        refused.append(caught.value.status)

    fake_stripe.on_execute = meanwhile
    report(mine, "u1")

    assert refused == [429]


def test_usage_can_be_taken_back_for_a_day(fake_stripe: FakeStripe, meter: objects.Meter) -> None:
    customer, gateway = make_customer().id, client.gateway()
    report(customer, "u1")
    gateway.cancel_usage(event_name="usd", identifier="u1", key="x1")
    assert counted(meter, customer) == 0

    report(customer, "u2")
    fake_stripe.people.wait(DAY)
    with pytest.raises(RejectedError):
        gateway.cancel_usage(event_name="usd", identifier="u2", key="x2")


def test_times_of_a_summary_must_be_aligned(fake_stripe: FakeStripe, meter: objects.Meter) -> None:
    with pytest.raises(RejectedError):
        client.gateway().usage_summaries(
            meter=meter.id,
            customer=make_customer().id,
            start=NOON + timedelta(seconds=1),
            end=NOON + timedelta(days=1),
        )


# Payments ------------------------------------------------------------------------------------


def kinds(fake: FakeStripe) -> list[str]:
    return [each.type for each in fake.post.due()]


def test_a_declined_card_leaves_the_page_open(fake_stripe: FakeStripe) -> None:
    session = open_topup(make_customer())

    with pytest.raises(Refusal):
        fake_stripe.people.pay(session.id, "4000000000000002")
    assert client.gateway().retrieve_session(session.id).status == "open"
    fake_stripe.people.pay(session.id)

    paid = client.gateway().retrieve_session(session.id)
    assert paid.is_paid
    assert len(client.gateway().list_payment_intents(customer=paid.customer, since=LONG_AGO)) == 1
    assert "payment_intent.payment_failed" in kinds(fake_stripe)


def test_a_page_grows_old(fake_stripe: FakeStripe) -> None:
    session = open_topup(make_customer())
    fake_stripe.people.wait(3601)

    assert client.gateway().retrieve_session(session.id).status == "expired"
    assert "checkout.session.expired" in kinds(fake_stripe)
    with pytest.raises(Refusal):
        fake_stripe.people.pay(session.id)


def test_slow_money_arrives_later(fake_stripe: FakeStripe) -> None:
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id, later=True)

    waiting = client.gateway().retrieve_session(session.id)
    assert (waiting.status, waiting.is_paid) == ("complete", False)

    fake_stripe.people.settle(session.id)
    assert client.gateway().retrieve_session(session.id).is_paid


def test_tax_comes_on_top(fake_stripe: FakeStripe) -> None:
    fake_stripe.people.set("tax_bps", 1900)

    session = open_topup(make_customer(), 2000, tax=True)

    assert (session.amount_subtotal, session.amount_tax, session.amount_total) == (2000, 380, 2380)


def test_refunds_stop_at_what_was_paid(fake_stripe: FakeStripe) -> None:
    session = open_topup(make_customer(), 1000)
    fake_stripe.people.pay(session.id)
    gateway = client.gateway()
    intent = gateway.retrieve_session(session.id).payment_intent_id

    def refund(amount: int, key: str) -> objects.Refund:
        return gateway.create_refund(payment_intent=intent, amount=amount, metadata={}, key=key)

    failed = refund(400, "r1")
    refund(600, "r2")
    with pytest.raises(RejectedError):
        refund(1, "r3")
    fake_stripe.people.fail_refund(failed.id)
    with pytest.raises(Refusal, match="has failed"):
        fake_stripe.people.fail_refund(failed.id)

    assert gateway.retrieve_refund(failed.id).status == "failed"
    assert gateway.retrieve_payment_intent(intent).amount_refunded == 600
    refund(400, "r4")


@pytest.mark.parametrize(("won", "withdrawn"), [(True, 0), (False, 1000)])
def test_a_dispute_takes_the_money_and_may_bring_it_back(
    fake_stripe: FakeStripe, won: bool, withdrawn: int
) -> None:
    session = open_topup(make_customer(), 1000)
    fake_stripe.people.pay(session.id)
    intent = client.gateway().retrieve_session(session.id).payment_intent
    assert intent is not None
    dispute = fake_stripe.people.dispute(intent.charge_id)["id"]
    with pytest.raises(RejectedError) as caught:
        client.gateway().create_refund(payment_intent=intent.id, amount=1, metadata={}, key="r1")
    assert caught.value.code == "charge_disputed"

    fake_stripe.people.close_dispute(dispute, won=won)

    found = client.gateway().retrieve_dispute(dispute)
    assert (found.net_withdrawn, found.fees) == (withdrawn, 1500)
    assert ("charge.dispute.funds_reinstated" in kinds(fake_stripe)) is won


def test_transfers_need_money_and_a_publisher_who_may_receive(fake_stripe: FakeStripe) -> None:
    account = publisher()
    fake_stripe.people.set("settling", 2 * DAY)
    fake_stripe.people.deposit(1000)
    with pytest.raises(RejectedError) as caught:
        transfer(destination=account, key="early")
    assert caught.value.code == "balance_insufficient"

    fake_stripe.people.wait(2 * DAY)
    fake_stripe.people.set_receiving(account, receives=False)
    with pytest.raises(RejectedError) as caught:
        transfer(destination=account, key="stopped")
    assert caught.value.code == "insufficient_capabilities_for_transfer"

    fake_stripe.people.set_receiving(account, receives=True)
    transfer(700, destination=account, key="now")
    with pytest.raises(RejectedError):
        transfer(700, destination=account, key="more")


def test_a_reversal_stops_at_the_transfer(fake_stripe: FakeStripe) -> None:
    fake_stripe.people.deposit(1000)
    sent = transfer()
    client.gateway().reverse_transfer(sent.id, amount=200, metadata={}, key="v1")

    with pytest.raises(RejectedError):
        client.gateway().reverse_transfer(sent.id, amount=101, metadata={}, key="v2")

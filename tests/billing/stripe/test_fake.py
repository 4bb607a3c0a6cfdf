"""What stands for Stripe behaves as Stripe says it does, also when things go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import stripe

from billing.stripe import client, objects
from billing.stripe.errors import AmbiguousError, RateLimitedError, RejectedError, mapped
from billing.stripe.fake import FakeStripe, Fault
from billing.stripe.fake.params import ParamsError, check, decode
from billing.stripe.fake.routes import ROUTES, Refusal, UnknownRouteError
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


def transfers() -> list[int]:
    return [each.amount for each in client.gateway().list_transfers(transfer_group="payout:1")]


def test_the_same_key_gives_the_same_answer(fake_stripe: FakeStripe) -> None:
    assert make_customer() == make_customer()
    assert len(fake_stripe.calls("POST /v1/customers")) == 2


def test_a_lost_answer_is_given_again_under_the_same_key(fake_stripe: FakeStripe) -> None:
    """Invariant 34: executed, and the connection resets: the same key does not pay again."""
    account = publisher()
    fake_stripe.people.deposit(1000)
    fake_stripe.fail(Fault.AFTER_SEND, "POST /v1/transfers")
    with pytest.raises(AmbiguousError):
        transfer(destination=account)

    done = transfer(destination=account)

    assert done.amount == 300
    assert transfers() == [300]


def test_a_refusal_is_given_again_under_the_same_key(fake_stripe: FakeStripe) -> None:
    """Regression 29: BasedHardware/omi#7184: the same key replays a stored refusal for a day."""
    account = publisher()
    with pytest.raises(RejectedError) as caught:
        transfer(destination=account)
    assert caught.value.code == "balance_insufficient"
    fake_stripe.people.deposit(1000)

    with pytest.raises(RejectedError):
        transfer(destination=account)
    assert transfers() == []

    assert transfer(destination=account, key="t2").amount == 300


@pytest.mark.parametrize(("fault", "done"), [(Fault.CACHED_500, []), (Fault.DONE_500, [300])])
def test_a_failure_is_given_again_under_the_same_key(
    fake_stripe: FakeStripe, fault: Fault, done: list[int]
) -> None:
    account = publisher()
    fake_stripe.people.deposit(1000)
    fake_stripe.fail(fault, "POST /v1/transfers")

    for _ in range(3):
        with pytest.raises(AmbiguousError):
            transfer(destination=account)

    assert transfers() == done


def test_a_key_is_forgotten_after_a_day(fake_stripe: FakeStripe) -> None:
    """Regression 30: antiwork/gumroad#6620, spree/spree#14500: then the same key pays again."""
    account = publisher()
    fake_stripe.people.deposit(1000)
    transfer(destination=account)
    fake_stripe.people.wait(DAY - 60)
    transfer(destination=account)
    assert transfers() == [300]

    fake_stripe.people.wait(120)
    transfer(destination=account)

    assert transfers() == [300, 300]


def test_a_second_request_with_a_running_key_conflicts(fake_stripe: FakeStripe) -> None:
    conflicts: list[type] = []

    def again(name: str) -> None:
        fake_stripe.on_execute = None
        with pytest.raises(AmbiguousError) as caught:
            make_customer()
        conflicts.append(type(caught.value))
        assert caught.value.status == 409

    fake_stripe.on_execute = again
    make_customer()

    assert conflicts == [AmbiguousError]


def test_faults_end_after_their_count_and_hit_their_route_only(fake_stripe: FakeStripe) -> None:
    fake_stripe.fail(Fault.BEFORE_SEND, "POST /v1/transfers")
    fake_stripe.fail(Fault.BEFORE_SEND, "POST /v1/customers", times=2)

    for _ in range(2):
        with pytest.raises(AmbiguousError):
            make_customer()
    make_customer()


def test_the_sdks_own_retries_use_the_same_key(
    fake_stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0)
    sdk = stripe.StripeClient("sk_test_1", http_client=fake_stripe, max_network_retries=2)
    fake_stripe.fail(Fault.AFTER_SEND, "POST /v1/customers", times=2)

    made = sdk.v1.customers.create({"email": "a@b.c"}, {"idempotency_key": "c1"})

    assert made.id
    assert {call.key for call in fake_stripe.calls("POST /v1/customers")} == {"c1"}
    assert len(fake_stripe.calls("POST*")) == 3


def test_racing_requests_make_one_customer(fake_stripe: FakeStripe) -> None:
    gateway = client.gateway()

    def create(_: int) -> str | None:
        try:
            return gateway.create_customer(email="a@b.c", name="A", metadata={}, key="cus:1:a1").id
        except AmbiguousError:
            return None

    with ThreadPoolExecutor(8) as pool:
        found = {each for each in pool.map(create, range(40)) if each}

    assert len(found) == 1


def test_processes_share_what_the_fake_holds(fake_stripe: FakeStripe) -> None:
    customer = make_customer()
    program = (
        "from pathlib import Path; from billing.stripe.fake import FakeStripe;"
        "import django; from django.conf import settings; settings.configure();"
        f"people = FakeStripe(Path({str(fake_stripe._store.path)!r})).people;"
        f"print(people.save_card({customer.id!r})['card']['last4'])"
    )

    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )

    assert other.stdout.decode().strip() == "4242"
    assert [card.last4 for card in client.gateway().list_cards(customer.id)] == ["4242"]


def test_a_fork_leaves_no_open_file_behind(fake_stripe: FakeStripe) -> None:
    make_customer()
    assert fake_stripe._store._idle is not None

    child = os.fork()
    if child == 0:
        os._exit(0 if fake_stripe._store._idle is None else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert make_customer("after").id


# Parameters and routes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        ("amount=1&currency=usd&destination=acct_1&transfer_grup=x", "transfer_grup"),
        ("amount=one&currency=usd&destination=acct_1", "amount"),
        ("amount=1&currency=usd", "destination"),
        ("amount=1&currency=usd&destination=acct_1&source_type=crad", "source_type"),
        ("amount=1&currency=usd&destination=acct_1&metadata=x", "metadata"),
    ],
)
def test_a_parameter_that_the_sdk_does_not_know_fails(sent: str, complaint: str) -> None:
    with pytest.raises(ParamsError, match=complaint):
        check(decode(sent), "TransferCreateParams")


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        ("mode=payment&line_items[0][price_data][currncy]=usd", "currncy"),
        ("mode=pay", "mode"),
        ("mode=payment&automatic_tax[enabled]=yes", "enabled"),
        ("mode=payment&line_items[1][quantity]=1", "not a list"),
        ("mode=payment&line_items[0]=x", "not an object"),
        ("mode=payment&expires_at=1.5", "expires_at"),
    ],
)
def test_parameters_are_checked_at_every_depth(sent: str, complaint: str) -> None:
    with pytest.raises(ParamsError, match=complaint):
        check(decode(sent), "checkout.SessionCreateParams")


def test_parameters_get_their_types() -> None:
    sent = "currency=usd&unit_amount_decimal=0.0001&active=true&metadata[a]=1&expand[0]=product"

    found = check(decode(sent), "PriceCreateParams")

    assert found["active"] is True
    assert str(found["unit_amount_decimal"]) == "0.0001"
    assert found["metadata"] == {"a": "1"}
    assert found["expand"] == ["product"]


def test_a_mistake_in_parameters_is_never_taken_for_a_refusal(fake_stripe: FakeStripe) -> None:
    sdk = stripe.StripeClient("sk_test_1", http_client=fake_stripe)
    wrong: Any = {"emial": "a@b.c"}

    with pytest.raises(ParamsError):
        sdk.v1.customers.create(wrong)

    assert not issubclass(ParamsError, stripe.StripeError)


def test_a_path_that_the_fake_does_not_know_fails_hard(fake_stripe: FakeStripe) -> None:
    sdk = stripe.StripeClient("sk_test_1", http_client=fake_stripe)

    with pytest.raises(UnknownRouteError, match="GET /v1/coupons"):
        sdk.v1.coupons.list()

    assert not issubclass(UnknownRouteError, stripe.StripeError)


def test_every_route_names_a_type_of_the_sdk() -> None:
    assert len({(each.method, each.path) for each in ROUTES}) == len(ROUTES)
    for each in ROUTES:
        with pytest.raises(ParamsError, match="has no nothing_like_it"):
            check({"nothing_like_it": "1"}, each.params)


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

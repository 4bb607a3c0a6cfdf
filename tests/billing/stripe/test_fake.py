"""What stands for Stripe behaves as Stripe says it does, also when things go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stripe

from billing.stripe import client, objects
from billing.stripe.errors import AmbiguousError, RejectedError
from billing.stripe.fake import FakeStripe, Fault
from billing.stripe.fake.params import ParamsError, check, decode
from billing.stripe.fake.routes import ROUTES, UnknownRouteError
from tests.billing.stripe_world import make_customer

DAY = 86400


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

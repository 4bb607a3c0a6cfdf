"""POSTs that move money: once, whatever the network, Stripe and our own processes do."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from billing import stripe_ops
from billing.models import StripeOp
from billing.stripe import client, objects
from billing.stripe.errors import AmbiguousError, RateLimitedError, RejectedError, StripeCallError
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.stripe_world import make_customer

ROUTE = "POST /v1/transfers"
DAY = 86400
State = StripeOp.State


class Payout:
    """An example of what pays a publisher: 300 cents, once."""

    def __init__(self, fake: FakeStripe, funds: int = 1000) -> None:
        self.fake = fake
        gateway = client.gateway()
        account = gateway.create_account(email="p@q.r", country="US", metadata={}, key="a1")
        fake.people.onboard(account.id)
        if funds:
            fake.people.deposit(funds)
        self.params: dict[str, Any] = {
            "amount": 300,
            "currency": "usd",
            "destination": account.id,
            "transfer_group": "payout:1",
            "description": "December",
            "metadata": {"payout_id": "1"},
        }

    def send(self, params: Mapping[str, Any], key: str) -> objects.Transfer:
        return client.gateway().create_transfer(**params, key=key)

    def find(self) -> objects.Transfer | None:
        found = client.gateway().list_transfers(transfer_group="payout:1")
        return found[0] if found else None

    def run(self, **more: Any) -> StripeOp:
        return stripe_ops.run("transfer", "1", self.send, self.params, find=self.find, **more)

    def run_until_it_fails(self, **more: Any) -> StripeCallError:
        with pytest.raises(StripeCallError) as caught:
            self.run(**more)
        return caught.value

    def paid(self) -> list[int]:
        found = client.gateway().list_transfers(transfer_group="payout:1")
        return [each.amount for each in found]

    def later(self, seconds: int) -> None:
        """Let time pass at Stripe and here."""
        self.fake.people.wait(seconds)
        passed = timedelta(seconds=seconds)
        for op in StripeOp.objects.exclude(first_sent_at=None):
            assert op.first_sent_at is not None
            StripeOp.objects.filter(pk=op.pk).update(first_sent_at=op.first_sent_at - passed)


@pytest.fixture
def payout(db: None, fake_stripe: FakeStripe) -> Payout:
    return Payout(fake_stripe)


def test_it_is_sent_once_however_often_it_is_asked_for(payout: Payout) -> None:
    first, second = payout.run(), payout.run()

    assert first.pk == second.pk
    assert first.state == State.OK
    assert first.stripe_id.startswith("tr_")
    assert first.response is not None
    assert first.response["amount"] == 300
    assert len(payout.fake.calls(ROUTE)) == 1


@pytest.mark.parametrize(
    "faults",
    [
        [Fault.BEFORE_SEND],
        [Fault.AFTER_SEND],
        [Fault.CONFLICT],
        [Fault.RATE_LIMITED],
        [Fault.BAD_GATEWAY],
        [Fault.BEFORE_SEND, Fault.AFTER_SEND, Fault.CONFLICT, Fault.RATE_LIMITED],
        [Fault.AFTER_SEND, Fault.AFTER_SEND, Fault.BAD_GATEWAY],
    ],
    ids=str,
)
def test_any_faults_on_the_way_pay_once(payout: Payout, faults: list[Fault]) -> None:
    """Invariant 34: any fault script pays exactly once, under one key."""
    for fault in faults:
        payout.fake.fail(fault, ROUTE)
    for _ in faults:
        payout.run_until_it_fails()
        assert StripeOp.objects.get().state == State.UNKNOWN

    done = payout.run()

    assert payout.paid() == [300]
    assert done.attempt == 1
    assert {call.key for call in payout.fake.calls(ROUTE)} == {"transfer:1:a1"}


def test_a_stored_failure_is_looked_up_when_the_key_is_old(payout: Payout) -> None:
    """Regression 29: BasedHardware/omi#7184: the same key fails for a day; then we look."""
    payout.fake.fail(Fault.CACHED_500, ROUTE)
    for _ in range(3):
        payout.run_until_it_fails()
    assert payout.paid() == []

    payout.later(DAY + 60)
    done = payout.run()

    assert (done.attempt, payout.paid()) == (2, [300])
    assert StripeOp.objects.get(attempt=1).state == State.REJECTED


def test_a_failure_that_paid_is_found_when_the_key_is_old(payout: Payout) -> None:
    payout.fake.fail(Fault.DONE_500, ROUTE)
    payout.run_until_it_fails()

    payout.later(DAY + 60)
    done = payout.run()

    assert (done.attempt, done.state, payout.paid()) == (1, State.OK, [300])
    found = payout.find()
    assert found is not None
    assert done.stripe_id == found.id


@pytest.mark.parametrize("hours", [23, 24, 25, 72])
def test_an_unknown_outcome_is_never_sent_again_blindly(payout: Payout, hours: int) -> None:
    """Regression 30: antiwork/gumroad#6620, spree/spree#14500: the key is forgotten by then."""
    payout.fake.fail(Fault.AFTER_SEND, ROUTE)
    payout.run_until_it_fails()

    payout.later(hours * 3600 + 1)
    done = payout.run()

    assert (done.state, payout.paid()) == (State.OK, [300])
    assert len(payout.fake.calls(ROUTE)) == 1


def test_without_a_way_to_look_an_operator_must(payout: Payout) -> None:
    payout.fake.fail(Fault.AFTER_SEND, ROUTE)
    payout.run_until_it_fails()
    payout.later(DAY)

    with pytest.raises(stripe_ops.OutcomeUnknownError):
        stripe_ops.run("transfer", "1", payout.send, payout.params)

    assert payout.paid() == [300]


def test_a_look_that_fails_decides_nothing(payout: Payout) -> None:
    payout.fake.fail(Fault.AFTER_SEND, ROUTE)
    payout.run_until_it_fails()
    payout.later(DAY)
    payout.fake.fail(Fault.BEFORE_SEND, "GET /v1/transfers")

    payout.run_until_it_fails()

    assert StripeOp.objects.get().state == State.UNKNOWN
    assert payout.run().state == State.OK
    assert payout.paid() == [300]


def test_a_crash_between_look_and_new_attempt_does_not_end_it(payout: Payout) -> None:
    payout.fake.fail(Fault.BEFORE_SEND, ROUTE)
    payout.run_until_it_fails()
    payout.later(DAY)
    op = StripeOp.objects.get()
    absent = {"code": "absent", "message": "", "decline_code": ""}
    StripeOp.objects.filter(pk=op.pk).update(state=State.REJECTED, response=absent)

    assert payout.run().attempt == 2
    assert payout.paid() == [300]


def test_a_crash_after_sending_is_asked_again_under_the_same_key(payout: Payout) -> None:
    op = payout.run()
    # As if the process had died before it wrote the answer down.
    StripeOp.objects.filter(pk=op.pk).update(state=State.SENT, stripe_id="", response=None)

    assert payout.run().stripe_id == op.stripe_id
    assert payout.paid() == [300]


@pytest.mark.django_db
def test_a_refusal_stays_until_the_ledger_has_taken_it_back(fake_stripe: FakeStripe) -> None:
    """Regression 28: eliza#11022, #10327: a new attempt only after the compensation."""
    payout = Payout(fake_stripe, funds=0)
    for _ in range(2):
        refusal = payout.run_until_it_fails()
        assert isinstance(refusal, RejectedError)
        assert refusal.code == "balance_insufficient"
    assert len(fake_stripe.calls(ROUTE)) == 1
    fake_stripe.people.deposit(1000)
    payout.run_until_it_fails()

    done = payout.run(compensated=1)
    again = payout.run(compensated=1)

    assert (done.attempt, done.pk) == (2, again.pk)
    assert payout.paid() == [300]


def test_the_same_key_with_another_amount_is_never_sent(payout: Payout) -> None:
    """Regression 31: liberapay#1533, #1546: another amount is another operation."""
    payout.fake.fail(Fault.AFTER_SEND, ROUTE)
    payout.run_until_it_fails()
    payout.params |= {"amount": 400}

    with pytest.raises(stripe_ops.ParamsChangedError):
        payout.run()

    assert payout.paid() == [300]


def test_what_is_sent_is_what_was_written_down(payout: Payout) -> None:
    payout.fake.fail(Fault.BEFORE_SEND, ROUTE)
    payout.run_until_it_fails()
    StripeOp.objects.update(params=payout.params | {"amount": 299})

    payout.run()

    assert payout.paid() == [299]


def test_too_many_requests_leave_it_open(payout: Payout) -> None:
    payout.fake.fail(Fault.RATE_LIMITED, ROUTE)

    assert isinstance(payout.run_until_it_fails(), RateLimitedError)
    assert payout.run().attempt == 1


@pytest.mark.django_db(transaction=True)
def test_it_cannot_run_inside_a_transaction(fake_stripe: FakeStripe) -> None:
    payout = Payout(fake_stripe)

    with pytest.raises(RuntimeError), transaction.atomic():
        payout.run()

    assert payout.paid() == []
    assert not StripeOp.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_processes_that_race_pay_once(fake_stripe: FakeStripe) -> None:
    """Invariant 34: eight at once, with answers lost on the way, pay once."""
    payout = Payout(fake_stripe)
    fake_stripe.fail(Fault.AFTER_SEND, ROUTE, times=3)
    ready = threading.Barrier(8)

    def attempt(_: int) -> None:
        try:
            ready.wait(10)
            payout.run()
        except AmbiguousError:
            pass
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(8)))

    assert payout.run().state == State.OK
    assert payout.paid() == [300]
    assert StripeOp.objects.count() == 1


@pytest.mark.django_db
def test_one_customer_per_organization_however_many_sign_up(fake_stripe: FakeStripe) -> None:
    made = {make_customer("acme").id for _ in range(3)}

    assert len(made) == 1

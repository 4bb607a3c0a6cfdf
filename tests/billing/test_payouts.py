from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization, User
from billing import charge_refunds, payouts
from billing.errors import PayoutError
from billing.invariants import violations
from billing.models import Payout, PayoutAccount, StripeOp
from billing.stripe import client
from billing.stripe.errors import AmbiguousError, RateLimitedError
from billing.stripe.fake import Fault
from tests.billing.publishing import PART, earn, make_seller, onboard, owed, transferred
from tests.billing.stripe_world import deliver_all
from tests.factories import make_user

pytestmark = pytest.mark.usefixtures("fake_stripe")

TRANSFER = "POST /v1/transfers"

CENTS = 1600

NANOS_PAID = CENTS * 10_000_000

CARRY = PART - NANOS_PAID

State = Payout.State


@pytest.fixture
def operator(db: None) -> User:
    return make_user("operator@example.com", is_staff=True)


def seller() -> Organization:
    organization, _ = make_seller()
    onboard(organization)
    return organization


def days_pass(days: int) -> None:
    """Let days pass here and at the fake."""
    client.fake().people.wait(days * 86400)
    for op in StripeOp.objects.exclude(first_sent_at=None):
        StripeOp.objects.filter(pk=op.pk).update(
            first_sent_at=op.first_sent_at - timedelta(days=days)  # type: ignore[operator]
        )
    for payout in Payout.objects.exclude(finished_at=None):
        Payout.objects.filter(pk=payout.pk).update(
            finished_at=payout.finished_at - timedelta(days=days)  # type: ignore[operator]
        )


@pytest.mark.django_db(transaction=True)
class TestOnePayout:
    @pytest.fixture(autouse=True)
    def _books(self) -> Any:
        yield
        assert violations() == []

    def test_what_is_payable_is_paid_in_whole_cents_and_the_rest_stays(self) -> None:
        """Invariant 20: payouts and carry are what was payable."""
        organization = seller()
        assert owed(organization) == PART

        assert payouts.run() == 1

        payout = Payout.objects.get()
        assert (payout.state, payout.amount_minor, payout.carry_nanos) == (
            State.PAID,
            CENTS,
            CARRY,
        )
        assert owed(organization) == CARRY
        assert transferred(organization) == CENTS
        found = client.gateway().list_transfers(transfer_group=f"payout:{payout.pk}")
        assert [each.id for each in found] == [payout.stripe_transfer]

    def test_a_publisher_is_paid_once_a_month(self) -> None:
        organization = seller()
        now = timezone.now()
        assert payouts.run(now) == 1
        earn(organization.models.get().versions.get())

        assert payouts.run(now) == 0
        assert payouts.run(now + timedelta(days=31)) == 1

        assert transferred(organization) == 2 * CENTS

    def test_nobody_is_paid_before_the_day(self, settings: Any) -> None:
        settings.PAYOUT_DAY = 15
        seller()

        assert payouts.run(datetime(2026, 11, 14, 23, 59, tzinfo=UTC)) == 0
        assert payouts.run(datetime(2026, 11, 15, tzinfo=UTC)) == 1

    def test_less_than_the_minimum_waits(self, settings: Any) -> None:
        settings.PAYOUT_MINIMUM_NANOS = PART + 1
        organization = seller()

        assert payouts.run() == 0
        with pytest.raises(PayoutError, match="smallest"):
            payouts.make(organization)

        assert owed(organization) == PART

    def test_an_account_that_cannot_receive_is_not_paid(self) -> None:
        organization = seller()
        account = PayoutAccount.objects.get()
        client.fake().people.set_receiving(account.stripe_account, receives=False)
        deliver_all()

        assert payouts.run() == 0
        with pytest.raises(PayoutError, match="cannot receive"):
            payouts.make(organization)

    def test_a_frozen_organization_is_not_paid(self) -> None:
        organization = seller()
        organization.is_frozen = True
        organization.save()

        assert payouts.run() == 0
        with pytest.raises(PayoutError, match="frozen"):
            payouts.make(organization)

    def test_what_stripe_does_not_have_is_not_paid(self) -> None:
        organization, _ = make_seller()
        onboard(organization, deposit=CENTS - 1)

        assert payouts.run() == 0
        assert not Payout.objects.exists()
        client.fake().people.deposit(1)
        assert payouts.run() == 1

    def test_what_a_payout_took_away_is_carried_when_a_charge_is_given_back(
        self, operator: User
    ) -> None:
        organization, version = make_seller(calls=0)
        (hold_id,) = earn(version)
        onboard(organization)
        now = timezone.now()
        payouts.run(now)

        charge_refunds.refund(hold_id, None, external_ref="form", reason="Wrong", actor=operator)

        assert owed(organization) == CARRY - PART
        assert payouts.run(now + timedelta(days=31)) == 0
        earn(version, calls=2)
        assert payouts.run(now + timedelta(days=31)) == 1
        assert owed(organization) + transferred(organization) * 10_000_000 == 2 * PART


@pytest.mark.django_db(transaction=True)
class TestFaults:
    @pytest.fixture(autouse=True)
    def _books(self) -> Any:
        yield
        assert violations() == []

    def test_a_lost_answer_is_asked_for_under_the_same_key(self) -> None:
        """Regression 28: elizaOS/eliza#11022, #10327, a payout that is tried again pays once."""
        organization = seller()
        client.fake().fail(Fault.AFTER_SEND, TRANSFER)

        payouts.run()
        assert Payout.objects.get().state == State.SENT
        payouts.run()

        assert Payout.objects.get().state == State.PAID
        assert transferred(organization) == CENTS
        assert len({call.key for call in client.fake().calls(TRANSFER)}) == 1

    def test_a_refusal_is_not_asked_for_again_under_its_key(self) -> None:
        """Regression 29: BasedHardware/omi#7184, a kept refusal is not replayed for ever."""
        organization, _ = make_seller()
        onboard(organization, deposit=0)
        payout = payouts.make(organization)

        assert payouts.send(payout).state == State.FAILED
        assert payout.failure == "balance_insufficient"
        assert owed(organization) == PART
        client.fake().people.deposit(CENTS)
        assert payouts.run() == 0, "a day must pass first"
        days_pass(1)
        assert payouts.run() == 1

        assert transferred(organization) == CENTS
        assert owed(organization) == CARRY
        keys = [call.key for call in client.fake().calls(TRANSFER)]
        assert len(keys) == len(set(keys)) == 2

    @pytest.mark.parametrize("fault", [Fault.AFTER_SEND, Fault.BEFORE_SEND])
    def test_what_is_unknown_for_a_day_is_looked_up_before_it_is_sent_again(
        self, fault: Fault
    ) -> None:
        """Regression 30: antiwork/gumroad#6620, spree/spree#14500, a key that Stripe forgot."""
        organization = seller()
        client.fake().fail(fault, TRANSFER)
        payouts.run()
        days_pass(2)

        payouts.run()

        assert Payout.objects.get().state == State.PAID
        assert transferred(organization) == CENTS

    def test_more_that_is_earned_meanwhile_does_not_change_what_is_sent(self) -> None:
        """Regression 31: liberapay/liberapay.com#1533, #1546, one key has one amount."""
        organization = seller()
        client.fake().fail(Fault.BEFORE_SEND, TRANSFER)
        payouts.run()
        earn(organization.models.get().versions.get(), calls=2)

        payouts.run()

        assert transferred(organization) == CENTS
        amounts = {call.params["amount"] for call in client.fake().calls(TRANSFER)}
        assert amounts == {CENTS}
        assert owed(organization) == CARRY + 2 * PART

    def test_an_account_that_closes_while_a_payout_is_under_way_is_booked_back(self) -> None:
        organization = seller()
        payout = payouts.make(organization)
        client.fake().people.set_receiving(payout.stripe_account, receives=False)

        assert payouts.send(payout).state == State.FAILED

        assert owed(organization) == PART
        assert payouts.send(payout).state == State.FAILED

    def test_one_that_hangs_does_not_keep_others_waiting(self) -> None:
        """Invariant 38: one payout that cannot be sent does not stop the others."""
        first, second = seller(), seller()
        client.fake().fail(Fault.RATE_LIMITED, TRANSFER)

        assert payouts.run() == 2

        assert transferred(first) + transferred(second) == CENTS
        payouts.run()
        assert transferred(first) == transferred(second) == CENTS

    @pytest.mark.parametrize("error", [AmbiguousError, RateLimitedError])
    def test_an_operator_is_told_that_it_is_not_known(self, error: type[Exception]) -> None:
        payout = payouts.make(seller())
        fault = Fault.BAD_GATEWAY if error is AmbiguousError else Fault.RATE_LIMITED
        client.fake().fail(fault, TRANSFER)

        with pytest.raises(error):
            payouts.send(payout)


FAULTS = st.lists(
    st.one_of(st.sampled_from(list(Fault)), st.sampled_from(["day", "run", "webhooks"])),
    max_size=6,
)


@pytest.mark.django_db(transaction=True)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=FAULTS)
def test_any_faults_pay_each_payout_once(script: list[Fault | str]) -> None:
    """Invariant 34: any fault script pays each payout exactly once, and the ledger agrees."""
    # What the example before has left over is not a part of this one.
    client.fake().recover()
    organization = seller()
    for step in script:
        if isinstance(step, Fault):
            client.fake().fail(step, TRANSFER)
        elif step == "day":
            days_pass(1)
        elif step == "webhooks":
            client.fake().post.duplicate()
            client.fake().post.shuffle(len(script))
            deliver_all()
        payouts.run()

    for _ in range(len(script) + 3):
        days_pass(1)
        payouts.run()
        if transferred(organization) == CENTS and not payouts.unknown():
            break
    deliver_all()

    sent = list(Payout.objects.filter(organization=organization))
    assert {each.state for each in sent} <= {State.PAID, State.FAILED}
    paid = [each for each in sent if each.state == State.PAID]
    assert sum(each.amount_minor for each in paid) == transferred(organization) == CENTS
    for each in sent:
        found = client.gateway().list_transfers(transfer_group=payouts.group(each.pk))
        assert len(found) == (each.state == State.PAID)
    assert owed(organization) == CARRY
    assert violations() == []


# Crashes and races ---------------------------------------------------------------------------


class Killed(BaseException):
    """What a process that dies does not catch."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "point", ["payout.made", "payout.claimed", "payout.sent", "payout.failing"]
)
def test_dying_between_booking_and_the_end_pays_once(
    point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 11: dying anywhere between booking and sending changes nothing in the end."""
    organization = seller()
    if point == "payout.failing":
        client.fake().people.set_receiving(
            PayoutAccount.objects.get().stripe_account, receives=False
        )

    def die(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("billing.crashes.point", die)
        with pytest.raises(Killed):
            payouts.run()
    client.fake().people.set_receiving(PayoutAccount.objects.get().stripe_account, receives=True)
    for _ in range(3):
        payouts.run()
        days_pass(1)

    assert transferred(organization) == CENTS
    assert owed(organization) == CARRY
    assert violations() == []


def at_once(act: Callable[[], object], times: int = 2) -> list[BaseException]:
    start = threading.Barrier(times)
    errors: list[BaseException] = []

    def run() -> None:
        start.wait()
        try:
            act()
        except (PayoutError, AmbiguousError) as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.django_db(transaction=True)
def test_two_who_pay_out_at_once_pay_once() -> None:
    """Invariant 34: two processes that pay at once make one payout and one transfer."""
    organization = seller()

    at_once(payouts.run)
    payouts.run()

    assert Payout.objects.count() == 1
    assert transferred(organization) == CENTS
    assert owed(organization) == CARRY
    assert violations() == []


@pytest.mark.django_db(transaction=True)
def test_two_who_send_the_same_payout_at_once_send_it_once() -> None:
    organization = seller()
    payout = payouts.make(organization)

    at_once(lambda: payouts.send(Payout.objects.get(pk=payout.pk)), times=3)
    payouts.run()

    assert Payout.objects.get().state == State.PAID
    assert transferred(organization) == CENTS

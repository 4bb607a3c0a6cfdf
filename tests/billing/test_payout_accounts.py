from __future__ import annotations

from typing import Any

import pytest

from accounts.models import Organization, User
from billing import connect, payouts, webhooks
from billing.errors import PayoutError
from billing.invariants import violations
from billing.models import LedgerTransaction, Payout, PayoutAccount, StripeEvent
from billing.stripe import client
from billing.stripe.errors import AmbiguousError
from billing.stripe.fake import Fault
from tests.billing.publishing import PART, make_seller, onboard, owed, transferred
from tests.billing.stripe_world import deliver_all
from tests.factories import make_user

pytestmark = pytest.mark.usefixtures("fake_stripe")

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


# Coming back ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
class TestComingBack:
    @pytest.fixture(autouse=True)
    def _books(self) -> Any:
        yield
        assert violations() == []

    def test_a_payout_that_is_taken_back_is_payable_again(self, operator: User) -> None:
        organization = seller()
        payouts.run()
        payout = Payout.objects.get()

        assert payouts.take_back(payout, actor=operator, reason="Fraud").state == State.REVERSED

        assert owed(organization) == PART
        assert transferred(organization) == 0
        deliver_all()
        assert owed(organization) == PART
        with pytest.raises(PayoutError):
            payouts.take_back(payout, actor=operator, reason="Fraud")

    def test_parts_that_come_back_are_booked_once_each_in_any_order(self, operator: User) -> None:
        """Invariant 12: reversals told twice and in any order are booked once."""
        organization = seller()
        payouts.run()
        payout = Payout.objects.get()
        for number, cents in enumerate([100, 250]):
            client.gateway().reverse_transfer(
                payout.stripe_transfer, amount=cents, metadata={}, key=f"dashboard:{number}"
            )
        client.fake().post.duplicate(3)
        client.fake().post.shuffle(7)

        deliver_all()

        payout.refresh_from_db()
        assert (payout.state, payout.reversed_minor) == (State.PAID, 350)
        assert owed(organization) == CARRY + 350 * 10_000_000
        payouts.take_back(payout, actor=operator, reason="Rest")
        assert payout.state == State.REVERSED
        assert owed(organization) == PART

    def test_a_lost_answer_to_taking_back_is_asked_for_again(self, operator: User) -> None:
        organization = seller()
        payouts.run()
        payout = Payout.objects.get()
        client.fake().fail(Fault.AFTER_SEND, "POST /v1/transfers/*/reversals")

        with pytest.raises(AmbiguousError):
            payouts.take_back(payout, actor=operator, reason="Fraud")
        payouts.take_back(payout, actor=operator, reason="Fraud")

        assert owed(organization) == PART
        assert transferred(organization) == 0
        assert LedgerTransaction.objects.filter(kind=payouts.KIND_REVERSED).count() == 1


# What Stripe tells us ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_transfer_that_names_a_payout_and_is_another_is_kept_for_an_operator() -> None:
    """Invariant 35: a transfer that only says it is a payout's changes nothing."""
    organization, other = seller(), seller()
    payout = payouts.make(organization)
    client.gateway().create_transfer(
        amount=1,
        currency="usd",
        destination=PayoutAccount.objects.get(organization=other).stripe_account,
        transfer_group=payouts.group(payout.pk),
        description="x",
        metadata={"payout_id": str(payout.pk)},
        key="somebody",
    )

    deliver_all()

    payout.refresh_from_db()
    assert payout.state == State.PENDING
    dead = StripeEvent.objects.get(type="transfer.created")
    assert dead.state == StripeEvent.State.DEAD
    assert "is not what payout" in dead.last_error


@pytest.mark.django_db(transaction=True)
def test_transfers_of_others_change_nothing() -> None:
    organization = seller()
    for group in ["payout", "payout:nonsense", "invoice:1"]:
        client.gateway().create_transfer(
            amount=1,
            currency="usd",
            destination=PayoutAccount.objects.get().stripe_account,
            transfer_group=group,
            description="x",
            metadata={},
            key=f"k{group}",
        )

    deliver_all()

    assert owed(organization) == PART
    assert not StripeEvent.objects.exclude(state=StripeEvent.State.DONE).exists()


@pytest.mark.django_db(transaction=True)
def test_an_account_is_known_as_stripe_knows_it_now_in_any_order() -> None:
    """Invariant 12: what is told of an account twice and in any order ends in its state now."""
    organization, _ = make_seller(calls=0)
    account = connect.start(organization, country="DE", actor=make_user())
    people = client.fake().people
    for receives in [True, False, True]:
        people.set_receiving(account.stripe_account, receives=receives)
    client.fake().post.duplicate(2)
    client.fake().post.shuffle(3)

    deliver_all()

    known = PayoutAccount.objects.values_list("payouts_enabled", "requirements")
    assert known.get() == (True, [])
    people.set_receiving(account.stripe_account, receives=False)
    deliver_all()
    assert known.get() == (False, ["individual.verification.document"])


@pytest.mark.django_db(transaction=True)
def test_an_account_is_opened_once() -> None:
    organization, _ = make_seller(calls=0)
    actor = make_user()
    client.fake().fail(Fault.AFTER_SEND, "POST /v1/accounts")

    with pytest.raises(AmbiguousError):
        connect.start(organization, country="US", actor=actor)
    first = connect.start(organization, country="US", actor=actor)

    assert connect.start(organization, country="DE", actor=make_user()) == first
    with pytest.raises(ValueError, match="not a country"):
        connect.start(organization, country="XX", actor=actor)
    created = client.fake().calls("POST /v1/accounts")
    assert len({call.key for call in created}) == 1


@pytest.mark.django_db(transaction=True)
def test_an_event_of_an_account_that_is_not_ours_is_done_with_nothing() -> None:
    """Invariant 35: an account that says it is an organization's is not believed."""
    organization, _ = make_seller(calls=0)
    client.gateway().create_account(
        email="x@example.com",
        country="US",
        metadata={"organization": str(organization.pk)},
        key="somebody",
    )

    deliver_all()

    assert not PayoutAccount.objects.exists()
    assert webhooks.handle_due() == 0


@pytest.mark.django_db(transaction=True)
def test_a_bank_that_sends_money_back_is_shown_until_it_takes_some() -> None:
    organization = seller()
    name = PayoutAccount.objects.get().stripe_account
    people = client.fake().people

    people.send_to_bank(name, 100)
    people.send_to_bank(name, 100, failure="The account is closed.")
    client.fake().post.shuffle(1)
    deliver_all()
    assert PayoutAccount.objects.get().bank_failure == "The account is closed."
    people.send_to_bank(name, 100)
    client.fake().post.duplicate()
    deliver_all()

    assert PayoutAccount.objects.get().bank_failure == ""
    assert owed(organization) == PART

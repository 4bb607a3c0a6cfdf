from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.models import Organization, User
from billing import invariants, ledger, payouts, reconciliation, remedies, wallets
from billing.checks import stripe_books, stripe_facts
from billing.models import Finding, Payout, ReconciliationRun, StripeOp, TopUp
from billing.money import NANOS
from billing.stripe.errors import AmbiguousError
from billing.stripe.fake import FakeStripe
from catalog.models import ModelVersion
from tests.billing import prepaid, publishing
from tests.billing.reconciling import corrupt, fill, found
from tests.billing.stripe_world import deliver_all
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_stripe")]
State = Finding.State


@pytest.fixture
def operator() -> User:
    return make_user("operator@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def world(organization: Organization, version: ModelVersion, operator: User) -> Organization:
    """An organization whose books have a little of everything."""
    fill(organization, version, operator)
    return organization


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is new be compared at once."""
    for module in (stripe_facts, stripe_books):
        monkeypatch.setattr(module, "GRACE", timedelta(0))
    monkeypatch.setattr(stripe_facts, "STUCK", timedelta(0))


def test_nothing_is_found_after_payments_that_went_well(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    prepaid.bought(fake_stripe, world)
    deliver_all()

    assert found() == {}


def test_money_that_the_ledger_does_not_know_is_found_and_booked(
    fake_stripe: FakeStripe, world: Organization, no_grace: None, operator: User
) -> None:
    top_up = prepaid.bought(fake_stripe, world)
    deliver_all()
    ledger.post(
        "stripe_fee",
        "txn_twice",
        {ledger.account(ledger.FEES): 7 * NANOS, ledger.account(ledger.CLEARING): -7 * NANOS},
        organization=world,
        details={"top_up": str(top_up.pk)},
    )
    assert found() == {"clearing_is_stripes_balance": {f"top_up:{top_up.pk}"}}

    corrected = remedies.correct(Finding.objects.get(), actor=operator, reason="Booked twice")

    assert corrected.correction is not None
    assert ledger.balance_of(ledger.SUSPENSE) == -7 * NANOS
    assert found() == {}
    assert invariants.violations() == []


def test_a_payment_that_nobody_was_credited_for_is_found_and_credited(
    fake_stripe: FakeStripe, world: Organization, no_grace: None, operator: User
) -> None:
    top_up = prepaid.bought(fake_stripe, world)
    deliver_all()
    before = wallets.of(world).paid_nanos
    # As if the top-up had been given up, and its credit with it.
    wallets.add_paid(
        world,
        -top_up.credit_nanos,
        {ledger.account(ledger.CLEARING): -top_up.credit_nanos},
        kind="clawback",
        external_ref=f"{top_up.pk}:1",
    )
    TopUp.objects.filter(pk=top_up.pk).update(state=TopUp.State.FAILED)
    assert "clearing_is_stripes_balance" in found()

    finding = Finding.objects.get(check_name="clearing_is_stripes_balance")
    remedies.correct(finding, actor=operator, reason="Paid, and never credited")

    assert wallets.of(world).paid_nanos == before
    assert "clearing_is_stripes_balance" not in found()


def test_a_paid_page_that_nobody_came_back_from_is_found(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    top_up = prepaid.buy(fake_stripe, world)

    assert found()["payments_are_credited"] == {f"top_up:{top_up.pk}"}


def test_an_event_that_never_arrived_is_found(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    prepaid.bought(fake_stripe, world)

    assert found().keys() == {"events_have_arrived"}


def test_an_operation_without_an_end_is_found(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    prepaid.bought(fake_stripe, world)
    deliver_all()
    op = StripeOp.objects.order_by("pk").first()
    assert op is not None

    StripeOp.objects.filter(pk=op.pk).update(state=StripeOp.State.UNKNOWN)

    assert found() == {"operations_have_ended": {f"op:{op.idem_key}"}}


def test_if_stripe_does_not_answer_the_rest_is_compared_all_the_same(
    world: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ReconciliationRun.objects.create()
    Finding.objects.create(
        run=run, last_run=run, check_name="events_have_arrived", subject="event:evt_1", text="x"
    )
    corrupt("UPDATE billing_budget SET held = held + 1 WHERE lock_rank = 2 AND held = 0")

    def away() -> None:
        raise AmbiguousError("timed out")

    monkeypatch.setattr(stripe_facts, "gather", away)
    made = reconciliation.run()

    assert made.error == "Stripe: timed out"
    names = Finding.objects.filter(state=State.OPEN).values_list("check_name", flat=True)
    # What Stripe was not asked about stays as it was.
    assert set(names) == {"held_is_open_holds", "events_have_arrived"}


def test_what_is_given_back_and_disputed_agrees_once_it_is_booked(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    top_up = prepaid.bought(fake_stripe, world)
    other = prepaid.bought(fake_stripe, world)
    deliver_all()
    fake_stripe.people.refund(top_up.charge, 300)
    fake_stripe.people.dispute(other.charge)
    assert found()["clearing_is_stripes_balance"] == {
        f"top_up:{top_up.pk}",
        f"top_up:{other.pk}",
    }

    deliver_all()

    assert found() == {}


def test_a_payout_that_was_sent_agrees(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    seller, _version = publishing.make_seller(calls=2)
    publishing.onboard(seller)
    deliver_all()
    payouts.send(payouts.make(seller))
    deliver_all()
    sent = Payout.objects.get()
    assert sent.state == Payout.State.PAID

    assert found() == {}

    Payout.objects.filter(pk=sent.pk).update(amount_minor=sent.amount_minor + 1)
    assert found()["payouts_are_transfers"] == {f"payout:{sent.pk}"}

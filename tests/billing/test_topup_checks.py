"""Top-ups: only what is paid and was ordered is credited, and none is forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import AuditEntry, Organization
from billing import topups
from billing.errors import StripeUnavailableError
from billing.models import LedgerTransaction, StripeOp, TopUp
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.prepaid import TEN, buy, paid
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
SESSIONS = "POST /v1/checkout/sessions"
State = TopUp.State


def credits(organization: Organization) -> int:
    return LedgerTransaction.objects.filter(organization=organization, kind="top_up").count()


# Only when it is paid --------------------------------------------------------------------------


def test_a_payment_under_way_credits_nothing_until_it_arrives(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Invariant 15: an unpaid session credits 0 until it is paid."""
    top_up = topups.start(organization, TEN).top_up
    fake_stripe.people.pay(top_up.checkout_session, later=True)
    deliver_all()
    topups.fulfil(top_up.checkout_session)
    assert paid(organization) == 0

    fake_stripe.people.settle(top_up.checkout_session)
    deliver_all()

    assert (paid(organization), credits(organization)) == (TEN, 1)


def test_a_payment_that_fails_days_later_never_credits(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Regression 26: AI-Shipping-Labs/website#1423, gameserverapp/Platform#1216."""
    top_up = topups.start(organization, TEN).top_up
    fake_stripe.people.pay(top_up.checkout_session, later=True)
    deliver_all()
    fake_stripe.people.settle(top_up.checkout_session, succeeded=False)
    deliver_all()
    topups.fulfil(top_up.checkout_session)

    top_up.refresh_from_db()
    assert (top_up.state, paid(organization)) == (State.FAILED, 0)


def test_a_page_that_nobody_used_expires(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = topups.start(organization, TEN).top_up
    fake_stripe.people.expire(top_up.checkout_session)

    deliver_all()

    top_up.refresh_from_db()
    assert (top_up.state, topups.page_of(top_up)) == (State.EXPIRED, "")


def test_a_declined_card_leaves_the_page_open(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = topups.start(organization, TEN).top_up
    with pytest.raises(Exception, match="declined"):
        fake_stripe.people.pay(top_up.checkout_session, "4000000000000002")
    deliver_all()
    top_up.refresh_from_db()
    assert top_up.state == State.PENDING

    fake_stripe.people.pay(top_up.checkout_session)
    deliver_all()

    assert paid(organization) == TEN


# Only what was ordered -------------------------------------------------------------------------


def change(fake: FakeStripe, session: str, **fields: Any) -> None:
    """Change a page at Stripe behind the site's back."""
    with fake._store.transaction() as world:
        found = world.find(session)
        assert found is not None
        world.save(found | fields)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"amount_subtotal": 1, "amount_total": 1}, "amount"),
        ({"amount_total": 1}, "total"),
        ({"currency": "jpy"}, "currency"),
        ({"customer": "cus_other"}, "customer"),
        ({"metadata": {"top_up": "other"}}, "metadata"),
        ({"client_reference_id": "other"}, "reference"),
        ({"livemode": True}, "livemode"),
    ],
)
def test_a_payment_that_is_not_what_was_ordered_credits_nothing(
    fake_stripe: FakeStripe, organization: Organization, fields: dict[str, Any], wrong: str
) -> None:
    """Invariant 16: a mismatch credits 0, and an operator sees why."""
    top_up = buy(fake_stripe, organization)
    change(fake_stripe, top_up.checkout_session, **fields)

    deliver_all()
    topups.fulfil(top_up.checkout_session)

    top_up.refresh_from_db()
    assert (top_up.state, paid(organization)) == (State.FAILED, 0)
    assert top_up.failure == f"mismatch: {wrong}"
    assert AuditEntry.objects.filter(action="top_up.refused").count() == 1


def test_a_forged_name_credits_nobody_else(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Invariant 35: metadata that names another tenant's top-up moves no money to it."""
    theirs = topups.start(make_organization(), TEN).top_up
    mine = topups.start(organization, TEN).top_up
    name = {"top_up": str(theirs.pk)}
    change(
        fake_stripe,
        mine.checkout_session,
        metadata=name,
        client_reference_id=str(theirs.pk),
        payment_intent_data={"metadata": name},
    )
    TopUp.objects.filter(pk=mine.pk).update(checkout_session="")
    fake_stripe.people.pay(mine.checkout_session)

    deliver_all()
    topups.fulfil(mine.checkout_session)

    assert LedgerTransaction.objects.filter(kind="top_up").count() == 0
    theirs.refresh_from_db()
    assert theirs.failure == "mismatch: session,customer"


def test_the_webhook_may_be_faster_than_the_page(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """The process died after Stripe had opened the page, and somebody paid there."""
    top_up = buy(fake_stripe, organization)
    session = top_up.checkout_session
    TopUp.objects.update(checkout_session="")

    deliver_all()

    top_up.refresh_from_db()
    assert (top_up.state, top_up.checkout_session) == (State.CREDITED, session)
    assert paid(organization) == TEN


# Looked after ----------------------------------------------------------------------------------


def test_a_webhook_that_never_came_is_made_up_for(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    buy(fake_stripe, organization)
    fake_stripe.post.drop()
    assert topups.reconcile() == 0
    TopUp.objects.update(created_at=timezone.now() - timedelta(minutes=20))

    assert topups.reconcile() == 1

    assert paid(organization) == TEN


def test_a_page_that_was_never_opened_is_opened_or_ends(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    fake_stripe.fail(Fault.BEFORE_SEND, SESSIONS)
    with pytest.raises(StripeUnavailableError):
        topups.start(organization, TEN)
    top_up = TopUp.objects.get()
    TopUp.objects.update(created_at=timezone.now() - timedelta(minutes=20))

    topups.reconcile()
    top_up.refresh_from_db()
    assert top_up.checkout_session

    TopUp.objects.update(checkout_session="", created_at=timezone.now() - timedelta(days=2))
    topups.reconcile()
    top_up.refresh_from_db()
    assert top_up.state == State.EXPIRED


def test_one_that_cannot_be_asked_about_does_not_keep_others_waiting(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    lost = buy(fake_stripe, organization)
    TopUp.objects.filter(pk=lost.pk).update(checkout_session="cs_gone")
    buy(fake_stripe, organization)
    fake_stripe.post.drop()
    TopUp.objects.update(created_at=timezone.now() - timedelta(minutes=20))

    assert topups.reconcile() == 1

    assert paid(organization) == TEN


def test_no_parameters_of_an_open_operation_change(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """A customer that was being made keeps its parameters when the name changes meanwhile."""
    fake_stripe.fail(Fault.AFTER_SEND, "POST /v1/customers")
    with pytest.raises(StripeUnavailableError):
        topups.start(organization, TEN)
    organization.name = "Another name"
    organization.save(update_fields=["name"])

    topups.start(organization, TEN)

    assert StripeOp.objects.filter(kind="customer").count() == 1
    assert len({call.key for call in fake_stripe.calls("POST /v1/customers")}) == 1

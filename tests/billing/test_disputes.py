"""Disputes: who disputes is frozen until the dispute is won, and nobody else."""

from __future__ import annotations

import pytest

from accounts import organizations
from accounts.models import Organization, OutgoingMail, User
from billing.models import Dispute
from billing.stripe.fake import FakeStripe
from tests.billing.prepaid import TEN, bought, paid
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]


def frozen(organization: Organization) -> bool:
    return Organization.objects.get(pk=organization.pk).is_frozen


# Disputes ------------------------------------------------------------------------------------


def test_a_dispute_freezes_until_it_is_won(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    dispute = fake_stripe.people.dispute(top_up.charge)
    deliver_all()
    assert frozen(organization)
    row = Dispute.objects.get()
    assert (row.state, row.withdrawn_minor, row.reason) == ("open", 1000, "fraudulent")
    assert OutgoingMail.objects.filter(template="mail/dispute_opened").count() == 1

    fake_stripe.people.close_dispute(dispute["id"], won=True)
    deliver_all()

    assert not frozen(organization)
    row.refresh_from_db()
    assert (row.state, row.withdrawn_minor) == ("won", 0)


def test_a_lost_dispute_leaves_the_organization_frozen(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    dispute = fake_stripe.people.dispute(top_up.charge)
    fake_stripe.people.close_dispute(dispute["id"], won=False)

    deliver_all()

    assert frozen(organization)
    assert Dispute.objects.get().state == "lost"


def test_a_dispute_that_was_lost_before_it_was_heard_of_outlasts_another_that_is_won(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    lost, won = bought(fake_stripe, organization), bought(fake_stripe, organization)
    one = fake_stripe.people.dispute(lost.charge)
    fake_stripe.people.close_dispute(one["id"], won=False)
    deliver_all()
    assert frozen(organization)

    two = fake_stripe.people.dispute(won.charge)
    fake_stripe.people.close_dispute(two["id"], won=True)
    deliver_all()

    assert frozen(organization)


def test_one_dispute_that_is_won_does_not_end_another(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    first, second = bought(fake_stripe, organization), bought(fake_stripe, organization)
    one = fake_stripe.people.dispute(first.charge)
    two = fake_stripe.people.dispute(second.charge)
    deliver_all()

    fake_stripe.people.close_dispute(one["id"], won=True)
    deliver_all()
    assert frozen(organization)
    fake_stripe.people.close_dispute(two["id"], won=True)
    deliver_all()

    assert not frozen(organization)


def test_what_an_operator_froze_stays_frozen(
    fake_stripe: FakeStripe, organization: Organization, owner: User
) -> None:
    top_up = bought(fake_stripe, organization)
    organizations.set_frozen(organization, True, actor=owner, reason="Dispute about something else")
    dispute = fake_stripe.people.dispute(top_up.charge)
    deliver_all()

    fake_stripe.people.close_dispute(dispute["id"], won=True)
    deliver_all()

    assert frozen(organization)


def test_a_bank_that_only_asks_freezes_nobody(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    dispute = fake_stripe.people.dispute(top_up.charge)
    with fake_stripe._store.transaction() as world:
        found = world.find(dispute["id"])
        assert found is not None
        world.save(found | {"status": "warning_needs_response", "balance_transactions": []})

    deliver_all()

    assert Dispute.objects.get().state == "open"
    assert not frozen(organization)
    assert paid(organization) == TEN


def test_a_dispute_of_somebody_elses_payment_touches_nobody(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    other = make_organization()
    top_up = bought(fake_stripe, organization)
    bought(fake_stripe, other)

    fake_stripe.people.dispute(top_up.charge)
    deliver_all()

    assert (paid(other), frozen(other)) == (TEN, False)

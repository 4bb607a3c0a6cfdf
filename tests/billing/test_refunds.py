"""Refunds of unspent credit: the credit goes first, and comes back once if the refund fails."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEntry, Organization
from billing import ids, refund_states, refunds
from billing.errors import CreditRefundError
from billing.models import CreditRefund, LedgerTransaction, StripeEvent, StripeOp, TopUp
from billing.money import NANOS
from billing.stripe.fake import FakeStripe, Fault
from catalog.models import ModelVersion
from tests.billing.calls import reserve
from tests.billing.prepaid import TEN, available, balances, bought, paid
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
REFUNDS = "POST /v1/refunds"
State = CreditRefund.State


def give_back(top_up: TopUp, nanos: int, number: UUID | None = None) -> CreditRefund:
    return refunds.start(
        top_up, nanos, number=number or ids.uuid7(), reason="Asked for", actor=None
    )


def test_unspent_credit_goes_back_to_the_card(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    before = available(organization)

    refund = give_back(top_up, 4 * NANOS)

    assert (refund.state, refund.amount_minor) == (State.REFUNDED, 400)
    assert (paid(organization), available(organization)) == (6 * NANOS, before - 4 * NANOS)
    assert fake_stripe.calls(REFUNDS)[-1].key == f"credit_refund:{refund.pk}:a1"
    deliver_all()
    assert paid(organization) == 6 * NANOS
    assert balances(organization)["clearing"] == 6 * NANOS - 59 * NANOS // 100


def test_three_parts_are_at_most_the_whole(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    for _ in range(3):
        give_back(top_up, 3 * NANOS)
        deliver_all()

    with pytest.raises(CreditRefundError, match=r"At most 1 of this"):
        give_back(top_up, 3 * NANOS)
    give_back(top_up, NANOS)

    top_up.refresh_from_db()
    assert (top_up.refunded_nanos, paid(organization)) == (TEN, 0)
    assert refunds.refundable(top_up) == 0


def test_the_same_form_twice_is_one_refund(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    number = ids.uuid7()

    first, again = give_back(top_up, NANOS, number), give_back(top_up, NANOS, number)

    assert first == again
    assert paid(organization) == 9 * NANOS
    assert len(fake_stripe.calls(REFUNDS)) == 1


def test_what_is_held_for_runs_is_not_given_back(
    fake_stripe: FakeStripe, version: ModelVersion
) -> None:
    organization = make_organization(credit_nanos=0)
    expensive = make_version(row_nanos=4 * NANOS)
    top_up = bought(fake_stripe, organization)
    reserve(organization, expensive)

    assert refunds.refundable(top_up) == 6 * NANOS
    with pytest.raises(CreditRefundError):
        give_back(top_up, 7 * NANOS)
    give_back(top_up, 6 * NANOS)

    assert available(organization) == 0


def test_what_a_run_takes_at_the_same_moment_is_not_given_back(
    fake_stripe: FakeStripe, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant 8: a run sets money aside after the refund has looked, and before it has booked."""
    organization = make_organization(credit_nanos=0)
    expensive = make_version(row_nanos=4 * NANOS)
    top_up = bought(fake_stripe, organization)
    entries = refund_states.entries

    def meanwhile(*given: Any) -> Any:
        reserve(organization, expensive)
        return entries(*given)

    with monkeypatch.context() as patch:
        patch.setattr(refund_states, "entries", meanwhile)
        with pytest.raises(CreditRefundError):
            give_back(top_up, TEN)

    assert paid(organization) == TEN
    assert fake_stripe.calls(REFUNDS) == []


def test_promotional_credit_is_not_money(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)

    assert available(organization) == 15 * NANOS
    assert refunds.refundable(top_up) == TEN


@pytest.mark.parametrize("nanos", [0, -NANOS, NANOS + 1, 11 * NANOS])
def test_a_wrong_amount_is_refused(
    fake_stripe: FakeStripe, organization: Organization, nanos: int
) -> None:
    top_up = bought(fake_stripe, organization)

    with pytest.raises(CreditRefundError):
        give_back(top_up, nanos)

    assert paid(organization) == TEN
    assert not CreditRefund.objects.exists()


@pytest.mark.parametrize("fault", [Fault.BEFORE_SEND, Fault.AFTER_SEND, Fault.RATE_LIMITED])
def test_an_unknown_outcome_is_asked_for_again_under_the_same_key(
    fake_stripe: FakeStripe, organization: Organization, fault: Fault
) -> None:
    top_up = bought(fake_stripe, organization)
    fake_stripe.fail(fault, REFUNDS)

    refund = give_back(top_up, 4 * NANOS)
    assert (refund.state, paid(organization)) == (State.PENDING, 6 * NANOS)
    refunds.resume()

    refund.refresh_from_db()
    assert (refund.state, paid(organization)) == (State.REFUNDED, 6 * NANOS)
    assert len({call.key for call in fake_stripe.calls(REFUNDS)}) == 1
    assert len(fake_stripe.people.look(top_up.charge) or {}) > 0
    assert (fake_stripe.people.look(top_up.charge) or {})["amount_refunded"] == 400


def test_after_a_day_stripe_is_looked_at_before_anything_is_sent(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    fake_stripe.fail(Fault.AFTER_SEND, REFUNDS)
    refund = give_back(top_up, 4 * NANOS)
    fake_stripe.post.drop()
    StripeOp.objects.filter(kind="credit_refund").update(
        first_sent_at=timezone.now() - timedelta(hours=30)
    )

    refunds.resume()

    refund.refresh_from_db()
    assert refund.state == State.REFUNDED
    assert (fake_stripe.people.look(top_up.charge) or {})["amount_refunded"] == 400


def test_the_webhook_ends_a_refund_whose_answer_was_lost(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    fake_stripe.fail(Fault.AFTER_SEND, REFUNDS)
    refund = give_back(top_up, 4 * NANOS)

    deliver_all()

    refund.refresh_from_db()
    assert (refund.state, refund.stripe_refund[:3]) == (State.REFUNDED, "re_")
    assert paid(organization) == 6 * NANOS


def test_a_refund_that_fails_gives_the_credit_back_once(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    refund = give_back(top_up, 4 * NANOS)
    fake_stripe.people.fail_refund(refund.stripe_refund)
    fake_stripe.post.duplicate(3)

    deliver_all()

    refund.refresh_from_db()
    top_up.refresh_from_db()
    assert (refund.state, refund.failure) == (State.FAILED, "lost_or_stolen_card")
    assert (paid(organization), top_up.refunded_nanos) == (TEN, 0)
    assert not StripeEvent.objects.exclude(state=StripeEvent.State.DONE).exists()
    back = LedgerTransaction.objects.filter(kind="credit_refund_failed")
    assert back.count() == 1
    assert AuditEntry.objects.filter(action="credit_refund.failed").count() == 1


def test_a_pending_refund_arrives_later(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    fake_stripe.people.set("slow_refunds", 1)
    top_up = bought(fake_stripe, organization)
    refund = give_back(top_up, 4 * NANOS)
    deliver_all()
    assert refund.state == State.PENDING
    assert paid(organization) == 6 * NANOS

    fake_stripe.people.settle_refund(refund.stripe_refund)
    deliver_all()

    refund.refresh_from_db()
    assert refund.state == State.REFUNDED


def test_stripe_says_no_and_the_credit_is_back(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """The payment is disputed at Stripe, and the site does not know yet."""
    top_up = bought(fake_stripe, organization)
    fake_stripe.people.dispute(top_up.charge, 300)

    refund = give_back(top_up, 4 * NANOS)

    assert (refund.state, refund.failure) == (State.FAILED, "charge_disputed")
    deliver_all()
    assert paid(organization) == 7 * NANOS
    assert refunds.refundable(top_up) == 0


def test_tax_goes_back_with_it(
    fake_stripe: FakeStripe, organization: Organization, settings: object
) -> None:
    settings.STRIPE_TAX = True  # type: ignore[attr-defined]
    fake_stripe.people.set("tax_bps", 2000)
    top_up = bought(fake_stripe, organization)

    refund = give_back(top_up, 5 * NANOS)

    assert refund.amount_minor == 600
    assert balances(organization)["tax"] == -NANOS


@pytest.mark.django_db(transaction=True)
def test_two_refunds_at_once_are_at_most_what_is_there(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = bought(fake_stripe, organization)
    ready, refused = threading.Barrier(3), list[Exception]()

    def refund() -> None:
        try:
            ready.wait()
            give_back(TopUp.objects.get(pk=top_up.pk), 4 * NANOS)
        except CreditRefundError as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=refund) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 1
    assert paid(organization) == 2 * NANOS
    deliver_all()
    assert paid(organization) == 2 * NANOS

"""Top-ups: each payment is credited once, whoever says so, and only if it is what was ordered."""

from __future__ import annotations

import itertools
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.errors import IdempotencyMismatchError, InvalidRequestError
from accounts.models import AuditEntry, Organization
from billing import customers, ledger, topups
from billing.errors import OrganizationFrozenError, StripeUnavailableError
from billing.models import LedgerTransaction, StripeEvent, StripeOp, TopUp, Wallet
from billing.money import NANOS
from billing.stripe import client
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.prepaid import TEN, balances, bought, buy, paid
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
SESSIONS = "POST /v1/checkout/sessions"
State = TopUp.State


def credits(organization: Organization) -> int:
    return LedgerTransaction.objects.filter(organization=organization, kind="top_up").count()


def test_a_top_up_is_a_row_before_it_is_a_page(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    fake_stripe.fail(Fault.BEFORE_SEND, SESSIONS)

    with pytest.raises(StripeUnavailableError):
        topups.start(organization, TEN, idempotency_key="one")
    row = TopUp.objects.get()
    started = topups.start(organization, TEN, idempotency_key="one")

    assert started.top_up.pk == row.pk
    assert started.url.endswith(started.top_up.checkout_session)


def test_what_was_asked_of_stripe(fake_stripe: FakeStripe, organization: Organization) -> None:
    top_up = topups.start(organization, TEN, save_card=True).top_up

    asked = fake_stripe.calls(SESSIONS)[-1]

    assert asked.key == f"topup:{top_up.pk}:a1"
    assert asked.params["client_reference_id"] == str(top_up.pk)
    assert asked.params["metadata"]["top_up"] == str(top_up.pk)
    assert asked.params["line_items"][0]["price_data"]["unit_amount"] == 1000
    assert asked.params["payment_intent_data"]["setup_future_usage"] == "off_session"


@pytest.mark.parametrize("fault", [Fault.AFTER_SEND, Fault.DONE_500, Fault.CONFLICT])
def test_a_lost_answer_opens_the_same_page_again(
    fake_stripe: FakeStripe, organization: Organization, fault: Fault
) -> None:
    fake_stripe.fail(fault, SESSIONS)
    with pytest.raises(StripeUnavailableError):
        topups.start(organization, TEN, idempotency_key="one")

    if fault == Fault.DONE_500:
        # Stripe keeps this answer under the key: the page is never known here.
        with pytest.raises(StripeUnavailableError):
            topups.start(organization, TEN, idempotency_key="one")
        return
    topups.start(organization, TEN, idempotency_key="one")

    opened = {call.key for call in fake_stripe.calls(SESSIONS)}
    assert len(opened) == 1
    assert TopUp.objects.count() == 1


def test_one_key_is_one_top_up(fake_stripe: FakeStripe, organization: Organization) -> None:
    first = topups.start(organization, TEN, idempotency_key="k")
    again = topups.start(organization, TEN, idempotency_key="k")
    other = topups.start(make_organization(), TEN, idempotency_key="k")

    assert first == again
    assert other.top_up.pk != first.top_up.pk
    with pytest.raises(IdempotencyMismatchError):
        topups.start(organization, 2 * TEN, idempotency_key="k")


@pytest.mark.parametrize("nanos", [0, -TEN, NANOS, 10_001 * NANOS, TEN + 1])
def test_an_amount_that_cannot_be_bought_is_refused(organization: Organization, nanos: int) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        topups.start(organization, nanos)

    assert refused.value.param == "amount"
    assert not TopUp.objects.exists()


def test_a_frozen_organization_buys_nothing(organization: Organization) -> None:
    organization.is_frozen = True

    with pytest.raises(OrganizationFrozenError):
        topups.start(organization, TEN)


def test_a_payment_becomes_credit_clearing_and_a_fee(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    top_up = buy(fake_stripe, organization)

    deliver_all()

    top_up.refresh_from_db()
    assert (top_up.state, top_up.charge[:3]) == (State.CREDITED, "ch_")
    fee = 59 * NANOS // 100
    assert balances(organization) == {
        "credit": -TEN,
        "clearing": TEN - fee,
        "fees": fee,
        "tax": 0,
        "loss": 0,
    }
    assert AuditEntry.objects.filter(action="top_up.credited").count() == 1


def test_tax_is_not_credit(
    fake_stripe: FakeStripe, organization: Organization, settings: Any
) -> None:
    settings.STRIPE_TAX = True
    fake_stripe.people.set("tax_bps", 1900)

    top_up = bought(fake_stripe, organization)

    assert (top_up.tax_minor, paid(organization)) == (190, TEN)
    assert ledger.balance_of(ledger.TAX) == -190 * NANOS // 100


# Once -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "deeds", sorted(set(itertools.permutations(["hooks", "page", "page", "hooks", "jobs"])))[::7]
)
def test_each_payment_credits_once_whoever_says_so(
    fake_stripe: FakeStripe, organization: Organization, deeds: tuple[str, ...]
) -> None:
    """Invariant 14: webhooks, page hits and the reconciliation in any number and order."""
    top_up = buy(fake_stripe, organization)
    TopUp.objects.update(created_at=timezone.now() - timedelta(hours=1))
    fake_stripe.post.duplicate(2)

    for deed in deeds:
        if deed == "hooks":
            deliver_all()
            for event in StripeEvent.objects.all():
                fake_stripe.post.again(event.pk)
        elif deed == "page":
            topups.fulfil(top_up.checkout_session)
        else:
            topups.reconcile()

    assert (paid(organization), credits(organization)) == (TEN, 1)
    assert LedgerTransaction.objects.filter(kind="stripe_fee").count() == 1


def test_a_duplicate_checkout_webhook_grants_nothing_again(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Regression 22: anomalyco/opencode#28402, theopenco/llmgateway#1713, pollinations#10621."""
    buy(fake_stripe, organization)
    fake_stripe.post.duplicate(3)
    deliver_all()
    StripeEvent.objects.all().delete()
    for event in client.gateway().list_events(since=timezone.now() - timedelta(days=1), types=[]):
        fake_stripe.post.again(event.id)

    deliver_all()

    assert (paid(organization), credits(organization)) == (TEN, 1)


def test_an_event_that_failed_is_tried_until_it_has_credited(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Regression 23: danny-avila/LibreChat#13812, seen is not done."""
    buy(fake_stripe, organization)
    fake_stripe.fail(Fault.BEFORE_SEND, "GET /v1/*", times=20)
    deliver_all()
    assert paid(organization) == 0

    for _ in range(10):
        deliver_all()

    assert paid(organization) == TEN


def test_the_order_and_its_credit_are_one_transaction(
    fake_stripe: FakeStripe, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression 24: Laisky/one-api#355, paid and credited are marked together or not at all."""
    top_up = buy(fake_stripe, organization)

    def dies(*_: object, **__: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr("billing.payment_states.audit.record", dies)
        with pytest.raises(ConnectionError):
            topups.fulfil(top_up.checkout_session)
    top_up.refresh_from_db()
    assert (top_up.state, credits(organization)) == (State.PENDING, 0)

    topups.fulfil(top_up.checkout_session)

    assert (paid(organization), credits(organization)) == (TEN, 1)


def test_checkout_payment_and_invoice_of_one_payment_credit_once(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Regression 25: masumi-network/sokosumi#1846, #3120, several events tell of one payment."""
    buy(fake_stripe, organization)

    deliver_all()

    kinds = set(StripeEvent.objects.values_list("type", flat=True))
    assert {"checkout.session.completed", "payment_intent.succeeded"} <= kinds
    assert any(kind.startswith("invoice.") for kind in kinds)
    assert (paid(organization), credits(organization)) == (TEN, 1)


@pytest.mark.django_db(transaction=True)
def test_webhook_and_success_page_at_once_credit_once(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Regression 34: saleor#14648, the webhook races the page that the person comes back to."""
    top_up = buy(fake_stripe, organization)
    ready, failed = threading.Barrier(4), list[BaseException]()

    def fulfil() -> None:
        try:
            ready.wait()
            topups.fulfil(top_up.checkout_session)
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=fulfil) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert (paid(organization), credits(organization)) == (TEN, 1)


@pytest.mark.django_db(transaction=True)
def test_two_racing_requests_make_one_customer(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    ready, made = threading.Barrier(4), list[str]()

    def ensure() -> None:
        try:
            ready.wait()
            while True:
                try:
                    made.append(customers.ensure(organization))
                    return
                except client_errors():
                    # The other request with this key still runs.
                    continue
        finally:
            connection.close()

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 4
    assert len(set(made)) == 1
    assert Wallet.objects.get(organization=organization).stripe_customer == made[0]


def client_errors() -> type[Exception]:
    from billing.stripe.errors import AmbiguousError

    return AmbiguousError


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

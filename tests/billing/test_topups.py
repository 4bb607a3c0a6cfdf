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
from billing import customers, ledger, payments, topups
from billing.errors import OrganizationFrozenError, StripeUnavailableError
from billing.models import LedgerTransaction, StripeEvent, TopUp, Wallet
from billing.money import NANOS
from billing.stripe import client
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.prepaid import TEN, balances, bought, buy, paid
from tests.billing.stripe_world import deliver_all
from tests.billing.threads import in_threads
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

    in_threads(4, lambda: topups.fulfil(top_up.checkout_session))

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


def test_two_who_read_it_as_pending_credit_it_once(
    fake_stripe: FakeStripe, organization: Organization
) -> None:
    """Regression 14: getlago/lago-api#3618, #2664, settled twice within milliseconds."""
    session = buy(fake_stripe, organization).checkout_session
    first, second = payments.of_session(session), payments.of_session(session)
    assert first is not None
    assert second is not None

    payments.apply(first)
    payments.apply(second)

    assert (paid(organization), credits(organization)) == (TEN, 1)

"""Events of Stripe that fail, come late or race."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts.errors import ConflictError
from billing import webhooks
from billing.models import StripeEvent, StripeOp
from billing.stripe import client, objects
from billing.stripe.errors import AmbiguousError
from billing.stripe.fake import FakeStripe, Fault
from tests.billing.stripe.crediting import PAID, session_of, signed
from tests.billing.stripe_world import deliver_all, make_customer, open_topup

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_handlers")]

State = StripeEvent.State


def test_an_event_that_failed_is_tried_again_until_it_succeeds(fake_stripe: FakeStripe) -> None:
    """Invariant 13: a webhook that was seen and failed is retried to success."""
    tries: list[int] = []

    @webhooks.handles(PAID[0], fetch=session_of)
    def apply(event: StripeEvent, session: objects.CheckoutSession) -> None:
        tries.append(event.attempts)
        if len(tries) < 4:
            raise ValueError("not yet")

    fake_stripe.people.pay(open_topup(make_customer()).id)
    for _ in range(4):
        deliver_all()

    event = StripeEvent.objects.get(type=PAID[0])
    assert (event.state, event.last_error, tries) == (State.DONE, "", [1, 2, 3, 4])


def test_seen_is_not_done(fake_stripe: FakeStripe, credits: list[str]) -> None:
    """Regression 23: danny-avila/LibreChat#13812: marked seen before success, never credited."""
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id)
    fake_stripe.fail(Fault.BEFORE_SEND, "GET /v1/checkout/sessions/*")
    webhooks.deliver_fake()
    webhooks.handle_due()

    event = StripeEvent.objects.get(type=PAID[0])
    assert event.state == State.RECEIVED
    assert event.next_attempt_at is not None
    assert credits == []

    # Stripe delivers it again, and the loop comes round again.
    fake_stripe.post.again(event.pk)
    deliver_all()
    assert credits == [session.id]


def test_a_failing_effect_leaves_nothing_half_done(fake_stripe: FakeStripe) -> None:
    def write(event: StripeEvent, session: objects.CheckoutSession) -> None:
        StripeOp.objects.create(idem_key=event.pk, kind="x", business_key=event.pk, params={})

    def fail(event: StripeEvent, session: objects.CheckoutSession) -> None:
        raise ValueError("the second effect fails")

    webhooks.handles(PAID[0], fetch=session_of)(write)
    webhooks.handles(PAID[0], fetch=session_of)(fail)
    fake_stripe.people.pay(open_topup(make_customer()).id)

    deliver_all()

    assert not StripeOp.objects.exists()
    assert StripeEvent.objects.get(type=PAID[0]).state == State.RECEIVED


def test_a_poisonous_event_does_not_stop_the_others(
    fake_stripe: FakeStripe, credits: list[str]
) -> None:
    """Invariant 38: a poison row does not stop the webhook loop."""

    @webhooks.handles("customer.created", fetch=lambda event: None)
    def poison(event: StripeEvent, nothing: None) -> None:
        raise RuntimeError("cannot be handled")

    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id)
    for _ in range(webhooks.MAX_ATTEMPTS + 1):
        deliver_all()

    assert credits == [session.id]
    dead = StripeEvent.objects.get(type="customer.created")
    assert dead.state == State.DEAD
    assert dead.attempts == webhooks.MAX_ATTEMPTS
    assert "cannot be handled" in dead.last_error


def test_a_dead_event_lives_again_when_an_operator_says_so(fake_stripe: FakeStripe) -> None:
    make_customer()
    deliver_all()
    StripeEvent.objects.update(state=State.DEAD)
    event = StripeEvent.objects.get()

    webhooks.retry(event, actor=None, reason="mended")
    with pytest.raises(ConflictError):
        webhooks.retry(event, actor=None, reason="again")
    deliver_all()

    assert StripeEvent.objects.get().state == State.DONE


def test_nothing_dies_while_stripe_is_away(fake_stripe: FakeStripe) -> None:
    def away(event: StripeEvent) -> None:
        raise AmbiguousError("503")

    webhooks.handles("customer.created", fetch=away)(lambda event, nothing: None)
    make_customer()
    for _ in range(webhooks.MAX_ATTEMPTS + 3):
        deliver_all()

    assert StripeEvent.objects.get().state == State.RECEIVED


def test_quarantine_is_at_once(fake_stripe: FakeStripe) -> None:
    @webhooks.handles("customer.created", fetch=lambda event: None)
    def refuse(event: StripeEvent, nothing: None) -> None:
        raise webhooks.QuarantinedError("not a customer of ours")

    make_customer()
    deliver_all()

    event = StripeEvent.objects.get()
    assert event.state == State.DEAD
    assert "not a customer of ours" in event.last_error


def test_waiting_grows_with_each_failure(fake_stripe: FakeStripe) -> None:
    @webhooks.handles("customer.created", fetch=lambda event: None)
    def fail(event: StripeEvent, nothing: None) -> None:
        raise ValueError("no")

    make_customer()
    waits = []
    for _ in range(4):
        deliver_all()
        due = StripeEvent.objects.get().next_attempt_at
        assert due is not None
        waits.append(round((due - timezone.now()).total_seconds()))

    assert waits == [2, 4, 8, 16]
    assert webhooks.handle_due() == 0


def test_the_network_is_used_outside_the_transaction(fake_stripe: FakeStripe) -> None:
    depth = len(transaction.get_connection().atomic_blocks)
    seen: list[int] = []

    def fetch(event: StripeEvent) -> None:
        seen.append(len(transaction.get_connection().atomic_blocks) - depth)

    def apply(event: StripeEvent, nothing: None) -> None:
        seen.append(len(transaction.get_connection().atomic_blocks) - depth)

    webhooks.handles("customer.created", fetch=fetch)(apply)
    make_customer()
    deliver_all()

    assert seen == [0, 1]


def test_a_handler_believes_stripe_and_not_the_event(
    fake_stripe: FakeStripe, credits: list[str]
) -> None:
    """Invariant 35: metadata forged in an event credits nobody: the object is asked for."""
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id, later=True)
    events = client.gateway().list_events(since=timezone.now() - timedelta(days=1), types=[PAID[0]])

    def paid(body: dict[str, Any]) -> None:
        body["data"]["object"] |= {"payment_status": "paid", "metadata": {"topup_id": "other"}}

    forged = fake_stripe.post.forge(next(iter(events)).id, paid)
    webhooks.receive(forged, signed(forged))
    webhooks.handle_due()

    assert credits == []


def test_events_whose_webhook_never_came_are_fetched(
    fake_stripe: FakeStripe, credits: list[str]
) -> None:
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id)
    fake_stripe.post.drop()

    assert webhooks.backfill() == 1
    assert webhooks.backfill() == 0
    deliver_all()

    assert credits == [session.id]


def test_a_late_webhook_changes_nothing(fake_stripe: FakeStripe, credits: list[str]) -> None:
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id)
    fake_stripe.post.delay(3 * 86400, type=PAID[0])
    webhooks.backfill()
    deliver_all()
    assert credits == [session.id]

    fake_stripe.people.wait(3 * 86400)
    deliver_all()

    assert credits == [session.id]
    assert fake_stripe.post.is_empty()


def test_a_webhook_that_is_refused_does_not_keep_others_waiting(
    fake_stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_customer("small")
    make_customer("long" * 50)
    small, long = (len(each.payload) for each in fake_stripe.post.due())
    assert small < long
    monkeypatch.setattr(webhooks, "MAX_BYTES", small)

    assert webhooks.deliver_fake() == 2
    assert StripeEvent.objects.count() == 1
    assert fake_stripe.post.is_empty()


def test_an_event_whose_lease_ran_out_takes_effect_once(fake_stripe: FakeStripe) -> None:
    """Regression 33: dj-stripe#1374: two workers at one event, the first slower than its lease."""
    fetched: list[str] = []
    applied: list[str] = []

    def fetch(event: StripeEvent) -> None:
        fetched.append(event.pk)
        if len(fetched) == 1:
            StripeEvent.objects.update(next_attempt_at=None)
            assert webhooks.handle_due() == 1

    @webhooks.handles("customer.created", fetch=fetch)
    def apply(event: StripeEvent, nothing: None) -> None:
        applied.append(event.pk)

    make_customer()
    deliver_all()

    assert len(fetched) == 2
    assert len(applied) == 1


@pytest.mark.django_db(transaction=True)
def test_workers_that_race_apply_each_event_once(fake_stripe: FakeStripe) -> None:
    """Invariant 12: delivered and handled by four at once, each payment takes effect once."""
    applied: list[str] = []

    @webhooks.handles("customer.created", fetch=lambda event: None)
    def apply(event: StripeEvent, nothing: None) -> None:
        applied.append(event.object_id)

    made = sorted(make_customer(f"c{number}").id for number in range(12))
    fake_stripe.post.duplicate(2)

    def work(_: int) -> None:
        try:
            webhooks.deliver_fake()
            webhooks.handle_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))

    assert sorted(applied) == made

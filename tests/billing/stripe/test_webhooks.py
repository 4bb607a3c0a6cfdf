"""Webhooks: stored once, handled until done, in any order and number."""

from __future__ import annotations

import itertools
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from billing import webhooks
from billing.models import StripeEvent
from billing.stripe import client, signatures
from billing.stripe.fake import FakeStripe
from tests.billing.stripe.crediting import PAID, signed
from tests.billing.stripe_world import deliver_all, make_customer, open_topup

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("no_handlers")]

State = StripeEvent.State


def payload_of(fake: FakeStripe) -> bytes:
    """Return the bytes of a payment's webhook."""
    fake.people.pay(open_topup(make_customer()).id)
    return next(each.payload for each in fake.post.due() if each.type == PAID[0])


def post(client: Client, payload: bytes, header: str | None) -> int:
    headers = {} if header is None else {"Stripe-Signature": header}
    answer = client.post(
        "/stripe/webhook", payload, content_type="application/json", headers=headers
    )
    return answer.status_code


def test_a_signed_event_is_stored_and_answered(client: Client, fake_stripe: FakeStripe) -> None:
    payload = payload_of(fake_stripe)

    assert post(client, payload, signed(payload)) == 200

    event = StripeEvent.objects.get()
    assert (event.type, event.object_type) == (PAID[0], "checkout.session")
    assert event.state == State.RECEIVED


def test_a_form_token_is_not_asked_for(fake_stripe: FakeStripe) -> None:
    payload = payload_of(fake_stripe)

    assert post(Client(enforce_csrf_checks=True), payload, signed(payload)) == 200


def test_what_is_not_signed_now_by_stripe_is_refused(
    client: Client, fake_stripe: FakeStripe
) -> None:
    payload, now = payload_of(fake_stripe), int(time.time())
    respaced = json.dumps(json.loads(payload), indent=1).encode()

    assert post(client, payload, None) == 400
    assert post(client, payload, "") == 400
    assert post(client, payload, "t=soon,v1=00") == 400
    assert post(client, payload, signed(payload, secret="whsec_another_one_of_ours")) == 400
    assert post(client, payload, signed(payload, at=now - 310)) == 400
    assert post(client, payload, signed(payload, at=now + 310)) == 400
    assert post(client, payload + b" ", signed(payload)) == 400
    assert post(client, respaced, signed(payload)) == 400
    assert post(client, b"\xff\x00", "t=1,v1=00") == 400
    assert not StripeEvent.objects.exists()


def test_a_signed_body_that_is_no_event_is_refused(client: Client, fake_stripe: FakeStripe) -> None:
    for body in (b"[]", b"{}", b"null", b'{"object":"v2.core.event","id":"evt_1"}', b'{"id":1}'):
        assert post(client, body, signed(body)) == 400


def test_both_secrets_are_accepted_while_one_replaces_the_other(
    client: Client, fake_stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = payload_of(fake_stripe)
    monkeypatch.setattr(signatures, "secrets", lambda: ["whsec_old_old_old", "whsec_new_new_new"])

    assert post(client, payload, signed(payload, secret="whsec_old_old_old")) == 200
    assert post(client, payload, signed(payload, secret="whsec_new_new_new")) == 200
    assert post(client, payload, signed(payload, secret="whsec_third_third")) == 400


def test_without_a_secret_nothing_is_accepted(
    client: Client, fake_stripe: FakeStripe, settings: Any
) -> None:
    payload = payload_of(fake_stripe)
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRETS = "sk_test_1", []

    assert post(client, payload, signed(payload, secret="whsec_")) == 503


def test_an_event_that_is_too_large_is_refused(client: Client, fake_stripe: FakeStripe) -> None:
    payload = b"{" + b" " * webhooks.MAX_BYTES + b"}"

    assert post(client, payload, signed(payload)) == 413


def test_only_posts_are_answered(client: Client) -> None:
    assert client.get("/stripe/webhook").status_code == 405


def test_live_events_do_not_reach_a_site_in_test_mode(
    fake_stripe: FakeStripe, credits: list[str]
) -> None:
    fake_stripe.people.pay(open_topup(make_customer()).id)
    event = next(iter(client.gateway().list_events(since=timezone.now() - timedelta(days=1))))

    forged = fake_stripe.post.forge(event.id, lambda body: body.update(livemode=True))
    webhooks.receive(forged, signed(forged))
    webhooks.handle_due()

    stored = StripeEvent.objects.get()
    assert stored.state == State.DEAD
    assert "live or test" in stored.last_error
    assert credits == []


def test_a_duplicate_delivery_credits_once(fake_stripe: FakeStripe, credits: list[str]) -> None:
    """Regression 22: anomalyco/opencode#28402, theopenco/llmgateway#1713: a second delivery."""
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id)
    fake_stripe.post.duplicate(3)

    deliver_all()

    assert credits == [session.id]
    assert not StripeEvent.objects.exclude(state=State.DONE).exists()


def test_receiving_twice_stores_once_without_an_error(fake_stripe: FakeStripe) -> None:
    """Regression 33: dj-stripe#1239, #1267: a duplicate event must not raise IntegrityError."""
    payload = payload_of(fake_stripe)

    assert webhooks.receive(payload, signed(payload)) is not None
    assert webhooks.receive(payload, signed(payload)) is None
    assert StripeEvent.objects.count() == 1


ORDERS = list(itertools.permutations(range(4)))


@pytest.mark.parametrize("order", ORDERS[::3], ids=str)
def test_any_order_with_duplicates_gives_the_same(
    fake_stripe: FakeStripe, credits: list[str], order: tuple[int, ...]
) -> None:
    """Invariant 12: every webhook twice, in any permutation, gives the same result."""
    customer = make_customer()
    slow, fast = open_topup(customer, reference="slow"), open_topup(customer, reference="fast")
    fake_stripe.people.pay(slow.id, later=True)
    fake_stripe.people.pay(fast.id)
    failed = open_topup(customer, reference="failed")
    fake_stripe.people.pay(failed.id, later=True)
    fake_stripe.people.settle(failed.id, succeeded=False)
    fake_stripe.people.settle(slow.id)
    fake_stripe.post.keep(type="checkout.session.*")
    fake_stripe.post.arrange(lambda seqs: [seqs[i] for i in order] + seqs[len(order) :])
    fake_stripe.post.duplicate(2)

    deliver_all()

    assert sorted(credits) == sorted([slow.id, fast.id])


def test_an_unpaid_session_credits_nothing_until_it_is_paid(
    fake_stripe: FakeStripe, credits: list[str]
) -> None:
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id, later=True)
    deliver_all()
    assert credits == []

    fake_stripe.people.settle(session.id)
    deliver_all()

    assert credits == [session.id]

"""Receivers of webhooks that fail: redirected, hanging, gone; tried again for three days."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEntry, OutgoingMail
from inference.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from inference.webhooks import (
    deliveries,
    endpoints,
    sending,
)
from inference.webhooks.deliveries import Parcel
from inference.webhooks.sending import Result
from tests.inference.receivers import Receiver, status
from tests.inference.watched import counted, counts

__all__ = ["counts"]
pytestmark = pytest.mark.django_db

State = WebhookDelivery.State


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 0.4)


def last(made: WebhookDelivery) -> WebhookAttempt:
    """Return the last attempt of a delivery."""
    found = made.log.last()
    assert found is not None
    return found


def make_due() -> None:
    WebhookDelivery.objects.filter(state=State.PENDING).update(next_attempt_at=timezone.now())


# Receivers that fail -----------------------------------------------------------------------


@pytest.mark.usefixtures("counts")
def test_a_failure_is_tried_again_with_the_same_id_and_body_and_a_new_instant(
    endpoint: WebhookEndpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [status(500, b"oops"), status(204)]
    made = endpoints.ping(endpoint)

    deliveries.send_due()
    made.refresh_from_db()
    assert (made.state, made.failure, last(made).excerpt) == (State.PENDING, "refused", "oops")
    wait = (made.next_attempt_at - timezone.now()).total_seconds()
    assert 3 < wait < 6
    assert WebhookEndpoint.objects.exclude(failing_since=None).exists()
    assert deliveries.send_due() == 0

    later = timezone.now() + timedelta(seconds=10)
    monkeypatch.setattr(timezone, "now", lambda: later)
    deliveries.send_due()

    first, second = receiver.received
    made.refresh_from_db()
    endpoint.refresh_from_db()
    assert (made.state, made.attempts, made.failure) == (State.DELIVERED, 2, "")
    found, name = counted(), "mercato_webhook_attempts_total"
    assert [found.value(name, result=each) for each in ("refused", "delivered")] == [1, 1]
    assert endpoint.failing_since is None
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])


def test_a_redirect_is_not_followed_and_is_reported(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answers = [status(301, Location=receiver.url + "/elsewhere")]
    made = endpoints.ping(endpoint)

    deliveries.send_due()

    made.refresh_from_db()
    assert len(receiver.received) == 1
    assert (made.failure, last(made).status) == ("redirect", 301)
    assert last(made).excerpt == f"Location: {receiver.url}/elsewhere"


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_receiver_that_hangs_is_cut_off_and_does_not_stop_another(
    endpoint: WebhookEndpoint, receiver: Receiver, how: str
) -> None:
    other = Receiver()
    other.start()
    healthy, _ = endpoints.create(endpoint.organization, other.url)
    receiver.answers = [getattr(receiver, how)]
    hanging, fine = endpoints.ping(endpoint), endpoints.ping(healthy)

    deliveries.send_due()

    hanging.refresh_from_db()
    fine.refresh_from_db()
    assert (hanging.state, hanging.failure) == (State.PENDING, "timeout")
    assert last(hanging).milliseconds < 5000
    assert fine.state == State.DELIVERED
    other.stop()


def test_after_a_failure_the_endpoints_other_events_wait(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answers = [status(503)]
    made = [endpoints.ping(endpoint) for _ in range(3)]

    assert deliveries.send_due() == 1

    for delivery in made:
        delivery.refresh_from_db()
    assert [delivery.attempts for delivery in made] == [1, 0, 0]
    make_due()
    assert deliveries.send_due() == 3


def test_an_endpoint_with_many_events_does_not_keep_another_waiting(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    for _ in range(70):
        endpoints.ping(endpoint)
    other, _ = endpoints.create(endpoint.organization, receiver.url)
    late = endpoints.ping(other)

    deliveries.send_due()

    late.refresh_from_db()
    assert late.state == State.DELIVERED


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * 5_000_000, {}),
        (gzip.compress(b"\0" * 50_000_000), {"Content-Encoding": "gzip"}),
        (b"\xff\0\xfe", {}),
    ],
    ids=["huge", "bomb", "binary"],
)
def test_of_an_answer_only_the_beginning_is_kept(
    endpoint: WebhookEndpoint, receiver: Receiver, body: bytes, headers: dict[str, str]
) -> None:
    receiver.answers = [status(200, body, **headers)]
    made = endpoints.ping(endpoint)

    deliveries.send_due()

    made.refresh_from_db()
    assert made.state == State.DELIVERED
    assert len(last(made).excerpt) <= 1000
    assert "\0" not in last(made).excerpt


def test_garbage_and_a_closed_port_are_failures(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answers = [Receiver.garbage]
    gone = Receiver()
    gone.start()
    gone.stop()
    closed, _ = endpoints.create(endpoint.organization, gone.url)
    made = [endpoints.ping(endpoint), endpoints.ping(closed)]

    deliveries.send_due()

    for delivery in made:
        delivery.refresh_from_db()
        assert (delivery.state, delivery.failure) == (State.PENDING, "connection_error")


def test_410_switches_the_endpoint_off_and_tells_the_owners(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    receiver.answers = [status(410)]
    made = endpoints.ping(endpoint)

    deliveries.send_due()

    made.refresh_from_db()
    endpoint.refresh_from_db()
    assert made.state == State.FAILED
    assert (endpoint.is_active, endpoint.disabled_reason) == (False, "gone")
    assert OutgoingMail.objects.get().user.email == "boss@example.com"
    assert AuditEntry.objects.filter(action="webhook.disabled").exists()


def test_attempts_span_three_days_and_then_a_dead_endpoint_is_switched_off(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    assert 3 * 86_400 <= sum(deliveries.SCHEDULE) * 9 // 10 * 10 // 9 <= 4 * 86_400
    made = endpoints.ping(endpoint)
    for _ in range(deliveries.MAX_ATTEMPTS):
        receiver.answers = [status(500)]
        make_due()
        deliveries.send_due()
    made.refresh_from_db()
    endpoint.refresh_from_db()
    assert (made.state, made.attempts) == (State.FAILED, 10)
    assert endpoint.is_active  # it has failed for a second only

    WebhookEndpoint.objects.update(failing_since=timezone.now() - timedelta(days=3))
    deliveries.redeliver(made)
    WebhookDelivery.objects.update(attempts=9)
    receiver.answers = [status(500)]
    deliveries.send_due()

    endpoint.refresh_from_db()
    assert (endpoint.is_active, endpoint.disabled_reason) == (False, "failing")
    assert OutgoingMail.objects.count() == 1


def test_who_dies_after_the_claim_leaves_the_event_to_be_sent_again(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    made = endpoints.ping(endpoint)
    assert len(deliveries._claim(timezone.now())) == 1
    # Killed here. Nobody else sends it while the claim holds.
    assert deliveries.send_due() == 0

    make_due()
    assert deliveries.send_due() == 1

    made.refresh_from_db()
    assert (made.state, made.attempts) == (State.DELIVERED, 2)


@pytest.mark.django_db(transaction=True)
def test_parallel_senders_send_an_event_once(endpoint: WebhookEndpoint, receiver: Receiver) -> None:
    for _ in range(4):
        endpoints.ping(endpoint)

    def send(_: int) -> int:
        try:
            return deliveries.send_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        sent = sum(pool.map(send, range(4)))

    assert sent == len(receiver.received) == 4
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 4


def test_an_event_is_sent_again_with_the_same_id(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    made = endpoints.ping(endpoint)
    deliveries.send_due()

    deliveries.redeliver(made)
    deliveries.send_due()

    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_old_deliveries_are_forgotten(endpoint: WebhookEndpoint) -> None:
    old, new = endpoints.ping(endpoint), endpoints.ping(endpoint)
    deliveries.send_due()
    WebhookDelivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=31))

    assert deliveries.forget() == 1

    assert list(WebhookDelivery.objects.all()) == [new]
    assert [each.delivery for each in WebhookAttempt.objects.all()] == [new]


def test_an_attempt_on_an_endpoint_that_is_deleted_meanwhile_is_not_kept(
    endpoint: WebhookEndpoint,
) -> None:
    """It is sent from the claim alone; then there is nothing any more that it belongs to."""
    made = endpoints.ping(endpoint)
    endpoints.delete(endpoint)

    deliveries.record(Parcel(made, ("whsec_1",)), Result(status=200))

    assert not WebhookAttempt.objects.exists()

"""Webhooks out: signed, sent until they have arrived, never into our own network."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts import vault
from accounts.models import Organization
from billing import budgets
from billing.models import BalanceAlert, BudgetAlert
from inference.errors import TooManyWebhooksError
from inference.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from inference.webhooks import (
    billing_events,
    deliveries,
    endpoints,
    events,
    signing,
)
from tests import factories
from tests.inference.receivers import Receiver

pytestmark = pytest.mark.django_db

State = WebhookDelivery.State

ROOT = Path(__file__).resolve().parents[2]


def documented_verify() -> Callable[[str, dict[str, str], bytes], bool]:
    """Return the function that the documents show."""
    text = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)  # noqa: S102  # the example of our own document
    verify: Callable[[str, dict[str, str], bytes], bool] = names["verify"]
    return verify


# Signatures --------------------------------------------------------------------------------


def test_an_event_arrives_once_and_its_signature_is_what_the_documents_check(
    owned: Organization, receiver: Receiver
) -> None:
    endpoint, secret = endpoints.create(owned, receiver.url)
    made = endpoints.ping(endpoint)

    assert deliveries.send_due() == 1
    assert deliveries.send_due() == 0

    [got] = receiver.received
    assert got.path == "/hook?x=1"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["webhook-id"] == made.event_id == json.loads(got.body)["id"]
    assert json.loads(got.body)["type"] == "webhook.ping"
    verify = documented_verify()
    assert verify(secret, got.headers, got.body)
    assert not verify(secret, got.headers, got.body + b" ")
    assert not verify(secret, {**got.headers, "webhook-id": "other"}, got.body)
    assert not verify(secret, {**got.headers, "webhook-timestamp": "1"}, got.body)
    made.refresh_from_db()
    [attempt] = made.log.all()
    assert (made.state, made.attempts, attempt.status) == (State.DELIVERED, 1, 200)
    assert (attempt.excerpt, attempt.failure) == ("thanks", "")
    assert attempt.secret_ids == [hashlib.sha256(secret.encode()).hexdigest()[:12]]


def test_the_scheme_gives_the_signature_of_its_published_example() -> None:
    made = signing.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        '{"test": 2432232314}',
    )

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_replaced_both_sign(owned: Organization, receiver: Receiver) -> None:
    endpoint, old = endpoints.create(owned, receiver.url)
    new = endpoints.rotate(endpoint)
    endpoint.refresh_from_db()
    verify = documented_verify()

    endpoints.ping(endpoint)
    deliveries.send_due()
    [during] = receiver.received
    assert verify(old, during.headers, during.body)
    assert verify(new, during.headers, during.body)
    assert WebhookAttempt.objects.get().secret_ids == list(map(signing.secret_id, (new, old)))

    WebhookEndpoint.objects.update(old_secret_until=timezone.now())
    endpoints.ping(endpoint)
    deliveries.send_due()
    after = receiver.received[1]
    assert not verify(old, after.headers, after.body)
    assert verify(new, after.headers, after.body)


def test_a_secret_that_is_known_to_others_stops_signing_at_once(
    owned: Organization, receiver: Receiver
) -> None:
    endpoint, old = endpoints.create(owned, receiver.url)
    endpoints.rotate(endpoint, overlap=timedelta(0))
    endpoints.ping(endpoint)

    deliveries.send_due()

    [got] = receiver.received
    assert not documented_verify()(old, got.headers, got.body)


def test_no_table_holds_a_secret(owned: Organization, receiver: Receiver) -> None:
    endpoint, secret = endpoints.create(owned, receiver.url)

    assert secret not in endpoint.secret
    assert vault.unseal(endpoint.secret) == secret


def test_a_secret_sealed_with_another_key_is_a_failure_and_not_the_end(
    endpoint: WebhookEndpoint, settings: Any
) -> None:
    made = endpoints.ping(endpoint)
    settings.SECRET_KEY = "x" * 50

    deliveries.send_due()

    made.refresh_from_db()
    assert (made.state, made.failure) == (State.PENDING, "secret_unreadable")
    assert made.log.get().secret_ids == endpoints.secret_ids(endpoint) == []


# Events ------------------------------------------------------------------------------------


def make_alert(organization: Organization, percent: int = 80) -> BudgetAlert:
    rule = budgets.set_limit(organization, "day", 10**9)
    budget = budgets.current(organization, rule)
    return BudgetAlert.objects.create(budget=budget, percent=percent, used=8 * 10**8)


def test_an_alert_goes_once_to_each_endpoint_that_wants_it(
    endpoint: WebhookEndpoint, receiver: Receiver
) -> None:
    organization = endpoint.organization
    wanting, _ = endpoints.create(organization, receiver.url, event_types=["budget.alert"])
    endpoints.create(organization, receiver.url, event_types=["balance.low"])
    endpoints.create(factories.make_organization(), receiver.url)
    off, _ = endpoints.create(organization, receiver.url)
    endpoints.update(off, is_active=False)
    alert = make_alert(organization)

    assert billing_events.announce() == 1
    assert billing_events.announce() == 0
    # Even if the mark had been lost.
    BudgetAlert.objects.update(announced_at=None)
    billing_events.announce()

    made = WebhookDelivery.objects.all()
    assert {each.endpoint_id for each in made} == {endpoint.pk, wanting.pk}
    assert len(made) == 2
    event = json.loads(made[0].payload)
    assert event["type"] == "budget.alert"
    assert event["id"] == f"evt_budget_alert_{alert.pk}"
    assert (event["data"]["percent"], event["data"]["used"], event["data"]["limit"]) == (
        *(80, "0.8", "1"),
    )
    assert event["data"]["budget"] == "organization-day"


def test_a_low_balance_is_an_event(endpoint: WebhookEndpoint) -> None:
    BalanceAlert.objects.create(
        organization=endpoint.organization, threshold_nanos=10**9, balance_nanos=5 * 10**8
    )

    billing_events.announce()

    event = json.loads(WebhookDelivery.objects.get().payload)
    assert event["type"] == "balance.low"
    assert (event["data"]["balance"], event["data"]["threshold"]) == ("0.5", "1")


def test_an_event_that_is_too_large_comes_as_a_link(endpoint: WebhookEndpoint) -> None:
    events.emit(
        endpoint.organization_id,
        events.PING,
        "evt_large",
        {"text": "x" * 30_000},
        link="/console/usage",
    )

    payload = WebhookDelivery.objects.get().payload
    assert len(payload) < 1000
    assert json.loads(payload)["data"]["url"].endswith("/console/usage")


def test_an_event_that_nobody_registered_is_a_mistake(endpoint: WebhookEndpoint) -> None:
    with pytest.raises(ValueError, match="not a registered event"):
        events.emit(endpoint.organization_id, "no.such", "evt_x", {})


def test_an_organization_has_a_limited_number_of_endpoints(
    owned: Organization, receiver: Receiver
) -> None:
    for _ in range(endpoints.MAX_ENDPOINTS):
        endpoints.create(owned, receiver.url)

    with pytest.raises(TooManyWebhooksError):
        endpoints.create(owned, receiver.url)

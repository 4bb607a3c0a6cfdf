"""Webhooks out: signed, sent until they have arrived, never into our own network."""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts import vault
from accounts.models import AuditEntry, Organization, OutgoingMail
from billing import budgets
from billing.models import BalanceAlert, BudgetAlert
from inference.errors import TooManyWebhooksError, WebhookUrlError
from inference.models import WebhookDelivery, WebhookEndpoint
from inference.webhooks import (
    addresses,
    billing_events,
    deliveries,
    endpoints,
    events,
    sending,
    signing,
)
from tests import factories
from tests.inference import certificates
from tests.inference.receivers import Receiver, status

pytestmark = pytest.mark.django_db
State = WebhookDelivery.State
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def owned() -> Organization:
    """An organization with an owner who gets its mail."""
    return factories.make_organization(owner=factories.make_user("boss@example.com"))


@pytest.fixture
def endpoint(owned: Organization, receiver: Receiver) -> WebhookEndpoint:
    return endpoints.create(owned, receiver.url)[0]


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 0.4)


def documented_verify() -> Callable[[str, dict[str, str], bytes], bool]:
    """Return the function that the documents show."""
    text = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)  # noqa: S102  # the example of our own document
    verify: Callable[[str, dict[str, str], bytes], bool] = names["verify"]
    return verify


def make_due() -> None:
    WebhookDelivery.objects.filter(state=State.PENDING).update(next_attempt_at=timezone.now())


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
    assert (made.state, made.attempts, made.response_status) == (State.DELIVERED, 1, 200)
    assert made.response_excerpt == "thanks"


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


# Receivers that fail -----------------------------------------------------------------------


def test_a_failure_is_tried_again_with_the_same_id_and_body_and_a_new_instant(
    endpoint: WebhookEndpoint, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.answers = [status(500, b"oops"), status(204)]
    made = endpoints.ping(endpoint)

    deliveries.send_due()
    made.refresh_from_db()
    assert (made.state, made.failure, made.response_excerpt) == (State.PENDING, "refused", "oops")
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
    assert (made.failure, made.response_status) == ("redirect", 301)
    assert made.response_excerpt == f"Location: {receiver.url}/elsewhere"


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
    assert hanging.response_ms is not None
    assert hanging.response_ms < 5000
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
    assert len(made.response_excerpt) <= 1000
    assert "\0" not in made.response_excerpt


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
    WebhookDelivery.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=31))

    deliveries.forget()

    assert list(WebhookDelivery.objects.all()) == [new]


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


# Addresses ---------------------------------------------------------------------------------


@pytest.fixture
def public(settings: Any) -> None:
    """A site that others reach."""
    settings.PUBLIC_URL = "https://mercato.example"


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)"),
        *(
            "gopher://example.com/",
            "data:text/plain,x",
            "//example.com/",
            "example.com",
            "https://",
        ),
        *("https://user:pass@example.com/", "https://user@example.com/", "https://example.com:22/"),
        *("https://example.com:80/", "https://example.com:99999/", "https://example.com/#part"),
        *(
            "https://example.com\\@evil.example/",
            "https://exa mple.com/",
            "https://example.com/\r\nX: 1",
        ),
        *(
            "https://bücher.example/",
            "https://example.com/\0",
            "https://[::1/",
            "https://[::1%25lo]/",
        ),
        *(
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://0.0.0.0/",
        ),
        *("https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.1/", "https://[fd00::1]/"),
        *("https://169.254.169.254/", "https://[fe80::1]/", "https://[fd00:ec2::254]/"),
        *("https://100.64.0.1/", "https://168.63.129.16/", "https://192.88.99.1/"),
        *("https://[64:ff9b::a9fe:a9fe]/", "https://[2002:7f00:1::]/", "https://224.0.0.1/"),
        *("https://[2001::1]/", "https://255.255.255.255/", "https://192.0.0.192/"),
        "https://example.com/" + "x" * 3000,
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(WebhookUrlError):
        addresses.parse(url)


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://example.com", "example.com"),
        ("https://xn--bcher-kva.example/hook?a=b", "xn--bcher-kva.example"),
        ("https://example.com:8443/", "example.com:8443"),
        ("https://[2606:4700::1111]/", "[2606:4700::1111]"),
    ],
)
def test_a_public_url_is_accepted(url: str, authority: str) -> None:
    assert addresses.parse(url).authority == authority


def answer_with(monkeypatch: pytest.MonkeyPatch, *found: list[str]) -> list[str]:
    """Let the name server answer differently each time it is asked; returns what was asked."""
    waiting, asked = list(found), list[str]()
    real = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            asked.append(host)
            return [(2, 1, 6, "", (address, 443)) for address in waiting.pop(0)]
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.usefixtures("public")
@pytest.mark.parametrize(
    "found", [["10.0.0.5"], ["93.184.215.14", "10.0.0.5"], ["::ffff:169.254.169.254"], []]
)
def test_a_name_that_leads_into_our_network_is_refused_when_it_is_resolved(
    monkeypatch: pytest.MonkeyPatch, found: list[str]
) -> None:
    answer_with(monkeypatch, found)

    result = sending.post("https://hooks.example/", "{}", {})

    assert (result.failure, result.status) == ("address_refused", None)


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """DNS rebinding: what the name server says afterwards is not asked for."""
    asked = answer_with(monkeypatch, ["127.0.0.1"], ["10.0.0.5"])

    result = sending.post(f"http://hooks.example:{receiver.port}/", "{}", {})

    assert result.status == 200
    assert asked == ["hooks.example"]
    assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize(
    ("host", "failure"), [("hooks.example", ""), ("evil.example", "tls_error")]
)
def test_the_certificate_must_be_the_hosts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, failure: str
) -> None:
    server_context, client_context = certificates.contexts("hooks.example", tmp_path)
    receiver = Receiver()
    receiver.start(server_context)
    monkeypatch.setattr(sending, "tls_context", lambda: client_context)
    answer_with(monkeypatch, ["127.0.0.1"])

    result = sending.post(f"https://{host}:{receiver.port}/", "{}", {})

    receiver.stop()
    assert result.failure == failure


def test_a_certificate_that_nobody_vouches_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server_context, _ = certificates.contexts("hooks.example", tmp_path)
    receiver = Receiver()
    receiver.start(server_context)
    answer_with(monkeypatch, ["127.0.0.1"])

    result = sending.post(f"https://hooks.example:{receiver.port}/", "{}", {})

    receiver.stop()
    assert result.failure == "tls_error"
    assert isinstance(sending.tls_context().verify_mode, ssl.VerifyMode)


@pytest.mark.usefixtures("public")
def test_an_operator_may_open_private_networks_but_not_where_clouds_give_out_secrets(
    settings: Any,
) -> None:
    settings.PRIVATE_WEBHOOKS = True

    assert addresses.parse("http://10.0.0.1:9000/").port == 9000
    for url in ("http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://168.63.129.16/"):
        with pytest.raises(WebhookUrlError):
            addresses.parse(url)


def test_the_instant_of_an_event_is_when_it_happened() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    body = json.loads(events.payload(events.PING, "evt_1", {}, occurred_at=at))

    assert body == {
        "id": "evt_1",
        "type": "webhook.ping",
        "timestamp": "2026-01-02T03:04:05+00:00",
        "data": {},
    }

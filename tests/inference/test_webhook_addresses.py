"""Where webhooks may go: only to public addresses, checked on the connected socket."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inference.errors import WebhookUrlError
from inference.webhooks import (
    addresses,
    events,
    sending,
)
from tests.inference import certificates
from tests.inference.receivers import Receiver

pytestmark = pytest.mark.django_db


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

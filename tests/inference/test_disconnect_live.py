"""A caller that hangs up: what was admitted runs and is charged, once."""

from __future__ import annotations

import socket

from billing import budgets
from billing.models import Hold, UsageEvent
from tests import factories
from tests.live import Site


def test_a_caller_that_goes_away_is_charged_for_what_ran(site: Site) -> None:
    """Invariant 39; regression 9: the worker charges, whoever still listens."""
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    body = factories.body(factories.make_version())
    head = (
        "POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        connection.sendall(head.encode() + body)
        site.wait_until(Hold.objects.filter(organization=organization).exists, seconds=30)

    captured = Hold.objects.filter(organization=organization, state="captured")
    site.wait_until(captured.exists, seconds=30)
    site.settle()

    assert UsageEvent.objects.get().cost_nanos == factories.ROW_NANOS
    assert budgets.wallet(organization).posted == factories.ROW_NANOS

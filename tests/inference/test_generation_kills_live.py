"""Texts under way when somebody dies or hangs up: one end for each hold, and the books are "
"right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from accounts.models import Organization
from billing import budgets
from billing.models import Hold, UsageEvent
from catalog.models import ModelVersion
from tests import factories
from tests.inference.writers import cost, make_writer
from tests.live import Site

# Long enough that it is under way whenever a test acts, however fast the machine is.
LONG = 200_000


@pytest.fixture
def writer(site: Site) -> ModelVersion:
    """A model whose texts take minutes."""
    return make_writer(context=LONG + 100, hidden=256)


@pytest.fixture
def payer(site: Site) -> Organization:
    """An organization with five dollars."""
    return factories.make_organization()


class Stream:
    """A text as it arrives."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()
        self.hold_id = response.headers["mercato-hold"]

    def next(self) -> dict[str, Any]:
        for line in self._lines:
            if line.startswith("data: {"):
                found: dict[str, Any] = json.loads(line.removeprefix("data: "))
                return found
        raise AssertionError("The stream has ended.")

    @property
    def hold(self) -> Hold:
        return Hold.objects.get(pk=self.hold_id)

    def has_ended(self) -> bool:
        return self.hold.state != Hold.State.AUTHORISED


@pytest.fixture
def stream(site: Site, writer: ModelVersion, payer: Organization) -> Iterator[Any]:
    """A long text whose first piece has arrived; closing it hangs up."""
    _, secret = factories.make_key(payer)
    body = {"model": writer.model.path, "prompt": "a", "max_tokens": LONG, "stream": True}
    with site.client.stream(
        "POST",
        "/v1/completions",
        json=body,
        headers={"Authorization": f"Bearer {secret}"},
    ) as response:
        assert response.status_code == 200
        made = Stream(response)
        assert made.next()["choices"][0]["text"]
        yield made, response


def test_hanging_up_stops_the_text_and_costs_what_was_written(
    site: Site, stream: tuple[Stream, httpx.Response], payer: Organization
) -> None:
    text, response = stream
    response.close()

    site.wait_until(text.has_ended, seconds=30)
    used = UsageEvent.objects.get()

    assert text.hold.state == "captured"
    assert used.outcome == "canceled"
    assert used.output_tokens is not None
    assert 0 < used.output_tokens < LONG
    assert used.cost_nanos == cost("a", used.output_tokens)
    site.settle()
    assert budgets.wallet(payer).posted == used.cost_nanos
    assert budgets.wallet(payer).held == 0


def test_a_killed_worker_costs_nothing_and_the_stream_says_so(
    site: Site, stream: tuple[Stream, httpx.Response], payer: Organization
) -> None:
    text, _ = stream
    site.kill("predict")
    event = text.next()
    while "error" not in event:
        event = text.next()
    site.start_worker()

    assert event["error"]["code"] == "worker_lost"
    assert event["error"]["request_id"]
    assert (text.hold.state, text.hold.failure) == ("voided", "worker_lost")
    site.settle()
    assert budgets.wallet(payer).posted == budgets.wallet(payer).held == 0
    site.wait_ready()


def test_a_killed_gateway_stops_the_text_and_costs_nothing(
    site: Site, stream: tuple[Stream, httpx.Response], payer: Organization
) -> None:
    text, _ = stream
    site.kill("gateway")
    site.wait_until(text.has_ended, seconds=30)
    site.start()

    assert (text.hold.state, text.hold.failure) == ("voided", "platform_error")
    site.settle()
    assert budgets.wallet(payer).posted == budgets.wallet(payer).held == 0

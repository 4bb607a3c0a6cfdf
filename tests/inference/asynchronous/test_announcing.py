"""Webhooks of predictions: made once per end, and the end depends on none of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accounts.models import Organization
from inference.asynchronous import announcing, endings, running
from inference.asynchronous.wishes import Wish
from inference.errors import WebhookUrlError
from inference.models import WebhookDelivery, WebhookEndpoint
from tests import factories
from tests.inference.asynchronous.conftest import Accept


def listen(organization: Organization, **fields: Any) -> WebhookEndpoint:
    fields.setdefault("url", "https://example.com/hook")
    return WebhookEndpoint.objects.create(organization=organization, secret="sealed", **fields)


def test_each_end_is_announced_once_to_those_who_listen(
    accept: Accept, organization: Organization
) -> None:
    listen(organization, events=["prediction.completed"])
    listen(organization, events=["budget.alert"], url="https://example.com/other")
    done = accept()
    running.run_next("w1")
    canceled = accept()
    endings.cancel(canceled)
    accept()

    assert [announcing.announce() for _ in range(2)] == [2, 0]

    sent = {one.event_id: json.loads(one.payload) for one in WebhookDelivery.objects.all()}
    assert sent.keys() == {f"evt_prediction_{one.hold_id}" for one in (done, canceled)}
    data = sent[f"evt_prediction_{done.hold_id}"]["data"]
    assert (data["status"], data["output"]["label"]) == ("succeeded", "3")
    assert sent[f"evt_prediction_{canceled.hold_id}"]["data"]["status"] == "canceled"


def test_the_webhook_that_is_named_is_told_and_no_other(
    accept: Accept, organization: Organization
) -> None:
    named = listen(organization, events=["budget.alert"])
    listen(organization, url="https://example.com/all")
    endings.cancel(accept(Wish(0, "respond-async", webhook=named.url)))

    announcing.announce()

    assert WebhookDelivery.objects.get().endpoint == named


def test_a_webhook_must_be_ones_own(accept: Accept, organization: Organization) -> None:
    other = listen(factories.make_organization())

    with pytest.raises(WebhookUrlError):
        accept(Wish(0, "respond-async", webhook=other.url))


def test_who_listens_to_nothing_costs_no_work(accept: Accept) -> None:
    endings.cancel(accept())

    assert [announcing.announce() for _ in range(2)] == [1, 0]
    assert not WebhookDelivery.objects.exists()

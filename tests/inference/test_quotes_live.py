"""The header Mercato-Quote through the hot door, and prices that change while calls run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from billing.models import Hold, Quote
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from tests.live import Site


@pytest.fixture
def version(site: Site) -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def organization(site: Site) -> Organization:
    return factories.make_organization()


@pytest.fixture
def secret(organization: Organization) -> str:
    return factories.make_key(organization)[1]


def quote(site: Site, secret: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = site.client.post(
        "/v1/quotes", json=body, headers={"Authorization": f"Bearer {secret}"}
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_call_with_a_quote_costs_what_was_promised_and_the_next_one_the_new_price(
    site: Site, version: ModelVersion, secret: str
) -> None:
    """Invariant 18: a price that changes after the promise does not alter what it costs."""
    image = {"image": factories.image()}
    promised = quote(site, secret, {"model": version.model.path, "input": image})
    prices.add(model=version.model, components={"row": (50_000, 1)})
    body = factories.body(version)

    kept = site.predict(secret, body, **{"Mercato-Quote": promised["id"]})
    again = site.predict(secret, body, **{"Mercato-Quote": promised["id"]})

    assert (kept.status_code, kept.headers["Mercato-Cost"]) == (200, "0.00002")
    assert kept.headers["Mercato-Cost"] == promised["amount"]
    assert kept.json()["cost"]["price_version"] == promised["price_version"]
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "quote_not_valid"
    assert Quote.objects.get(pk=promised["id"]).hold == Hold.objects.get()


def test_a_quote_is_refused_for_more_rows_and_for_strangers(
    site: Site, version: ModelVersion, secret: str
) -> None:
    promised = quote(site, secret, {"model": version.path, "rows": 1})
    two = b'{"model": "%s", "input": {"image": [%s, %s]}}' % (
        version.path.encode(),
        *[str(factories.image()).encode()] * 2,
    )
    _, stranger = factories.make_key(factories.make_organization())

    for who, body, text in (
        (secret, two, "at most 1 of row"),
        (stranger, factories.body(version), "no such quote"),
        (secret, factories.body(factories.make_version()), "another version"),
    ):
        answer = site.predict(who, body, **{"Mercato-Quote": promised["id"]})
        assert answer.status_code == 409
        assert text in answer.json()["error"]["message"]
    assert not Hold.objects.exists()


def test_a_repeat_with_a_quote_gives_the_first_answer(
    site: Site, version: ModelVersion, secret: str
) -> None:
    promised = quote(site, secret, {"model": version.path, "rows": 1})
    headers = {"Mercato-Quote": promised["id"], "Idempotency-Key": "once"}

    first, second = (site.predict(secret, factories.body(version), **headers) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["Idempotent-Replayed"] == "true"


def test_a_scheduled_price_begins_in_a_gateway_that_remembers_the_old_one(
    site: Site, version: ModelVersion, secret: str
) -> None:
    """Invariant 24: each call is charged by the price of the instant it was accepted at."""
    begins = timezone.now() + timedelta(seconds=1.5)
    new = prices.add(model=version.model, components={"row": (50_000, 1)}, effective_from=begins)
    body = factories.body(version)

    site.wait_until(
        lambda: site.predict(secret, body).headers["Mercato-Cost"] == "0.00005", seconds=20
    )

    holds = list(Hold.objects.order_by("accepted_at"))
    assert len(holds) > 1
    for hold in holds:
        assert (hold.price_version_id == new.pk) == (hold.accepted_at >= begins)

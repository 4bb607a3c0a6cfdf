"""Caps over HTTP, through the hot door."""

from __future__ import annotations

from billing import budgets
from billing.models import BudgetAlert
from tests import factories
from tests.live import Site


def test_a_prediction_says_what_is_left_and_a_refusal_which_cap_it_was(site: Site) -> None:
    organization = factories.make_organization()
    key, secret = factories.make_key(organization)
    version = factories.make_version()
    budgets.set_limit(organization, "day", 1, unit="calls", api_key=key)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}

    first = site.client.post("/v1/predictions", content=factories.body(version), headers=headers)
    second = site.client.post("/v1/predictions", content=factories.body(version), headers=headers)
    budget = site.client.get("/v1/budgets", params={"key": key.pk}, headers=headers)

    assert first.status_code == 200
    assert first.headers["RateLimit"].startswith('"key-day-calls";r=0;t=')
    assert first.headers["RateLimit-Policy"] == '"key-day-calls";q=1;w=86400'
    assert '"wallet";r="4.99998"' in first.headers["Mercato-Budget"]
    assert second.status_code == 402
    assert second.json()["error"]["code"] == "cap_reached"
    assert "key-day-calls" in second.json()["error"]["message"]
    assert second.headers["RateLimit"].startswith('"key-day-calls";r=0;t=')
    assert int(second.headers["Retry-After"]) > 0
    [state] = budget.json()["data"]
    assert (state["limit"], state["left"], state["used"] + state["held"]) == (1, 0, 1)
    assert BudgetAlert.objects.get().was_refused

"""Limits over HTTP: two gateway processes, one limit, real workers."""

from __future__ import annotations

from collections import Counter

from accounts import limits
from accounts.limits import Unit
from billing.models import Hold
from tests import factories
from tests.inference.test_money_live import calls
from tests.live import Site


def test_two_gateways_let_through_exactly_the_limit_and_429_holds_no_money(site: Site) -> None:
    organization = factories.make_organization()
    key, secret = factories.make_key(organization)
    version = factories.make_version()
    limits.set_of_organization(organization, {Unit.REQUESTS: 60}, actor=None, reason="test")
    limits.set_of_key(key, {Unit.CONCURRENCY: 60})

    responses = calls(site, secret, factories.body(version), 200)

    assert Counter(response.status_code for response in responses) == {200: 60, 429: 140}
    assert Hold.objects.filter(organization=organization).count() == 60
    refused = next(one for one in responses if one.status_code == 429)
    assert refused.json()["error"]["code"] == "rate_limited"
    assert "organization-requests is 60 requests per minute" in refused.json()["error"]["message"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    assert '"organization-requests";r=0;t=' in refused.headers["RateLimit"]
    assert '"organization-requests";q=60;w=60' in refused.headers["RateLimit-Policy"]
    admitted = next(one for one in responses if one.status_code == 200)
    assert admitted.headers["RateLimit-Policy"] == (
        '"key-concurrency";q=60;qu="concurrent-requests", "organization-requests";q=60;w=60'
    )
    assert admitted.headers["x-ratelimit-limit-requests"] == "60"
    state = site.client.get("/v1/limits", headers={"Authorization": f"Bearer {secret}"}).json()
    assert [(each["name"], each["used"]) for each in state["data"]] == [
        ("key-concurrency", 0),
        ("organization-requests", 60),
    ]


def test_rows_are_counted_and_money_comes_after(site: Site) -> None:
    """Without money the answer stays 402; with too many rows it is never let through."""
    organization = factories.make_organization(credit_nanos=0)
    key, secret = factories.make_key(organization)
    version = factories.make_version()
    limits.set_of_key(key, {Unit.ROWS: 3})
    rows = [factories.image(3)]

    def predict(number: int) -> tuple[int, str]:
        answer = site.client.post(
            f"/v1/models/{version.model.path}:predict",
            json={"instances": rows * number},
            headers={"Authorization": f"Bearer {secret}"},
        )
        return answer.status_code, answer.json()["error"]["code"]

    assert predict(4) == (413, "too_many_rows")
    assert predict(2) == (402, "insufficient_credit")
    assert predict(2) == (429, "rate_limited")
    assert predict(1) == (402, "insufficient_credit")

"""Budgets as people and programs see them; nothing stops loading when a cap is reached."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from django.test import Client

from accounts.models import AuditEntry, Membership, Organization
from billing import alerts, budgets, credit, settlement, windows
from billing.errors import CapReachedError
from billing.models import BalanceWatch, BudgetAlert, SpendLimit
from catalog.models import ModelVersion
from tests.billing.calls import reserve, succeed
from tests.factories import make_key, make_organization, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
Page = Callable[[str], str]


@pytest.fixture
def developer(client: Client, organization: Organization) -> Client:
    person = make_user("developer@example.com")
    role = Membership.Role.DEVELOPER
    Membership.objects.create(organization=organization, user=person, role=role)
    client.force_login(person)
    return client


class Api:
    """The API with a key."""

    def __init__(self, client: Client, organization: Organization, scopes: list[str]) -> None:
        self.key, secret = make_key(organization, name="robot", scopes=scopes)
        self._client = client
        self._headers = {"Authorization": f"Bearer {secret}"}

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        answer = self._client.generic(
            method,
            path,
            data=b"" if body is None else orjson.dumps(body),
            content_type="application/json",
            headers=self._headers,
        )
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
def api(client: Client, organization: Organization) -> Api:
    return Api(client, organization, ["read", "billing"])


# The page ----------------------------------------------------------------------------------


def test_an_owner_sets_and_removes_budgets_in_money_and_in_calls(
    client: Client, page: Page, organization: Organization
) -> None:
    key, _ = make_key(organization, name="ci")

    for key_id, window, unit, amount in [
        ("", "day", "money", "2.50"),
        (key.pk, "lifetime", "calls", "1000"),
    ]:
        data = {"key": key_id, "window": window, "unit": unit, "amount": amount}
        assert client.post("/console/budgets/set", data).headers["Location"] == "/console/budgets"

    shown = page("/console/budgets")
    for text in [
        "$0.00 of $2.50",
        "0 calls of 1000 calls",
        "organization-day",
        "key-lifetime-call",
    ]:
        assert text in shown
    removed = {"key": key.pk, "window": "lifetime", "unit": "calls"}
    assert client.post("/console/budgets/remove", removed).status_code == 302
    assert "1000 calls" not in page("/console/budgets")
    assert budgets.limits(organization, key) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": ""},
        {"amount": "lots"},
        {"amount": "-1"},
        {"unit": "calls", "amount": "1.5"},
        {"unit": "calls", "amount": "99999999999999"},
        {"unit": "cats"},
        {"window": "week"},
        {"key": "999999"},
        {"key": "x"},
    ],
)
def test_a_wrong_budget_is_refused_and_changes_nothing(
    client: Client, page: Page, organization: Organization, wrong: dict[str, str]
) -> None:
    data = {"key": "", "window": "day", "unit": "money", "amount": "1"} | wrong

    assert client.post("/console/budgets/set", data).status_code == 422
    assert not SpendLimit.objects.filter(organization=organization, window="day").exists()


def test_another_tenants_key_cannot_be_given_a_budget(
    client: Client, page: Page, organization: Organization
) -> None:
    theirs, _ = make_key(make_organization())
    data = {"key": theirs.pk, "window": "day", "unit": "money", "amount": "1"}

    assert client.post("/console/budgets/set", data).status_code == 422
    client.post("/console/budgets/remove", data)

    assert not SpendLimit.objects.filter(api_key=theirs).exists()


@pytest.mark.parametrize("path", ["set", "remove", "low-balance"])
def test_only_an_owner_changes_budgets(developer: Client, path: str) -> None:
    data = {"window": "day", "unit": "money", "amount": "1", "threshold": "1"}

    assert developer.post(f"/console/budgets/{path}", data).status_code == 403
    assert developer.get("/console/budgets").status_code == 200
    assert not BalanceWatch.objects.exists()


def test_a_key_shows_all_budgets_that_bind_it(page: Page, organization: Organization) -> None:
    key, _ = make_key(organization)
    budgets.set_limit(organization, "day", 5, unit="calls", api_key=key)
    budgets.set_limit(organization, "lifetime", 7 * 10**9)

    shown = page(f"/console/keys/{key.pk}")

    assert "0 calls of 5 calls" in shown
    assert "$0.00 of $7.00" in shown


def test_the_list_of_keys_shows_money_as_money(page: Page, organization: Organization) -> None:
    key, _ = make_key(organization)
    budgets.set_limit(organization, "month", 5, unit="calls", api_key=key)
    budgets.set_limit(organization, "month", 7 * 10**9, api_key=key)

    assert "/ $7.00" in page("/console/keys")


def test_the_balance_says_what_each_limit_counts(api: Api, organization: Organization) -> None:
    budgets.set_limit(organization, "day", 5, unit="calls")

    limits = api("GET", "/v1/balance")[1]["limits"]

    assert {"window": "day", "unit": "calls", "amount": 5, "available": 5} in limits
    assert {"window": "month", "unit": "money", "amount": "100", "available": "100"} in limits


def test_the_low_balance_is_set_and_turned_off(
    client: Client, page: Page, organization: Organization
) -> None:
    client.post("/console/budgets/low-balance", {"threshold": "1.5"})
    assert BalanceWatch.objects.get().threshold_nanos == 1_500_000_000
    assert 'value="1.5"' in page("/console/budgets")

    client.post("/console/budgets/low-balance", {"threshold": ""})
    assert not BalanceWatch.objects.exists()


def test_the_page_takes_as_many_queries_for_one_budget_as_for_twenty(
    page: Page, organization: Organization, count_queries: Any
) -> None:
    first, _ = make_key(organization)
    budgets.set_limit(organization, "day", 5, unit="calls", api_key=first)
    page("/console/budgets")  # gives the organization the site's limit
    for_one = count_queries(lambda: page("/console/budgets"))
    for number in range(19):
        key, _ = make_key(organization, name=f"key {number}")
        budgets.set_limit(organization, "day", 5, unit="calls", api_key=key)

    assert count_queries(lambda: page("/console/budgets")) == for_one


def test_a_forecast_goes_on_as_the_window_began(organization: Organization) -> None:
    rule = budgets.set_limit(organization, "month", 10**12)
    noon = datetime(2026, 11, 16, tzinfo=UTC)
    row = budgets.current(organization, rule, noon)
    row.spent_before = 3_000
    row.save()

    cap = windows.Running(organization, at=noon).cap(rule)

    assert (cap.used, cap.forecast) == (3_000, 6_000)  # half of November's thirty days
    assert cap.opens_at == datetime(2026, 12, 1, tzinfo=UTC)


# Over every cap ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize(
    "address",
    [
        "/console",
        "/console/keys",
        "/console/keys/{key}",
        "/console/usage",
        "/console/usage.csv",
        "/console/balance",
        "/console/budgets",
        "/console/trainings",
        "/console/webhooks",
    ],
)
def test_every_page_loads_when_every_cap_is_reached(
    client: Client,
    page: Page,
    organization: Organization,
    version: ModelVersion,
    address: str,
    is_frozen: bool,
) -> None:
    key = reach_every_cap(organization, version, is_frozen=is_frozen)

    assert client.get(address.format(key=key.pk)).status_code == 200


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/balance",
        "/v1/balance/alert",
        "/v1/budgets",
        "/v1/budgets/alerts",
        "/v1/usage",
        "/v1/webhooks",
        "/v1/trainings",
        "/v1/models",
    ],
)
def test_every_get_answers_when_every_cap_is_reached(
    api: Api, organization: Organization, version: ModelVersion, path: str, is_frozen: bool
) -> None:
    reach_every_cap(organization, version, is_frozen=is_frozen)

    assert api("GET", path)[0] == 200


def reach_every_cap(organization: Organization, version: ModelVersion, *, is_frozen: bool) -> Any:
    key, _ = make_key(organization)
    succeed(organization, version, key=key)
    for window in SpendLimit.Window.values:
        for unit, amount in [("money", 20_000), ("calls", 1)]:
            budgets.set_limit(organization, window, amount, unit=unit)
            budgets.set_limit(organization, window, amount, unit=unit, api_key=key)
    settlement.settle()
    budgets._cache.clear()
    with pytest.raises(CapReachedError):
        reserve(organization, version, key=key)
    # Lowered below what was used: nothing may be negative on a page.
    budgets.set_limit(organization, "day", 1, api_key=key)
    credit.take(organization, 5 * 10**9 - 20_000, external_ref="all", reason="all of it")
    organization.is_frozen = is_frozen
    organization.save()
    return key


# The API -----------------------------------------------------------------------------------


def test_a_budget_is_set_read_and_removed(api: Api, organization: Organization) -> None:
    made = {"window": "day", "unit": "calls", "limit": 100, "key": api.key.pk}

    status, said = api("PUT", "/v1/budgets", made)

    assert status == 200
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert said == {
        "object": "budget",
        "name": "key-day-calls",
        "key": {"id": api.key.pk, "name": "robot"},
        "window": "day",
        "unit": "calls",
        "limit": 100,
        "used": 0,
        "held": 0,
        "left": 100,
        "forecast": 0,
        "opens_at": f"{tomorrow}T00:00:00+00:00",
        "reached": [],
    }
    listed = api("GET", f"/v1/budgets?key={api.key.pk}")[1]
    assert listed["data"] == [said]
    names = {cap["name"] for cap in api("GET", "/v1/budgets")[1]["data"]}
    assert names == {"organization-month", "key-day-calls"}
    gone = f"/v1/budgets?window=day&unit=calls&key={api.key.pk}"
    assert api("DELETE", gone) == (204, None)
    assert api("DELETE", gone) == (204, None)
    assert api("GET", f"/v1/budgets?key={api.key.pk}")[1]["data"] == []
    deeds = AuditEntry.objects.filter(action="limit.set")
    assert {deed.actor_label for deed in deeds} == {f"key {api.key.pk}"}


def test_amounts_are_decimal_texts_and_the_state_is_exact(
    api: Api, organization: Organization, version: ModelVersion
) -> None:
    succeed(organization, version, rows=2)
    settlement.settle()
    reserve(organization, version)

    api("PUT", "/v1/budgets", {"window": "lifetime", "limit": "0.0001"})

    [cap] = [c for c in api("GET", "/v1/budgets")[1]["data"] if c["window"] == "lifetime"]
    # What was held when the cap was set counts as used before.
    assert (cap["limit"], cap["used"], cap["held"], cap["left"]) == (
        *("0.0001", "0.00006", "0", "0.00004"),
    )
    assert (cap["opens_at"], cap["forecast"]) == (None, None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"window": "week", "limit": "1"}, "window"),
        ({"limit": "1"}, "window"),
        ({"window": "day"}, "limit"),
        ({"window": "day", "limit": 1}, "limit"),
        ({"window": "day", "limit": "1e3"}, "limit"),
        ({"window": "day", "limit": "-1"}, "limit"),
        ({"window": "day", "unit": "calls", "limit": "1"}, "limit"),
        ({"window": "day", "unit": "calls", "limit": True}, "limit"),
        ({"window": "day", "unit": "calls", "limit": -1}, "limit"),
        ({"window": "day", "unit": 7, "limit": "1"}, "unit"),
        ({"window": "day", "limit": "1", "key": "1"}, "key"),
        ({"window": "day", "limit": "1", "per": "hour"}, "per"),
    ],
)
def test_a_wrong_field_is_named(api: Api, body: dict[str, Any], param: str) -> None:
    status, said = api("PUT", "/v1/budgets", body)

    assert (status, said["error"]["param"]) == (400, param)


def test_another_tenants_key_does_not_exist(api: Api) -> None:
    theirs, _ = make_key(make_organization())

    made = {"window": "day", "limit": "1", "key": theirs.pk}
    assert api("PUT", "/v1/budgets", made)[0] == 404
    assert api("GET", f"/v1/budgets?key={theirs.pk}")[0] == 404
    assert api("DELETE", f"/v1/budgets?window=day&key={theirs.pk}")[0] == 404


def test_a_key_without_the_scope_only_reads(client: Client, organization: Organization) -> None:
    reader = Api(client, organization, ["predict", "train", "read"])

    assert reader("GET", "/v1/budgets")[0] == 200
    assert reader("PUT", "/v1/budgets", {"window": "day", "limit": "1"})[0] == 403
    assert reader("DELETE", "/v1/budgets?window=month")[0] == 403
    assert reader("PUT", "/v1/balance/alert", {"threshold": "1"})[0] == 403


def test_alerts_are_listed_newest_first(
    api: Api, organization: Organization, version: ModelVersion
) -> None:
    budgets.set_limit(organization, "month", 100_000)
    succeed(organization, version, rows=4)
    settlement.settle()

    status, said = api("GET", "/v1/budgets/alerts")

    assert status == 200
    assert [(one["percent"], one["used"], one["limit"]) for one in said["data"]] == [
        (80, "0.00008", "0.0001"),
        (50, "0.00008", "0.0001"),
    ]
    assert BudgetAlert.objects.count() == 2
    assert list(alerts.of(make_organization())) == []


def test_the_low_balance_is_set_by_the_api(api: Api) -> None:
    assert api("GET", "/v1/balance/alert")[1]["threshold"] is None
    assert api("PUT", "/v1/balance/alert", {"threshold": "2"})[1]["threshold"] == "2"
    assert api("GET", "/v1/balance/alert")[1]["threshold"] == "2"
    assert api("PUT", "/v1/balance/alert", {"threshold": None})[1]["threshold"] is None
    assert api("PUT", "/v1/balance/alert", {})[0] == 400
    assert not BalanceWatch.objects.exists()

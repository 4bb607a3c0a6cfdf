from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client
from django.utils import timezone

from accounts import organizations
from accounts.models import Organization, User
from billing import budgets, credit, settlement
from catalog.models import ModelVersion
from tests.billing.calls import fail, reserve, succeed
from tests.factories import make_key, make_organization, make_user, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]


# Usage -------------------------------------------------------------------------------------


def test_a_call_shows_model_key_rows_latency_and_exact_cost(
    page: Callable[[str], str], organization: Organization, version: ModelVersion
) -> None:
    key, _secret = make_key(organization, name="production")
    hold_id = succeed(organization, version, key=key, rows=3)

    shown = page("/console/usage")

    for text in [f"production …{key.last4}", "3.4 ms", "$0.00006<", "Succeeded", str(hold_id)]:
        assert text in shown
    assert version.model.name in shown


def test_a_failed_call_is_shown_with_its_reason_and_costs_nothing(
    page: Callable[[str], str], organization: Organization, version: ModelVersion
) -> None:
    fail(organization, version, "model_error")

    shown = page("/console/usage?outcome=failed")

    assert "The model failed" in shown
    assert "$0.00<" in shown
    assert "0 % succeeded" in shown


def test_a_running_call_shows_what_is_held(
    page: Callable[[str], str], organization: Organization, version: ModelVersion
) -> None:
    reserve(organization, version, rows=2)

    assert "$0.00004 held" in page("/console/usage?outcome=open")


def test_another_tenants_calls_are_not_shown(
    client: Client, page: Callable[[str], str], version: ModelVersion
) -> None:
    hold_id = succeed(make_organization(), version)

    assert "No calls in this period" in page("/console/usage")
    assert client.get(f"/console/usage/{hold_id}").status_code == 404


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 3),
        ("?model=lab/digits", 2),
        ("?model=lab/other", 1),
        ("?model=nobody/digits", 0),
        ("?key=web", 2),
        ("?key=training", 0),
        ("?key={key}", 1),
        ("?key=99999999999999999999", 0),
        ("?key=nonsense", 0),
        ("?outcome=succeeded", 2),
        ("?outcome=failed", 1),
        ("?start={today}&end={today}", 2),
        ("?start={old}&end={old}", 1),
        ("?start={today}&end={old}", 0),
        ("?start=nonsense", 0),
    ],
)
def test_usage_is_filtered_by_the_address(
    client: Client, page: Callable[[str], str], organization: Organization, query: str, count: int
) -> None:
    seller = make_organization(slug="lab", credit_nanos=0)
    digits = make_version(owner=seller, name="digits")
    key, _secret = make_key(organization)
    now = timezone.now()
    succeed(organization, digits, at=now - timedelta(days=3))
    succeed(organization, digits, key=key)
    fail(organization, make_version(owner=seller, name="other"))
    old = (now - timedelta(days=3)).date()
    address = "/console/usage" + query.format(key=key.pk, today=now.date(), old=old)

    answer = client.get(address)

    assert answer.status_code == 200
    assert len(answer.context["calls"]) == answer.context["totals"].calls == count


def test_totals_are_exact_and_pages_follow_one_another(
    client: Client,
    page: Callable[[str], str],
    organization: Organization,
    version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("billing.views.usage.PAGE_SIZE", 2)
    made = {succeed(organization, version) for _ in range(5)}

    seen, query = [], ""
    for _ in range(3):
        answer = client.get(f"/console/usage?{query}")
        assert answer.context["totals"].cost_nanos == 100_000
        seen += [call.hold_id for call in answer.context["calls"]]
        query = answer.context["older"]

    assert set(seen) == made
    assert len(seen) == 5
    assert query == ""


@pytest.mark.parametrize(
    ("query", "spent"),
    [
        ("", [("old", 1, 20_000), ("today", 2, 20_000 + 60_000)]),
        ("?key={key}", [("today", 1, 60_000)]),
        ("?key=web", [("old", 1, 20_000), ("today", 1, 20_000)]),
        ("?key=training", []),
        ("?key=nonsense", []),
        ("?model=lab/digits", [("old", 1, 20_000), ("today", 2, 20_000 + 60_000)]),
        ("?model=lab/other", []),
        ("?outcome=failed", []),
        ("?start={today}", [("today", 2, 20_000 + 60_000)]),
    ],
)
def test_the_chart_shows_what_each_day_of_the_filter_cost(
    client: Client,
    page: Callable[[str], str],
    organization: Organization,
    query: str,
    spent: list[tuple[str, int, int]],
) -> None:
    seller = make_organization(slug="lab", credit_nanos=0)
    digits = make_version(owner=seller, name="digits")
    key, _secret = make_key(organization)
    now = timezone.now()
    days = {"today": now.date(), "old": (now - timedelta(days=3)).date()}
    succeed(organization, digits, at=now - timedelta(days=3))
    succeed(organization, digits)
    succeed(organization, digits, key=key, rows=3)
    fail(organization, digits)
    settlement.settle()

    shown = client.get("/console/usage" + query.format(key=key.pk, **days)).context["days"]

    assert [line for line in shown if line[1]] == [(days[day], *rest) for day, *rest in spent]


def test_usage_takes_as_many_queries_for_one_call_as_for_thirty(
    page: Callable[[str], str],
    organization: Organization,
    version: ModelVersion,
    count_queries: Any,
) -> None:
    key, _secret = make_key(organization)
    succeed(organization, version, key=key)
    settlement.settle()
    for_one = count_queries(lambda: page("/console/usage"))
    for _ in range(29):
        succeed(organization, version, key=key)

    assert count_queries(lambda: page("/console/usage")) == for_one <= 14


def test_a_receipt_explains_the_charge(
    page: Callable[[str], str], organization: Organization, version: ModelVersion
) -> None:
    hold_id = succeed(organization, version, rows=3)

    shown = page(f"/console/usage/{hold_id}")

    for text in ["$0.00002 / row", "3 rows", "waited 0.4 ms, ran 3.0 ms", "$0.00006<"]:
        assert text in shown


def test_csv_has_every_call_of_the_filter(
    async_client: AsyncClient,
    owner: User,
    organization: Organization,
    version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("billing.exports.BATCH", 2)
    key, _secret = make_key(organization, name="=cmd")
    made = {str(succeed(organization, version, key=key)) for _ in range(5)}
    fail(organization, version)
    async_client.force_login(owner)

    rows = async_to_sync(read_csv)(async_client, f"/console/usage.csv?key={key.pk}")

    assert rows[0][:3] == ["when", "model", "source"]
    assert {row[9] for row in rows[1:]} == made
    assert {row[8] for row in rows[1:]} == {"0.00002"}
    # A spreadsheet must not run a name.
    assert {row[3] for row in rows[1:]} == {f"'=cmd …{key.last4}"}


async def read_csv(client: AsyncClient, address: str) -> list[list[str]]:
    answer = await client.get(address)
    assert answer.status_code == 200
    parts = [part.decode() async for part in answer]  # type: ignore[attr-defined]  # streams
    return list(csv.reader(io.StringIO("".join(parts))))


# Balance -----------------------------------------------------------------------------------


def test_the_ledger_shows_credit_and_a_days_charges_with_the_balance_after_each(
    client: Client, page: Callable[[str], str], organization: Organization, version: ModelVersion
) -> None:
    credit.grant(organization, 1_000_000_001, external_ref="more", reason="Voucher")
    for _ in range(3):
        succeed(organization, version)
        settlement.settle()

    lines = client.get("/console/balance").context["lines"]

    assert [(line.kind, line.calls, line.amount_nanos, line.balance_nanos) for line in lines] == [
        ("usage", 3, -60_000, 5_999_940_001),
        ("credit_granted", 0, 1_000_000_001, 6_000_000_001),
        ("credit_granted", 0, 5_000_000_000, 5_000_000_000),
    ]
    shown = page("/console/balance")
    for text in ["$5.999940001", "+$1.000000001", "−$0.00006<", "Voucher"]:
        assert text in shown


def test_another_tenants_ledger_is_not_shown(client: Client, page: Callable[[str], str]) -> None:
    credit.grant(make_organization(), 7, external_ref="theirs", reason="Secret reason")

    assert "Secret reason" not in page("/console/balance")


def test_the_monthly_limit_is_set_and_says_what_is_used(
    client: Client, page: Callable[[str], str], organization: Organization, version: ModelVersion
) -> None:
    succeed(organization, version)
    settlement.settle()

    answer = client.post("/console/balance/limit", {"amount": "$12.5"})

    assert answer.headers["Location"] == "/console/budgets"
    assert budgets.limits(organization)[0].amount == 12_500_000_000
    for address in ["/console/budgets", "/console/balance"]:
        assert "$0.00002 of $12.50" in page(address)


@pytest.mark.parametrize("amount", ["", "lots", "-5", "1e3", "99999999"])
def test_a_wrong_limit_is_refused_and_changes_nothing(
    client: Client, page: Callable[[str], str], organization: Organization, amount: str
) -> None:
    before = budgets.limits(organization)[0].amount

    answer = client.post("/console/balance/limit", {"amount": amount})

    assert answer.status_code == 422
    assert budgets.limits(organization)[0].amount == before


@pytest.mark.parametrize("address", ["/console", "/console/keys", "/console/usage"])
def test_a_visitor_is_sent_to_sign_in(client: Client, address: str) -> None:
    answer = client.get(address)

    assert answer.headers["Location"] == f"/accounts/login/?next={address}"


def test_a_person_without_an_organization_is_told_what_is_missing(client: Client) -> None:
    client.force_login(make_user())

    answer = client.get("/console/keys")

    assert answer.status_code == 403
    assert "You do not belong to an organization yet" in answer.content.decode()


def test_the_personal_organization_comes_first(client: Client) -> None:
    person = make_user()
    make_organization(owner=person, slug="aaa")
    organizations.create("zzz", "Zzz", owner=person, personal=True)
    client.force_login(person)

    answer = client.get("/console/keys")

    assert answer.wsgi_request.organization.slug == "zzz"  # type: ignore[attr-defined]

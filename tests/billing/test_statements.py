from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from billing import credit, settlement, statements
from catalog.models import ModelVersion
from tests.billing.calls import fail, succeed
from tests.factories import make_key, make_organization, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
TODAY = "{today}"


def today() -> date:
    return timezone.now().astimezone(UTC).date()


@pytest.fixture
def read(client: Client, organization: Organization) -> Callable[..., Any]:
    """Read from the API with a real key."""
    _key, secret = make_key(organization)

    def get(path: str, status: int = 200) -> Any:
        answer = client.get(path, headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == status, answer.content
        return answer.json()

    return get


def rows_of(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode())))


# Statements ---------------------------------------------------------------------------------


def test_a_statement_begins_and_ends_where_the_ledger_does(
    organization: Organization, version: ModelVersion
) -> None:
    succeed(organization, version, rows=3)
    settlement.settle()
    credit.take(organization, 1_000, external_ref="back", reason="A mistake")

    now = statements.of_period(organization, today(), today())
    before = statements.of_period(
        organization, today() - timedelta(days=9), today() - timedelta(days=1)
    )
    after = statements.of_period(
        organization, today() + timedelta(days=1), today() + timedelta(days=2)
    )

    assert (before.opening_nanos, before.lines, before.closing_nanos) == (0, [], 0)
    assert [line.kind for line in now.lines] == ["credit_granted", "credit_taken", "usage"]
    assert now.lines[-1].balance_nanos == now.closing_nanos == 4_999_939_000
    assert now.credited_nanos - now.charged_nanos == now.closing_nanos
    assert after.opening_nanos == after.closing_nanos == now.closing_nanos


def test_the_page_and_its_csv_say_the_same(
    client: Client, page: Callable[..., str], organization: Organization, version: ModelVersion
) -> None:
    credit.grant(organization, 7, external_ref="odd", reason="=1+1")
    succeed(organization, version)
    settlement.settle()
    query = f"start={today()}&end={today()}"

    shown = page(f"/console/statement?{query}")
    rows = rows_of(client.get(f"/console/statement.csv?{query}").content)

    for text in ["$4.999980007", "$0.00002", "Statement"]:
        assert text in shown
    assert [row[1] for row in rows[1:]] == [
        *("opening", "credit_granted", "credit_granted", "usage"),
        *("credited", "charged", "closing"),
    ]
    assert rows[3][2] == "'=1+1"
    assert rows[-1][5] == "4.999980007"


@pytest.mark.parametrize(
    "query", ["start=nonsense", "start=2026-02-01&end=2026-01-01", "start=2020-01-01"]
)
def test_a_wrong_period_is_explained(client: Client, page: Callable[..., str], query: str) -> None:
    assert "field-error" in page(f"/console/statement?{query}")
    assert client.get(f"/console/statement.csv?{query}").status_code == 400


def test_the_api_has_the_statement(
    read: Callable[..., Any], organization: Organization, version: ModelVersion
) -> None:
    succeed(organization, version)
    settlement.settle()

    said = read("/v1/statement")

    assert said["start"] == f"{today().replace(day=1)}"
    assert (said["opening"], said["credited"]) == ("0", "5")
    assert (said["charged"], said["closing"]) == ("0.00002", "4.99998")
    assert [line["kind"] for line in said["lines"]] == ["credit_granted", "usage"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("from=2026-01-01", "unknown_field"),
        ("start=2026-13-01", "invalid_request"),
        ("start=2026-01-01&end=2025-01-01", "invalid_request"),
        ("start=2020-01-01&end=2025-01-01", "invalid_request"),
        ("start=0001-01-01", "invalid_request"),
    ],
)
def test_the_api_refuses_a_wrong_period(read: Callable[..., Any], query: str, code: str) -> None:
    assert read(f"/v1/statement?{query}", status=400)["error"]["code"] == code


def test_another_tenants_statement_is_not_shown(
    page: Callable[..., str], read: Callable[..., Any]
) -> None:
    """Invariant 35: a statement has only the organization's own accounts."""
    credit.grant(make_organization(), 7, external_ref="theirs", reason="Secret reason")

    assert "Secret reason" not in page("/console/statement")
    assert len(read("/v1/statement")["lines"]) == 1


# Usage by group -----------------------------------------------------------------------------


@pytest.fixture
def used(organization: Organization) -> Organization:
    seller = make_organization(slug="lab", credit_nanos=0)
    digits = make_version(owner=seller, name="digits")
    key, _secret = make_key(organization, name="production")
    succeed(organization, digits, key=key, rows=3)
    succeed(organization, digits, at=timezone.now() - timedelta(days=3))
    succeed(organization, make_version(owner=seller, name="other"), rows=4)
    fail(organization, digits)
    settlement.settle()
    return organization


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("group=model", [("lab/digits", 2, 80_000), ("lab/other", 1, 80_000)]),
        ("group=key", [("Browser", 2, 100_000), ("production", 1, 60_000)]),
        ("group=day", [(TODAY, 2, 140_000), ("old", 1, 20_000)]),
        (
            "group=outcome",
            [("Succeeded", 3, 160_000), ("The model failed", 1, 0)],
        ),
        ("group=model&outcome=failed", [("lab/digits", 1, 0)]),
        ("group=model&model=lab/other", [("lab/other", 1, 80_000)]),
        ("group=nonsense", []),
    ],
)
def test_usage_is_summed_by_what_the_address_asks(
    client: Client,
    page: Callable[..., str],
    used: Organization,
    query: str,
    expected: list[tuple[str, int, int]],
) -> None:
    page("/console/usage")
    days = {TODAY: f"{today()}", "old": f"{today() - timedelta(days=3)}"}

    groups = client.get(f"/console/usage?{query}").context["groups"]

    assert [
        (group.label.partition(" (")[0], group.calls, group.cost_nanos) for group in groups
    ] == [(days.get(label, label), calls, cost) for label, calls, cost in expected]


def test_the_sums_come_as_csv(client: Client, page: Callable[..., str], used: Organization) -> None:
    page("/console/usage?group=model")

    rows = rows_of(client.get("/console/usage/groups.csv?group=model").content)

    assert rows == [
        ["model", "calls", "rows", "compute_ms", "cost_usd"],
        ["lab/digits", "2", "4", "0", "0.00008"],
        ["lab/other", "1", "4", "0", "0.00008"],
    ]
    assert client.get("/console/usage/groups.csv?group=nonsense").status_code == 400


@pytest.mark.parametrize("group", ["model", "key", "day"])
def test_sums_take_as_many_queries_for_one_call_as_for_twenty(
    page: Callable[..., str], used: Organization, count_queries: Any, group: str
) -> None:
    for_few = count_queries(lambda: page(f"/console/usage?group={group}"))
    version = make_version()
    for _ in range(10):
        succeed(used, version)
    settlement.settle()

    assert count_queries(lambda: page(f"/console/usage?group={group}")) == for_few <= 17


def test_usage_loads_when_nothing_may_be_spent_any_more(
    page: Callable[..., str], read: Callable[..., Any], used: Organization
) -> None:
    hold_id = succeed(used, make_version())
    settlement.settle()
    credit.take(used, 6_000_000_000, external_ref="all", reason="Chargeback")
    Organization.objects.filter(pk=used.pk).update(is_frozen=True)

    for path in ("usage", "usage?group=model", "statement", f"usage/{hold_id}"):
        page(f"/console/{path}")
    assert read("/v1/usage")["data"]
    assert read("/v1/statement")["closing"].startswith("-1.")
    assert datetime.fromisoformat(read(f"/v1/receipts/{hold_id}")["created_at"])

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization, User
from billing import credit, journal, ledger, settlement, triggers
from billing.models import LedgerAccount, LedgerTransaction
from catalog.models import ModelVersion
from tests.billing.calls import succeed
from tests.factories import make_organization, make_user

pytestmark = pytest.mark.django_db
LIST = "/admin/billing/ledgertransaction/"


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture
def booked(organization: Organization, version: ModelVersion) -> LedgerTransaction:
    succeed(organization, version, rows=3)
    settlement.settle()
    return LedgerTransaction.objects.get(kind="settlement")


def test_the_trial_balance_sums_to_zero_at_the_end_of_any_day(
    client: Client, operator: User, booked: LedgerTransaction
) -> None:
    """Invariant 1: the trial balance is zero, on every day."""
    shown = client.get("/admin/billing/ledgeraccount/trial-balance/?verify=1").content.decode()

    for text in ["all entries sum to zero", "tenant:*:promo", "$4.99994", "Every chain holds"]:
        assert text in shown
    today = timezone.now().date()
    assert journal.trial_balance(today).is_balanced
    assert journal.trial_balance(today - timedelta(days=1)).rows == []
    client.get("/admin/billing/ledgeraccount/trial-balance/?until=nonsense")


def test_a_broken_chain_is_shown(client: Client, operator: User, booked: LedgerTransaction) -> None:
    with connection.cursor() as cursor:
        triggers.drop(connection, cursor)
        cursor.execute("UPDATE billing_ledgertransaction SET reason = 'forged'")

    shown = client.get("/admin/billing/ledgeraccount/trial-balance/?verify=1").content.decode()
    page = client.get(f"{LIST}{booked.pk}/change/").content.decode()

    assert f"transaction {booked.pk} does not continue book" in shown
    assert "Broken" in page


def test_an_accounts_statement_has_a_running_balance(
    client: Client,
    operator: User,
    organization: Organization,
    booked: LedgerTransaction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "PAGE", 1)
    code = ledger.PROMOTIONAL[0].format(organization.pk)
    account = LedgerAccount.objects.get(code=code)
    address = reverse("admin:billing_account_statement", args=[account.pk])

    first = client.get(address)
    second = client.get(f"{address}?before={first.context['following']}")

    assert [line.balance_nanos for line in first.context["lines"]] == [-4_999_940_000]
    assert [line.balance_nanos for line in second.context["lines"]] == [-5_000_000_000]
    assert second.context["following"] is None
    assert client.get("/admin/billing/ledgeraccount/999999/statement/").status_code == 404


def test_a_transaction_shows_its_place_in_the_chain_and_what_took_it_back(
    client: Client, operator: User, booked: LedgerTransaction
) -> None:
    after, _ = ledger.reverse(booked, kind="reversal", actor=operator, reason="wrong")

    shown = client.get(f"{LIST}{booked.pk}/change/").content.decode()
    other = client.get(f"{LIST}{after.pk}/change/").content.decode()

    for text in [booked.hash, booked.previous_hash, "Verified", f"{LIST}{after.pk}/change/"]:
        assert text in shown
    assert str(booked) in other


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ("kind:settlement", ["settlement"]),
        ("kind:settlement organization:nobody", []),
        ("amount:0.00006", ["settlement"]),
        ("amount:1..6", ["credit_granted"]),
        ("amount:..0.0001", ["credit_taken", "settlement"]),
        ("account:platform:revenue", ["settlement"]),
        ("actor:operator@example.com", ["credit_taken"]),
        ("from:2020-01-01 to:2020-12-31", []),
        ("from:2020-01-01", ["credit_granted", "credit_taken", "settlement"]),
        ("ref:goodwill", ["credit_taken"]),
        ("goodwill", ["credit_taken"]),
        ("{hash}", ["settlement"]),
        ("from:nonsense", []),
        ("amount:lots", []),
    ],
)
def test_transactions_are_found_by_what_an_operator_knows(
    client: Client,
    operator: User,
    organization: Organization,
    booked: LedgerTransaction,
    words: str,
    kinds: list[str],
) -> None:
    credit.take(organization, 7, external_ref="goodwill", reason="x", actor=operator)

    answer = client.get(LIST, {"q": words.format(hash=booked.hash)})

    assert sorted(row.kind for row in answer.context["cl"].queryset) == kinds


def test_a_period_is_exported_in_pieces(
    async_client: AsyncClient,
    organization: Organization,
    booked: LedgerTransaction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "BATCH", 1)
    credit.grant(make_organization(), 7, external_ref="formula", reason="=1+1")
    async_client.force_login(User.objects.create_superuser("operator@example.com"))

    rows = async_to_sync(_read)(async_client, f"{LIST}export.csv")

    assert rows[0] == journal.COLUMNS
    assert len({row[1] for row in rows[1:]}) == LedgerTransaction.objects.count()
    assert {row[6] for row in rows} >= {"'=1+1"}
    assert {row[8] for row in rows if row[4] == "settlement"} >= {"platform:revenue"}
    empty = async_to_sync(_read)(async_client, f"{LIST}export.csv?start=2020-01-01&end=2020-01-02")
    assert empty == [journal.COLUMNS]


async def _read(client: AsyncClient, address: str) -> list[list[str]]:
    answer = await client.get(address)
    assert answer.status_code == 200
    parts = [part.decode() async for part in answer]  # type: ignore[attr-defined]  # streams
    return list(csv.reader(io.StringIO("".join(parts))))


def test_who_may_not_see_the_ledger_sees_none_of_it(
    client: Client, booked: LedgerTransaction
) -> None:
    person = make_user("support@example.com", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_hold"))
    client.force_login(person)

    for address in (
        "/admin/billing/ledgeraccount/trial-balance/",
        f"/admin/billing/ledgeraccount/{LedgerAccount.objects.all()[0].pk}/statement/",
        f"{LIST}export.csv",
    ):
        assert client.get(address).status_code == 403

# ruff: noqa: S608  (tests corrupt rows with SQL of their own)
from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.utils import timezone

from accounts.errors import ConflictError
from accounts.models import AuditEntry, Organization, User
from billing import (
    budgets,
    invariants,
    ledger,
    meters,
    reconciliation,
    remedies,
    settlement,
    triggers,
)
from billing.models import (
    Finding,
    Hold,
    LedgerTransaction,
    ReconciliationRun,
    Wallet,
)
from billing.snapshots import one_snapshot
from catalog.models import ModelVersion
from tests.billing.calls import succeed
from tests.billing.reconciling import corrupt, fill, found
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_stripe")]
State = Finding.State


@pytest.fixture
def operator() -> User:
    return make_user("operator@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def world(organization: Organization, version: ModelVersion, operator: User) -> Organization:
    """An organization whose books have a little of everything."""
    fill(organization, version, operator)
    return organization


LIMIT = (
    "lock_rank = 2 AND organization_id = (SELECT id FROM accounts_organization WHERE slug = 'late')"
)
WALLET = LIMIT.replace("lock_rank = 2", "lock_rank = 3")
UNSETTLED = "SELECT id FROM billing_hold WHERE settlement_id IS NULL AND state = 'captured'"
FIRST = "SELECT MIN(id) FROM billing_settlement"
CORRUPTIONS = {
    "held": (f"UPDATE billing_budget SET held = held + 1 WHERE {LIMIT}", {"held_is_open_holds"}),
    "posted": (
        f"UPDATE billing_budget SET posted = posted + 1 WHERE {LIMIT}",
        {"posted_is_captured_holds"},
    ),
    "capacity": (
        f"UPDATE billing_budget SET capacity = capacity + 1 WHERE {WALLET}",
        {"wallets_are_their_budgets"},
    ),
    "owed": (
        "UPDATE billing_wallet SET owed_nanos = owed_nanos + 1, line_nanos = line_nanos + 1 "
        "WHERE line_nanos > 0",
        {"wallets_are_the_ledger"},
    ),
    "line": (
        "UPDATE billing_wallet SET line_nanos = line_nanos + 1 WHERE line_nanos > 0",
        {"wallets_are_their_budgets"},
    ),
    "usage lost": (
        f"DELETE FROM billing_usageevent WHERE hold_id IN ({UNSETTLED})",
        {"usage_is_captured_holds"},
    ),
    "usage dearer": (
        "UPDATE billing_usageevent SET cost_nanos = cost_nanos + 1, "
        f"platform_nanos = platform_nanos + 1 WHERE hold_id IN ({UNSETTLED})",
        {"usage_is_captured_holds", "usage_is_rated_by_its_price"},
    ),
    "bytes": (
        "UPDATE billing_usageevent SET bytes = 5 WHERE hold_id IN (SELECT id FROM "
        f"billing_hold WHERE state = 'captured' AND settlement_id = ({FIRST}))",
        {"charges_are_chained"},
    ),
    "digest": (
        "UPDATE billing_settlement SET digest = 'x' WHERE id = (SELECT MAX(id) "
        "FROM billing_settlement)",
        {"charges_are_chained"},
    ),
    "settlement": (
        f"UPDATE billing_settlement SET hold_count = hold_count + 1 WHERE id = ({FIRST})",
        {"settlements_are_their_holds"},
    ),
    "rollup": (
        "UPDATE billing_usagerollup SET cost_nanos = cost_nanos + 1 WHERE id = (SELECT MIN(id) "
        "FROM billing_usagerollup)",
        {"rollups_are_usage"},
    ),
    "rollup lost": ("DELETE FROM billing_usagerollup", {"rollups_are_usage"}),
    "reason": (
        "UPDATE billing_ledgertransaction SET reason = 'x' WHERE kind = 'credit_granted'",
        {"books_are_chained"},
    ),
    "head": ("UPDATE billing_ledgerbook SET length = length + 1", {"books_are_chained"}),
    "meter": ("UPDATE billing_meterbucket SET nanos = nanos + 1000", {"meters_are_the_ledger"}),
    "unbalanced": (
        "UPDATE billing_ledgerentry SET amount_nanos = amount_nanos - 1 WHERE id = ("
        "SELECT MAX(e.id) FROM billing_ledgerentry e "
        "JOIN billing_ledgeraccount a ON a.id = e.account_id "
        "WHERE a.code = 'platform:revenue')",
        {"transactions_balance", "books_are_chained"},
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_is_found_by_exactly_the_check_it_contradicts(
    world: Organization, name: str
) -> None:
    """Invariant 37: reconciliation detects each single injected corruption."""
    assert found() == {}
    sql, checks = CORRUPTIONS[name]

    corrupt(sql)

    assert found().keys() == checks


def test_a_missing_guard_is_found(world: Organization) -> None:
    """Invariant 37: a trigger that somebody has dropped is found."""
    with connection.cursor() as cursor:
        triggers.drop(connection, cursor)
    try:
        assert found().keys() == {"guards_are_in_place"}
    finally:
        triggers.install()


def test_a_passed_cap_is_found(world: Organization, version: ModelVersion) -> None:
    """Invariant 37: a cap that was lowered by nobody and is passed is found."""
    corrupt(
        "UPDATE billing_budget SET capacity = posted + held - 1 WHERE lock_rank = 2 AND held > 0"
    )

    assert found().keys() == {"caps_are_kept"}


def test_a_report_that_is_not_its_meters_is_found(world: Organization) -> None:
    """Invariant 37: what is reported to Stripe's meter must follow from what was used."""
    Wallet.objects.filter(line_nanos__gt=0).update(stripe_subscription="sub_1")
    assert meters.cut(timezone.now() + timedelta(hours=2)) == 1
    assert found() == {}

    corrupt("UPDATE billing_meterreport SET value = value + 1")

    assert found().keys() == {"reports_are_their_meters"}


def test_an_entry_that_a_checkpoint_by_number_would_miss_is_counted(world: Organization) -> None:
    """Regression 40: adamcharnock/django-hordak#142, balances sum all entries, no checkpoint."""
    first = LedgerTransaction.objects.filter(organization=world).order_by("pk").first()
    assert first is not None

    corrupt(
        "UPDATE billing_ledgerentry SET amount_nanos = amount_nanos + 7 WHERE transaction_id = "
        f"{first.pk} AND amount_nanos < 0"
    )

    assert found().keys() >= {"wallets_are_the_ledger", "transactions_balance"}


# Findings -----------------------------------------------------------------------------------


def test_the_same_trouble_is_one_open_row_and_gone_when_both_sides_agree(
    world: Organization,
) -> None:
    corrupt(CORRUPTIONS["held"][0])
    found()
    found()
    finding = Finding.objects.get()
    assert finding.found_nanos == (finding.expected_nanos or 0) + 1
    assert finding.organization is not None
    assert finding.last_run == ReconciliationRun.objects.first()

    corrupt(CORRUPTIONS["held"][0].replace("+ 1", "- 1"))
    assert found() == {}

    finding.refresh_from_db()
    assert finding.state == State.GONE


def test_a_dismissed_finding_comes_back_only_if_it_changes(
    world: Organization, operator: User
) -> None:
    corrupt(CORRUPTIONS["held"][0])
    found()

    reconciliation.dismiss(Finding.objects.get(), actor=operator, reason="A test")

    assert found() == {}
    assert AuditEntry.objects.filter(action="finding.dismissed", reason="A test").exists()
    with pytest.raises(ConflictError):
        reconciliation.dismiss(Finding.objects.get(), actor=operator, reason="Again")
    corrupt(CORRUPTIONS["held"][0])
    assert found().keys() == {"held_is_open_holds"}


@pytest.mark.parametrize(
    "name", ["held", "posted", "capacity", "line", "owed", "rollup", "rollup lost"]
)
def test_one_click_makes_both_sides_agree(world: Organization, operator: User, name: str) -> None:
    corrupt(CORRUPTIONS[name][0])
    found()

    for finding in Finding.objects.filter(state=State.OPEN):
        finding.refresh_from_db()
        if finding.check_name == "rollups_are_usage" and name == "rollup lost":
            _try(finding, operator)
        else:
            remedies.correct(finding, actor=operator, reason="Both must agree")

    if name == "owed":
        # The row follows the ledger; what it may spend follows the row.
        for finding in found_rows():
            remedies.correct(finding, actor=operator, reason="Both must agree")
    assert found() == {}
    assert invariants.violations() == []
    assert AuditEntry.objects.filter(action="finding.corrected").exists()


def _try(finding: Finding, operator: User) -> None:
    """Correct it, unless another correction has done so: one rebuild is for all hours."""
    with contextlib.suppress(ConflictError):
        remedies.correct(finding, actor=operator, reason="Both must agree")


def found_rows() -> list[Finding]:
    found()
    return list(Finding.objects.filter(state=State.OPEN))


def test_a_finding_is_corrected_once(world: Organization, operator: User) -> None:
    corrupt(CORRUPTIONS["held"][0])
    found()
    finding = Finding.objects.get()
    remedies.correct(finding, actor=operator, reason="Once")

    with pytest.raises(ConflictError):
        remedies.correct(finding, actor=operator, reason="Twice")


def test_what_no_click_can_help_is_refused(world: Organization, operator: User) -> None:
    corrupt(CORRUPTIONS["digest"][0])
    found()
    finding = Finding.objects.get()

    assert not remedies.is_correctable(finding)
    with pytest.raises(ConflictError):
        remedies.correct(finding, actor=operator, reason="Please")


def test_promotional_credit_that_differs_is_booked_against_suspense(
    world: Organization, operator: User
) -> None:
    corrupt(
        "UPDATE billing_creditgrant SET remaining_nanos = remaining_nanos - 5 "
        f"WHERE organization_id = {world.pk}"
    )
    corrupt(
        "UPDATE billing_budget SET capacity = capacity - 5 WHERE lock_rank = 3 "
        f"AND organization_id = {world.pk}"
    )
    assert found().keys() == {"wallets_are_the_ledger"}

    corrected = remedies.correct(Finding.objects.get(), actor=operator, reason="Lost in a crash")

    booked = corrected.correction
    assert booked is not None
    assert (booked.kind, booked.reason, booked.actor) == (
        "correction",
        "Lost in a crash",
        operator,
    )
    assert ledger.balance_of(ledger.SUSPENSE) == -5
    assert found() == {}


# The command --------------------------------------------------------------------------------


def test_the_command_says_what_it_found(
    world: Organization, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("reconcile")
    assert "nothing found" in capsys.readouterr().out
    corrupt(CORRUPTIONS["held"][0])

    with pytest.raises(CommandError):
        call_command("reconcile")

    assert "held_is_open_holds: budget" in capsys.readouterr().out


def test_the_books_are_proved_at_one_instant(world: Organization, capsys: Any) -> None:
    call_command("check_invariants")

    assert "no violation" in capsys.readouterr().out
    assert budgets.wallet(world).held >= 0


@pytest.mark.django_db(transaction=True)
def test_a_settler_that_works_meanwhile_causes_no_finding(
    organization: Organization, version: ModelVersion
) -> None:
    succeed(organization, version)

    def settle() -> None:
        settlement.settle()
        connections.close_all()

    with one_snapshot():
        before = Hold.objects.unsettled().count()
        thread = threading.Thread(target=settle)
        thread.start()
        thread.join()
        assert Hold.objects.unsettled().count() == before == 1
        assert invariants.violations() == []

    assert Hold.objects.unsettled().count() == 0
    assert invariants.violations() == []

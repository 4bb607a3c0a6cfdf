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
    wallets,
)
from billing.checks import stripe_books, stripe_facts
from billing.models import (
    Finding,
    Hold,
    LedgerTransaction,
    ReconciliationRun,
    StripeOp,
    TopUp,
    Wallet,
)
from billing.money import NANOS
from billing.snapshots import one_snapshot
from billing.stripe.errors import AmbiguousError
from billing.stripe.fake import FakeStripe
from catalog.models import ModelVersion
from tests.billing import prepaid
from tests.billing.calls import fail, reserve, succeed
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_stripe")]
State = Finding.State


@pytest.fixture
def operator() -> User:
    return make_user("operator@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def world(organization: Organization, version: ModelVersion, operator: User) -> Organization:
    """Books with a little of everything: credit, charges, failures, a credit line, open runs."""
    succeed(organization, version, rows=3)
    fail(organization, version)
    on_credit = make_organization(credit_nanos=0, slug="late")
    wallets.set_line(on_credit, NANOS, actor=operator, reason="test")
    succeed(on_credit, version, rows=2)
    settlement.settle()
    succeed(organization, version)
    settlement.settle()
    reserve(organization, version)
    succeed(organization, version)
    return organization


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is new be compared at once."""
    for module in (stripe_facts, stripe_books):
        monkeypatch.setattr(module, "GRACE", timedelta(0))
    monkeypatch.setattr(stripe_facts, "STUCK", timedelta(0))


def corrupt(sql: str) -> None:
    """Do what no code of the site can: change rows that its own triggers guard."""
    with connection.cursor() as cursor:
        triggers.drop(connection, cursor)
        cursor.execute(sql)
        assert cursor.rowcount
    triggers.install()


def found() -> dict[str, set[str]]:
    """Run the comparison; returns check → subjects that are open."""
    made = reconciliation.run()
    assert made.error == ""
    names: dict[str, set[str]] = {}
    for row in Finding.objects.filter(state=State.OPEN):
        names.setdefault(row.check_name, set()).add(row.subject)
    return names


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


# Stripe -------------------------------------------------------------------------------------


def test_nothing_is_found_after_payments_that_went_well(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    prepaid.bought(fake_stripe, world)
    deliver_all()

    assert found() == {}


def test_money_that_the_ledger_does_not_know_is_found_and_booked(
    fake_stripe: FakeStripe, world: Organization, no_grace: None, operator: User
) -> None:
    top_up = prepaid.bought(fake_stripe, world)
    deliver_all()
    ledger.post(
        "stripe_fee",
        "txn_twice",
        {ledger.account(ledger.FEES): 7 * NANOS, ledger.account(ledger.CLEARING): -7 * NANOS},
        organization=world,
        details={"top_up": str(top_up.pk)},
    )
    assert found() == {"clearing_is_stripes_balance": {f"top_up:{top_up.pk}"}}

    corrected = remedies.correct(Finding.objects.get(), actor=operator, reason="Booked twice")

    assert corrected.correction is not None
    assert ledger.balance_of(ledger.SUSPENSE) == -7 * NANOS
    assert found() == {}
    assert invariants.violations() == []


def test_a_payment_that_nobody_was_credited_for_is_found_and_credited(
    fake_stripe: FakeStripe, world: Organization, no_grace: None, operator: User
) -> None:
    top_up = prepaid.bought(fake_stripe, world)
    deliver_all()
    before = wallets.of(world).paid_nanos
    # As if the top-up had been given up, and its credit with it.
    wallets.add_paid(
        world,
        -top_up.credit_nanos,
        {ledger.account(ledger.CLEARING): -top_up.credit_nanos},
        kind="clawback",
        external_ref=f"{top_up.pk}:1",
    )
    TopUp.objects.filter(pk=top_up.pk).update(state=TopUp.State.FAILED)
    assert "clearing_is_stripes_balance" in found()

    finding = Finding.objects.get(check_name="clearing_is_stripes_balance")
    remedies.correct(finding, actor=operator, reason="Paid, and never credited")

    assert wallets.of(world).paid_nanos == before
    assert "clearing_is_stripes_balance" not in found()


def test_a_paid_page_that_nobody_came_back_from_is_found(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    top_up = prepaid.buy(fake_stripe, world)

    assert found()["payments_are_credited"] == {f"top_up:{top_up.pk}"}


def test_an_event_that_never_arrived_is_found(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    prepaid.bought(fake_stripe, world)

    assert found().keys() == {"events_have_arrived"}


def test_an_operation_without_an_end_is_found(
    fake_stripe: FakeStripe, world: Organization, no_grace: None
) -> None:
    prepaid.bought(fake_stripe, world)
    deliver_all()
    op = StripeOp.objects.order_by("pk").first()
    assert op is not None

    StripeOp.objects.filter(pk=op.pk).update(state=StripeOp.State.UNKNOWN)

    assert found() == {"operations_have_ended": {f"op:{op.idem_key}"}}


def test_if_stripe_does_not_answer_the_rest_is_compared_all_the_same(
    world: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ReconciliationRun.objects.create()
    Finding.objects.create(
        run=run, last_run=run, check_name="events_have_arrived", subject="event:evt_1", text="x"
    )
    corrupt(CORRUPTIONS["held"][0])

    def away() -> None:
        raise AmbiguousError("timed out")

    monkeypatch.setattr(stripe_facts, "gather", away)
    made = reconciliation.run()

    assert made.error == "Stripe: timed out"
    names = Finding.objects.filter(state=State.OPEN).values_list("check_name", flat=True)
    # What Stripe was not asked about stays as it was.
    assert set(names) == {"held_is_open_holds", "events_have_arrived"}


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

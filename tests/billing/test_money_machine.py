"""Random histories of money against a model in plain Python; a thousand of them in CI.

Admissions in batches, captures, failures, duplicates, late reports, expiry, settlements, top-ups,
grants and their lapse, clawbacks, credit lines, payments, limits raised and lowered, price changes,
refunds, windows that turn, and a death of the process at every named point. After each step every
budget and the wallet say what the model says; at the end of each history the books are proved.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import ApiKey, Organization, User
from billing import (
    budgets,
    holds,
    ledger,
    rating,
    reports,
    settlement,
    shares,
    wallets,
)
from billing.invariants import violations
from billing.models import Budget, CreditGrant, Hold, ShareVersion, Wallet
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from tests.billing.deaths import AFTER_COMMIT, BEFORE_COMMIT, DeathError, death_at
from tests.billing.money_model import Cap, Purse, Run, Window

pytestmark = pytest.mark.django_db
# Of every window and unit, for the key and for the organization; small, so that they are reached.
CAPS = (
    ("key", "day", "money", 400),
    ("key", "lifetime", "calls", 40),
    ("organization", "day", "calls", 25),
    ("organization", "month", "money", 2000),
)
# A thousand over both databases; each pass draws its own.
EXAMPLES = 500
amounts = st.integers(1, 500)
deaths = st.one_of(st.none(), st.sampled_from(BEFORE_COMMIT + AFTER_COMMIT))


class Machine(RuleBasedStateMachine):
    """One organization with one limited key, and the same in plain Python."""

    runs = Bundle("runs")

    # Made once for all histories: each is undone when it ends.
    organization: Organization
    key: ApiKey
    version: ModelVersion
    share: ShareVersion
    actor: User

    @initialize()
    def begin(self) -> None:
        self.savepoint = transaction.savepoint()
        budgets._cache.clear()
        self.today = self.day = datetime.now(UTC).date()
        self.known: dict[UUID, Run] = {}
        self.purse, self.wallet, self.price = Purse(), Window("money", 0), 7
        self.references = iter(range(10**9))
        self.caps = [Cap(*cap) for cap in CAPS]
        for cap in self.caps:
            cap.at(self.today)
        self.top_up(nanos=300)

    # What people do -------------------------------------------------------------------------

    @rule(
        target=runs,
        rows=st.lists(st.integers(0, 30), min_size=1, max_size=4),
        with_key=st.booleans(),
        is_short=st.booleans(),
        death=deaths,
    )
    def admit(self, rows: list[int], with_key: bool, is_short: bool, death: str | None) -> Any:
        made = [self._reservation(count, with_key, is_short) for count in rows]
        windows = [*(cap.at(self.day) for cap in self._caps(with_key)), self.wallet]
        wanted = [
            Run(windows, one.reserved_nanos, self.price, rows[i]) for i, one in enumerate(made)
        ]
        expected = self._expected(wanted)
        try:
            with death_at(death if death != "admit.committed" or len(made) == 1 else None):
                outcomes = holds.reserve_many(made)
        except DeathError:
            if death != "admit.committed":
                return multiple()
            outcomes = [made[0]]  # type: ignore[list-item]  # it stood when the process died
        accepted = [not isinstance(outcome, MercatoError) for outcome in outcomes]
        assert accepted == expected
        admitted = [one.hold_id for one, is_in in zip(made, accepted, strict=True) if is_in]
        for hold_id, run in zip((one.hold_id for one in made), wanted, strict=True):
            if hold_id in admitted:
                self.known[hold_id] = run
                for window in run.windows:
                    window.held += window.need(run.reserved)
        return multiple(*admitted)

    @rule(
        hold_ids=st.lists(runs, min_size=1, max_size=4, unique=True),
        outcome=st.sampled_from(["succeeded", "succeeded", "model_error", "platform_error"]),
        more_rows=st.integers(-3, 3),
        death=deaths,
    )
    def report(self, hold_ids: list[UUID], outcome: str, more_rows: int, death: str | None) -> None:
        """Report runs: also such that have ended, were reported before, or used more than held."""
        made = [self._report(hold_id, outcome, more_rows) for hold_id in hold_ids]
        is_open = [self.known[hold_id].state == "authorised" for hold_id in hold_ids]
        try:
            with death_at(death), transaction.atomic():
                assert holds.capture_many(made) == is_open
        except DeathError:
            return
        for hold_id in hold_ids:
            run = self.known[hold_id]
            if run.state == "authorised":
                run.state = "captured" if outcome == "succeeded" else "voided"
                if outcome == "succeeded":
                    run.captured = min(run.price * max(run.rows + more_rows, 0), run.reserved)

    @rule()
    def expire(self) -> None:
        holds.expire_due()
        for hold_id in Hold.objects.filter(state="expired").values_list("pk", flat=True):
            self.known[hold_id].state = "expired"

    @rule(death=deaths)
    def settle(self, death: str | None) -> None:
        try:
            with death_at(death):
                settlement.settle_organization(self.organization.pk)
        except DeathError:
            if death != "settle.committed":
                return
        total = 0
        for run in self.known.values():
            if run.settled or run.state == "authorised":
                continue
            run.settled = True
            total += run.captured
            for window in run.windows:
                window.held -= window.need(run.reserved)
                if run.state == "captured":
                    window.posted += window.need(run.captured)
        self.purse.spend(total)

    # Runs are what happens most: a second name makes a rule twice as likely.
    admit_more, report_more, settle_more = admit, report, settle

    @rule(nanos=amounts)
    def top_up(self, nanos: int) -> None:
        self._add_paid(nanos, "top_up")

    @rule(nanos=amounts, twice=st.booleans())
    def claw_back(self, nanos: int, twice: bool) -> None:
        """Take paid credit back, as a refund or a dispute does; told twice, it counts once."""
        reference = self._add_paid(-nanos, "clawback")
        if twice:
            wallets.add_paid(
                self.organization,
                -nanos,
                {ledger.account(ledger.CLEARING): -nanos},
                kind="clawback",
                external_ref=reference,
            )

    @rule(nanos=amounts, days=st.one_of(st.none(), st.integers(0, 2)))
    def grant(self, nanos: int, days: int | None) -> None:
        number = next(self.references)
        expires_at = None if days is None else timezone.now() + timedelta(days=days, seconds=number)
        if days == 0:
            expires_at = timezone.now() - timedelta(days=1) + timedelta(seconds=number)
        wallets.add_grant(
            self.organization,
            nanos,
            kind="credit_granted",
            external_ref=f"{self.organization.pk}:{number}",
            reason="test",
            expires_at=expires_at,
        )
        expiry = None if expires_at is None else int(expires_at.timestamp())
        self.purse.grants.append([expiry, nanos, number])
        self.wallet.capacity += nanos

    @rule()
    def lapse(self) -> None:
        """Let grants lapse, but not what open runs may need of them."""
        wallets.expire_grants()
        now = int(timezone.now().timestamp())
        due = [grant for grant in self.purse.grants if grant[0] is not None and grant[0] <= now]
        for grant in sorted(due, key=lambda one: one[0] or 0):
            lapsed = max((grant[1] or 0) - self.wallet.held, 0)
            grant[1] = (grant[1] or 0) - lapsed
            self.wallet.capacity -= lapsed

    @rule(nanos=st.sampled_from([0, 0, 100, 400]))
    def set_line(self, nanos: int) -> None:
        wallets.set_line(self.organization, nanos, actor=self.actor, reason="test")
        self.wallet.capacity += nanos - self.purse.line
        self.purse.line = nanos

    @rule(part=st.integers(1, 4))
    def pay_what_is_owed(self, part: int) -> None:
        nanos = self.purse.owed // part
        if not nanos:
            return
        wallets.settle_owed(
            self.organization,
            nanos,
            {ledger.account(ledger.CLEARING): nanos},
            kind="invoice_paid",
            external_ref=f"{self.organization.pk}:{next(self.references)}",
        )
        self.purse.owed -= nanos
        self.wallet.capacity += nanos

    @rule(which=st.integers(0, len(CAPS) - 1), amount=st.integers(0, 900))
    def set_limit(self, which: int, amount: int) -> None:
        """Raise or lower a cap, also below what is used: running calls finish."""
        self._set_limit(self.caps[which], amount)

    @rule(nanos=st.integers(0, 20))
    def change_price(self, nanos: int) -> None:
        """Change the price: what was admitted before is rated by the old one."""
        prices.add(model=self.version.model, components={"row": (nanos, 1)})
        self.price = nanos

    @rule(days=st.sampled_from([1, 1, 31]))
    def turn_windows(self, days: int) -> None:
        self.day += timedelta(days=days)

    # What must be so --------------------------------------------------------------------------

    @invariant()
    def budgets_say_what_the_model_says(self) -> None:
        said = {
            (row.lock_rank, row.window, row.unit, row.window_start): (
                row.capacity,
                row.posted,
                row.held,
            )
            for row in Budget.objects.filter(organization=self.organization)
        }
        for cap in self.caps:
            rank = Budget.Rank.KEY if cap.scope == "key" else Budget.Rank.ORGANIZATION
            for start, window in cap.windows.items():
                known = said.get((rank, cap.window, cap.unit, start))
                assert known == (window.capacity, window.posted, window.held), (cap, start)
        row = budgets.wallet(self.organization)
        assert (row.capacity, row.posted, row.held) == (
            self.wallet.capacity,
            self.wallet.posted,
            self.wallet.held,
        )

    @invariant()
    def the_wallet_says_what_the_model_says(self) -> None:
        wallet = Wallet.objects.get(organization=self.organization)
        left = sum(CreditGrant.objects.values_list("remaining_nanos", flat=True))
        assert (wallet.paid_nanos, wallet.owed_nanos, left) == (
            self.purse.paid,
            self.purse.owed,
            self.purse.promotional,
        )
        has = self.purse.promotional + self.purse.paid + self.purse.line - self.purse.owed
        assert has == self.wallet.capacity - self.wallet.posted

    def teardown(self) -> None:
        try:
            self.settle(death=None)
            self.budgets_say_what_the_model_says()
            self.the_wallet_says_what_the_model_says()
            assert violations() == []
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        finally:
            transaction.savepoint_rollback(self.savepoint)

    # How ------------------------------------------------------------------------------------

    def _caps(self, with_key: bool) -> list[Cap]:
        return [cap for cap in self.caps if with_key or cap.scope != "key"]

    def _expected(self, wanted: Sequence[Run]) -> list[bool]:
        """Say who is admitted: all together if they fit, else one by one in order."""
        taken: list[Run] = []

        def fits(run: Run) -> bool:
            for window in run.windows:
                more = sum(window.need(one.reserved) for one in taken)
                if window.posted + window.held + more + window.need(run.reserved) > window.capacity:
                    return False
            return True

        answers = []
        for run in wanted:
            answers.append(fits(run))
            if answers[-1]:
                taken.append(run)
        return answers

    def _reservation(self, rows: int, with_key: bool, is_short: bool) -> holds.Reservation:
        price = prices.current(self.version.model)
        assert price is not None
        key_id = self.key.pk if with_key else None
        return holds.prepare(
            Caller(self.organization.pk, self.organization.slug, api_key_id=key_id),
            rating.plan_of(price),
            share_version_id=self.share.pk,
            quantities={"call": 1, "row": rows},
            source="api",
            accepted_at=datetime.combine(self.day, time(12), tzinfo=UTC),
            expires_at=timezone.now() + timedelta(seconds=-1 if is_short else 600),
            model_version_id=self.version.pk,
        )

    def _report(self, hold_id: UUID, outcome: str, more_rows: int) -> reports.Report:
        hold = Hold.objects.select_related("price_version").get(pk=hold_id)
        run = self.known[hold_id]
        return reports.Report(
            hold_id=hold_id,
            outcome=outcome,
            terms=reports.Terms(rating.plan_of(hold.price_version), self.share.publisher_bps, {}),
            quantities={"call": 1, "row": max(run.rows + more_rows, 0)},
            organization_id=hold.organization_id,
            reserved_nanos=hold.reserved_nanos,
            accepted_at=hold.accepted_at,
            completed_at=timezone.now(),
            model_version_id=hold.model_version_id,
            failure="" if outcome == "succeeded" else outcome,
        )

    def _add_paid(self, nanos: int, kind: str) -> str:
        reference = f"{self.organization.pk}:{next(self.references)}"
        wallets.add_paid(
            self.organization,
            nanos,
            {ledger.account(ledger.CLEARING): nanos},
            kind=kind,
            external_ref=reference,
        )
        self.purse.paid += nanos
        self.wallet.capacity += nanos
        return reference

    def _set_limit(self, cap: Cap, amount: int) -> None:
        key = self.key if cap.scope == "key" else None
        budgets.set_limit(self.organization, cap.window, amount, unit=cap.unit, api_key=key)
        cap.amount = amount
        # The window that runs now follows at once; others keep the limit they were opened with.
        cap.at(self.today).capacity = amount


@pytest.mark.timeout(900)
def test_random_histories_agree_with_a_model_in_plain_python() -> None:
    Machine.organization = factories.make_organization(credit_nanos=0)
    Machine.key, _ = factories.make_key(Machine.organization)
    Machine.version = factories.make_version(row_nanos=7)
    Machine.share = shares.current(Machine.version.model)
    Machine.actor = factories.make_user()
    for scope, window, unit, amount in CAPS:
        key = Machine.key if scope == "key" else None
        budgets.set_limit(Machine.organization, window, amount, unit=unit, api_key=key)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""Calls in random histories of money: admitted, reported, expired and settled, with deaths."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, multiple, rule

from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import ApiKey, Organization, User
from billing import budgets, holds, rating, reports, settlement, wallets
from billing.models import Hold, ShareVersion, Wallet
from billing.reservations import Reservation
from billing.stripe import client
from catalog import prices
from catalog.models import ModelVersion
from tests.billing.deaths import AFTER_COMMIT, DeathError, death_at, dying
from tests.billing.money_bank import CUSTOMER, Bank
from tests.billing.money_earned import Publisher
from tests.billing.money_model import CENT, Cap, Freeze, Payment, Purse, Run, Window
from tests.billing.money_months import Owed

coins = st.integers(1, 500)
amounts = coins.map(lambda number: number * CENT)
# Of every window and unit, for the key and for the organization; small, so that they are reached.
CAPS = (
    ("key", "day", "money", 400 * CENT),
    ("key", "lifetime", "calls", 40),
    ("organization", "day", "calls", 25),
    ("organization", "month", "money", 2000 * CENT),
)


class Calls(RuleBasedStateMachine):
    """One organization with one limited key, and the same in plain Python."""

    runs = Bundle("runs")

    # Not a whole number of coins, nor of what the meter counts.
    first_price = 7 * CENT + 1_234_567
    # Made once for all histories: each is undone when it ends.
    organization: Organization
    key: ApiKey
    version: ModelVersion
    share: ShareVersion
    actor: User

    def begin(self) -> None:
        """Begin a history; what it changes is undone when it ends."""
        self.savepoint = transaction.savepoint()
        self.patch, self.bank = pytest.MonkeyPatch(), Bank()
        self.patch.setattr(client, "gateway", lambda: self.bank)
        budgets._cache.clear()
        self.today = self.day = datetime.now(UTC).date()
        # Whatever the hour is here: in the machine it is after all calls of the day.
        self.now = datetime.combine(self.day, time(), tzinfo=UTC) + timedelta(days=1, minutes=30)
        self.patch.setattr(timezone, "now", lambda: self.now)
        self.known: dict[UUID, Run] = {}
        self.purse, self.wallet, self.price = Purse(), Window("money", 0), self.first_price
        self.freeze, self.payments = Freeze(), list[Payment]()
        self.owed, self.publisher = Owed(self.purse), Publisher()
        self.references = iter(range(10**9))
        self.caps = [Cap(*cap) for cap in CAPS]
        for cap in self.caps:
            cap.at(self.today)
        wallets.of(self.organization)
        Wallet.objects.filter(organization=self.organization).update(
            stripe_customer=CUSTOMER, stripe_subscription="sub_1"
        )

    @rule(
        target=runs,
        rows=st.lists(st.integers(0, 30), min_size=1, max_size=4),
        with_key=st.booleans(),
        is_short=st.booleans(),
        death=dying("admit"),
    )
    def admit(self, rows: list[int], with_key: bool, is_short: bool, death: str | None) -> Any:
        made = [self._reservation(count, with_key, is_short) for count in rows]
        windows = [*(cap.at(self.day) for cap in self._caps(with_key)), self.wallet]
        wanted = [
            Run(windows, self.day, one.reserved_nanos, self.price, rows[i])
            for i, one in enumerate(made)
        ]
        expected = self._expected(wanted)
        try:
            with death_at(death):
                outcomes = holds.reserve_many(made)
                assert [not isinstance(one, MercatoError) for one in outcomes] == expected
        except DeathError:
            if death not in AFTER_COMMIT:
                return multiple()
        admitted = [one.hold_id for one, is_in in zip(made, expected, strict=True) if is_in]
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
        death=dying("capture"),
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
                    run.publisher = run.captured * self.share.publisher_bps // 10_000

    @rule(death=dying("expire"))
    def expire(self, death: str | None) -> None:
        try:
            with death_at(death):
                holds.expire_due()
        except DeathError:
            return
        for hold_id in Hold.objects.filter(state="expired").values_list("pk", flat=True):
            self.known[hold_id].state = "expired"

    @rule(death=dying("settle"))
    def settle(self, death: str | None) -> None:
        try:
            with death_at(death):
                settlement.settle_organization(self.organization.pk)
        except DeathError:
            if death not in AFTER_COMMIT:
                return
        # By their ids, as the settler does.
        found = [self.known[hold_id] for hold_id in sorted(self.known)]
        ended = [run for run in found if not run.settled and run.state != "authorised"]
        for run in ended:
            run.settled = True
            for window in run.windows:
                window.held -= window.need(run.reserved)
                if run.state == "captured":
                    window.posted += window.need(run.captured)
        owed = self.purse.spend(sum(run.captured for run in ended))
        self.owed.use([(run.day, run.captured) for run in ended], owed)
        self.publisher.earn(ended)

    @rule(
        target=runs,
        rows=st.lists(st.integers(1, 30), min_size=1, max_size=3),
        death=dying("admit", "capture", "settle"),
    )
    def use(self, rows: list[int], death: str | None) -> Any:
        """Run something from beginning to end; who died in between has done so until then."""
        admitted = self.admit(rows=rows, with_key=False, is_short=False, death=death)
        hold_ids = list(admitted.values)
        if hold_ids:
            self.report(hold_ids=hold_ids, outcome="succeeded", more_rows=0, death=death)
        self.settle(death=death)
        return admitted

    # Runs are what happens most: a second name makes a rule twice as likely.
    use_more, use_again = use, use
    admit_more, report_more, settle_more = admit, report, settle

    # How ------------------------------------------------------------------------------------

    def _caps(self, with_key: bool) -> list[Cap]:
        return [cap for cap in self.caps if with_key or cap.scope != "key"]

    def _expected(self, wanted: Sequence[Run]) -> list[bool]:
        """Say who is admitted: all together if they fit, else one by one in order."""
        taken: list[Run] = []
        if self.freeze.by:
            return [False] * len(wanted)

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

    def _reservation(self, rows: int, with_key: bool, is_short: bool) -> Reservation:
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
            expires_at=datetime.now(UTC) + timedelta(seconds=-1 if is_short else 600),
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

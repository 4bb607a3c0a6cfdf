"""Random histories of money against a model in plain Python; a thousand of them in CI.

Admissions in batches, captures, failures, duplicates, late reports, expiry, settlements, top-ups,
refunds to cards and their failure, disputes opened, won and lost, refunds of charges, grants and
their lapse, credit lines, payments, meters, limits raised and lowered, price changes, windows that
turn, and a death of the process at every named point. After each step every budget and the wallet
say what the model says; at the end of each history the books are proved.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from accounts.models import Organization
from billing import budgets, meters, shares
from billing.invariants import violations
from billing.models import Budget, CreditGrant, Wallet
from catalog import prices
from tests import factories
from tests.billing.deaths import DeathError, death_at, dying
from tests.billing.money_bank import CENT
from tests.billing.money_calls import CAPS
from tests.billing.money_model import Cap
from tests.billing.money_payments import Payments

pytestmark = pytest.mark.django_db
# A thousand over both databases; each pass draws its own.
EXAMPLES = 500


class Machine(Payments):
    """What changes around calls and payments, and what must be so after each step."""

    @rule(which=st.integers(0, len(CAPS) - 1), amount=st.integers(0, 900))
    def set_limit(self, which: int, amount: int) -> None:
        """Raise or lower a cap, also below what is used: running calls finish."""
        cap = self.caps[which]
        self._set_limit(cap, amount if cap.unit == "calls" else amount * CENT)

    @rule(nanos=st.integers(0, 20 * CENT))
    def change_price(self, nanos: int) -> None:
        """Change the price: what was admitted before is rated by the old one."""
        prices.add(model=self.version.model, components={"row": (nanos, 1)})
        self.price = nanos

    @rule(days=st.sampled_from([1, 1, 31]))
    def turn_windows(self, days: int) -> None:
        self.day += timedelta(days=days)

    @rule(hours=st.integers(2, 800), death=dying("meter"))
    def cut_meters(self, hours: int, death: str | None) -> None:
        """Write down what Stripe is to be told of what is owed."""
        try:
            with death_at(death):
                meters.cut(timezone.now() + timedelta(hours=hours))
        except DeathError:
            return

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
        frozen = Organization.objects.get(pk=self.organization.pk).is_frozen
        assert frozen == bool(self.freeze.by)
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
            self.patch.undo()
            transaction.savepoint_rollback(self.savepoint)

    def _set_limit(self, cap: Cap, amount: int) -> None:
        key = self.key if cap.scope == "key" else None
        budgets.set_limit(self.organization, cap.window, amount, unit=cap.unit, api_key=key)
        cap.amount = amount
        # The window that runs now follows at once; others keep the limit they were opened with.
        cap.at(self.today).capacity = amount


@pytest.mark.timeout(900)
def test_random_histories_agree_with_a_model_in_plain_python() -> None:
    """Invariant 3, 6, 7, 8, 11, 17, 18: whatever happens, and wherever the process dies."""
    Machine.organization = factories.make_organization(credit_nanos=0)
    Machine.key, _ = factories.make_key(Machine.organization)
    Machine.version = factories.make_version(row_nanos=7 * CENT)
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

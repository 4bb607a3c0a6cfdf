"""What must be so after each step of a random history of money, and at its end."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Sum
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from billing import budgets, ledger
from billing.invariants import violations
from billing.models import Budget, CreditGrant, LedgerEntry, Wallet
from catalog import prices
from tests.billing.money_beat import Beat
from tests.billing.money_calls import CAPS
from tests.billing.money_model import CENT, Cap


class Checked(Beat):
    """Limits and prices that change, and what is compared with the model."""

    @rule(which=st.integers(0, len(CAPS) - 1), amount=st.integers(0, 900))
    def set_limit(self, which: int, amount: int) -> None:
        """Raise or lower a cap, also below what is used: running calls finish."""
        cap = self.caps[which]
        self._set_limit(cap, amount if cap.unit == "calls" else amount * CENT)

    @rule(nanos=st.integers(0, 20 * CENT))
    def change_price(self, nanos: int) -> None:
        """Change the price: what was admitted before is rated by the old one."""
        self._wait(timedelta(seconds=1))
        prices.add(model=self.version.model, components={"row": (nanos, 1)})
        self.price = nanos

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
        [wallet] = [row for (rank, *_), row in said.items() if rank == Budget.Rank.WALLET]
        assert wallet == (self.wallet.capacity, self.wallet.posted, self.wallet.held)

    @invariant()
    def the_wallet_says_what_the_model_says(self) -> None:
        wallet = Wallet.objects.select_related("organization").get(organization=self.organization)
        left = sum(CreditGrant.objects.values_list("remaining_nanos", flat=True))
        assert (wallet.paid_nanos, wallet.owed_nanos, left) == (
            self.purse.paid,
            self.purse.owed,
            self.purse.promotional,
        )
        assert wallet.organization.is_frozen == bool(self.freeze.by)
        has = self.purse.promotional + self.purse.paid + self.purse.line - self.purse.owed
        assert has == self.wallet.capacity - self.wallet.posted

    @invariant()
    def the_publisher_has_what_the_model_says(self) -> None:
        owner = self.version.model.owner_id
        codes = {name: name[0].format(owner) for name in (ledger.ACCRUED, ledger.PAYABLE)}
        entries = LedgerEntry.objects.filter(account__code__in=codes.values()).order_by()
        sums = dict(entries.values_list("account__code").annotate(Sum("amount_nanos")))
        assert [-sums.get(code, 0) for code in codes.values()] == [
            self.publisher.accrued,
            self.publisher.payable,
        ]

    @invariant()
    def stripe_has_done_what_the_model_says(self) -> None:
        """As often, and with the same amounts: nothing twice, nothing left out."""
        assert [each.amount for each in self.bank.transfers] == self.publisher.sent
        told = [one.value for one in self.owed.told if one.at_bank]
        assert [each.value for each in self.bank.events] == told
        assert self.bank.final == self.owed.invoices

    def compare(self) -> None:
        """Compare everything."""
        self.budgets_say_what_the_model_says()
        self.the_wallet_says_what_the_model_says()
        self.the_publisher_has_what_the_model_says()
        self.stripe_has_done_what_the_model_says()

    def teardown(self) -> None:
        try:
            self.settle(death=None)
            self.finish()
            self.compare()
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

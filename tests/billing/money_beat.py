"""What beat does in random histories of money: publishers paid, usage told, months closed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import rule

from billing import (
    charge_refunds,
    earnings,
    invoice_payments,
    ledger,
    meter_sender,
    meters,
    months,
    payouts,
    periods,
    wallets,
)
from billing.errors import ChargeRefundError
from billing.models import BillingPeriod, PayoutAccount
from tests.billing.deaths import DeathError, death_at, dying
from tests.billing.money_calls import Calls, amounts
from tests.billing.money_earned import MINIMUM
from tests.billing.money_model import CENT, Run
from tests.billing.money_script import Script, faults, is_killed

_RICH = 10**9
# Longer than anything that failed is waited for, and shorter than Stripe remembers a key.
_SOON = timedelta(minutes=61)


class Beat(Calls):
    """Payouts, reports to the meter and the close of months, each after deaths and lost answers."""

    def begin(self) -> None:
        """Begin with a publisher who can be paid."""
        super().begin()
        self.patch.setattr(settings, "PAYOUT_MINIMUM_NANOS", MINIMUM)
        PayoutAccount.objects.create(
            organization=self.version.model.owner, stripe_account="acct_1", payouts_enabled=True
        )

    # Publishers -----------------------------------------------------------------------------

    @rule(
        has=st.sampled_from([_RICH, _RICH, _RICH, 50]),
        refuses=st.sampled_from([False, False, True]),
        death=dying("payout"),
        fault=faults,
    )
    def pay_publishers(self, has: int, refuses: bool, death: str | None, fault: str) -> None:
        """Pay what is payable: one transfer each, whatever is lost on the way."""
        if self.publisher.payable < MINIMUM:
            self._use_on_line()
            self.release(death=None)
        self.bank.available, self.bank.refuses = has, refuses
        self._both(
            partial(payouts.run, self.now),
            lambda script: self.publisher.pay(self.now, has, refuses, script),
            Script(death, fault),
        )

    @rule(death=dying("release"))
    def release(self, death: str | None) -> None:
        """Make payable what publishers have earned: from now on it is taken back from there."""
        try:
            with death_at(death):
                earnings.release_due(timezone.now() + earnings.hold_period() + timedelta(days=1))
        except DeathError:
            return
        self.publisher.release()

    # Charges that are given back --------------------------------------------------------------

    @rule(
        hold_id=Calls.runs,
        nanos=st.one_of(st.none(), amounts),
        twice=st.booleans(),
        death=dying("refund"),
    )
    def refund(self, hold_id: UUID, nanos: int | None, twice: bool, death: str | None) -> None:
        """Give a charge back, or a part of it; who asks twice gets it once."""
        run, reference = self.known[hold_id], f"form:{next(self.references)}"
        wanted = run.left if nanos is None else nanos
        is_allowed = run.settled and 0 < wanted <= run.left
        try:
            with death_at(death):
                for _ in range(1 + twice):
                    charge_refunds.refund(
                        hold_id, nanos, external_ref=reference, reason="test", actor=self.actor
                    )
        except ChargeRefundError:
            assert not is_allowed
        except DeathError:
            return
        else:
            assert is_allowed
            self._given(run, wanted)

    # Credit lines --------------------------------------------------------------------------

    @rule(nanos=st.sampled_from([0, 0, 100 * CENT, 400 * CENT]))
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

    # Meters ---------------------------------------------------------------------------------

    @rule(hours=st.integers(1, 30), death=dying("meter"), fault=faults)
    def report_usage(self, hours: int, death: str | None, fault: str) -> None:
        """Write down what Stripe is to be told of what is owed, and tell it."""
        if all(hour.nanos == hour.cut for hour in self.owed.hours.values()):
            self._use_on_line()
        self._wait(timedelta(hours=hours))
        self._tell_usage(Script(death, fault))

    def _tell_usage(self, script: Script) -> None:
        def act() -> None:
            meters.cut(self.now)
            meter_sender.send(self.now)

        def tell(script: Script) -> None:
            self.owed.cut(self.now, script)
            self.owed.send(self.now, script)

        self._both(act, tell, script)

    # Months ---------------------------------------------------------------------------------

    @rule(
        minutes=st.integers(0, 30),
        is_told=st.booleans(),
        death=dying("close", "close", "meter", "invoice"),
        fault=faults,
    )
    def end_month(self, minutes: int, is_told: bool, death: str | None, fault: str) -> None:
        """Let a month end in which something was used on the line, and begin to close it."""
        self._use_on_line()
        self._wait(_SOON)
        if is_told or any(one.asked and not one.heard for one in self.owed.told):
            # What was asked a month ago can only be told apart by a person.
            self._tell_usage(Script())
        first = months.following(months.of(self.now))
        self._wait(months.start(first) + timedelta(minutes=minutes) - self.now)
        self.day = max(self.day, first)
        self._close(Script(death, fault))

    @rule(is_paid=st.booleans(), death=dying("close", "meter", "invoice"), fault=faults)
    def close_months(self, is_paid: bool, death: str | None, fault: str) -> None:
        """Go on with the close of months; some customers pay at once."""
        self._wait(_SOON)
        self._tell_usage(Script())
        self._wait(timedelta(minutes=6))
        self._close(Script(death, fault))
        if is_paid:
            self.look_at_invoices(is_paid=True, death=None)

    end_another = end_month
    close_more = close_again = close_months

    def _use_on_line(self) -> None:
        """Use more than was paid, if nobody keeps it from that."""
        if self.wallet.capacity - self.wallet.posted - self.wallet.held < 200 * CENT:
            self.set_line(nanos=self.purse.line + 1000 * CENT)
        self.use(rows=[3, 11], death=None)

    def _close(self, script: Script) -> None:
        purse = self.purse
        before = purse.paid - purse.owed
        self._both(
            partial(periods.close_due, self.now),
            lambda script: self.owed.close(self.now, list(self.known.values()), script),
            script,
        )
        self.wallet.capacity += purse.paid - purse.owed - before
        rows = BillingPeriod.objects.values_list("month", "state", "blocked")
        said = {start: (month.state, "") for start, month in self.owed.months.items()}
        assert {month: (state, blocked) for month, state, blocked in rows} == said

    @rule(is_paid=st.booleans(), death=dying("invoice"))
    def look_at_invoices(self, is_paid: bool, death: str | None) -> None:
        """Let the customer pay an invoice, and ask about all that are open."""
        if is_paid and self.bank.pay_invoice():
            waiting = [one for _, one in sorted(self.owed.months.items()) if one.final]
            next(one for one in waiting if not one.paid).paid = True
        purse = self.purse
        before = purse.paid - purse.owed

        def hear(script: Script) -> None:
            for start, month in sorted(self.owed.months.items()):
                if month.open:
                    self.owed.pay(start, script)

        self._both(invoice_payments.refresh_open, hear, Script(death))
        self.wallet.capacity += purse.paid - purse.owed - before

    # Time -----------------------------------------------------------------------------------

    @rule(days=st.sampled_from([1, 1, 31]))
    def turn_windows(self, days: int) -> None:
        """Let days pass: one without the site, or a month with it."""
        if days > 1:
            self._wait(_SOON)
            self._tell_usage(Script())
        self._wait(timedelta(days=days))
        self.day += timedelta(days=days)

    def _wait(self, length: timedelta) -> None:
        """Let time pass; nobody leaves a line of an invoice unknown for a day."""
        is_asking = any(one.is_asking for one in self.owed.months.values())
        if is_asking and length > _SOON:
            self.now += _SOON
            self._tell_usage(Script())
            self._close(Script())
        self.now += length

    # How ------------------------------------------------------------------------------------

    def _both(
        self, act: Callable[[], object], model: Callable[[Script], object], script: Script
    ) -> None:
        """Do the same here and in the model: where one dies, the other does."""
        self.bank.fault = script.fault
        has_died = is_killed(act, script.death)
        self.bank.fault = ""
        try:
            model(script)
        except DeathError:
            assert has_died
        else:
            assert not has_died

    def _given(self, run: Run, nanos: int) -> None:
        self.publisher.give(run, nanos)
        run.given += nanos
        self._move(nanos)

    def _move(self, nanos: int) -> None:
        self.purse.paid += nanos
        self.wallet.capacity += nanos

    def finish(self) -> None:
        """Let all that has begun come to its end."""
        if self.owed.hours:
            self.end_month(minutes=0, is_told=True, death=None, fault="")
            self.close_months(is_paid=False, death=None, fault="")
            assert all(one.heard for one in self.owed.told)
            over = [self.owed.months[one] for one in self.owed.months if one < months.of(self.now)]
            assert {month.state for month in over} <= {"reconciled"}
        for _ in range(2 if self.publisher.payouts else 0):
            # A payout may be refused now that was asked for before the account was open again.
            self.pay_publishers(has=_RICH, refuses=False, death=None, fault="")
        assert all(one.state != "open" for one in self.publisher.payouts)

"""Payments in random histories of money: in, back, disputed, given, owed; charges given back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, rule

from accounts import organizations
from billing import charge_refunds, payments, refunds, wallets
from billing.errors import CreditRefundError
from billing.ids import uuid7
from billing.models import ChargeRefundRun, CreditRefund, TopUp
from billing.stripe.errors import RejectedError
from tests.billing.deaths import DeathError, death_at, dying
from tests.billing.money_calls import amounts, coins
from tests.billing.money_checks import Checked
from tests.billing.money_model import CENT, Case, Payment

_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_FAR = datetime(2100, 1, 1, tzinfo=UTC)


class Payments(Checked):
    """What people and Stripe do with the organization's money."""

    paid = Bundle("paid")

    @initialize(
        target=paid, number=st.sampled_from([300, 20]), line=st.sampled_from([0, 400 * CENT])
    )
    def begin_with_money(self, number: int, line: int) -> Payment:
        """Begin with much or little, and perhaps with a credit line."""
        self.begin()
        if line:
            self.set_line(nanos=line)
        return self._pay(number)

    @rule(target=paid, number=coins)
    def top_up(self, number: int) -> Payment:
        return self._pay(number)

    def _pay(self, number: int) -> Payment:
        row = TopUp.objects.create(
            id=uuid7(),
            organization=self.organization,
            kind=TopUp.Kind.AUTO,
            credit_nanos=number * CENT,
            charge_minor=number,
        )
        payment = Payment(self.bank.pay(row), row.credit_nanos)
        self.payments.append(payment)
        self._sync(payment)
        self._move(payment.credit)
        return payment

    # Back to the card -----------------------------------------------------------------------

    @rule(payment=paid)
    def hear(self, payment: Payment) -> None:
        """Let a webhook of a payment arrive: late, or once more."""
        self._sync(payment)
        self._hear(payment)

    @rule(payment=paid, number=coins)
    def give_back(self, payment: Payment, number: int) -> None:
        """Give unspent credit back to its card."""
        nanos = number * CENT
        row = TopUp.objects.get(payment_intent=payment.intent)
        if any(case.heard == "open" for case in payment.cases) or nanos > self._most(payment):
            with pytest.raises(CreditRefundError):
                refunds.start(row, nanos, number=uuid7(), reason="test", actor=self.actor)
            return
        is_refused = nanos > payment.at_bank
        made = refunds.start(row, nanos, number=uuid7(), reason="test", actor=self.actor)
        assert (made.state == CreditRefund.State.FAILED) == is_refused
        if not is_refused:
            payment.own[made.stripe_refund] = nanos
            self._move(-nanos)
        self._hear(payment)

    def _most(self, payment: Payment) -> int:
        wallet = self.wallet
        available = wallet.capacity - wallet.posted - wallet.held
        return min(payment.left, self.purse.paid, available)

    @rule(payment=paid)
    def let_a_refund_fail(self, payment: Payment) -> None:
        for name in payment.own:
            if name not in payment.failed:
                self.bank.fail(name)
                payment.failed.append(name)
                return

    @rule(payment=paid, number=coins)
    def give_back_at_stripe(self, payment: Payment, number: int) -> None:
        """Give a part back past the site, as an operator can at Stripe."""
        nanos = number * CENT
        try:
            self.bank.create_refund(payment_intent=payment.intent, amount=number, metadata={})
        except RejectedError:
            assert nanos > payment.at_bank
            return
        payment.others += nanos

    # Disputes -------------------------------------------------------------------------------

    @rule(payment=paid, part=st.integers(1, 3))
    def dispute(self, payment: Payment, part: int) -> None:
        """Dispute all of a payment, or a part; also what was given back, and once more."""
        number = max(payment.credit // CENT // part, 1)
        payment.cases.append(Case(self.bank.dispute(payment.intent, number), number * CENT))

    @rule(payment=paid, won=st.booleans())
    def decide(self, payment: Payment, won: bool) -> None:
        for case in payment.cases:
            if case.state == "open":
                self.bank.close(case.name, won=won)
                case.state = "won" if won else "lost"
                return

    @rule(is_frozen=st.sampled_from([False, False, True]))
    def freeze_by_hand(self, is_frozen: bool) -> None:
        organizations.set_frozen(
            self.organization, is_frozen, actor=self.actor, reason="An operator decided"
        )
        if not (is_frozen and self.freeze.by):
            self.freeze.by = "operator" if is_frozen else ""

    # Charges given back ---------------------------------------------------------------------

    @rule(death=dying("refund"))
    def refund_all(self, death: str | None) -> None:
        """Give all charges of the version back; who dies half way goes on in the next round."""
        run = charge_refunds.start_run(
            uuid7(),
            self.version,
            _LONG_AGO,
            timezone.now(),
            reason="test",
            actor=self.actor,
        )
        ChargeRefundRun.objects.filter(pk=run.pk).update(until=_FAR)
        try:
            with death_at(death):
                charge_refunds.resume_runs()
        except DeathError:
            charge_refunds.resume_runs()
        for one in self.known.values():
            if one.settled and one.left:
                self._given(one, one.left)

    # Credit that was not paid by card -------------------------------------------------------

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

    # How ------------------------------------------------------------------------------------

    def _sync(self, payment: Payment) -> None:
        payments.sync(lambda: payments.of_intent(payment.intent, is_thorough=True))

    def _hear(self, payment: Payment) -> None:
        self._move(payment.hear())
        # Stripe lists the newest first.
        for case in payment.cases[::-1]:
            every = [one for each in self.payments for one in each.cases if one is not case]
            self.freeze.hear(case, every)

"""What the books should say of a publisher, without a database: earned, payable, paid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.billing.money_model import CENT, Earning, Run
from tests.billing.money_script import LostError, Script

# Less is not paid out; small, so that it is often reached.
MINIMUM = 30 * CENT
_KEY_LIVES = timedelta(hours=23)
_RETRY_AFTER = timedelta(days=1)


@dataclass
class Payout:
    """A payout: what is booked of it, and how it stands at Stripe."""

    coins: int
    made: datetime
    state: str = "open"
    # When Stripe was asked under the key that is used now, and what it answered.
    asked: datetime | None = None
    answer: str = ""
    # Whether the site has heard the answer.
    heard: bool = False
    ended: datetime | None = None

    def counts_for(self, now: datetime) -> bool:
        """Whether it is the payout of this month, or was refused a moment ago."""
        if (self.made.year, self.made.month) != (now.year, now.month):
            return False
        return self.ended is None or self.state != "failed" or self.ended > now - _RETRY_AFTER


@dataclass
class Publisher:
    """The owner of the model."""

    accrued: int = 0
    payable: int = 0
    waiting: list[Earning] = field(default_factory=list)
    payouts: list[Payout] = field(default_factory=list)

    def earn(self, runs: list[Run]) -> None:
        """Let a settlement earn."""
        earning = Earning()
        for run in runs:
            run.earning = earning
        self.waiting.append(earning)
        self.accrued += sum(run.publisher for run in runs)

    def release(self) -> None:
        """Make all payable."""
        self.payable, self.accrued = self.payable + self.accrued, 0
        for earning in self.waiting:
            earning.released = True
        self.waiting = []

    def give(self, run: Run, nanos: int) -> None:
        """Take the publisher's part of a charge that is given back."""
        before = run.publisher * run.given // run.captured
        part = run.publisher * (run.given + nanos) // run.captured - before
        if run.earning.released:
            self.payable -= part
        else:
            self.accrued -= part

    def pay(self, now: datetime, available: int, refuses: bool, script: Script) -> None:
        """Go on with what is open, then pay what is due.

        Args:
            available: Coins that we have at Stripe.
            refuses: Whether Stripe refuses what it is asked now.
        """
        for payout in [each for each in self.payouts if each.state == "open"]:
            self._send(payout, now, refuses, script)
        coins = self.payable // CENT
        if any(each.state == "open" or each.counts_for(now) for each in self.payouts):
            return
        if self.payable < MINIMUM or coins > available:
            return
        script.reach("payout.made")
        self.payable -= coins * CENT
        self.payouts.append(Payout(coins, now))
        self._send(self.payouts[-1], now, refuses, script)

    def _send(self, payout: Payout, now: datetime, refuses: bool, script: Script) -> None:
        script.reach("payout.claimed")
        if payout.asked and not payout.heard and payout.asked < now - _KEY_LIVES:
            # Looked up at Stripe: what is not there is asked for anew.
            payout.heard = payout.answer == "paid"
            payout.asked, payout.answer = None, payout.answer if payout.heard else ""
        if not payout.heard:
            payout.asked = payout.asked or now
            payout.answer = payout.answer or ("refused" if refuses else "paid")
            try:
                script.ask()
            except LostError:
                return
            payout.heard = True
        if payout.answer == "refused":
            script.reach("payout.failing")
            self.payable += payout.coins * CENT
        else:
            script.reach("payout.sent")
        payout.state, payout.ended = ("paid" if payout.answer == "paid" else "failed"), now

    @property
    def sent(self) -> list[int]:
        """The coins of each transfer that Stripe has made."""
        return [each.coins for each in self.payouts if each.answer == "paid"]

"""Stripe as far as random histories go: in memory, and asked by its gateway's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

from billing.models import TopUp
from billing.stripe.errors import RejectedError
from billing.stripe.objects import BalanceTransaction, Dispute, PaymentIntent, Refund
from tests.billing.money_stripe import Invoices

CUSTOMER = "cus_1"
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_DISPUTE_FEE = 1500


class Bank(Invoices):
    """Payments that succeeded, and what became of them; and all the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = count(1)
        self._intents: dict[str, PaymentIntent] = {}
        self._refunds: dict[str, Refund] = {}
        self._disputes: dict[str, Dispute] = {}

    # What people do -------------------------------------------------------------------------

    def pay(self, top_up: TopUp) -> str:
        """Pay a top-up; returns the payment's id."""
        made = PaymentIntent(
            id=f"pi_{next(self._numbers)}",
            status="succeeded",
            amount=top_up.charge_minor,
            amount_received=top_up.charge_minor,
            currency=top_up.currency,
            customer=CUSTOMER,
            payment_method="pm_1",
            charge_id=f"ch_{next(self._numbers)}",
            charge=None,
            action_url="",
            error_code="",
            decline_code="",
            created_at=_LONG_AGO,
            livemode=False,
            metadata={"top_up": str(top_up.pk)},
        )
        self._intents[made.id] = made
        return made.id

    def fail(self, refund: str) -> None:
        """Let a refund not arrive."""
        self._refunds[refund] = replace(self._refunds[refund], status="failed")

    def dispute(self, payment_intent: str, amount: int) -> str:
        """Let the owner of a card take an amount of coins back; returns the dispute's id."""
        name = f"dp_{next(self._numbers)}"
        self._disputes[name] = Dispute(
            id=name,
            status="needs_response",
            reason="fraudulent",
            amount=amount,
            currency="usd",
            charge=self._intents[payment_intent].charge_id,
            payment_intent=payment_intent,
            balance_transactions=(self._movement(-amount, _DISPUTE_FEE),),
            evidence_due_at=None,
            created_at=_LONG_AGO,
            metadata={},
        )
        return name

    def close(self, dispute: str, *, won: bool) -> None:
        """Let the bank decide: what was won comes back."""
        found = self._disputes[dispute]
        back = (self._movement(found.amount, 0),) if won else ()
        self._disputes[dispute] = replace(
            found,
            status="won" if won else "lost",
            balance_transactions=found.balance_transactions + back,
        )

    def _movement(self, amount: int, fee: int) -> BalanceTransaction:
        return BalanceTransaction(
            id=f"txn_{next(self._numbers)}",
            type="adjustment",
            reporting_category="dispute",
            amount=amount,
            fee=fee,
            net=amount - fee,
            currency="usd",
            source="",
            created_at=_LONG_AGO,
            available_at=_LONG_AGO,
        )

    # What the site asks ---------------------------------------------------------------------

    def retrieve_payment_intent(self, intent: str) -> PaymentIntent:
        """Return a payment."""
        return self._intents[intent]

    def list_refunds(self, *, payment_intent: str) -> list[Refund]:
        """Return all refunds of a payment, newest first."""
        found = [each for each in self._refunds.values() if each.payment_intent == payment_intent]
        return found[::-1]

    def list_disputes(self, *, payment_intent: str) -> list[Dispute]:
        """Return all disputes about a payment, newest first."""
        found = [each for each in self._disputes.values() if each.payment_intent == payment_intent]
        return found[::-1]

    def create_refund(
        self,
        *,
        payment_intent: str,
        amount: int,
        metadata: Mapping[str, str],
        key: str = "",
    ) -> Refund:
        """Give coins back, by the site or by its operator at Stripe.

        Raises:
            RejectedError: Less is left of the payment.
        """
        intent = self._intents[payment_intent]
        found = self.list_refunds(payment_intent=payment_intent)
        if amount > intent.amount - sum(each.amount for each in found if each.status != "failed"):
            raise RejectedError("Less is left.", code="charge_already_refunded")
        made = Refund(
            id=f"re_{next(self._numbers)}",
            status="succeeded",
            amount=amount,
            currency="usd",
            charge=intent.charge_id,
            payment_intent=payment_intent,
            failure_reason="",
            balance_transaction_id=f"txn_{next(self._numbers)}",
            failure_balance_transaction_id="",
            created_at=_LONG_AGO,
            metadata=dict(metadata),
        )
        self._refunds[made.id] = made
        return made

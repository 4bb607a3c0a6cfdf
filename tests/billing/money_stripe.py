"""Stripe as far as payouts, meters and invoices of random histories go: once per key, for a day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from django.utils import timezone

from billing import months
from billing.stripe.errors import AmbiguousError, RejectedError
from billing.stripe.objects import (
    Balance,
    CreditNote,
    Invoice,
    InvoiceItem,
    InvoiceLine,
    Meter,
    MeterEvent,
    MeterSummary,
    Price,
    Transfer,
)
from tests.billing.deaths import DeathError
from tests.billing.money_script import KILLED, LOST

METER = "mercato_spend_usd"
SUBSCRIPTION = "sub_1"
# As long as Stripe promises to know a key, or the identifier of a report.
_REMEMBERS = timedelta(hours=24)
_MICROS_PER_COIN = 10_000
Made = TypeVar("Made")


@dataclass(frozen=True)
class _Kept:
    """The first answer under a key."""

    at: datetime
    params: Mapping[str, Any]
    answer: Any


class Keyed:
    """What Stripe does once per key, and how its answers get lost."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        # What happens to the first answer from now on: see tests.billing.money_script.
        self.fault = ""

    def _once(self, key: str, params: Mapping[str, Any], make: Callable[[], Made]) -> Made:
        kept = self._kept.get(key)
        if kept is None or kept.at <= timezone.now() - _REMEMBERS:
            kept = self._kept[key] = _Kept(timezone.now(), params, _answer(make))
        assert kept.params == params, "the key was used before with other parameters"
        self._lose()
        if isinstance(kept.answer, RejectedError):
            raise kept.answer
        answer: Made = kept.answer
        return answer

    def _lose(self) -> None:
        fault, self.fault = self.fault, ""
        if fault == KILLED:
            raise DeathError
        if fault == LOST:
            raise AmbiguousError("The answer was lost.")


def _answer(make: Callable[[], Made]) -> Made | RejectedError:
    try:
        return make()
    except RejectedError as error:
        return error


class Transfers(Keyed):
    """Money to publishers."""

    def __init__(self) -> None:
        super().__init__()
        self.transfers: list[Transfer] = []
        # Coins of ours, and whether the publisher's account is closed at this moment.
        self.available, self.refuses = 0, False

    def retrieve_balance(self) -> Balance:
        """Return what can be transferred."""
        return Balance(available={"usd": self.available}, pending={})

    def create_transfer(self, *, key: str, **params: Any) -> Transfer:
        """Move coins to a publisher.

        Raises:
            RejectedError: The account receives nothing now.
        """
        return self._once(key, params, lambda: self._transfer(**params))

    def _transfer(self, **params: Any) -> Transfer:
        if self.refuses:
            raise RejectedError("The account is closed.", code="account_closed")
        made = Transfer(
            id=f"tr_{len(self.transfers)}",
            amount=params["amount"],
            amount_reversed=0,
            currency=params["currency"],
            destination=params["destination"],
            transfer_group=params["transfer_group"],
            balance_transaction_id="",
            created_at=timezone.now(),
            metadata=params["metadata"],
        )
        self.transfers.append(made)
        return made

    def list_transfers(self, *, transfer_group: str) -> list[Transfer]:
        """Return the transfers of a group, newest first."""
        return [one for one in self.transfers[::-1] if one.transfer_group == transfer_group]


class Meters(Transfers):
    """Usage that was reported."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[MeterEvent] = []

    def report_usage(
        self, *, event_name: str, customer: str, value: int, at: datetime, identifier: str
    ) -> MeterEvent:
        """Count usage, once per identifier while it is known.

        Raises:
            RejectedError: It was counted before.
        """
        since = timezone.now() - _REMEMBERS
        known = [one for one in self.events if one.created_at > since]
        if any(one.identifier == identifier for one in known):
            self._lose()
            raise RejectedError(f"An event already exists with identifier {identifier}.")
        made = MeterEvent(identifier, event_name, customer, value, at, timezone.now())
        self.events.append(made)
        self._lose()
        return made

    def list_meters(self) -> list[Meter]:
        """Return the one meter."""
        return [Meter("mtr_1", METER, "Usage", "active", "stripe_customer_id", "value")]

    def usage_summaries(
        self, *, meter: str, customer: str, start: datetime, end: datetime
    ) -> list[MeterSummary]:
        """Return what was counted between two times."""
        return [MeterSummary(start, end, self._counted(start, end))]

    def _counted(self, start: datetime, end: datetime) -> int:
        return sum(one.value for one in self.events if start <= one.timestamp < end)

    def find_price(self, lookup_key: str) -> Price:
        """Return the price of a micro-unit."""
        return Price(
            id="price_1",
            product="prod_1",
            currency="usd",
            unit_amount=Decimal("0.0001"),
            meter="mtr_1",
            lookup_key=lookup_key,
            is_active=True,
            metadata={},
        )


class Invoices(Meters):
    """An invoice per month: a draft when the month is over, final and paid when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self._invoices: dict[str, Invoice] = {}
        self._items: dict[str, InvoiceItem] = {}

    def list_invoices(self, *, customer: str, since: datetime) -> list[Invoice]:
        """Return the invoice of the month that ends a day after `since`."""
        end = since + timedelta(days=1)
        name = f"in_{end:%Y%m}"
        if end <= timezone.now() and name not in self._invoices:
            self._invoices[name] = _draft(name, customer, end)
        return [each for each in self._invoices.values() if each.period_end == end]

    def retrieve_invoice(self, invoice: str) -> Invoice:
        """Return an invoice; what is a draft is counted again."""
        found = self._invoices[invoice]
        if found.status == "draft":
            total = sum(line.amount for line in self.invoice_lines(invoice))
            found = replace(found, subtotal=total, total=total, amount_due=total)
            self._invoices[invoice] = found
        return found

    def invoice_lines(self, invoice: str) -> list[InvoiceLine]:
        """Return what the meter counted, and what was added."""
        found = self._invoices[invoice]
        micros = self._counted(found.period_start, found.period_end)
        usage = (2 * micros + _MICROS_PER_COIN) // (2 * _MICROS_PER_COIN)
        items = [one.amount for one in self._items.values() if one.invoice == invoice]
        return [
            _line(found, "price_1", usage),
            *(_line(found, "", amount) for amount in items),
        ]

    def hold_invoice(self, invoice: str, *, key: str) -> Invoice:
        """Keep a draft a draft."""
        return self._once(key, {"invoice": invoice}, lambda: self._set(invoice, auto_advance=False))

    def add_invoice_item(self, *, key: str, **params: Any) -> InvoiceItem:
        """Add a line to a draft."""

        def make() -> InvoiceItem:
            assert self._invoices[params["invoice"]].status == "draft"
            name = f"ii_{len(self._items)}"
            kept = {each: params[each] for each in ("invoice", "amount", "currency", "description")}
            self._items[name] = InvoiceItem(id=name, **kept)
            return self._items[name]

        return self._once(key, params, make)

    def finalize_invoice(self, invoice: str, *, key: str) -> Invoice:
        """Make a draft final; what comes to nothing is paid."""

        def make() -> Invoice:
            found = self.retrieve_invoice(invoice)
            assert found.status == "draft"
            return self._set(invoice, status="open" if found.total else "paid")

        return self._once(key, {"invoice": invoice}, make)

    def pay_invoice(self) -> bool:
        """Let the customer pay the oldest invoice that is open; returns whether there is one."""
        waiting = [one for one in self._invoices.values() if one.status == "open"]
        for one in sorted(waiting, key=lambda each: each.period_end)[:1]:
            self._set(one.id, status="paid", amount_paid=one.total, paid_at=timezone.now())
        return bool(waiting)

    def invoice_payments(self, invoice: str) -> list[str]:
        """Return nothing: how it was paid is not followed."""
        return []

    def list_credit_notes(self, *, invoice: str) -> list[CreditNote]:
        """Return nothing: no invoice is corrected."""
        return []

    def _set(self, invoice: str, **changes: Any) -> Invoice:
        self._invoices[invoice] = replace(self._invoices[invoice], **changes)
        return self._invoices[invoice]

    @property
    def final(self) -> list[int]:
        """The coins of each invoice that is final, oldest first."""
        found = [one for one in self._invoices.values() if one.status != "draft"]
        return [one.subtotal for one in sorted(found, key=lambda each: each.period_end)]


def _draft(name: str, customer: str, end: datetime) -> Invoice:
    fields: dict[str, Any] = {
        **dict.fromkeys(["number", "hosted_url", "pdf_url"], ""),
        **dict.fromkeys(["due_at", "finalized_at", "paid_at"]),
        **dict.fromkeys(["subtotal", "tax", "total", "amount_due"], 0),
        **dict.fromkeys(["amount_paid", "amount_remaining"], 0),
    }
    return Invoice(
        id=name,
        status="draft",
        customer=customer,
        subscription=SUBSCRIPTION,
        currency="usd",
        auto_advance=True,
        period_start=months.start(months.of(end - timedelta(days=1))),
        period_end=end,
        lines=(),
        created_at=end.astimezone(UTC),
        metadata={},
        **fields,
    )


def _line(invoice: Invoice, price: str, amount: int) -> InvoiceLine:
    return InvoiceLine(
        id="il_1",
        description="",
        amount=amount,
        currency="usd",
        quantity=Decimal(1),
        price=price,
        subscription=SUBSCRIPTION,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
    )

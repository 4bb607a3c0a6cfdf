"""Meters, prices, subscriptions, invoices and credit notes at Stripe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from stripe.params import CreditNoteCreateParams, InvoiceListParams
from stripe.params.billing import MeterEventSummaryListParams

from billing.stripe import convert_invoicing as convert
from billing.stripe import objects
from billing.stripe.base import PAGE, Area, once, plain
from billing.stripe.convert import key as id_of
from billing.stripe.errors import mapped

# The keys of a meter event's payload.
CUSTOMER_KEY = "stripe_customer_id"
VALUE_KEY = "value"


class Invoicing(Area):
    """Usage that is paid later."""

    def list_meters(self) -> list[objects.Meter]:
        """Return all active meters."""
        with mapped():
            page = self._v1.billing.meters.list({"status": "active", "limit": PAGE})
            return [convert.meter(each) for each in page.auto_paging_iter()]

    def adopt_meter(self, *, event_name: str, display_name: str, key: str) -> objects.Meter:
        """Return the meter of this event name, and make it only if there is none."""
        for meter in self.list_meters():
            if meter.event_name == event_name:
                return meter
        with mapped():
            return convert.meter(
                self._v1.billing.meters.create(
                    {
                        "event_name": event_name,
                        "display_name": display_name,
                        "default_aggregation": {"formula": "sum"},
                        "customer_mapping": {"type": "by_id", "event_payload_key": CUSTOMER_KEY},
                        "value_settings": {"event_payload_key": VALUE_KEY},
                    },
                    once(key),
                )
            )

    def create_product(
        self, *, name: str, metadata: Mapping[str, str], key: str
    ) -> objects.Product:
        """Make a product that prices belong to."""
        with mapped():
            return convert.product(
                self._v1.products.create({"name": name, "metadata": plain(metadata)}, once(key))
            )

    def find_price(self, lookup_key: str) -> objects.Price | None:
        """Return the active price of this name, if there is one."""
        with mapped():
            found = self._v1.prices.list({"lookup_keys": [lookup_key], "active": True, "limit": 1})
            return convert.price(found.data[0]) if found.data else None

    def create_metered_price(
        self,
        *,
        product: str,
        meter: str,
        currency: str,
        unit_amount: Decimal,
        lookup_key: str,
        key: str,
    ) -> objects.Price:
        """Make a monthly price of what a meter counts.

        Args:
            product: What is sold.
            meter: What counts.
            currency: Three small letters.
            unit_amount: Minor units per counted unit, at most 12 decimals.
            lookup_key: The name to find it by.
            key: The idempotency key.
        """
        with mapped():
            return convert.price(
                self._v1.prices.create(
                    {
                        "product": product,
                        "currency": currency,
                        "unit_amount_decimal": unit_amount,
                        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
                        "lookup_key": lookup_key,
                    },
                    once(key),
                )
            )

    def create_subscription(
        self,
        *,
        customer: str,
        price: str,
        anchor: datetime,
        metadata: Mapping[str, str],
        tax: bool,
        key: str,
    ) -> objects.Subscription:
        """Subscribe a customer to a metered price, billed each month.

        Args:
            customer: Who pays.
            price: The metered price.
            anchor: When the first period ends: the first of next month.
            metadata: Ours.
            tax: Whether Stripe works out tax.
            key: The idempotency key.
        """
        with mapped():
            return convert.subscription(
                self._v1.subscriptions.create(
                    {
                        "customer": customer,
                        "items": [{"price": price}],
                        "billing_cycle_anchor": int(anchor.timestamp()),
                        "proration_behavior": "none",
                        "collection_method": "charge_automatically",
                        "billing_mode": {"type": "flexible"},
                        "automatic_tax": {"enabled": tax},
                        "metadata": plain(metadata),
                    },
                    once(key),
                )
            )

    def retrieve_subscription(self, subscription: str) -> objects.Subscription:
        """Return a subscription as it is now."""
        with mapped():
            return convert.subscription(self._v1.subscriptions.retrieve(subscription))

    def list_subscriptions(self, customer: str) -> list[objects.Subscription]:
        """Return all subscriptions of a customer, ended ones too."""
        with mapped():
            page = self._v1.subscriptions.list(
                {"customer": customer, "status": "all", "limit": PAGE}
            )
            return [convert.subscription(each) for each in page.auto_paging_iter()]

    def cancel_subscription(self, subscription: str, *, key: str) -> objects.Subscription:
        """End a subscription now, with a last invoice of what was used."""
        with mapped():
            return convert.subscription(
                self._v1.subscriptions.cancel(subscription, {"invoice_now": True}, once(key))
            )

    def report_usage(
        self, *, event_name: str, customer: str, value: int, at: datetime, identifier: str
    ) -> objects.MeterEvent:
        """Count usage; the identifier is also the idempotency key.

        Args:
            event_name: The meter's.
            customer: Who used it.
            value: Whole, at most 15 digits; may be negative.
            at: When; at most 35 days ago.
            identifier: At most 100 characters; counted once.

        Raises:
            RejectedError: `is_duplicate_usage` tells that it was counted before: success.
        """
        with mapped():
            return convert.meter_event(
                self._v1.billing.meter_events.create(
                    {
                        "event_name": event_name,
                        "identifier": identifier,
                        "timestamp": int(at.timestamp()),
                        "payload": {CUSTOMER_KEY: customer, VALUE_KEY: str(value)},
                    },
                    once(identifier),
                )
            )

    def cancel_usage(
        self, *, event_name: str, identifier: str, key: str
    ) -> objects.MeterEventAdjustment:
        """Take a meter event back; possible for 24 hours."""
        with mapped():
            return convert.meter_event_adjustment(
                self._v1.billing.meter_event_adjustments.create(
                    {
                        "event_name": event_name,
                        "type": "cancel",
                        "cancel": {"identifier": identifier},
                    },
                    once(key),
                )
            )

    def usage_summaries(
        self, *, meter: str, customer: str, start: datetime, end: datetime, hourly: bool = False
    ) -> list[objects.MeterSummary]:
        """Return what a meter counted, oldest first.

        Args:
            meter: The meter.
            customer: Whose usage.
            start: Aligned to a minute; to an hour if `hourly`.
            end: Likewise, exclusive.
            hourly: A value per hour in place of one for the whole time.
        """
        wanted: MeterEventSummaryListParams = {
            "customer": customer,
            "start_time": int(start.timestamp()),
            "end_time": int(end.timestamp()),
            "limit": PAGE,
        }
        if hourly:
            wanted["value_grouping_window"] = "hour"
        with mapped():
            page = self._v1.billing.meters.event_summaries.list(meter, wanted)
            found = [convert.meter_summary(each) for each in page.auto_paging_iter()]
        return sorted(found, key=lambda each: each.start_at)

    def retrieve_invoice(self, invoice: str) -> objects.Invoice:
        """Return an invoice with its first lines."""
        with mapped():
            return convert.invoice(self._v1.invoices.retrieve(invoice))

    def list_invoices(
        self, *, customer: str, subscription: str = "", since: datetime | None = None
    ) -> list[objects.Invoice]:
        """Return the invoices of a customer, newest first."""
        wanted: InvoiceListParams = {"customer": customer, "limit": PAGE}
        if subscription:
            wanted["subscription"] = subscription
        if since:
            wanted["created"] = {"gte": int(since.timestamp())}
        with mapped():
            page = self._v1.invoices.list(wanted)
            return [convert.invoice(each) for each in page.auto_paging_iter()]

    def invoice_lines(self, invoice: str) -> list[objects.InvoiceLine]:
        """Return all lines of an invoice."""
        with mapped():
            page = self._v1.invoices.line_items.list(invoice, {"limit": PAGE})
            return [convert.invoice_line(each) for each in page.auto_paging_iter()]

    def hold_invoice(self, invoice: str, *, key: str) -> objects.Invoice:
        """Keep a draft from becoming final by itself: a person must look at it."""
        with mapped():
            return convert.invoice(
                self._v1.invoices.update(invoice, {"auto_advance": False}, once(key))
            )

    def label_invoice(
        self, invoice: str, *, metadata: Mapping[str, str], description: str, key: str
    ) -> objects.Invoice:
        """Write our statement's number on a draft."""
        with mapped():
            return convert.invoice(
                self._v1.invoices.update(
                    invoice,
                    {"metadata": plain(metadata), "description": description},
                    once(key),
                )
            )

    def add_invoice_item(
        self,
        *,
        invoice: str,
        customer: str,
        amount: int,
        currency: str,
        description: str,
        key: str,
    ) -> objects.InvoiceItem:
        """Add a line to a draft.

        Args:
            invoice: The draft.
            customer: Whose it is.
            amount: Minor units; negative takes off.
            currency: Three small letters.
            description: What the customer reads.
            key: The idempotency key.
        """
        with mapped():
            return convert.invoice_item(
                self._v1.invoice_items.create(
                    {
                        "invoice": invoice,
                        "customer": customer,
                        "amount": amount,
                        "currency": currency,
                        "description": description,
                    },
                    once(key),
                )
            )

    def invoice_payments(self, invoice: str) -> list[str]:
        """Return the payment intents that have paid an invoice."""
        with mapped():
            page = self._v1.invoice_payments.list(
                {"invoice": invoice, "status": "paid", "limit": PAGE}
            )
            intents = [each.payment.payment_intent for each in page.auto_paging_iter()]
        return [id_of(each) for each in intents if each is not None]

    def invoice_of(self, payment_intent: str) -> str:
        """Return the invoice that a payment has paid; empty if it was for none."""
        with mapped():
            page = self._v1.invoice_payments.list(
                {
                    "payment": {"type": "payment_intent", "payment_intent": payment_intent},
                    "limit": 1,
                }
            )
        return id_of(page.data[0].invoice) if page.data else ""

    def finalize_invoice(self, invoice: str, *, key: str) -> objects.Invoice:
        """Make a draft final, and have it paid."""
        with mapped():
            return convert.invoice(
                self._v1.invoices.finalize_invoice(invoice, {"auto_advance": True}, once(key))
            )

    def void_invoice(self, invoice: str, *, key: str) -> objects.Invoice:
        """Declare an open invoice void."""
        with mapped():
            return convert.invoice(self._v1.invoices.void_invoice(invoice, {}, once(key)))

    def create_credit_note(
        self,
        *,
        invoice: str,
        amount: int,
        refund_amount: int = 0,
        out_of_band_amount: int = 0,
        credit_amount: int = 0,
        reason: str = "",
        memo: str = "",
        metadata: Mapping[str, str],
        key: str,
    ) -> objects.CreditNote:
        """Correct a final invoice.

        Args:
            invoice: What is corrected.
            amount: Minor units, with tax.
            refund_amount: What of a paid invoice goes back to the card.
            out_of_band_amount: What of it was given back elsewhere, as to our wallet.
            credit_amount: What of it stays at Stripe for the next invoice.
            reason: `duplicate`, `fraudulent`, `order_change` or `product_unsatisfactory`.
            memo: What the customer reads.
            metadata: Ours.
            key: The idempotency key.

        Raises:
            RejectedError: More than the invoice's total less earlier credit notes.
        """
        note: CreditNoteCreateParams = {
            "invoice": invoice,
            "amount": amount,
            "metadata": plain(metadata),
        }
        if refund_amount:
            note["refund_amount"] = refund_amount
        if out_of_band_amount:
            note["out_of_band_amount"] = out_of_band_amount
        if credit_amount:
            note["credit_amount"] = credit_amount
        if memo:
            note["memo"] = memo
        if reason:
            note["reason"] = reason
        with mapped():
            return convert.credit_note(self._v1.credit_notes.create(note, once(key)))

    def retrieve_credit_note(self, note: str) -> objects.CreditNote:
        """Return a credit note as it is now."""
        with mapped():
            return convert.credit_note(self._v1.credit_notes.retrieve(note))

    def list_credit_notes(self, *, invoice: str) -> list[objects.CreditNote]:
        """Return all credit notes of an invoice, newest first."""
        with mapped():
            page = self._v1.credit_notes.list({"invoice": invoice, "limit": PAGE})
            return [convert.credit_note(each) for each in page.auto_paging_iter()]

"""Customers, cards, payments, refunds and disputes at Stripe."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from stripe.params import CustomerCreateParams, PaymentIntentCreateParams
from stripe.params.checkout import SessionCreateParams

from billing.stripe import convert, objects
from billing.stripe.base import PAGE, Area, once, plain
from billing.stripe.errors import mapped

_WITH_MONEY = ["latest_charge.balance_transaction"]


class Payments(Area):
    """Money that comes in from customers, and goes back to them."""

    def create_customer(
        self, *, email: str, name: str, metadata: Mapping[str, str], key: str
    ) -> objects.Customer:
        """Make a customer.

        Args:
            email: Where Stripe sends receipts; empty if nobody is to get any.
            name: The organization's name.
            metadata: Ours: says whose customer it is.
            key: The idempotency key.
        """
        wanted: CustomerCreateParams = {"name": name, "metadata": plain(metadata)}
        if email:
            wanted["email"] = email
        with mapped():
            return convert.customer(self._v1.customers.create(wanted, once(key)))

    def retrieve_customer(self, customer: str) -> objects.Customer:
        """Return a customer as it is now; `is_deleted` if it is gone."""
        with mapped():
            return convert.customer(self._v1.customers.retrieve(customer))

    def set_default_card(self, customer: str, card: str, *, key: str) -> objects.Customer:
        """Choose the card that invoices and automatic top-ups are charged to."""
        with mapped():
            return convert.customer(
                self._v1.customers.update(
                    customer, {"invoice_settings": {"default_payment_method": card}}, once(key)
                )
            )

    def create_topup_session(
        self,
        *,
        customer: str,
        amount: int,
        currency: str,
        description: str,
        reference: str,
        metadata: Mapping[str, str],
        success_url: str,
        cancel_url: str,
        expires_at: datetime,
        save_card: bool,
        tax: bool,
        key: str,
    ) -> objects.CheckoutSession:
        """Open a payment page for one amount.

        Args:
            customer: Who pays.
            amount: Minor units, without tax.
            currency: Three small letters.
            description: What the person reads on the page and the receipt.
            reference: Our id of the top-up; comes back as `client_reference_id`.
            metadata: Ours: also written on the payment.
            success_url: Where the person goes after paying; may hold `{CHECKOUT_SESSION_ID}`.
            cancel_url: Where the person goes otherwise.
            expires_at: From half an hour to a day from now.
            save_card: Whether the card may be charged later without the person.
            tax: Whether Stripe works out tax on top of the amount.
            key: The idempotency key.
        """
        payment: SessionCreateParams = {
            "mode": "payment",
            "customer": customer,
            "client_reference_id": reference,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": currency,
                        "unit_amount": amount,
                        "tax_behavior": "exclusive",
                        "product_data": {"name": description},
                    },
                }
            ],
            "payment_intent_data": {"metadata": plain(metadata), "description": description},
            "metadata": plain(metadata),
            "invoice_creation": {"enabled": True},
            "success_url": success_url,
            "cancel_url": cancel_url,
            "expires_at": int(expires_at.timestamp()),
        }
        if save_card:
            payment["payment_intent_data"]["setup_future_usage"] = "off_session"
        if tax:
            payment["automatic_tax"] = {"enabled": True}
            payment["tax_id_collection"] = {"enabled": True}
            payment["customer_update"] = {"address": "auto", "name": "auto"}
        with mapped():
            return convert.checkout_session(self._v1.checkout.sessions.create(payment, once(key)))

    def create_setup_session(
        self,
        *,
        customer: str,
        currency: str,
        metadata: Mapping[str, str],
        success_url: str,
        cancel_url: str,
        key: str,
    ) -> objects.CheckoutSession:
        """Open a page on which a card is saved and nothing is paid."""
        with mapped():
            return convert.checkout_session(
                self._v1.checkout.sessions.create(
                    {
                        "mode": "setup",
                        "customer": customer,
                        "currency": currency,
                        "metadata": plain(metadata),
                        "success_url": success_url,
                        "cancel_url": cancel_url,
                    },
                    once(key),
                )
            )

    def retrieve_session(self, session: str) -> objects.CheckoutSession:
        """Return a visit of the payment page, with its payment, charge and fee."""
        with mapped():
            return convert.checkout_session(
                self._v1.checkout.sessions.retrieve(
                    session, {"expand": ["payment_intent.latest_charge.balance_transaction"]}
                )
            )

    def expire_session(self, session: str, *, key: str) -> objects.CheckoutSession:
        """Close a payment page that is still open: nobody can pay there any more.

        Raises:
            RejectedError: It is not open.
        """
        with mapped():
            return convert.checkout_session(
                self._v1.checkout.sessions.expire(session, {}, once(key))
            )

    def charge_saved_card(
        self,
        *,
        customer: str,
        card: str,
        amount: int,
        currency: str,
        description: str,
        metadata: Mapping[str, str],
        key: str,
    ) -> objects.PaymentIntent:
        """Charge a saved card while its owner is away.

        Raises:
            RejectedError: The bank said no, or asks the person (`authentication_required`).
        """
        payment: PaymentIntentCreateParams = {
            "amount": amount,
            "currency": currency,
            "customer": customer,
            "payment_method": card,
            # Other means of payment would need an address to send the person to.
            "allowed_payment_method_types": ["card"],
            "off_session": True,
            "confirm": True,
            "description": description,
            "metadata": plain(metadata),
            "expand": _WITH_MONEY,
        }
        with mapped():
            return convert.payment_intent(self._v1.payment_intents.create(payment, once(key)))

    def retrieve_payment_intent(self, intent: str) -> objects.PaymentIntent:
        """Return a payment with its charge and fee."""
        with mapped():
            return convert.payment_intent(
                self._v1.payment_intents.retrieve(intent, {"expand": _WITH_MONEY})
            )

    def list_payment_intents(
        self, *, customer: str, since: datetime
    ) -> list[objects.PaymentIntent]:
        """Return all payments of a customer made since then: to look up an unknown outcome."""
        with mapped():
            page = self._v1.payment_intents.list(
                {
                    "customer": customer,
                    "created": {"gte": int(since.timestamp())},
                    "limit": PAGE,
                    "expand": [f"data.{each}" for each in _WITH_MONEY],
                }
            )
            return [convert.payment_intent(each) for each in page.auto_paging_iter()]

    def list_cards(self, customer: str) -> list[objects.Card]:
        """Return the saved cards of a customer, newest first."""
        with mapped():
            page = self._v1.customers.payment_methods.list(
                customer, {"type": "card", "limit": PAGE}
            )
            return [convert.card(each) for each in page.auto_paging_iter()]

    def retrieve_card(self, card: str) -> objects.Card:
        """Return a saved card."""
        with mapped():
            return convert.card(self._v1.payment_methods.retrieve(card))

    def detach_card(self, card: str, *, key: str) -> objects.Card:
        """Forget a saved card."""
        with mapped():
            return convert.card(self._v1.payment_methods.detach(card, {}, once(key)))

    def retrieve_setup_intent(self, intent: str) -> objects.SetupIntent:
        """Return the saving of a card."""
        with mapped():
            return convert.setup_intent(self._v1.setup_intents.retrieve(intent))

    def create_portal_session(
        self, *, customer: str, return_url: str, key: str
    ) -> objects.PortalSession:
        """Open Stripe's page for cards and invoices of one customer."""
        with mapped():
            made = self._v1.billing_portal.sessions.create(
                {"customer": customer, "return_url": return_url}, once(key)
            )
            return objects.PortalSession(made.id, made.url)

    def create_refund(
        self,
        *,
        payment_intent: str,
        amount: int,
        metadata: Mapping[str, str],
        key: str,
    ) -> objects.Refund:
        """Give money back to the card it came from.

        Args:
            payment_intent: The payment.
            amount: Minor units; at most what has not been given back yet.
            metadata: Ours.
            key: The idempotency key.
        """
        with mapped():
            return convert.refund(
                self._v1.refunds.create(
                    {
                        "payment_intent": payment_intent,
                        "amount": amount,
                        "reason": "requested_by_customer",
                        "metadata": plain(metadata),
                    },
                    once(key),
                )
            )

    def retrieve_refund(self, refund: str) -> objects.Refund:
        """Return a refund as it is now."""
        with mapped():
            return convert.refund(self._v1.refunds.retrieve(refund))

    def list_refunds(self, *, payment_intent: str) -> list[objects.Refund]:
        """Return all refunds of a payment, newest first."""
        with mapped():
            page = self._v1.refunds.list({"payment_intent": payment_intent, "limit": PAGE})
            return [convert.refund(each) for each in page.auto_paging_iter()]

    def retrieve_charge(self, charge: str) -> objects.Charge:
        """Return a charge with its fee."""
        with mapped():
            return convert.charge(
                self._v1.charges.retrieve(charge, {"expand": ["balance_transaction"]})
            )

    def retrieve_dispute(self, dispute: str) -> objects.Dispute:
        """Return a dispute as it is now."""
        with mapped():
            return convert.dispute(self._v1.disputes.retrieve(dispute))

    def list_disputes(self, *, payment_intent: str) -> list[objects.Dispute]:
        """Return all disputes about a payment, newest first."""
        with mapped():
            page = self._v1.disputes.list({"payment_intent": payment_intent, "limit": PAGE})
            return [convert.dispute(each) for each in page.auto_paging_iter()]

"""What payers, banks and publishers do at the fake; pages and tests press these buttons."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from billing.stripe.fake import checkout, clock, connect, invoices, money, payments
from billing.stripe.fake.routes import Refusal, need
from billing.stripe.fake.store import Body, Store, World


class People:
    """Everybody but the site."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _act(self, deed: Callable[[World], Body]) -> Body:
        refused: Refusal | None = None
        with self._store.transaction() as world:
            clock.tick(world)
            try:
                done = deed(world)
            except Refusal as refusal:
                # What a refusal leaves behind, such as a failed payment, is kept.
                refused = refusal
        if refused:
            raise refused
        return done

    # Time ------------------------------------------------------------------------------------

    def wait(self, seconds: int) -> None:
        """Let time pass."""
        with self._store.transaction() as world:
            clock.advance(world, seconds)

    def stop_the_clock(self, at: datetime) -> None:
        """Make it this moment until `wait` is called."""
        with self._store.transaction() as world:
            clock.freeze(world, int(at.timestamp()))

    def now(self) -> datetime:
        """Return the fake's time."""
        with self._store.transaction() as world:
            return datetime.fromtimestamp(world.now, UTC)

    def set(self, name: str, value: int) -> None:
        """Set how the fake behaves.

        Args:
            name: `tax_bps` (tax of payment pages), `settling` (seconds until money is available)
                or `slow_refunds` (1: refunds stay pending).
            value: A whole number.
        """
        with self._store.transaction() as world:
            world.set_fact(name, value)

    # Payers ----------------------------------------------------------------------------------

    def look(self, name: str) -> Body | None:
        """Return any object as it is now, or nothing."""
        with self._store.transaction() as world:
            clock.tick(world)
            return world.find(name)

    def all(self, kind: str, label: str = "") -> list[Body]:
        """Return all objects of a kind, newest first, past the API and its faults."""
        with self._store.transaction() as world:
            return world.newest(kind, label)

    def pay(self, session: str, card: str = payments.PAYING_CARD, *, later: bool = False) -> Body:
        """Pay on a payment page, or save a card there.

        Raises:
            Refusal: The bank said no, or the page is closed.
        """
        return self._act(lambda world: checkout.pay_session(world, session, card, later=later))

    def settle(self, session: str, *, succeeded: bool = True) -> Body:
        """Let a payment that takes days arrive, or fail."""
        return self._act(lambda world: checkout.settle_session(world, session, succeeded=succeeded))

    def expire(self, session: str) -> Body:
        """Let a payment page grow too old."""
        return self._act(lambda world: checkout.expire_session(world, {}, session))

    def save_card(self, customer: str, card: str = payments.PAYING_CARD) -> Body:
        """Save a card in the portal."""
        return self._act(
            lambda world: payments.keep_card(world, payments.new_card(world, card), customer)
        )

    def remove_card(self, card: str) -> Body:
        """Remove a saved card in the portal."""
        return self._act(lambda world: payments.detach_card(world, {}, card))

    def prefer_card(self, customer: str, card: str) -> Body:
        """Choose the default card in the portal."""
        choice = {"invoice_settings": {"default_payment_method": card}}
        return self._act(lambda world: payments.update_customer(world, choice, customer))

    def cards(self, customer: str) -> list[Body]:
        """Return the saved cards, newest first."""
        with self._store.transaction() as world:
            return payments.cards_of(world, customer)

    def pay_invoice(self, invoice: str) -> Body:
        """Pay an open invoice with the saved card."""
        return self._act(lambda world: invoices.collect(world, need(world, invoice, "invoice")))

    # Banks and Stripe's own staff ------------------------------------------------------------

    def dispute(self, charge: str, amount: int | None = None) -> Body:
        """Take a payment back; all of it if no amount is given."""

        def deed(world: World) -> Body:
            found = need(world, charge, "charge")
            return money.open_dispute(world, found, amount or found["amount"])

        return self._act(deed)

    def close_dispute(self, dispute: str, *, won: bool) -> Body:
        """Decide a dispute: `won` is for us."""
        return self._act(
            lambda world: money.close_dispute(world, need(world, dispute, "dispute"), won=won)
        )

    def refund(self, charge: str, amount: int) -> Body:
        """Give money back in Stripe's dashboard, behind the site's back."""
        return self._act(
            lambda world: money.create_refund(world, {"charge": charge, "amount": amount})
        )

    def settle_refund(self, refund: str) -> Body:
        """Let a pending refund arrive."""
        return self._act(lambda world: money.settle_refund(world, need(world, refund, "refund")))

    def fail_refund(self, refund: str) -> Body:
        """Send a refund back."""
        return self._act(lambda world: money.fail_refund(world, need(world, refund, "refund")))

    def deposit(self, amount: int, currency: str = "usd") -> Body:
        """Put money on our balance, in minor units."""
        return self._act(lambda world: money.move(world, "topup", amount, currency, "deposit"))

    # Publishers ------------------------------------------------------------------------------

    def onboard(self, account: str) -> Body:
        """Tell Stripe who the publisher is: the account may receive money."""
        return self.set_receiving(account, receives=True)

    def set_receiving(self, account: str, *, receives: bool) -> Body:
        """Allow or stop payments to a publisher."""
        return self._act(
            lambda world: connect.set_account(
                world, need(world, account, "account"), receives=receives
            )
        )

    def send_to_bank(self, account: str, amount: int, *, failure: str = "") -> Body:
        """Send money from a publisher's account to a bank, which sends it back for a reason."""
        return self._act(
            lambda world: connect.send_to_bank(
                world, need(world, account, "account"), amount, failure=failure
            )
        )

"""Publishers' accounts, transfers to them, our balance and the list of events at Stripe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from stripe.params import BalanceTransactionListParams

from billing.stripe import convert, objects
from billing.stripe import convert_connect as connected
from billing.stripe.base import PAGE, Area, once, plain
from billing.stripe.errors import mapped


class Connect(Area):
    """Money that goes out to publishers, and what Stripe's books say."""

    def create_account(
        self, *, email: str, country: str, metadata: Mapping[str, str], key: str
    ) -> objects.Account:
        """Make an account for a publisher, who then tells Stripe who they are.

        Args:
            email: The publisher's.
            country: Two capital letters.
            metadata: Ours: says whose account it is.
            key: The idempotency key.
        """
        with mapped():
            return connected.account(
                self._v1.accounts.create(
                    {
                        "email": email,
                        "country": country,
                        # We pay the fees and bear the losses; Stripe asks for the documents.
                        "controller": {
                            "fees": {"payer": "application"},
                            "losses": {"payments": "application"},
                            "requirement_collection": "stripe",
                            "stripe_dashboard": {"type": "express"},
                        },
                        "capabilities": {"transfers": {"requested": True}},
                        "metadata": plain(metadata),
                    },
                    once(key),
                )
            )

    def retrieve_account(self, account: str) -> objects.Account:
        """Return a publisher's account as it is now."""
        with mapped():
            return connected.account(self._v1.accounts.retrieve(account))

    def create_account_link(
        self, *, account: str, return_url: str, refresh_url: str, key: str
    ) -> objects.AccountLink:
        """Open the page on which a publisher tells Stripe who they are.

        Args:
            account: The publisher's account.
            return_url: Where the person goes when done, or not.
            refresh_url: Where the person goes if the link is too old: it must make a new one.
            key: The idempotency key.
        """
        with mapped():
            made = self._v1.account_links.create(
                {
                    "account": account,
                    "return_url": return_url,
                    "refresh_url": refresh_url,
                    "type": "account_onboarding",
                },
                once(key),
            )
            return objects.AccountLink(made.url, convert.moment(made.expires_at))

    def last_bank_payment(self, account: str) -> objects.BankPayment | None:
        """Return what Stripe last sent from a publisher's account to a bank, as it is now."""
        with mapped():
            page = self._v1.payouts.list({"limit": 1}, {"stripe_account": account})
            return connected.bank_payment(page.data[0]) if page.data else None

    def create_transfer(
        self,
        *,
        amount: int,
        currency: str,
        destination: str,
        transfer_group: str,
        description: str,
        metadata: Mapping[str, str],
        key: str,
    ) -> objects.Transfer:
        """Move money from our balance to a publisher's account.

        Raises:
            RejectedError: Such as `balance_insufficient`. The same key gives it for a day.
        """
        with mapped():
            return connected.transfer(
                self._v1.transfers.create(
                    {
                        "amount": amount,
                        "currency": currency,
                        "destination": destination,
                        "transfer_group": transfer_group,
                        "description": description,
                        "metadata": plain(metadata),
                    },
                    once(key),
                )
            )

    def retrieve_transfer(self, transfer: str) -> objects.Transfer:
        """Return a transfer as it is now."""
        with mapped():
            return connected.transfer(self._v1.transfers.retrieve(transfer))

    def list_transfers(self, *, transfer_group: str) -> list[objects.Transfer]:
        """Return all transfers of a group, newest first: to look up an unknown outcome."""
        with mapped():
            page = self._v1.transfers.list({"transfer_group": transfer_group, "limit": PAGE})
            return [connected.transfer(each) for each in page.auto_paging_iter()]

    def reverse_transfer(
        self, transfer: str, *, amount: int, metadata: Mapping[str, str], key: str
    ) -> objects.TransferReversal:
        """Take money back from a publisher's account.

        Args:
            transfer: What brought it there.
            amount: Minor units; at most what has not been taken back yet.
            metadata: Ours.
            key: The idempotency key.
        """
        with mapped():
            return connected.transfer_reversal(
                self._v1.transfers.reversals.create(
                    transfer, {"amount": amount, "metadata": plain(metadata)}, once(key)
                )
            )

    def list_reversals(self, transfer: str) -> list[objects.TransferReversal]:
        """Return all reversals of a transfer, newest first."""
        with mapped():
            page = self._v1.transfers.reversals.list(transfer, {"limit": PAGE})
            return [connected.transfer_reversal(each) for each in page.auto_paging_iter()]

    def retrieve_balance(self) -> objects.Balance:
        """Return our balance: only what is available can be transferred."""
        with mapped():
            return connected.balance(self._v1.balance.retrieve())

    def balance_transactions(
        self, *, since: datetime, until: datetime | None = None, source: str = ""
    ) -> Iterator[objects.BalanceTransaction]:
        """Yield the movements on our balance, newest first; asks for pages as they are needed.

        Args:
            since: Made at this time or later.
            until: Made before this time.
            source: Only those of one charge, refund, dispute or transfer.
        """
        wanted: BalanceTransactionListParams = {
            "created": {"gte": int(since.timestamp())},
            "limit": PAGE,
        }
        if until:
            wanted["created"] = {
                "gte": int(since.timestamp()),
                "lt": int(until.timestamp()),
            }
        if source:
            wanted["source"] = source
        with mapped():
            for each in self._v1.balance_transactions.list(wanted).auto_paging_iter():
                yield convert.balance_transaction(each)

    def list_events(self, *, since: datetime, types: Sequence[str] = ()) -> Iterator[objects.Event]:
        """Yield what happened since then, newest first; Stripe remembers 30 days.

        Args:
            since: Made at this time or later.
            types: At most 20 kinds; all if empty.
        """
        with mapped():
            page = self._v1.events.list(
                {
                    "created": {"gte": int(since.timestamp())},
                    "limit": PAGE,
                    **({"types": list(types)} if types else {}),
                }
            )
            for each in page.auto_paging_iter():
                yield connected.event(each)

    def retrieve_event(self, event: str) -> objects.Event:
        """Return an event."""
        with mapped():
            return connected.event(self._v1.events.retrieve(event))

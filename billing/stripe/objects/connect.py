"""Publishers' accounts, our balance, and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Account:
    """A publisher's account at Stripe; paid only while `can_receive`."""

    id: str
    country: str
    default_currency: str
    email: str
    charges_enabled: bool
    payouts_enabled: bool
    details_submitted: bool
    # `active`, `inactive` or `pending`; empty if never asked for.
    transfers_capability: str
    currently_due: tuple[str, ...]
    past_due: tuple[str, ...]
    disabled_reason: str
    metadata: Mapping[str, str]

    @property
    def can_receive(self) -> bool:
        """Whether money may be transferred to it now."""
        return self.transfers_capability == "active" and self.payouts_enabled


@dataclass(frozen=True, slots=True)
class AccountLink:
    """Where a publisher tells Stripe who they are; works once, for minutes."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class BankPayment:
    """Money that Stripe sent from a publisher's account to the publisher's bank."""

    id: str
    amount: int
    currency: str
    # `pending`, `in_transit`, `paid`, `failed` or `canceled`.
    status: str
    # Why the bank sent it back, in Stripe's words; empty if it did not.
    failure: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that went to a publisher's account."""

    id: str
    amount: int
    amount_reversed: int
    currency: str
    destination: str
    transfer_group: str
    balance_transaction_id: str
    created_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TransferReversal:
    """Money that came back from a publisher's account."""

    id: str
    transfer: str
    amount: int
    currency: str
    balance_transaction_id: str
    created_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Balance:
    """Our balance at Stripe per currency, in minor units."""

    available: Mapping[str, int]
    pending: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Event:
    """That something happened; what it is now must be asked for."""

    id: str
    type: str
    object_id: str
    object_type: str
    # The connected account it happened on; empty for ours.
    account: str
    livemode: bool
    api_version: str
    created_at: datetime
    payload: Mapping[str, Any]

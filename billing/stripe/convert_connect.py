"""The SDK's accounts, transfers, balances and events, turned into values of ours."""

from __future__ import annotations

import stripe

from billing.stripe import objects
from billing.stripe.convert import key, labels, moment


def account(raw: stripe.Account) -> objects.Account:
    """Return a publisher's account."""
    capabilities, needed = raw.capabilities, raw.requirements
    return objects.Account(
        id=raw.id,
        country=raw.country or "",
        default_currency=raw.default_currency or "",
        email=raw.email or "",
        charges_enabled=bool(raw.charges_enabled),
        payouts_enabled=bool(raw.payouts_enabled),
        details_submitted=bool(raw.details_submitted),
        transfers_capability=getattr(capabilities, "transfers", None) or "",
        currently_due=tuple(needed.currently_due or []) if needed else (),
        past_due=tuple(needed.past_due or []) if needed else (),
        disabled_reason=(needed.disabled_reason or "") if needed else "",
        metadata=labels(raw.metadata),
    )


def bank_payment(raw: stripe.Payout) -> objects.BankPayment:
    """Return money that went from a publisher's account to a bank."""
    is_failed = raw.status == "failed"
    return objects.BankPayment(
        id=raw.id,
        amount=raw.amount,
        currency=raw.currency,
        status=raw.status,
        failure=(raw.failure_message or raw.failure_code or "failed") if is_failed else "",
    )


def transfer(raw: stripe.Transfer) -> objects.Transfer:
    """Return money that went to a publisher."""
    return objects.Transfer(
        id=raw.id,
        amount=raw.amount,
        amount_reversed=raw.amount_reversed,
        currency=raw.currency,
        destination=key(raw.destination),
        transfer_group=raw.transfer_group or "",
        balance_transaction_id=key(raw.balance_transaction),
        created_at=moment(raw.created),
        metadata=labels(raw.metadata),
    )


def transfer_reversal(raw: stripe.TransferReversal) -> objects.TransferReversal:
    """Return money that came back from a publisher."""
    return objects.TransferReversal(
        id=raw.id,
        transfer=key(raw.transfer),
        amount=raw.amount,
        currency=raw.currency,
        balance_transaction_id=key(raw.balance_transaction),
        created_at=moment(raw.created),
        metadata=labels(raw.metadata),
    )


def balance(raw: stripe.Balance) -> objects.Balance:
    """Return our balance per currency."""
    return objects.Balance(
        available={each.currency: each.amount for each in raw.available},
        pending={each.currency: each.amount for each in raw.pending},
    )


def event(raw: stripe.Event) -> objects.Event:
    """Return that something happened."""
    # The SDK gives the object of an event its own class; only id and kind matter here.
    what = raw.data.to_dict()["object"]
    return objects.Event(
        id=raw.id,
        type=raw.type,
        object_id=str(what.get("id", "")),
        object_type=str(what.get("object", "")),
        account=getattr(raw, "account", None) or "",
        livemode=raw.livemode,
        api_version=raw.api_version or "",
        created_at=moment(raw.created),
        # The SDK turns some texts into decimals, which JSON cannot hold.
        payload=objects.plain(raw.to_dict()),
    )

"""What can go wrong with money."""

from __future__ import annotations

from accounts.errors import ConflictError, InvalidRequestError, MercatoError


class InsufficientCreditError(MercatoError):
    """The wallet does not hold what the run may cost."""

    code = "insufficient_credit"
    status_code = 402


class CapReachedError(MercatoError):
    """A spending limit of the key or the organization leaves too little."""

    code = "cap_reached"
    status_code = 402

    def __init__(self, message: str, *, cap: str, budget_id: int, retry_after: int | None) -> None:
        super().__init__(message)
        self.budget_id = budget_id
        # Such as `key-day`, as in the header Mercato-Budget.
        self.cap = cap
        # Until the next window opens; nothing helps sooner but a higher cap.
        self.retry_after = retry_after


class CostCeilingError(MercatoError):
    """The run may cost more than its caller allows: the header `Mercato-Max-Cost`."""

    code = "max_cost_exceeded"
    status_code = 402


class QuoteExpiredError(MercatoError):
    """The quote is unknown, has expired, was used, or is for something else."""

    code = "quote_not_valid"
    status_code = 409


class InvalidPriceError(MercatoError):
    """A price that cannot be: no component that is counted, or tiers that leave a gap."""

    code = "invalid_price"
    status_code = 400


class PriceChangeDecidedError(MercatoError):
    """The price change was approved, rejected or withdrawn before."""

    code = "price_change_decided"
    status_code = 409


class SecondOperatorError(MercatoError):
    """A price that becomes higher for others is approved by somebody else than its proposer."""

    code = "second_operator_required"
    status_code = 403


class OrganizationFrozenError(MercatoError):
    """An operator has frozen the organization."""

    code = "organization_frozen"
    status_code = 403


class ShareNotAllowedError(InvalidRequestError):
    """A publisher's part that cannot be."""


class ChargeRefundError(ConflictError):
    """The charge is not booked yet, or less of it is left than should be given back."""


class AdjustmentError(ConflictError):
    """The entry would make the books differ from what they describe, or needs another person."""


class PayoutError(ConflictError):
    """Nothing can be paid out now; the message says why."""


class TopUpError(ConflictError):
    """Credit cannot be bought now; the message says why."""


class CreditRefundError(ConflictError):
    """Less unspent credit can be given back; the message says how much."""


class StripeUnavailableError(MercatoError):
    """Stripe did not answer, or refused: nothing was paid."""

    code = "stripe_unavailable"
    status_code = 503
    retry_after = 10


class RedeemCodeError(ConflictError):
    """The code is unknown, has expired, was used up, or was redeemed by this organization."""

    code = "redeem_code_not_valid"


class TooManyGuessesError(MercatoError):
    """Too many codes that do not exist."""

    code = "too_many_guesses"
    status_code = 429
    retry_after = 3600


class LedgerError(ValueError):
    """A transaction that does not sum to zero, or a reference used for another effect."""


class UnratedError(ValueError):
    """Something was used that the price does not know: never billed as zero."""

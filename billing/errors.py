"""What can go wrong with money."""

from __future__ import annotations

from accounts.errors import MercatoError


class InsufficientCreditError(MercatoError):
    """The wallet does not hold what the run may cost."""

    code = "insufficient_credit"
    status_code = 402


class CapReachedError(MercatoError):
    """A spending limit of the key or the organization leaves too little."""

    code = "cap_reached"
    status_code = 402

    def __init__(self, message: str, *, cap: str, retry_after: int | None) -> None:
        super().__init__(message)
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


class OrganizationFrozenError(MercatoError):
    """An operator has frozen the organization."""

    code = "organization_frozen"
    status_code = 403


class LedgerError(ValueError):
    """A transaction that does not sum to zero, or a reference used for another effect."""


class UnratedError(ValueError):
    """Something was used that the price does not know: never billed as zero."""

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


class OrganizationFrozenError(MercatoError):
    """An operator has frozen the organization."""

    code = "organization_frozen"
    status_code = 403


class LedgerError(ValueError):
    """A transaction that does not sum to zero, or a reference used for another effect."""


class UnratedError(ValueError):
    """Something was used that the price does not know: never billed as zero."""

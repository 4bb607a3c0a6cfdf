"""What can go wrong in the catalogue."""

from __future__ import annotations

from accounts.errors import MercatoError, NotFoundError


class ModelNotFoundError(NotFoundError):
    """There is no such model or version, or it is not for this caller."""

    code = "model_not_found"


class NoPriceError(MercatoError):
    """A version is offered without a price; nothing runs unpriced."""

    code = "no_price"
    status_code = 503

"""The header `Mercato-Max-Cost`: the most that a caller will pay for one run."""

from __future__ import annotations

from accounts.errors import InvalidRequestError
from billing.money import parse

HEADER = "Mercato-Max-Cost"


def read(text: str) -> int | None:
    """Return the ceiling in nanos; None if the caller sets none.

    Raises:
        InvalidRequestError: It is no amount.
    """
    if not text:
        return None
    try:
        nanos = parse(text)
    except ValueError:
        nanos = -1
    if nanos < 0:
        raise InvalidRequestError(f"{HEADER} is an amount such as 0.01.", param=HEADER)
    return nanos

"""Amounts: integers of nanos inside, decimal strings outside."""

from __future__ import annotations

import re

NANOS = 1_000_000_000
_AMOUNT = re.compile(r"(-?)(\d{1,9})(?:\.(\d{1,9}))?")


def decimal_text(nanos: int) -> str:
    """Write an amount exactly, without trailing zeros: 12000 → "0.000012"."""
    whole, fraction = divmod(abs(nanos), NANOS)
    digits = f"{fraction:09d}".rstrip("0")
    sign = "-" if nanos < 0 else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def parse(text: str) -> int:
    """Read an amount such as "4.99"; returns nanos.

    Raises:
        ValueError: Not a decimal number with at most nine digits on either side.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an amount such as 4.99.")
    sign, whole, fraction = match.groups()
    nanos = int(whole) * NANOS + int((fraction or "").ljust(9, "0"))
    return -nanos if sign else nanos

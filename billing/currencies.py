"""Coins on invoices: how they are written, and how a total is divided into whole ones."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from billing import minor
from billing.money import NANOS

# What meters count: a millionth of the currency's unit.
MICRO_NANOS = 1_000


def exponent(currency: str) -> int:
    """Return how many decimals the currency's coins have: 2 for usd, 0 for jpy, 3 for kwd."""
    return len(str(NANOS // minor.coin(currency))) - 1


def text(coins: int, currency: str) -> str:
    """Write an amount of coins as an invoice does: 1234 → "12.34" usd, "1234" jpy."""
    digits = exponent(currency)
    sign, left = "-" if coins < 0 else "", abs(coins)
    if not digits:
        return f"{sign}{left}"
    whole, fraction = divmod(left, 10**digits)
    return f"{sign}{whole}.{fraction:0{digits}d}"


def coins_per_micro(currency: str) -> Decimal:
    """Return what one counted micro-unit costs in coins: 0.0001 for usd."""
    return Decimal(1).scaleb(exponent(currency) - 6)


def coins_of_micros(micros: int, currency: str) -> int:
    """Return what Stripe makes of a counted number: coins, rounded half up once."""
    coin = minor.coin(currency)
    return (2 * micros * MICRO_NANOS + coin) // (2 * coin)


def spread(amounts: Sequence[int], currency: str) -> list[int]:
    """Divide a total into whole coins by the largest remainder, so that they sum to it.

    Args:
        amounts: Nanos, also negative ones; their sum is a whole number of coins.

    Returns:
        Coins, in the same order; each less than one coin away from its amount.

    Raises:
        ValueError: The sum is not a whole number of coins.
    """
    coin = minor.coin(currency)
    missing = minor.to_minor(sum(amounts), currency) - sum(each // coin for each in amounts)
    # Of equal remainders the first one gets the coin.
    order = sorted(range(len(amounts)), key=lambda place: (-(amounts[place] % coin), place))
    gets = set(order[:missing])
    return [each // coin + (place in gets) for place, each in enumerate(amounts)]

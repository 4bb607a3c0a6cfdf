"""The smallest coins of a currency, as Stripe counts them: only used where money meets Stripe."""

from __future__ import annotations

from billing.money import NANOS

# How many decimals Stripe counts with; every other currency has two.
_EXPONENTS = {
    **dict.fromkeys(
        [
            *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga"),
            *("pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
        ],
        0,
    ),
    **dict.fromkeys(["bhd", "jod", "kwd", "omr", "tnd"], 3),
}


def coin(currency: str) -> int:
    """Return what the smallest coin is worth, in nanos."""
    worth: int = NANOS // 10 ** _EXPONENTS.get(currency, 2)
    return worth


def to_minor(nanos: int, currency: str) -> int:
    """Return an amount in coins.

    Raises:
        ValueError: It is not a whole number of them.
    """
    coins, rest = divmod(nanos, coin(currency))
    if rest:
        raise ValueError(f"{nanos} nanos are not a whole number of coins of {currency}.")
    return coins


def to_nanos(minor: int, currency: str) -> int:
    """Return coins in nanos."""
    return minor * coin(currency)


def floor(nanos: int, currency: str) -> int:
    """Return the largest amount in nanos that is a whole number of coins and not more."""
    return nanos // coin(currency) * coin(currency)

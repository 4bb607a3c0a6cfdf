"""Options of a text, checked: how long it may be, how it is chosen, where it ends.

The same in each form in which a text is asked for.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any

from accounts import errors
from inference.runtime.sampling import Choice

MAX_STOPS, MAX_STOP_LENGTH = 4, 64
_MAX_TOKENS = 1_000_000
SEED_BITS = 63


def refuse(param: str, message: str) -> errors.InvalidRequestError:
    """Return the refusal of a field."""
    return errors.InvalidRequestError(f"`{param}` {message}", param=param)


def text(found: Mapping[str, Any], param: str) -> str:
    """Return a field that must be there and be a string."""
    value = found.get(param)
    if not isinstance(value, str):
        raise refuse(param, "must be a string.")
    return value


def whole(found: Mapping[str, Any], param: str, low: int, high: int) -> int | None:
    """Return a whole number within bounds; None if it was not sent."""
    value = found.get(param)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise refuse(param, f"must be a whole number from {low} to {high}.")
    return value


def number(found: Mapping[str, Any], param: str, low: float, high: float, default: float) -> float:
    """Return a number within bounds."""
    value = found.get(param, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise refuse(param, f"must be a number from {low:g} to {high:g}.")
    return float(value)


def max_tokens(found: Mapping[str, Any], *names: str) -> int | None:
    """Return how long the answer may be at most, by whichever name it was sent."""
    for name in names:
        value = whole(found, name, 1, _MAX_TOKENS)
        if value is not None:
            return value
    return None


def choice(found: Mapping[str, Any], default_seed: int | None = None) -> Choice:
    """Return how characters are chosen.

    Args:
        default_seed: Where none was sent; None: one by chance.
    """
    seed = whole(found, "seed", -(2**SEED_BITS), 2**SEED_BITS - 1)
    seed = default_seed if seed is None else seed
    return Choice(
        temperature=number(found, "temperature", 0, 2, 1),
        top_p=number(found, "top_p", 0, 1, 1),
        seed=secrets.randbits(SEED_BITS) if seed is None else seed % 2**SEED_BITS,
    )


def stops(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts at which an answer ends; they are not part of it."""
    value = found.get("stop", [])
    given = [value] if isinstance(value, str) else value
    if (
        not isinstance(given, list)
        or len(given) > MAX_STOPS
        or not all(isinstance(one, str) and 0 < len(one) <= MAX_STOP_LENGTH for one in given)
    ):
        raise refuse(
            "stop", f"must be a string, or up to {MAX_STOPS}, of 1 to {MAX_STOP_LENGTH} characters."
        )
    return tuple(given)

"""Fields of OpenAI's requests, checked: what is not known is refused, null is as if not sent."""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Mapping
from typing import Any

from accounts import errors
from inference.faces import requests
from inference.faces.http import HttpRequest
from inference.runtime.sampling import Choice

MAX_STOPS, MAX_STOP_LENGTH = 4, 64
_MAX_TOKENS = 1_000_000
_SEED_BITS = 63


def read(request: HttpRequest, known: Collection[str]) -> dict[str, Any]:
    """Return the body's fields without those that are null.

    Raises:
        UnknownFieldError, InvalidJSONError, InvalidRequestError: It is not understood.
    """
    for header in ("Idempotency-Key", "Mercato-Quote"):
        if request.headers.get(header.lower()):
            raise errors.InvalidRequestError(f"{header} is not known here.", param=header)
    found = requests.json_object(request.body)
    requests.refuse_unknown(found, known)
    return {name: value for name, value in found.items() if value is not None}


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


def flag(found: Mapping[str, Any], param: str) -> bool:
    """Return true or false; false if it was not sent."""
    value = found.get(param, False)
    if not isinstance(value, bool):
        raise refuse(param, "must be true or false.")
    return value


def only(found: Mapping[str, Any], allowed: Mapping[str, Any]) -> None:
    """Refuse fields that are known and whose only supported value was not sent.

    Args:
        allowed: Field → the value that changes nothing.
    """
    for param, value in allowed.items():
        given = found.get(param, value)
        if given != value or isinstance(given, bool) != isinstance(value, bool):
            raise refuse(param, f"must be {value!r} or left out: no model here does more.")


def max_tokens(found: Mapping[str, Any], *names: str) -> int | None:
    """Return how long the answer may be at most, by whichever name it was sent."""
    for name in names:
        value = whole(found, name, 1, _MAX_TOKENS)
        if value is not None:
            return value
    return None


def choice(found: Mapping[str, Any]) -> Choice:
    """Return how characters are chosen."""
    seed = whole(found, "seed", -(2**_SEED_BITS), 2**_SEED_BITS - 1)
    return Choice(
        temperature=number(found, "temperature", 0, 2, 1),
        top_p=number(found, "top_p", 0, 1, 1),
        seed=secrets.randbits(_SEED_BITS) if seed is None else seed % 2**_SEED_BITS,
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


def includes_usage(found: Mapping[str, Any]) -> bool:
    """Return whether a stream ends with what was used."""
    options = found.get("stream_options", {})
    if not isinstance(options, dict):
        raise refuse("stream_options", "must be an object.")
    if options and not found.get("stream"):
        raise refuse("stream_options", "is only for streams.")
    for name in options:
        if name not in {"include_usage", "include_obfuscation"}:
            param = f"stream_options.{name[:64]}"
            raise errors.UnknownFieldError(f"Unknown field {name[:64]!r}.", param=param)
    return flag(options, "include_usage")

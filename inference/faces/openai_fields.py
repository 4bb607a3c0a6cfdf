"""Fields of OpenAI's requests, checked: what is not known is refused, null is as if not sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from accounts import errors
from inference.faces import requests
from inference.faces.http import HttpRequest
from inference.generation.options import refuse


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

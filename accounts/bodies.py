"""Reads the bodies of the API: strictly, field by field, each refusal naming its field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from rest_framework.request import Request

from accounts.errors import InvalidRequestError, UnknownFieldError


def read(request: Request, known: Iterable[str]) -> dict[str, Any]:
    """Return the body of a request.

    Raises:
        UnknownFieldError: It has a field that does not exist.
    """
    body = cast(dict[str, Any], request.data)
    names = set(known)
    for name in body:
        if name not in names:
            raise UnknownFieldError(f"Unknown field {name[:64]!r}.", param=name[:64])
    return body


def text(body: dict[str, Any], name: str, *, limit: int, required: bool = False) -> str:
    """Return a text of a body; absent is empty.

    Raises:
        InvalidRequestError: It is no text, too long, missing, or cannot be stored.
    """
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > limit or not is_storable(value):
        raise InvalidRequestError(
            f"`{name}` must be a text of at most {limit} characters.", param=name
        )
    if required and not value:
        raise InvalidRequestError(f"`{name}` is required.", param=name)
    return value


def choice(body: dict[str, Any], name: str, choices: Iterable[str], *, default: str = "") -> str:
    """Return a text of a body that is one of several.

    Raises:
        InvalidRequestError: It is not, or it is missing and there is no default.
    """
    value = body.get(name, default)
    known = list(choices)
    if value not in known:
        raise InvalidRequestError(f"`{name}` must be one of: {', '.join(known)}.", param=name)
    return str(value)


def integer(body: dict[str, Any], name: str, *, low: int, high: int) -> int | None:
    """Return a whole number of a body; absent or null is None.

    Raises:
        InvalidRequestError: It is something else, or out of bounds.
    """
    value = body.get(name)
    if value is None:
        return None
    # To Python, true is a number.
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequestError(f"`{name}` must be a whole number, {low} to {high}.", param=name)
    return value


def boolean(body: dict[str, Any], name: str, *, default: bool = False) -> bool:
    """Return a truth value of a body.

    Raises:
        InvalidRequestError: It is something else.
    """
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"`{name}` must be true or false.", param=name)
    return value


def is_storable(value: str) -> bool:
    """Whether the database can keep a text: PostgreSQL stores neither NUL nor half a pair."""
    return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)

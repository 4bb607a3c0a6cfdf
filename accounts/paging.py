"""Lists of the API: newest first, a page at a time, continued after the last item seen."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import models
from rest_framework.request import Request

from accounts.errors import InvalidRequestError, UnknownFieldError

Row = TypeVar("Row", bound=models.Model)
MAX_LIMIT = 100


def page(
    request: Request,
    rows: models.QuerySet[Row],
    as_json: Callable[[Row], dict[str, Any]],
    *,
    order: str = "-pk",
    known: Iterable[str] = (),
) -> dict[str, Any]:
    """Return one page of a list.

    Args:
        order: A unique field, `-` for descending; the cursor is its value.
        known: Query parameters that the view itself reads; others are refused.

    Raises:
        InvalidRequestError: `limit` or `cursor` is wrong, or a parameter does not exist.
    """
    for name in request.query_params:
        if name not in {"limit", "cursor", *known}:
            raise UnknownFieldError(f"Unknown parameter {name[:64]!r}.", param=name[:64])
    limit = _limit(request.query_params.get("limit", "20"))
    field = order.removeprefix("-")
    cursor = request.query_params.get("cursor", "")
    if cursor:
        side = "lt" if order.startswith("-") else "gt"
        try:
            rows = rows.filter(**{f"{field}__{side}": _decode(cursor)})
        except (ValidationError, ValueError) as error:
            raise InvalidRequestError("This cursor is not ours.", param="cursor") from error
    found = list(rows.order_by(order)[: limit + 1])
    has_more = len(found) > limit
    found = found[:limit]
    last = getattr(found[-1], field) if found and has_more else None
    return {
        "object": "list",
        "data": [as_json(row) for row in found],
        "has_more": has_more,
        "next_cursor": None if last is None else _encode(str(last)),
    }


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:6]) <= MAX_LIMIT:
        raise InvalidRequestError(f"`limit` must be 1..{MAX_LIMIT}.", param="limit")
    return int(text)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> str:
    try:
        text = base64.urlsafe_b64decode(cursor[:200] + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise InvalidRequestError("This cursor is not ours.", param="cursor") from error
    if "\0" in text:
        raise InvalidRequestError("This cursor is not ours.", param="cursor")
    return text

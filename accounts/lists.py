"""Lists of the console: newest first, a page at a time, continued below the last row seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

from django.db import models

PAGE_SIZE = 30
Row = TypeVar("Row", bound=models.Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list.

    Attributes:
        older: What the next page begins below; None if this is the last one.
    """

    rows: list[Row]
    older: UUID | None
    is_first: bool


def newest(rows: models.QuerySet[Row], below: str | None, *, field: str = "pk") -> Page[Row]:
    """Return the page of rows below an id; the first one if it is none, or not ours.

    Args:
        rows: In descending order of the field.
        field: A unique UUID that grows with time.
    """
    edge = _id(below)
    if edge is not None:
        rows = rows.filter(**{f"{field}__lt": edge})
    found = list(rows[: PAGE_SIZE + 1])
    older = getattr(found[PAGE_SIZE - 1], field) if len(found) > PAGE_SIZE else None
    return Page(found[:PAGE_SIZE], older, edge is None)


def _id(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None

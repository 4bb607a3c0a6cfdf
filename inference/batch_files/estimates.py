"""What a batch file costs: each valid row is a call with that row, at the price for files."""

from __future__ import annotations

from collections.abc import Mapping

from billing.rating import BATCH, PricePlan, for_source, plan_of, rate
from catalog.models import PriceVersion
from inference.models import BatchFile


def plan(price: PriceVersion) -> PricePlan:
    """Return what the rows of files are rated by."""
    return for_source(plan_of(price), BATCH)


def quantities(size_bytes: int) -> Mapping[str, int]:
    """Return what one row counts; its bytes are those of its line in the file."""
    return {"call": 1, "row": 1, "byte": size_bytes}


def row_nanos(found: PricePlan, size_bytes: int) -> int:
    """Return what one row costs if it succeeds."""
    return rate(found, quantities(size_bytes))


def depends_on_bytes(price: PriceVersion) -> bool:
    """Whether equal numbers of rows may cost different amounts."""
    return "byte" in plan(price).components


def again(batch: BatchFile, price: PriceVersion) -> int:
    """Return what a checked file costs by another price that does not count bytes."""
    return (batch.rows - batch.invalid_rows) * row_nanos(plan(price), 0)

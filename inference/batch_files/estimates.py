"""What a batch file costs: each valid row is a call with that row, at the price for files."""

from __future__ import annotations

from collections.abc import Mapping

from billing.rating import BATCH, PricePlan, for_source, plan_of, rate
from catalog.models import PriceVersion
from inference.models import BatchFile


def plan(price: PriceVersion) -> PricePlan:
    """Return what the rows of files are rated by."""
    return for_source(plan_of(price), BATCH)


def quantities(size_bytes: int, tokens: Mapping[str, int]) -> Mapping[str, int]:
    """Return what one row counts; its bytes are those of its line in the file.

    Args:
        tokens: Of its text, and of the answer if the model writes one.
    """
    return {"call": 1, "row": 1, "byte": size_bytes, **tokens}


def row_nanos(found: PricePlan, size_bytes: int, tokens: Mapping[str, int]) -> int:
    """Return the most that one row costs: a text may end before it is as long as allowed."""
    return rate(found, quantities(size_bytes, tokens))


def depends_on_content(price: PriceVersion) -> bool:
    """Whether equal numbers of rows may cost different amounts."""
    return not {"byte", "input_token", "output_token"}.isdisjoint(plan(price).components)


def again(batch: BatchFile, price: PriceVersion) -> int:
    """Return what a checked file costs by another price that counts its rows alone."""
    return (batch.rows - batch.invalid_rows) * row_nanos(plan(price), 0, {})

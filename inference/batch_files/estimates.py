"""What a batch file costs: each valid row is a call with that row, at the price for files."""

from __future__ import annotations

from collections.abc import Mapping

from billing.models import ShareVersion
from billing.rating import BATCH, PricePlan, for_source, plan_of, rate
from billing.reports import Terms
from catalog.models import ModelVersion, PriceVersion
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


def terms(price_version_id: int, share_version_id: int, version_id: int) -> Terms:
    """Return what was frozen when the file started; none of the three rows ever changes."""
    price = PriceVersion.objects.prefetch_related("components").get(pk=price_version_id)
    share = ShareVersion.objects.get(pk=share_version_id)
    policy = ModelVersion.objects.get(pk=version_id).outcome_policy
    return Terms(plan(price), share.publisher_bps, policy)


def again(batch: BatchFile, price: PriceVersion) -> int:
    """Return what a checked file costs by another price that does not count bytes."""
    return (batch.rows - batch.invalid_rows) * row_nanos(plan(price), 0)

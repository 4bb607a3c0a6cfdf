"""What a run costs. Pure: no database, no clock, integers only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from billing.errors import UnratedError
from catalog.models import PriceVersion
from catalog.prices import Tier


@dataclass(frozen=True, slots=True)
class PricePlan:
    """A price version, frozen: dimension → tiers, each from which unit on, nanos, per units."""

    price_version_id: int
    currency: str
    min_charge_nanos: int
    components: Mapping[str, tuple[Tier, ...]]


def plan_of(price: PriceVersion) -> PricePlan:
    """Return a price version as a plain value."""
    tiers: dict[str, list[Tier]] = defaultdict(list)
    for item in price.components.all():
        tiers[item.dimension].append((item.from_quantity, item.amount_nanos, item.per_quantity))
    return PricePlan(
        price_version_id=price.pk,
        currency=price.currency,
        min_charge_nanos=price.min_charge_nanos,
        components={name: tuple(sorted(found)) for name, found in tiers.items()},
    )


def rate(plan: PricePlan, quantities: Mapping[str, int]) -> int:
    """Price what was used.

    The dimensions are summed exactly and rounded once, half up; then the minimum applies.

    Args:
        quantities: Dimension → units used, >= 0. What the plan does not price is free only if
            the plan prices something else of the run.

    Returns:
        Amount in nanos.

    Raises:
        UnratedError: A quantity is negative, or the plan prices nothing of what was used.
    """
    if any(quantity < 0 for quantity in quantities.values()):
        raise UnratedError(f"Negative quantity in {dict(quantities)}.")
    priced = plan.components.keys() & quantities.keys()
    if not priced:
        raise UnratedError(f"Price {plan.price_version_id} has none of {sorted(quantities)}.")
    # A fraction in two integers: this runs for every call, and Fraction costs ten times as much.
    above, below = 0, 1
    for name in priced:
        left = quantities[name]
        # From the last tier down: what is above its start costs its price.
        for start, amount, per in reversed(plan.components[name]):
            if left > start:
                above, below = above * per + amount * (left - start) * below, below * per
                left = start
    rounded = (2 * above + below) // (2 * below)
    return max(rounded, plan.min_charge_nanos)


def share(cost_nanos: int, percent: int) -> int:
    """Return a percentage of an amount, rounded half up."""
    return (cost_nanos * percent * 2 + 100) // 200

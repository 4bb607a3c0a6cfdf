"""What a run costs. Pure: no database, no clock, integers only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing.errors import UnratedError
from catalog.models import PriceChange, PriceVersion
from catalog.prices import Components, Tier, tiers_of

# As `Hold.source` says it.
BATCH = "batch"
ALL_BPS = 10_000


@dataclass(frozen=True, slots=True)
class PricePlan:
    """A price version, frozen: dimension → tiers, each from which unit on, nanos, per units."""

    price_version_id: int
    currency: str
    min_charge_nanos: int
    components: Mapping[str, tuple[Tier, ...]]
    # How much less a row of a batch file costs, in hundredths of a percent.
    batch_discount_bps: int = 0


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
        batch_discount_bps=price.batch_discount_bps,
    )


def plan_from(
    components: Components,
    min_charge_nanos: int = 0,
    currency: str = "usd",
    *,
    batch_discount_bps: int = 0,
) -> PricePlan:
    """Return a price that is not stored yet as a plain value; its version is 0.

    Raises:
        ValueError: Tiers do not begin at 0 or do not rise, or an amount is negative.
    """
    return PricePlan(
        price_version_id=0,
        currency=currency,
        min_charge_nanos=min_charge_nanos,
        components={name: tuple(tiers_of(price)) for name, price in components.items()},
        batch_discount_bps=batch_discount_bps,
    )


def for_source(plan: PricePlan, source: str) -> PricePlan:
    """Return what a run is rated by that came this way: a row of a batch file has a discount.

    Every amount becomes the exact fraction of itself, so that a run is still rounded once. The
    minimum is discounted as well, rounded half up.
    """
    if source != BATCH or not plan.batch_discount_bps:
        return plan
    left = ALL_BPS - plan.batch_discount_bps
    return PricePlan(
        price_version_id=plan.price_version_id,
        currency=plan.currency,
        min_charge_nanos=(2 * plan.min_charge_nanos * left + ALL_BPS) // (2 * ALL_BPS),
        components={
            name: tuple((start, amount * left, per * ALL_BPS) for start, amount, per in tiers)
            for name, tiers in plan.components.items()
        },
    )


def plan_of_change(change: PriceChange) -> PricePlan:
    """Return the price that a proposal wants."""
    return plan_from(
        change.components,
        change.min_charge_nanos,
        batch_discount_bps=change.batch_discount_bps,
    )


def is_higher(new: PricePlan, old: PricePlan) -> bool:
    """Whether anything a run may use costs more by one price than by another.

    The difference of two prices of a dimension is made of straight pieces, so it is enough to look
    where a piece begins, and at the slope of the last one.
    """
    pairs = ((new, old), (for_source(new, BATCH), for_source(old, BATCH)))
    return any(_is_higher_somewhere(*pair) for pair in pairs)


def _is_higher_somewhere(new: PricePlan, old: PricePlan) -> bool:
    if new.min_charge_nanos > old.min_charge_nanos:
        return True
    return any(_is_steeper(new, old, name) for name in new.components)


def _is_steeper(new: PricePlan, old: PricePlan, name: str) -> bool:
    tiers, before = new.components[name], old.components.get(name, ((0, 0, 1),))
    for start in {start for start, _, _ in (*tiers, *before)}:
        if _exact(tiers, start) > _exact(before, start):
            return True
    (_, amount, per), (_, amount_before, per_before) = tiers[-1], before[-1]
    return amount * per_before > amount_before * per


def _exact(tiers: Sequence[Tier], quantity: int) -> Fraction:
    """Return what a quantity of one dimension costs, not rounded."""
    total, left = Fraction(0), quantity
    for start, amount, per in reversed(tiers):
        if left > start:
            total += Fraction(amount * (left - start), per)
            left = start
    return total


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

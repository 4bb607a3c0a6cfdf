"""Prices: which one applies, and how a new one is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import User
from catalog.errors import NoPriceError
from catalog.models import MLModel, PriceComponent, PriceVersion


def current(model: MLModel) -> PriceVersion | None:
    """Return the price of a model now; None if it never had one."""
    return PriceVersion.objects.current().filter(model=model).prefetch_related("components").first()


def newest(model: MLModel) -> PriceVersion | None:
    """Return the price of a model whose `prices__components` are prefetched."""
    now = timezone.now()
    applied = [price for price in model.prices.all() if price.effective_from <= now]
    return max(applied, key=lambda price: (price.effective_from, price.pk), default=None)


def following(model: MLModel) -> PriceVersion | None:
    """Return the next price of a model whose `prices__components` are prefetched."""
    now = timezone.now()
    coming = [price for price in model.prices.all() if price.effective_from > now]
    return min(coming, key=lambda price: (price.effective_from, -price.pk), default=None)


def schedule(model: MLModel) -> list[PriceVersion]:
    """Return the price that applies now and those that are yet to, in order; none without one.

    Both by one instant: a price that begins between two looks at the clock is not lost.
    """
    now = timezone.now()
    versions = PriceVersion.objects.filter(model=model).prefetch_related("components")
    applied = versions.filter(effective_from__lte=now).order_by("-effective_from", "-id").first()
    coming = versions.filter(effective_from__gt=now).order_by("effective_from", "id")
    return [applied, *coming] if applied else []


def upcoming(model: MLModel) -> list[PriceVersion]:
    """Return the prices of a model that are yet to take effect, the next one first."""
    coming = PriceVersion.objects.filter(model=model, effective_from__gt=timezone.now())
    return list(coming.prefetch_related("components").order_by("effective_from", "id"))


def current_sku(sku: str, at: datetime | None = None) -> PriceVersion:
    """Return the price of something that belongs to no model, such as `training.cpu`.

    Args:
        at: The instant it must apply at; now if empty.

    Raises:
        NoPriceError: An operator has not set it.
    """
    price = (
        PriceVersion.objects.at(at or timezone.now())
        .filter(sku=sku)
        .prefetch_related("components")
        .first()
    )
    if price is None:
        raise NoPriceError(f"{sku} has no price.")
    return price


# From which unit of a run on, amount in nanos, for how many units.
Tier = tuple[int, int, int]
# A price per dimension: (amount in nanos, for how many units), or tiers of it from 0 on.
Components = Mapping[str, tuple[int, int] | Sequence[Tier]]


def add(
    *,
    model: MLModel | None = None,
    sku: str = "",
    components: Components,
    min_charge_nanos: int = 0,
    batch_discount_bps: int = 0,
    effective_from: datetime | None = None,
    actor: User | None = None,
) -> PriceVersion:
    """Add a price; older ones stay as they were.

    Args:
        effective_from: When it begins to apply; now if empty.

    Raises:
        ValueError: Tiers do not begin at 0 or do not rise, or an amount is negative.
    """
    tiers = {name: tiers_of(price) for name, price in components.items()}
    with transaction.atomic():
        version = PriceVersion.objects.create(
            model=model,
            sku=sku,
            min_charge_nanos=min_charge_nanos,
            batch_discount_bps=batch_discount_bps,
            created_by=actor,
            effective_from=effective_from or timezone.now(),
        )
        PriceComponent.objects.bulk_create(
            PriceComponent(
                price_version=version,
                dimension=dimension,
                from_quantity=start,
                amount_nanos=amount,
                per_quantity=quantity,
            )
            for dimension, found in tiers.items()
            for start, amount, quantity in found
        )
        audit.record(
            actor,
            "price.added",
            version,
            organization=model.owner if model else None,
            details={name: [list(tier) for tier in found] for name, found in tiers.items()},
        )
    return version


def tiers_of(price: tuple[int, int] | Sequence[Tier]) -> list[Tier]:
    """Return a price as tiers, checked.

    Raises:
        ValueError: They do not begin at 0 or do not rise, or an amount is negative.
    """
    first = price[0]
    if isinstance(first, int):
        amount, quantity = cast("tuple[int, int]", price)
        found: list[Tier] = [(0, amount, quantity)]
    else:
        tiers = cast("Sequence[Tier]", price)
        found = [(start, amount, quantity) for start, amount, quantity in tiers]
    starts = [start for start, _, _ in found]
    if starts[0] != 0 or starts != sorted(set(starts)):
        raise ValueError("Tiers begin at 0, and each begins after the one before it.")
    if any(amount < 0 or quantity < 1 for _, amount, quantity in found):
        raise ValueError("An amount is at least 0, for at least one unit.")
    return found

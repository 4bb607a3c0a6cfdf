"""Prices: which one applies, and how a new one is added."""

from __future__ import annotations

from collections.abc import Mapping

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


def current_sku(sku: str) -> PriceVersion:
    """Return the price of something that belongs to no model, such as `training.cpu`.

    Raises:
        NoPriceError: An operator has not set it.
    """
    price = PriceVersion.objects.current().filter(sku=sku).prefetch_related("components").first()
    if price is None:
        raise NoPriceError(f"{sku} has no price.")
    return price


def add(
    *,
    model: MLModel | None = None,
    sku: str = "",
    components: Mapping[str, tuple[int, int]],
    min_charge_nanos: int = 0,
    actor: User | None = None,
) -> PriceVersion:
    """Add a price that takes effect now; older ones stay as they were.

    Args:
        components: Dimension → (amount in nanos, for how many units).
    """
    with transaction.atomic():
        version = PriceVersion.objects.create(
            model=model, sku=sku, min_charge_nanos=min_charge_nanos, created_by=actor
        )
        PriceComponent.objects.bulk_create(
            PriceComponent(
                price_version=version,
                dimension=dimension,
                amount_nanos=amount,
                per_quantity=quantity,
            )
            for dimension, (amount, quantity) in components.items()
        )
        audit.record(
            actor,
            "price.added",
            version,
            organization=model.owner if model else None,
            details={name: list(value) for name, value in components.items()},
        )
    return version

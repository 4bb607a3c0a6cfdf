"""Prices as the API says them."""

from __future__ import annotations

from typing import Any

from billing.money import decimal_text
from catalog.models import PriceVersion


def price_json(price: PriceVersion | None) -> dict[str, Any] | None:
    """Return what the API says of a price version."""
    if price is None:
        return None
    return {
        "version": price.pk,
        "currency": price.currency,
        "minimum": decimal_text(price.min_charge_nanos),
        "effective_from": price.effective_from,
        "components": [
            {
                "dimension": item.dimension,
                "from": item.from_quantity,
                "amount": decimal_text(item.amount_nanos),
                "per": item.per_quantity,
            }
            for item in price.components.all()
        ],
    }

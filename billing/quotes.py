"""Binding quotes: a price that holds although prices change."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from billing.rating import PricePlan


@dataclass(frozen=True, slots=True)
class Promise:
    """A quote that a run wants to use: what it will be rated by."""

    quote_id: UUID
    plan: PricePlan
    share_version_id: int

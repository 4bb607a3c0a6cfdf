"""Finished holds as the settler reads them: rows, not objects, for there are many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from billing import bulk
from billing.models import Hold, Settlement


class Finished(NamedTuple):
    """A hold that has ended, with its usage if it was captured."""

    hold_id: UUID
    currency: str
    reserved_nanos: int
    captured_nanos: int | None
    budget_set_id: int
    api_key_id: int | None
    model_version_id: int | None
    price_version_id: int
    share_version_id: int
    owner_id: int | None
    outcome: str
    rows: int
    compute_ms: int
    input_tokens: int | None
    output_tokens: int | None
    bytes: int | None
    publisher_nanos: int
    platform_nanos: int
    uncapped_nanos: int
    occurred_at: datetime


_USAGE = (
    *("outcome", "rows", "compute_ms", "input_tokens", "output_tokens", "bytes"),
    *("publisher_nanos", "platform_nanos", "uncapped_nanos", "occurred_at"),
)
_COLUMNS = (
    *("pk", "currency", "reserved_nanos", "captured_nanos", "budget_set_id", "api_key_id"),
    *("model_version_id", "price_version_id", "share_version_id"),
    "model_version__model__owner_id",
    *(f"usage__{name}" for name in _USAGE),
)


def waiting(organization_id: int, limit: int) -> list[Finished]:
    """Return the oldest finished holds of an organization that wait; all of one currency."""
    queue = Hold.objects.unsettled().filter(organization_id=organization_id).order_by("id")
    found = [Finished(*row) for row in queue.values_list(*_COLUMNS)[:limit]]
    # The rest is settled by the next round.
    return [hold for hold in found if hold.currency == found[0].currency]


def mark(hold_ids: Sequence[UUID], settlement: Settlement) -> None:
    """Say of holds by what they were settled."""
    changes = {"settlement_id": settlement.pk}
    bulk.update(Hold, hold_ids, changes, only={"organization_id": settlement.organization_id})


def of_settlement(settlement_id: int) -> list[Finished]:
    """Return the holds that a settlement has booked, in its order."""
    settled = Hold.objects.filter(settlement=settlement_id).order_by("id")
    return [Finished(*row) for row in settled.values_list(*_COLUMNS)]


def of_hold(hold_id: UUID) -> Finished:
    """Return one hold as the settler read it.

    Raises:
        Hold.DoesNotExist: There is none.
    """
    return Finished(*Hold.objects.values_list(*_COLUMNS).get(pk=hold_id))

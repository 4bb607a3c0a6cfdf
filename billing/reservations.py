"""What is needed to set money aside for one run, and the row it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from billing.budgets import BudgetRefs
from billing.ids import uuid7
from billing.models import Hold


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is needed to set money aside for one run."""

    organization_id: int
    price_version_id: int
    share_version_id: int
    reserved_nanos: int
    budgets: BudgetRefs
    accepted_at: datetime
    expires_at: datetime
    source: str
    currency: str = "usd"
    api_key_id: int | None = None
    model_version_id: int | None = None
    request_id: str = ""
    # The binding quote it uses up.
    quote_id: UUID | None = None
    hold_id: UUID = field(default_factory=uuid7)


HOLD_COLUMNS = (
    *("id", "organization_id", "api_key_id", "model_version_id", "price_version_id"),
    *("share_version_id", "budget_set_id", "currency", "source", "request_id", "state"),
    *("reserved_nanos", "failure", "accepted_at", "expires_at"),
)


def hold_row(reservation: Reservation) -> tuple[object, ...]:
    """Return the hold of a run, in the order of HOLD_COLUMNS."""
    return (
        reservation.hold_id,
        reservation.organization_id,
        reservation.api_key_id,
        reservation.model_version_id,
        reservation.price_version_id,
        reservation.share_version_id,
        reservation.budgets.budget_set_id,
        reservation.currency,
        reservation.source,
        reservation.request_id,
        Hold.State.AUTHORISED.value,
        reservation.reserved_nanos,
        "",
        reservation.accepted_at,
        reservation.expires_at,
    )

"""Calls for tests of what a tenant reads, made by the verbs of the site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.keys import Caller
from accounts.models import ApiKey, Organization
from billing import holds, rating, reports, settlement, shares
from billing.errors import CapReachedError, InsufficientCreditError
from billing.invariants import violations
from billing.reservations import Reservation
from catalog import prices
from catalog.models import ModelVersion


def reserve(organization: Organization, version: ModelVersion, **choices: Any) -> Reservation:
    """Set money aside for a run that has not ended; see `prepare`."""
    made = prepare(organization, version, **choices)
    holds.reserve(made)
    return made


def prepare(
    organization: Organization,
    version: ModelVersion,
    *,
    key: ApiKey | None = None,
    rows: int = 1,
    at: datetime | None = None,
    quantities: Mapping[str, int] | None = None,
) -> Reservation:
    """Ask for a run; nothing is set aside yet."""
    price = prices.current(version.model)
    assert price is not None
    accepted_at = at or timezone.now()
    return holds.prepare(
        Caller(organization.pk, organization.slug, api_key_id=key.pk if key else None),
        rating.plan_of(price),
        share_version_id=shares.current().pk,
        quantities=quantities or {"row": rows},
        source="api" if key else "web",
        accepted_at=accepted_at,
        expires_at=timezone.now() + timedelta(minutes=1),
        model_version_id=version.pk,
        request_id="req_test",
    )


def succeed(
    organization: Organization,
    version: ModelVersion,
    *,
    key: ApiKey | None = None,
    rows: int = 1,
    at: datetime | None = None,
) -> UUID:
    """Make a call that was run and charged; returns the hold's id."""
    reservation = reserve(organization, version, key=key, rows=rows, at=at)
    assert holds.capture(report(reservation, version, rows=rows))
    return reservation.hold_id


def report(
    reservation: Reservation, version: ModelVersion, *, rows: int = 1, **changes: Any
) -> reports.Report:
    """Say that a run succeeded, or what `changes` say of it."""
    price = prices.current(version.model)
    assert price is not None
    made = reports.Report(
        hold_id=reservation.hold_id,
        outcome="succeeded",
        terms=reports.Terms(rating.plan_of(price), shares.current().publisher_bps, {}),
        quantities={"row": rows},
        organization_id=reservation.organization_id,
        reserved_nanos=reservation.reserved_nanos,
        accepted_at=reservation.accepted_at,
        completed_at=reservation.accepted_at,
        model_version_id=version.pk,
        queue_us=400,
        run_us=3000,
        batch_rows=rows,
    )
    return replace(made, **changes)


def fail(organization: Organization, version: ModelVersion, failure: str = "model_error") -> UUID:
    """Make a call that failed and cost nothing."""
    reservation = reserve(organization, version)
    assert holds.void(reservation.hold_id, failure)
    return reservation.hold_id


def attempt(organization: Organization, version: ModelVersion, **fields: Any) -> bool:
    """Reserve; whether it was accepted."""
    try:
        reserve(organization, version, **fields)
    except (CapReachedError, InsufficientCreditError):
        return False
    return True


def prove() -> None:
    """Book what has ended, and prove the books."""
    settlement.settle()
    assert violations() == []

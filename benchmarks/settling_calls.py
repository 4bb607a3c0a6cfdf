"""Calls of one organization, admitted and charged in batches, then settled, inside of a site."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from accounts import keys
from accounts.keys import Caller
from billing import holds, settlement
from billing.reports import Report, terms_of
from billing.reservations import Reservation
from catalog.models import MLModel
from inference import versions
from inference.versions import Served

CALLS = 20_000
BATCH = 64
WANTED = 2000
_QUANTITIES = {"call": 1, "row": 1, "byte": 5000}


def run(secret: str) -> None:
    """Print how many calls per second each step does alone."""
    caller = keys.authenticate(secret)
    served = versions.resolve(MLModel.objects.get().path, caller)
    admitted, charged = 0.0, 0.0
    for _ in range(CALLS // BATCH):
        made = [_reservation(caller, served) for _ in range(BATCH)]
        began = time.perf_counter()
        holds.reserve_many(made, is_synced=False)
        admitted += time.perf_counter() - began
        reports = [_report(one, served) for one in made]
        began = time.perf_counter()
        holds.capture_many(reports)
        charged += time.perf_counter() - began
    began = time.perf_counter()
    count = settlement.settle()
    speed = count / (time.perf_counter() - began)
    print(f"  admitted {count / admitted:,.0f}/s, charged {count / charged:,.0f}/s", end=", ")
    print(f"settled {speed:,.0f}/s: {'as wanted' if speed >= WANTED else f'below {WANTED}'}")


def _reservation(caller: Caller, served: Served) -> Reservation:
    now = datetime.now(UTC)
    return holds.prepare(
        caller,
        served.terms.plan,
        share_version_id=served.share_version_id,
        quantities=_QUANTITIES,
        source="api",
        accepted_at=now,
        expires_at=now + timedelta(minutes=1),
        model_version_id=served.version_id,
    )


def _report(one: Reservation, served: Served) -> Report:
    return Report(
        hold_id=one.hold_id,
        outcome="succeeded",
        terms=terms_of(one.price_version_id, one.share_version_id, served.version_id),
        quantities=_QUANTITIES,
        organization_id=one.organization_id,
        reserved_nanos=one.reserved_nanos,
        accepted_at=one.accepted_at,
        completed_at=datetime.now(UTC),
        model_version_id=served.version_id,
    )

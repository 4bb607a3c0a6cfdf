"""A gateway, worker, settler or sweeper without the network: what the kill test starts and kills.

Usage: python -m tests.billing.kill_process ROLE PLAN
    ROLE: gateway, worker, settler or sweeper, and a number: gateway:0 or gateway:1, and so on.
    PLAN: a JSON file, see tests/billing/test_kills.py; PLAN.stop ends all but gateways, and
        PLAN.sweeper:0 says when that one swept.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import django

THREADS = 8


def main(role: str, path: Path) -> int:
    """Do the role's work with eight threads; returns when it is done or told to stop."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "maas_site.settings"
    django.setup()
    plan = json.loads(path.read_text())
    name, _, number = role.partition(":")
    acts: dict[str, Callable[[int], None]] = {
        "gateway": lambda thread: _admit(plan, int(number) * THREADS + thread),
        "worker": lambda thread: _until_told(path, lambda: _charge(thread)),
        "settler": lambda _: _until_told(path, _settle),
        "sweeper": lambda _: _until_told(
            path, lambda: _note_sweep(path.with_suffix(f".{role}")), every=sweep_seconds()
        ),
    }
    with ThreadPoolExecutor(1 if name in {"settler", "sweeper"} else THREADS) as pool:
        for done in [pool.submit(acts[name], thread) for thread in range(pool._max_workers)]:
            done.result()
    return 0


def play(plan: dict[str, Any]) -> None:
    """Do the work of all roles here, one after the other: nobody is killed."""
    from billing.models import Hold

    for thread in range(2 * THREADS):
        _admit(plan, thread)
    while Hold.objects.filter(settlement=None).exists():
        _sweep()
        _charge(0)
        _settle()


def _admit(plan: dict[str, Any], thread: int) -> None:
    """Set money aside for this thread's calls, in batches; what stands already is left alone."""
    from billing import holds
    from billing.models import Hold

    mine = plan["calls"][thread :: 2 * THREADS]
    for start in range(0, len(mine), 3):
        batch = mine[start : start + 3]
        ids = [UUID(call["id"]) for call in batch]
        standing = {str(pk) for pk in Hold.objects.filter(pk__in=ids).values_list("pk", flat=True)}
        wanted = [reservation(plan, call) for call in batch if call["id"] not in standing]
        if wanted:
            holds.reserve_many(wanted)


def reservation(plan: dict[str, Any], call: dict[str, Any]) -> Any:
    """Return what a call of the plan asks for."""
    from accounts.keys import Caller
    from billing import holds, rating
    from catalog.models import PriceVersion

    now = datetime.now(UTC)
    price = PriceVersion.objects.prefetch_related("components").get(pk=plan["price"])
    return holds.prepare(
        Caller(call["organization"], "", api_key_id=call["key"]),
        rating.plan_of(price),
        share_version_id=plan["share"],
        quantities={"call": 1, "row": 1},
        source="api",
        accepted_at=now,
        expires_at=now + timedelta(seconds=0 if call["is_abandoned"] else 600),
        model_version_id=plan["version"],
        request_id="abandoned" if call["is_abandoned"] else "",
        hold_id=UUID(call["id"]),
    )


def _until_told(path: Path, act: Callable[[], None], *, every: float = 0.0) -> None:
    """Act again and again, at most once per so many seconds, until the test has what it wants."""
    due = time.monotonic()
    while not path.with_suffix(".stop").exists():
        if time.monotonic() >= due:
            due = time.monotonic() + every
            act()
        time.sleep(0.01)


def _charge(thread: int) -> None:
    """Charge what is open, also what other threads charge at this moment."""
    from billing import holds, rating, reports
    from billing.models import Hold

    found = Hold.objects.filter(state="authorised").exclude(request_id="abandoned").order_by("pk")
    found = found.select_related("price_version").prefetch_related("price_version__components")
    made = [
        reports.Report(
            hold_id=hold.pk,
            outcome="succeeded",
            terms=reports.Terms(rating.plan_of(hold.price_version), 8000, {}),
            quantities={"call": 1, "row": 1},
            organization_id=hold.organization_id,
            reserved_nanos=hold.reserved_nanos,
            accepted_at=hold.accepted_at,
            completed_at=datetime.now(UTC),
            model_version_id=hold.model_version_id,
        )
        for hold in found[thread : thread + 5]
    ]
    if made:
        holds.capture_many(made)


def _settle() -> None:
    from billing import settlement

    settlement.settle()


def _sweep() -> None:
    from billing import holds

    holds.expire_due()


def _note_sweep(notes: Path) -> None:
    """Sweep, and write down from when until when."""
    began = datetime.now(UTC)
    _sweep()
    with notes.open("a") as file:
        file.write(f"{began.isoformat()} {datetime.now(UTC).isoformat()}\n")


def sweep_seconds() -> float:
    """Return how often the site lets holds expire."""
    from maas_site.celery import app

    seconds: float = app.conf.beat_schedule["expire-holds"]["schedule"]
    return seconds


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

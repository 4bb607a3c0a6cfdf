"""Gateways, workers and a settler are killed at named lines while 32 threads spend to the cap."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.db.models import F

from accounts.models import Organization
from billing import budgets, shares
from billing.ids import uuid7
from billing.invariants import violations
from billing.models import Budget, Hold, UsageEvent
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from tests.billing.calls import reserve
from tests.live import ROOT, database_url

# Role → where its processes are killed, one after the other, and at which pass of that line.
DEATHS = {
    "gateway:0": ["admit.reserved:9", "admit.stored:4"],
    "gateway:1": ["admit.committed:6", "admit.stored:11"],
    "worker:0": ["capture.ended:7", "capture.used:3"],
    "worker:1": ["capture.committed:5"],
    "settler:0": ["settle.claimed:2", "settle.booked", "settle.committed"],
    "settler:1": ["settle.opened", "settle.marked", "expire.found"],
}
CALLS = 480
ROW = factories.ROW_NANOS


class Crew:
    """The processes; who dies at a named line is started again."""

    def __init__(self, plan: Path) -> None:
        self.plan = plan
        self.deaths = {role: iter([*points, ""]) for role, points in DEATHS.items()}
        self.killed: Counter[str] = Counter()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for role in DEATHS:
            self._start(role)

    def _start(self, role: str) -> None:
        self.running[role] = subprocess.Popen(
            [sys.executable, "-m", "tests.billing.kill_process", role, str(self.plan)],
            cwd=ROOT,
            env=os.environ
            | {"DATABASE_URL": database_url(), "MERCATO_CRASH_AT": next(self.deaths[role])},
        )

    def look(self) -> None:
        """Start again who was killed; forget who is done."""
        for role, process in list(self.running.items()):
            status = process.poll()
            if status == -signal.SIGKILL:
                self.killed[role] += 1
                self._start(role)
            elif status is not None:
                assert status == 0, f"{role} ended with {status}"
                del self.running[role]

    def has_died_all_deaths(self) -> bool:
        """Whether every role was killed at each of its lines."""
        return all(self.killed[role] == len(points) for role, points in DEATHS.items())

    def kill(self) -> None:
        """Leave nobody behind."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Let workers and settler end."""
        self.plan.with_suffix(".stop").touch()
        for process in self.running.values():
            assert process.wait(timeout=60) == 0


@pytest.fixture
def version(transactional_db: None) -> ModelVersion:
    return factories.make_version()


@dataclass(frozen=True)
class Scene:
    """Who calls: one organization with enough, one with three nested caps."""

    path: Path
    rich: Organization
    capped: Organization
    # Calls that the capped one can pay: a random number.
    cap: int


@pytest.fixture
def scene(version: ModelVersion, tmp_path: Path) -> Scene:
    """Half of the calls by each; a third of the rich one's are abandoned by their worker."""
    rich, capped = (factories.make_organization(slug=slug) for slug in ("rich", "capped"))
    key, _ = factories.make_key(capped)
    cap = random.SystemRandom().randint(40, 120)
    budgets.set_limit(capped, "day", 150, unit="calls")
    budgets.set_limit(capped, "month", (cap + 20) * ROW)
    budgets.set_limit(capped, "lifetime", cap * ROW, api_key=key)
    price = prices.current(version.model)
    assert price is not None
    calls = [
        {
            "id": str(uuid7()),
            "organization": (capped if number % 2 else rich).pk,
            "key": key.pk if number % 2 else None,
            "is_abandoned": number % 6 == 0,
        }
        for number in range(CALLS)
    ]
    common = {"price": price.pk, "version": version.pk, "share": shares.current().pk}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"calls": calls, **common}))
    return Scene(path, rich, capped, cap)


@pytest.fixture
def crew(scene: Scene) -> Iterator[Crew]:
    made = Crew(scene.path)
    yield made
    made.kill()


@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_no_death_passes_a_cap_or_changes_a_total(
    scene: Scene, crew: Crew, version: ModelVersion
) -> None:
    """Invariant 3, 6, 7, 9, 11; regression 2, 3, 5, 7, 12, 24, 42: killed at thirteen lines."""
    looks = more = 0
    while not (crew.has_died_all_deaths() and _is_quiet(crew)):
        looks += 1
        crew.look()
        assert not Budget.objects.filter(capacity__lt=F("posted") + F("held")).exists()
        if _is_quiet(crew):
            # Some line was not reached often enough yet: there must be something to die at.
            reserve(scene.rich, version)
            more += 1
    crew.stop()

    assert looks > 10
    assert _charged(scene.capped) == scene.cap
    assert _charged(scene.rich) == CALLS // 2 - CALLS // 6 + more
    assert violations() == []


def _is_quiet(crew: Crew) -> bool:
    """Whether all calls were admitted or refused, and what was admitted has ended."""
    is_admitting = any(role.startswith("gateway") for role in crew.running)
    return not is_admitting and not Hold.objects.filter(settlement=None).exists()


def _charged(organization: Organization) -> int:
    return UsageEvent.objects.filter(organization=organization, cost_nanos=ROW).count()

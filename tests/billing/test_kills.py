"""Every part of the site is killed at named lines while 32 threads spend to the cap."""

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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import Sum

from accounts.models import ApiKey, Organization
from billing import budgets, holds, shares, wallets
from billing.ids import uuid7
from billing.invariants import violations
from billing.models import Budget, Hold, LedgerEntry, UsageEvent, UsageRollup
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from tests.billing import kill_process
from tests.live import ROOT, database_url
from tests.maas_site.processes import wait_until

# Role → where its processes are killed, one after the other, and at which pass of that line.
DEATHS = {
    # One of them lives: how long a dead one takes to start again is not what is measured.
    "sweeper:0": [],
    "sweeper:1": ["expire.found", "expire.ended"],
    "gateway:0": ["admit.reserved:9", "admit.stored:4"],
    "gateway:1": ["admit.committed:6", "admit.stored:11"],
    "worker:0": ["capture.ended:7", "capture.used:3"],
    "worker:1": ["capture.committed:5"],
    "settler:0": ["settle.claimed:2", "settle.booked", "settle.committed"],
    "settler:1": ["settle.opened", "settle.marked"],
}
CALLS = 480
ROW = factories.ROW_NANOS
# How long an open hold may outlive its expiry, in seconds, and in sweeps.
PATIENCE, SWEEPS = 10, 2


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

    def is_admitting(self) -> bool:
        """Whether some of the planned calls were neither admitted nor refused yet."""
        return any(role.startswith("gateway") for role in self.running)

    def has_died_all_deaths(self) -> bool:
        """Whether every role was killed at each of its lines."""
        return all(self.killed[role] == len(points) for role, points in DEATHS.items())

    def kill(self) -> None:
        """Leave nobody behind."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def stop(self) -> None:
        """Let those end who work until they are told."""
        self.plan.with_suffix(".stop").touch()
        for process in self.running.values():
            assert process.wait(timeout=60) == 0


class Scene:
    """Who calls: one organization with enough, one with three nested caps, each half of the calls.

    Args:
        name: What the organizations are named for.
        cap: Calls that the capped one can pay.
    """

    def __init__(self, name: str, version: ModelVersion, cap: int) -> None:
        self.rich, self.capped = (
            factories.make_organization(slug=f"{name}-{kind}") for kind in ("rich", "capped")
        )
        self._key, _ = factories.make_key(self.capped)
        budgets.set_limit(self.capped, "day", 150, unit="calls")
        budgets.set_limit(self.capped, "month", (cap + 20) * ROW)
        budgets.set_limit(self.capped, "lifetime", cap * ROW, api_key=self._key)
        price = prices.current(version.model)
        assert price is not None
        self.cap = cap
        self.plan: dict[str, Any] = {
            "calls": [],
            "price": price.pk,
            "version": version.pk,
            "share": shares.current().pk,
        }
        for number in range(CALLS):
            by, key = (self.capped, self._key) if number % 2 else (self.rich, None)
            # A third of the rich one's are abandoned by their worker.
            self.add(by, key, is_abandoned=number % 6 == 0)

    def add(
        self, by: Organization, key: ApiKey | None = None, *, is_abandoned: bool
    ) -> dict[str, Any]:
        """Plan one more call."""
        call = {
            "id": str(uuid7()),
            "organization": by.pk,
            "key": key.pk if key else None,
            "is_abandoned": is_abandoned,
        }
        self.plan["calls"].append(call)
        return call

    def add_more(self) -> None:
        """Plan two more calls of the rich one, one of them abandoned, and admit them."""
        made = [self.add(self.rich, is_abandoned=is_abandoned) for is_abandoned in (False, True)]
        holds.reserve_many([kill_process.reservation(self.plan, call) for call in made])

    def totals(self) -> list[Totals]:
        """Return what the two of them have used, and paid."""
        return [_totals(self.rich), _totals(self.capped)]


@dataclass(frozen=True)
class Totals:
    """What is left of a history when it is over."""

    # (rank, window, unit) → posted, held; in whatever windows.
    budgets: dict[tuple[Any, ...], tuple[int, int]]
    # Calls by how they ended.
    calls: Counter[str]
    usage: int
    # Account → nanos in the organization's transactions.
    ledger: dict[str, int]
    paid: int
    granted: int
    # (calls, nanos) of the hourly sums.
    rollups: tuple[int, int]


def _totals(organization: Organization) -> Totals:
    sums = Budget.objects.filter(organization=organization).order_by()
    entries = LedgerEntry.objects.filter(transaction__organization=organization).order_by()
    hours = UsageRollup.objects.filter(organization=organization)
    counted = hours.aggregate(calls=Sum("calls"), cost=Sum("cost_nanos"))
    return Totals(
        budgets={
            (rank, window, unit): (posted, held)
            for rank, window, unit, posted, held in sums.values_list("lock_rank", "window", "unit")
            .annotate(Sum("posted"), Sum("held"))
            .values_list("lock_rank", "window", "unit", "posted__sum", "held__sum")
        },
        calls=Counter(
            Hold.objects.filter(organization=organization).values_list("state", flat=True)
        ),
        usage=UsageEvent.objects.filter(organization=organization).count(),
        ledger={
            code.replace(f":{organization.pk}:", ":its:"): nanos
            for code, nanos in entries.values_list("account__code").annotate(Sum("amount_nanos"))
        },
        paid=wallets.of(organization).paid_nanos,
        granted=sum(organization.credit_grants.values_list("remaining_nanos", flat=True)),
        rollups=(counted["calls"], counted["cost"]),
    )


@pytest.fixture
def version(transactional_db: None) -> ModelVersion:
    return factories.make_version()


# Statements that make the notes, and that remove them.
_NOTES = {
    "postgresql": (
        (
            "CREATE TABLE test_states (capacity BIGINT, posted BIGINT, held BIGINT)",
            "CREATE TABLE test_holds (id UUID, made_at TIMESTAMPTZ)",
            "CREATE FUNCTION test_states() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO test_states VALUES (NEW.capacity, NEW.posted, NEW.held); "
            "RETURN NULL; END $$",
            "CREATE FUNCTION test_holds() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO test_holds VALUES (NEW.id, clock_timestamp()); RETURN NULL; END $$",
            "CREATE TRIGGER test_states AFTER UPDATE ON billing_budget "
            "FOR EACH ROW EXECUTE FUNCTION test_states()",
            "CREATE TRIGGER test_holds AFTER INSERT ON billing_hold "
            "FOR EACH ROW EXECUTE FUNCTION test_holds()",
        ),
        (
            "DROP FUNCTION test_states CASCADE",
            "DROP FUNCTION test_holds CASCADE",
            "DROP TABLE test_states",
            "DROP TABLE test_holds",
        ),
    ),
    "sqlite": (
        (
            "CREATE TABLE test_states (capacity BIGINT, posted BIGINT, held BIGINT)",
            "CREATE TABLE test_holds (id TEXT, made_at TEXT)",
            "CREATE TRIGGER test_states AFTER UPDATE ON billing_budget BEGIN "
            "INSERT INTO test_states VALUES (NEW.capacity, NEW.posted, NEW.held); END",
            "CREATE TRIGGER test_holds AFTER INSERT ON billing_hold BEGIN "
            "INSERT INTO test_holds VALUES (NEW.id, strftime('%Y-%m-%d %H:%M:%f', 'now')); END",
        ),
        (
            "DROP TRIGGER test_states",
            "DROP TRIGGER test_holds",
            "DROP TABLE test_states",
            "DROP TABLE test_holds",
        ),
    ),
}


@pytest.fixture
def written_down(transactional_db: None) -> Iterator[None]:
    """Let the database write down every state of any budget, and when each hold was made."""
    makes, removes = _NOTES[connection.vendor]
    with connection.cursor() as cursor:
        for statement in makes:
            cursor.execute(statement)
        yield
        for statement in removes:
            cursor.execute(statement)


@pytest.fixture
def scene(version: ModelVersion, written_down: None) -> Scene:
    return Scene("killed", version, random.SystemRandom().randint(40, 120))


@pytest.fixture
def crew(scene: Scene, tmp_path: Path) -> Iterator[Crew]:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(scene.plan))
    made = Crew(path)
    yield made
    made.kill()


def _is_over(scene: Scene, crew: Crew) -> bool:
    """Whether all have died who are to die, and what they left behind has ended."""
    if crew.has_died_all_deaths() and _is_quiet(crew):
        return True
    crew.look()
    if not (crew.is_admitting() or crew.has_died_all_deaths() or _is_any_abandoned()):
        # Some line was not reached often enough yet: there must be something to die at,
        # whichever sweeper comes next.
        scene.add_more()
    return False


@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_no_death_passes_a_cap_or_changes_a_total(
    scene: Scene, crew: Crew, version: ModelVersion
) -> None:
    """Invariant 3, 6, 7, 9, 11; regression 2, 3, 5, 7, 12, 24, 42: killed at thirteen lines."""
    wait_until(lambda: _is_over(scene, crew), 570, "every death and a quiet end", every=0.02)
    crew.stop()

    assert _passed_caps() == 0
    assert SWEEPS * kill_process.sweep_seconds() <= PATIENCE
    assert _outlived(crew.plan.with_suffix(".sweeper:0")) == []
    assert scene.totals() == _without_deaths(scene, version)
    assert violations() == []


def _is_quiet(crew: Crew) -> bool:
    """Whether all calls were admitted or refused, and what was admitted has ended."""
    return not (crew.is_admitting() or Hold.objects.filter(settlement=None).exists())


def _is_any_abandoned() -> bool:
    return Hold.objects.filter(state="authorised", request_id="abandoned").exists()


def _passed_caps() -> int:
    """Count the states of budgets, at any instant, in which more was used than may be."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*), SUM(CASE WHEN posted + held > capacity THEN 1 ELSE 0 END) "
            "FROM test_states"
        )
        states, passed = cursor.fetchone()
    assert states > CALLS
    return int(passed)


def _outlived(notes: Path) -> list[UUID]:
    """Return the holds that were still open after two whole sweeps, though there and expired.

    Counted in sweeps and not in seconds: how fast this machine is does not matter.
    """
    sweeps = [
        tuple(datetime.fromisoformat(instant) for instant in line.split())
        for line in notes.read_text().splitlines()
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, made_at FROM test_holds")
        made = {
            UUID(str(hold_id)): datetime.fromisoformat(str(at)).replace(tzinfo=UTC)
            for hold_id, at in cursor.fetchall()
        }
    return [
        pk
        for pk, expires_at, ended_at in Hold.objects.values_list("pk", "expires_at", "finished_at")
        if ended_at
        and sum(max(expires_at, made[pk]) < began <= done < ended_at for began, done in sweeps)
        >= SWEEPS
    ]


def _without_deaths(scene: Scene, version: ModelVersion) -> list[Totals]:
    """Play the same calls once more, by other organizations and without a death."""
    calm = Scene("calm", version, scene.cap)
    for call in scene.plan["calls"][CALLS:]:
        calm.add(calm.rich, is_abandoned=call["is_abandoned"])
    kill_process.play(calm.plan)
    totals = calm.totals()
    assert totals[1].usage == scene.cap
    return totals

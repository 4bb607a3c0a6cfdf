"""The site of `make up` on a PostgreSQL of its own, and a hand that kills its parts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import psycopg2

from inference.asynchronous.claims import MAX_ATTEMPTS
from tests import postgresql
from tests.maas_site.processes import ROOT, Supervisor, free_port, wait_until
from tests.soak.load import ENDED, FILE_ROWS, Load

READY = "Ctrl-C stops everything."
# What is killed → what its command line has.
PARTS = {
    "predict worker": "celery:predict",
    "job worker": "-Q job.cpu",
    "gateway": "granian",
    "Valkey": "valkey-server",
    "PostgreSQL": "",
}
# Seconds between the return of one part and the death of the next.
_QUIET = (1.0, 6.0)


class Site:
    """Everything that runs, and the load on it."""

    def __init__(
        self,
        supervisor: Supervisor,
        database: postgresql.Server,
        load: Load,
        environment: dict[str, str],
    ) -> None:
        self.load, self.database, self.environment = load, database, environment
        self._supervisor = supervisor

    def soak(self, seconds: float, seed: int, *, patience: float) -> dict[str, list[float]]:
        """Kill parts at random for a time, each in every round; returns seconds to each return.

        There are two rounds at least.

        Raises:
            AssertionError: The site was not back within `patience` seconds.
        """
        chance = random.Random(seed)
        returns: dict[str, list[float]] = {part: [] for part in PARTS}
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(returns["gateway"]) < 2:
            for part in chance.sample(sorted(PARTS), len(PARTS)):
                threading.Event().wait(chance.uniform(*_QUIET))
                took = self._kill(part, patience)
                returns[part].append(took)
                print(f"  {part:<15} was killed and back after {took:5.1f} s", flush=True)
        return returns

    def _kill(self, part: str, patience: float) -> float:
        """Kill a part; returns the seconds until the whole site works again by itself."""
        if part == "PostgreSQL":
            self.database.kill()
            self.database.start()
            is_back: Callable[[], object] = self.load.is_answered
        else:
            killed = self._supervisor.pids_of(PARTS[part])
            for pid in killed:
                # It may have ended by itself a moment ago.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

            def is_back() -> bool:
                running = set(self._supervisor.pids_of(PARTS[part]))
                return bool(running - set(killed)) and self.load.is_answered()

        before, told = time.monotonic(), Counter(self.load.told.statuses)
        try:
            wait_until(is_back, patience, f"{part} is back")
        except AssertionError as error:
            since = self.load.told.statuses - told
            shown = self._supervisor.output()[-3000:]
            raise AssertionError(f"{error}; answers since: {dict(since)}\n{shown}") from error
        return time.monotonic() - before

    def open_jobs(self) -> list[tuple[object, ...]]:
        """Return what has not ended: trainings, batch files, predictions run later."""
        ended = list(ENDED)
        statement = """
            SELECT 'training', id, state FROM training_job WHERE state <> ALL(%s)
            UNION ALL
            SELECT 'batch file', id, status FROM inference_batchfile WHERE status <> ALL(%s)
            UNION ALL
            SELECT 'prediction', id, status FROM inference_prediction
            WHERE status <> ALL(%s) AND id = ANY(%s::uuid[])
        """
        return self.query(statement, ended, ended, ended, self.load.told.later)

    def unsettled(self) -> int:
        """Return how many holds are not booked yet; those that nobody reports expire."""
        found = self.query("SELECT count(*) FROM billing_hold WHERE settlement_id IS NULL")
        return int(str(found[0][0]))

    def query(self, statement: str, *arguments: object) -> list[tuple[object, ...]]:
        """Ask the database."""
        connection = psycopg2.connect(self.database.url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement, arguments)
                return cursor.fetchall()
        finally:
            connection.close()

    def wrongs(self) -> list[str]:
        """Return where the site does not stand by what clients were told; empty if it does."""
        told, found = self.load.told, []
        events = Counter(
            str(row[0]) for row in self.query("SELECT hold_id FROM billing_usageevent")
        )
        captured = "SELECT id FROM billing_hold WHERE state = 'captured'"
        holds = {str(row[0]) for row in self.query(captured)}
        promised = [*told.answered, *(hold for one in told.keyed.values() for hold in one)]
        found += [f"answered, not charged: {hold}" for hold in promised if hold not in holds]
        found += [f"charged {events[hold]} times: {hold}" for hold in holds if events[hold] != 1]
        found += [f"{key} has holds {ids}" for key, ids in told.keyed.items() if len(ids) > 1]
        rows = self.query("SELECT id, state, version_id, hold_id FROM training_job")
        jobs = {str(row[0]): row for row in rows}
        lost = [job for job in told.trainings.values() if job not in jobs]
        found += [f"acknowledged and lost: {job}" for job in lost]
        own = [row for row in rows if str(row[0]) in set(told.trainings.values())]
        found += [f"did not succeed: {row}" for row in own if row[1] != "succeeded"]
        found += [
            f"charged {events[str(row[3])]} times: {row}" for row in own if events[str(row[3])] != 1
        ]
        if len(rows) != len(told.trainings):
            found.append(f"{len(told.trainings)} trainings were told, {len(rows)} are there")
        found += [*self._wrong_later(events), *self._wrong_files(events)]
        results = Counter(row[2] for row in own if row[2])
        found += [f"two jobs have version {key}" for key, count in results.items() if count > 1]
        return found

    def _wrong_later(self, events: Counter[str]) -> Iterator[str]:
        """Tell which stored predictions are lost, or charged otherwise than they ended."""
        rows = self.query("SELECT id, status, hold_id, attempt FROM inference_prediction")
        stored = {str(row[0]): row for row in rows}
        for told in self.load.told.later:
            row = stored.get(told)
            if row is None:
                yield f"acknowledged and lost: {told}"
                continue
            # One in whose company workers have died too often has failed, and is not charged.
            gave_up = row[1] == "failed" and row[3] == MAX_ATTEMPTS
            if row[1] != "succeeded" and not gave_up:
                yield f"did not succeed: {row}"
            if events[str(row[2])] != (row[1] == "succeeded"):
                yield f"charged {events[str(row[2])]} times: {row}"

    def _wrong_files(self, events: Counter[str]) -> Iterator[str]:
        """Tell which batch files are lost, or whose rows are charged otherwise than they ended."""
        rows = self.query("SELECT id, status, rows FROM inference_batchfile")
        stored = {str(row[0]): row for row in rows}
        for told in self.load.told.files:
            row = stored.get(told)
            if row is None or row[1:] != ("succeeded", FILE_ROWS):
                yield f"file {told} is {row}"
        chunks = "SELECT batch_id, number, rows, succeeded, first_hold FROM inference_batchchunk"
        for batch, number, size, succeeded, first in self.query(chunks):
            begin = UUID(str(first)).int
            charged = [events[str(UUID(int=begin + row))] for row in range(int(str(size)))]
            if max(charged) > 1 or sum(charged) != succeeded:
                yield f"{sum(charged)} rows charged, {succeeded} succeeded: {batch}/{number}"


@contextmanager
def soaking(folder: Path) -> Iterator[Site]:
    """Start everything; yields the site under load, and leaves nothing."""
    data = folder / "var"
    data.mkdir(mode=0o700)
    with postgresql.running(folder / "postgresql.log") as database:
        variables = {
            "DATABASE_URL": database.url,
            # Somebody who is killed this often needs more than three attempts.
            "MERCATO_JOB_MAX_ATTEMPTS": "20",
            "MERCATO_JOB_LEASE": "10",
            "MERCATO_PREDICT_TIMEOUT": "10",
        }
        environment = os.environ | variables | {"MERCATO_DATA": str(data), "REDIS_URL": ""}
        body, secret = _rows(environment)
        supervisor = Supervisor(data, free_port(), **variables)
        load = Load(supervisor.port, body, secret)
        try:
            supervisor.await_output(READY, 300)
            load.start()
            yield Site(supervisor, database, load, environment)
        finally:
            load.abandon()
            supervisor.stop()


def _rows(environment: dict[str, str]) -> tuple[str, str]:
    made = subprocess.run(
        [sys.executable, "-m", "tests.soak.rows"],
        cwd=ROOT,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    body, secret = json.loads(made.stdout.splitlines()[-1])
    return body, secret


def prove(site: Site) -> list[str]:
    """End the load, let every training end, and return what is wrong."""
    site.load.stop()
    try:
        wait_until(lambda: not site.open_jobs(), 600, "every job has ended", every=0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}; open are {site.open_jobs()}") from error
    wait_until(lambda: not site.unsettled(), 120, "everything is booked", every=0.5)
    checked = subprocess.run(
        [sys.executable, "manage.py", "check_invariants"],
        cwd=ROOT,
        env=site.environment,
        check=False,
        capture_output=True,
        text=True,
    )
    return [*site.wrongs(), *([checked.stderr] if checked.returncode else [])]

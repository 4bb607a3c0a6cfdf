"""The whole site, started for real: one first start for this file, several later ones."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.maas_site.processes import (
    ROOT,
    Supervisor,
    cpu_seconds,
    foreign_connections,
    free_port,
    of_folder,
    wait_until,
)

pytestmark = [pytest.mark.once, pytest.mark.timeout(1800)]
READY = "Ctrl-C stops everything."
CHILDREN = (
    ("gateway", "granian"),
    ("predict", "celery:predict"),
    ("jobs", "-Q job.cpu"),
    ("light", "-Q light"),
    ("valkey", "valkey-server"),
)
MODELS = {
    "mercato/mnist-mlp",
    "mercato/mnist-cnn",
    "mercato/mnist-cnn-deep",
    "mercato/mnist-dropout",
    "mercato/digits-lstm",
    "mercato/linear-regression",
}
TEXT_MODELS = {"mercato/docs-gru", "mercato/all-minilm-l6-v2"}


class Version(NamedTuple):
    """What the site's database says of a published version."""

    model: str
    is_public: bool
    title_zh: str
    card_zh: str
    runtime: str
    compute_ms: int
    charged: str
    metrics: dict[str, Any]
    measurements: dict[str, Any]
    examples: list[dict[str, Any]]


def versions(data: Path) -> list[Version]:
    statement = """
        SELECT 'mercato/' || m.name, m.is_public, m.title_zh, m.card_zh, v.runtime, j.compute_ms,
            (SELECT group_concat(cost_nanos) FROM billing_usageevent WHERE hold_id = j.hold_id),
            v.metrics, v.measurements, v.examples
        FROM catalog_mlmodel AS m
        JOIN catalog_modelversion AS v ON v.id = m.current_version_id
        JOIN training_job AS j ON j.version_id = v.id
    """
    with closing(sqlite3.connect(data / "mercato.sqlite3")) as connection:
        found = connection.execute(statement).fetchall()
    return [Version(*row[:7], *map(json.loads, row[7:])) for row in found]


class Site:
    """A data folder that was started once, and what its first start said."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.foreign: set[str] = set()
        first = Supervisor(data, self.port)
        try:
            wait_until(lambda: self._watch(first), 1500, "the first start", every=0.5)
            self.terminal = first.output()
            self.ready = get(self.port, "/readyz")
            self.models = get(self.port, "/v1/models", key=self.key)
            self.balance = get(self.port, "/v1/balance", key=self.key)
            self.versions = versions(data)
            self.answers = {one.model: self._try(one) for one in self.versions}
        finally:
            self.status = first.stop()
        self.left = of_folder(data)

    def _watch(self, first: Supervisor) -> bool:
        """Note whom the processes speak to; whether the start has ended, well or not."""
        self.foreign |= foreign_connections(self.data)
        return READY in first.output() or first.process.poll() is not None

    def _try(self, version: Version) -> dict[str, Any]:
        """Run a version's first example."""
        body = json.dumps({"model": version.model, "input": version.examples[0]["input"]})
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            headers = {"Authorization": f"Bearer {self.key}"}
            connection.request("POST", "/v1/predictions", body, headers)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer

    @property
    def key(self) -> str:
        """The first key, as the terminal showed it."""
        found = re.search(r"API key +(mk_live_\w+)", self.terminal)
        assert found, self.terminal
        return found[1]


def get(port: int, path: str, *, key: str = "") -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def is_up(port: int) -> bool:
    try:
        return get(port, "/readyz")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "var")


@contextmanager
def one_start(site: Site) -> Iterator[Supervisor]:
    """Start the site once more, and stop it however the block ends."""
    supervisor = Supervisor(site.data, site.port)
    try:
        supervisor.await_output(READY, 120)
        yield supervisor
    finally:
        supervisor.stop()
        wait_until(lambda: not of_folder(site.data), 30, "every process has ended")


@pytest.fixture
def running(site: Site) -> Iterator[Supervisor]:
    """A start of a test's own, for tests that end it."""
    with one_start(site) as supervisor:
        yield supervisor


@pytest.fixture(scope="class")
def steady(site: Site) -> Iterator[Supervisor]:
    """One start for tests that leave the site as it was."""
    with one_start(site) as supervisor:
        yield supervisor


def assert_nothing_left(site: Site) -> None:
    assert of_folder(site.data) == {}
    assert not (site.data / "lock").exists()
    assert not (site.data / "valkey.sock").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", site.port)) != 0


# The first start ----------------------------------------------------------------------------


def test_a_first_start_ends_ready_with_every_model(site: Site) -> None:
    assert site.ready[0] == 200, site.terminal
    listed = json.loads(site.models[1])
    assert {model["id"] for model in listed["data"]} == MODELS | TEXT_MODELS
    assert json.loads(site.balance[1])["available"] == "5"
    assert "trained and published" in site.terminal


def test_every_model_is_good_says_so_in_two_languages_and_answers(site: Site) -> None:
    assert {version.model for version in site.versions} == MODELS | TEXT_MODELS
    for version in site.versions:
        assert version.is_public
        assert version.title_zh
        assert "## 局限" in version.card_zh
        if version.model in TEXT_MODELS:
            # What they answer is tested with OpenAI's client.
            continue
        assert version.measurements["parity"]["rows"] >= 32
        assert version.measurements[version.runtime]["1"]["p50_us"] > 0
        assert float(version.metrics.get("accuracy", "1")) >= 0.95, version
        # One charge, of exactly the compute: 50,000 nanos a second.
        assert version.charged == str(version.compute_ms * 50)
        answer = site.answers[version.model]
        assert answer["status"] == "succeeded", answer
        if "label" in answer["output"]:
            assert answer["output"]["label"] == version.examples[0]["label"]


def test_no_process_speaks_to_another_machine(site: Site) -> None:
    assert site.foreign == set()


def test_a_first_start_leaves_nothing_when_it_is_stopped(site: Site) -> None:
    assert site.status == 0
    assert site.left == {}
    assert not (site.data / "lock").exists()


def test_the_credentials_are_kept_for_their_owner_only(site: Site) -> None:
    kept = site.data / "first-run.txt"

    assert kept.stat().st_mode & 0o777 == 0o600
    assert site.data.stat().st_mode & 0o777 == 0o700
    assert site.key in kept.read_text(encoding="utf-8")
    assert "operator@mercato.local" in kept.read_text(encoding="utf-8")


def test_nothing_is_said_twice(site: Site) -> None:
    lines = [line for line in site.terminal.splitlines() if line.strip()]

    assert len(lines) == len(set(lines)), site.terminal


def test_secrets_stay_out_of_the_logs(site: Site) -> None:
    logs = "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in (site.data / "logs").iterdir()
    )

    assert site.key not in logs
    assert "mk_live_" not in logs


# Later starts -------------------------------------------------------------------------------


def test_a_second_start_is_ready_in_seconds_and_shows_no_secret(site: Site) -> None:
    before = time.monotonic()
    started = Supervisor(site.data, site.port)
    try:
        started.await_output(READY, 120)
        seconds, computed = time.monotonic() - before, cpu_seconds(site.data)
        assert get(site.port, "/v1/balance", key=site.key)[0] == 200
    finally:
        status = started.stop()

    # On a busy machine the clock tells about the others: what was computed counts then.
    assert min(seconds, computed) < 20, (seconds, computed)
    assert status == 0
    assert site.key not in started.output()
    assert "first-run.txt" in started.output()
    assert "training" not in started.output()
    assert_nothing_left(site)


class TestWhileItRuns:
    def test_a_second_start_on_the_same_folder_says_who_holds_it(
        self, site: Site, steady: Supervisor
    ) -> None:
        second = Supervisor(site.data, free_port())

        assert second.process.wait(timeout=30) == 1
        assert f"is in use by pid {steady.process.pid} since" in second.output()
        assert f"http://127.0.0.1:{site.port}" in second.output()
        assert is_up(site.port)

    @pytest.mark.usefixtures("steady")
    def test_every_kind_of_process_that_calls_pass_through_counts(self, site: Site) -> None:
        kinds = [f'mercato_processes{{kind="{kind}"}}' for kind in ("gateway", "predict", "light")]

        def all_count() -> bool:
            said = get(site.port, "/metrics")[1]
            return all(kind in said for kind in kinds)

        wait_until(all_count, 20, "they have told of themselves")

    @pytest.mark.parametrize("child", CHILDREN)
    def test_a_killed_child_comes_back(
        self, site: Site, steady: Supervisor, child: tuple[str, str]
    ) -> None:
        name, command = child
        wait_until(lambda: steady.pids_of(command), 20, "it runs")
        before = steady.pids_of(command)

        os.kill(before[0], signal.SIGKILL)

        said = f"{name} ended (killed by SIGKILL)"
        wait_until(lambda: said in steady.output(), 20, "the end is noticed")
        wait_until(lambda: set(steady.pids_of(command)) - set(before), 20, "it is back")
        wait_until(lambda: is_up(site.port), 60, "the site is ready again")

    def test_a_killed_guard_takes_its_child_along_and_both_come_back(
        self, site: Site, steady: Supervisor
    ) -> None:
        before = steady.pids_of("celery:predict")[0]
        status = Path(f"/proc/{before}/stat").read_text(encoding="utf-8")
        guard = int(status.rpartition(")")[2].split()[1])

        os.kill(guard, signal.SIGKILL)

        wait_until(lambda: before not in of_folder(site.data), 20, "the child has ended")
        wait_until(lambda: steady.pids_of("celery:predict"), 60, "another one runs")
        wait_until(lambda: is_up(site.port), 60, "the site is ready again")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_supervisor_leaves_nothing(
    site: Site, running: Supervisor, sig: signal.Signals
) -> None:
    before = time.monotonic()

    assert running.stop(sig) == 0

    assert time.monotonic() - before < 30
    assert_nothing_left(site)


def test_a_killed_supervisor_leaves_nothing(site: Site, running: Supervisor) -> None:
    running.stop(signal.SIGKILL)

    wait_until(lambda: not of_folder(site.data), 30, "the children have noticed")
    assert_nothing_left(site)


def test_a_start_right_after_a_kill_waits_for_what_still_ends(
    site: Site, running: Supervisor
) -> None:
    running.stop(signal.SIGKILL)

    again = Supervisor(site.data, site.port)
    try:
        again.await_output(READY, 120)
        assert is_up(site.port)
    finally:
        assert again.stop() == 0
    assert_nothing_left(site)


def test_a_stop_during_the_start_leaves_nothing(site: Site) -> None:
    started = Supervisor(site.data, site.port)
    wait_until(lambda: "redis" in started.output(), 30, "Valkey is up")

    assert started.stop() == 0

    assert_nothing_left(site)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_make_up_ends_with_make(site: Site, sig: signal.Signals) -> None:
    given = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_URL", "REDIS_URL"))}
    ours = {"MERCATO_DATA": str(site.data), "MERCATO_PORT": str(site.port)}
    make = subprocess.Popen(["make", "up"], cwd=ROOT, env=given | ours, start_new_session=True)
    wait_until(lambda: is_up(site.port), 120, "the site is ready")

    make.send_signal(sig)

    make.wait(timeout=60)
    wait_until(lambda: not of_folder(site.data), 40, "every process has ended")
    assert_nothing_left(site)


def test_a_lost_password_is_made_again_only_before_it_was_written(site: Site) -> None:
    """The credentials of a first run that ended early are lost; those of a whole one are not."""
    (site.data / "first-run.txt").unlink()
    with closing(sqlite3.connect(site.data / "mercato.sqlite3")) as database:
        password = "SELECT password FROM accounts_user WHERE email = 'operator@mercato.local'"
        before = database.execute(password).fetchone()
        seed = [sys.executable, "manage.py", "seed"]
        env = os.environ | {"MERCATO_DATA": str(site.data), "DATABASE_URL": ""}

        subprocess.run(seed, cwd=ROOT, env=env, check=True, capture_output=True)
        assert database.execute(password).fetchone() == before
        assert not (site.data / "first-run.txt").exists()

        with database:
            database.execute("DELETE FROM accounts_auditentry WHERE action = 'site.first_run'")
        subprocess.run(seed, cwd=ROOT, env=env, check=True, capture_output=True)
        assert database.execute(password).fetchone() != before
        assert (site.data / "first-run.txt").exists()

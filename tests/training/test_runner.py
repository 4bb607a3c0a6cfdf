"""The runner: what it says, what it knows, how it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from training.process import RunnerProcess, _parsed
from training.recipes import RECIPES

pytestmark = pytest.mark.once
_SECONDS = 120.0


def make_spec(folder: Path, recipe: str = "linear-regression", **fields: Any) -> dict[str, Any]:
    data = RECIPES[recipe].data[0]
    choices = RECIPES[recipe].defaults(data).as_json() | fields.pop("hyperparameters", {})
    return {
        "job": "test",
        "recipe": recipe,
        "data": data,
        "hyperparameters": choices,
        "folders": [str(folder)],
        "datasets": [],
        "threads": 1,
        "max_seconds": 100,
        "may_ship": False,
    } | fields


@pytest.fixture
def runners() -> Iterator[list[RunnerProcess]]:
    started: list[RunnerProcess] = []
    yield started
    for runner in started:
        runner.close()


def listen(runner: RunnerProcess, until: str = "", *, also: Any = None) -> list[dict[str, Any]]:
    """Return what a runner says, to its end or to an event."""
    heard: list[dict[str, Any]] = []
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        found = runner.events(0.5)
        if found is None:
            return heard
        for event in found:
            heard.append(event)
            if also:
                also(event)
            if event["event"] == until:
                return heard
    raise TimeoutError(heard[-3:])


def test_a_run_ends_with_files_metrics_and_measurements(
    tmp_path: Path, runners: list[RunnerProcess]
) -> None:
    runner = RunnerProcess(make_spec(tmp_path), tmp_path)
    runners.append(runner)

    heard = listen(runner)

    assert [event["epoch"] for event in heard if event["event"] == "epoch"] == list(range(1, 13))
    final = heard[-1]
    assert final["event"] == "result"
    assert final["compute_ms"] > 0
    result = final["result"]
    assert float(result["metrics"]["r2"]) > 0.99
    assert result["parameters"] == 2
    assert set(result["files"]) == {"onnx", "saved_model", "keras"}
    assert result["measurements"]["parity"]["rows"] >= 32
    for runtime in ("onnx", "tensorflow"):
        assert float(result["measurements"]["parity"][runtime]) < 1e-4
        assert result["measurements"][runtime]["64"]["rows_per_second"] > 0
    assert json.loads((tmp_path / "result" / "result.json").read_text()) == result
    assert runner.close() == 0


@pytest.mark.parametrize("recipe", ["mnist-mlp", "mnist-cnn", "mnist-cnn-deep", "mnist-dropout"])
def test_a_digit_recipe_runs_in_a_process_of_its_own(
    tmp_path: Path, runners: list[RunnerProcess], recipe: str
) -> None:
    spec = make_spec(tmp_path, recipe, hyperparameters={"epochs": 2})
    runner = RunnerProcess(spec, tmp_path)
    runners.append(runner)

    result = listen(runner)[-1]["result"]

    assert float(result["metrics"]["accuracy"]) > 0.3
    assert sum(map(sum, result["metrics"]["confusion"])) == result["metrics"]["rows"] == 360
    assert [example["label"] for example in result["examples"]] == list("0123456789")
    for runtime in ("onnx", "tensorflow"):
        assert float(result["measurements"]["parity"][runtime]) < 1e-4


def test_a_killed_run_resumes_from_its_checkpoint_with_the_same_result(
    tmp_path: Path, runners: list[RunnerProcess]
) -> None:
    spec = make_spec(tmp_path / "whole", "mnist-dropout", hyperparameters={"epochs": 4})
    whole = RunnerProcess(spec, tmp_path / "whole")
    first = RunnerProcess(spec | {"folders": [str(tmp_path / "a1")]}, tmp_path / "a1")
    runners += [whole, first]
    expected = listen(whole)[-1]["result"]

    def kill_after_two(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
            os.killpg(first.pid, signal.SIGKILL)

    listen(first, also=kill_after_two)
    folders = [str(tmp_path / "a2"), str(tmp_path / "a1")]
    second = RunnerProcess(spec | {"folders": folders}, tmp_path / "a2")
    runners.append(second)
    heard = listen(second)

    resumed = next(event for event in heard if event["event"] == "resumed")
    assert resumed["epoch"] >= 2
    assert heard[-1]["result"]["metrics"] == expected["metrics"]


def test_a_run_stops_when_it_is_asked_to(tmp_path: Path, runners: list[RunnerProcess]) -> None:
    spec = make_spec(tmp_path, hyperparameters={"epochs": 500})
    runner = RunnerProcess(spec, tmp_path)
    runners.append(runner)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            runner.ask_to_stop("canceled")

    final = listen(runner, also=stop)[-1]

    assert (final["event"], final["reason"]) == ("stopped", "canceled")


def test_a_run_stops_at_the_reserved_compute(tmp_path: Path, runners: list[RunnerProcess]) -> None:
    runner = RunnerProcess(make_spec(tmp_path, max_seconds=0), tmp_path)
    runners.append(runner)

    final = listen(runner)[-1]

    assert (final["event"], final["reason"]) == ("stopped", "compute_limit_reached")


def test_a_learning_rate_that_diverges_is_the_callers_failure(
    tmp_path: Path, runners: list[RunnerProcess]
) -> None:
    spec = make_spec(tmp_path, hyperparameters={"learning_rate": "1", "epochs": 50})
    runner = RunnerProcess(spec, tmp_path)
    runners.append(runner)

    final = listen(runner)[-1]

    assert (final["event"], final["code"]) == ("failed", "training_diverged")


def test_a_missing_framework_is_said(tmp_path: Path, runners: list[RunnerProcess]) -> None:
    spec = make_spec(tmp_path, "digits-lstm", data="mnist")
    runner = RunnerProcess(spec, tmp_path)
    runners.append(runner)

    final = listen(runner)[-1]

    assert (final["event"], final["code"]) == ("failed", "data_unavailable")


def test_the_shipped_model_stands_in_where_it_may(
    tmp_path: Path, runners: list[RunnerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(tmp_path, "digits-lstm", may_ship=True, hyperparameters={"epochs": 1})
    runner = RunnerProcess(spec, tmp_path)
    runners.append(runner)

    result = listen(runner)[-1]["result"]

    assert result["measurements"]["runtime"] == "onnx"
    assert "torch" in result["files"] or result["training"]["shipped"]


def test_a_runner_knows_no_secret(
    tmp_path: Path, runners: list[RunnerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://user:secret@host/db")
    runner = RunnerProcess(make_spec(tmp_path), tmp_path)
    runners.append(runner)
    listen(runner, until="stage")

    environment = Path(f"/proc/{runner.pid}/environ").read_bytes()

    for name in (b"DATABASE_URL", b"SECRET_KEY", b"REDIS_URL", b"STRIPE", b"MERCATO"):
        assert name not in environment
    assert b"ORT_DISABLE_TELEMETRY=1" in environment
    assert os.getpgid(runner.pid) == runner.pid


def test_a_runner_dies_with_its_supervisor(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from training.process import RunnerProcess\n"
        "import json\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "runner = RunnerProcess(json.loads(sys.argv[2]), folder)\n"
        "print(runner.pid, flush=True)\n"
        "while True: list(runner.events(1) or ())\n"
    )
    spec = make_spec(tmp_path, hyperparameters={"epochs": 500})
    root = Path(__file__).resolve().parents[2]
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), json.dumps(spec)],
        cwd=root,
        stdout=subprocess.PIPE,
    )
    assert supervisor.stdout is not None
    pid = int(supervisor.stdout.readline())
    handle = os.pidfd_open(pid)

    supervisor.kill()
    supervisor.wait()

    assert select.select([handle], [], [], 30)[0]
    os.close(handle)
    supervisor.stdout.close()


def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path) -> None:
    assert _parsed(b"not json") is None
    assert _parsed(b"[1]") is None
    assert _parsed(b'{"event": 3}') is None
    assert _parsed(b'{"event": "epoch"}') == {"event": "epoch"}


def test_the_recipes_know_neither_django_nor_celery() -> None:
    program = (
        "import sys, training.runner, training.recipes.execute\n"
        "bad = {'django', 'celery', 'tensorflow', 'torch', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)\n"
    )
    root = Path(__file__).resolve().parents[2]

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr

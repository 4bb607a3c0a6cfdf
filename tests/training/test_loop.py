"""The training loop and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.fakes import LineLearner, line
from training.recipes import checkpoints
from training.recipes.checkpoints import Checkpoint
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import StoppedError
from training.recipes.loop import Run


class _Killed(BaseException):
    """Stands for kill -9: nothing of the loop's own runs after it."""


def make_run(*folders: Path, epochs: int = 6, **fields: Any) -> Run:
    events: list[Mapping[str, Any]] = []
    choices = {"report": events.append, "should_stop": lambda: ""} | fields
    return Run(
        learner=LineLearner(),
        data=line(),
        hyperparameters=Hyperparameters("sgd", "0.1", 10, epochs),
        augment=False,
        folders=folders,
        **choices,
    )


def killed_in(epoch: int) -> Any:
    def report(event: Mapping[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == epoch:
            raise _Killed

    return report


def test_a_run_reports_every_epoch_and_learns(tmp_path: Path) -> None:
    events: list[Mapping[str, Any]] = []
    run = make_run(tmp_path, report=events.append)

    run.train()

    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1]["val_loss"] < epochs[0]["val_loss"]
    assert epochs[-1]["fraction"] == 1.0


def test_a_killed_run_resumes_with_the_same_result(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole")
    whole.train()
    with pytest.raises(_Killed):
        make_run(tmp_path / "a1", report=killed_in(3)).train()

    second = make_run(tmp_path / "a2", tmp_path / "a1")
    second.train()

    assert [point["epoch"] for point in second.curve] == [1, 2, 3, 4, 5, 6]
    for resumed, expected in zip(second.learner.arrays(), whole.learner.arrays(), strict=True):
        np.testing.assert_array_equal(resumed, expected)


def test_a_run_stops_after_the_batch_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    batches: list[int] = []

    def should_stop() -> str:
        batches.append(1)
        return "canceled" if len(batches) > 6 else ""

    with pytest.raises(StoppedError, match="canceled"):
        make_run(tmp_path, should_stop=should_stop).train()

    assert len(batches) == 7
    found = checkpoints.latest([tmp_path])
    assert found is not None
    assert found.state["epoch"] == 1


def test_the_last_two_checkpoints_and_the_best_stay(tmp_path: Path) -> None:
    make_run(tmp_path).train()

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.npz", "epoch-00005.npz", "epoch-00006.npz"]


def test_a_broken_checkpoint_is_passed_over(tmp_path: Path) -> None:
    make_run(tmp_path).train()
    newest = tmp_path / "epoch-00006.npz"
    newest.write_bytes(newest.read_bytes()[:-100])

    found = checkpoints.latest([tmp_path])

    assert found is not None
    assert found.state["epoch"] == 5


def test_a_checkpoint_that_was_not_finished_is_not_seen(tmp_path: Path) -> None:
    (tmp_path / "epoch-00001.tmp").write_bytes(b"half")

    assert checkpoints.latest([tmp_path]) is None


def test_the_best_checkpoint_of_all_attempts_is_found(tmp_path: Path) -> None:
    for name, loss in (("a1", 0.1), ("a2", 0.2)):
        state = {"epoch": 1, "best_loss": loss, "curve": []}
        checkpoints.save(tmp_path / name, Checkpoint([np.zeros(1)], state), is_best=True)

    found = checkpoints.best([tmp_path / "a2", tmp_path / "a1"])

    assert found is not None
    assert found.state["best_loss"] == 0.1

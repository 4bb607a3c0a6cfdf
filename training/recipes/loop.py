"""The training loop: epochs, progress, checkpoints, cancellation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes import checkpoints
from training.recipes.augmentation import varied
from training.recipes.checkpoints import Checkpoint
from training.recipes.data import DataSet, Part
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import Learner, Score, StoppedError

# Between two messages about the rows of an epoch.
_PROGRESS_SECONDS = 0.5

Report = Callable[[Mapping[str, Any]], None]


@dataclass(slots=True)
class Run:
    """One training under way; `folders` holds checkpoints, this attempt's first."""

    learner: Learner
    data: DataSet
    hyperparameters: Hyperparameters
    augment: bool
    folders: Sequence[Path]
    report: Report
    should_stop: Callable[[], str]
    epoch: int = 0
    best_loss: float = float("inf")
    curve: list[dict[str, Any]] = field(default_factory=list)
    _reported_at: float = 0.0

    def train(self) -> None:
        """Train to the last epoch and leave the learner in its best state.

        Raises:
            StoppedError: `should_stop` gave a reason; the last checkpoint stays.
            DivergedError: The loss is no longer a number.
        """
        self._resume()
        while self.epoch < self.hyperparameters.epochs:
            self._one_epoch()
        best = checkpoints.best(self.folders)
        if best is not None:
            self.learner.restore(best.arrays)

    def _resume(self) -> None:
        checkpoint = checkpoints.latest(self.folders)
        if checkpoint is None:
            return
        self.learner.restore(checkpoint.arrays)
        self.epoch = int(checkpoint.state["epoch"])
        self.best_loss = float(checkpoint.state["best_loss"])
        self.curve = list(checkpoint.state["curve"])
        self.report({"event": "resumed", "epoch": self.epoch, "curve": self.curve})

    def _one_epoch(self) -> None:
        started = time.monotonic()
        training = self._rows_of(self.epoch)
        trained = self.learner.fit_epoch(training, self._after_batch)
        checked = self.learner.score(self.data.validation)
        self.epoch += 1
        point = _point(self.epoch, trained, checked, time.monotonic() - started)
        self.curve.append(point)
        is_best = checked.loss < self.best_loss
        self.best_loss = min(self.best_loss, checked.loss)
        state = {"epoch": self.epoch, "best_loss": self.best_loss, "curve": self.curve}
        checkpoints.save(self.folders[0], Checkpoint(self.learner.arrays(), state), is_best=is_best)
        self.report({"event": "epoch", **point, **self._progress(0)})

    def _rows_of(self, epoch: int) -> Part:
        # Order and variation depend on seed and epoch alone: a resumed run repeats them.
        rng = np.random.default_rng([self.hyperparameters.seed, epoch])
        order = rng.permutation(len(self.data.training))
        x, y = self.data.training.x[order], self.data.training.y[order]
        return Part(varied(x, rng) if self.augment else x, y)

    def _after_batch(self, rows: int) -> None:
        reason = self.should_stop()
        if reason:
            raise StoppedError(reason)
        now = time.monotonic()
        if now - self._reported_at >= _PROGRESS_SECONDS:
            self._reported_at = now
            self.report({"event": "progress", **self._progress(rows)})

    def _progress(self, rows: int) -> dict[str, Any]:
        epochs = self.hyperparameters.epochs
        done = self.epoch + rows / len(self.data.training)
        recent = [float(point["seconds"]) for point in self.curve[-5:]]
        left = (epochs - done) * sum(recent) / len(recent) if recent else None
        return {
            "epoch": self.epoch,
            "epochs": epochs,
            "fraction": round(min(done / epochs, 1.0), 4),
            "seconds_left": None if left is None else round(left, 1),
        }


def _point(epoch: int, trained: Score, checked: Score, seconds: float) -> dict[str, Any]:
    point: dict[str, Any] = {
        "epoch": epoch,
        "loss": round(trained.loss, 6),
        "val_loss": round(checked.loss, 6),
        "seconds": round(seconds, 3),
    }
    if trained.accuracy is not None and checked.accuracy is not None:
        point["accuracy"] = round(trained.accuracy, 4)
        point["val_accuracy"] = round(checked.accuracy, 4)
    return point

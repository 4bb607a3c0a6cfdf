"""What the training loop needs from a framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from training.recipes.checkpoints import Array
from training.recipes.data import Floats, Part


class StoppedError(Exception):
    """The run was asked to stop; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class DivergedError(Exception):
    """The loss is no longer a number."""


@dataclass(frozen=True, slots=True)
class Score:
    """How good a model is on some rows; accuracy only for classifiers."""

    loss: float
    accuracy: float | None = None


class Learner(Protocol):
    """A model being trained."""

    def fit_epoch(self, part: Part, after_batch: Callable[[int], None]) -> Score:
        """Learn from every row once, in the order given; after each batch tell the rows done."""

    def score(self, part: Part) -> Score:
        """Return loss and accuracy without learning."""

    def predict(self, x: Floats) -> Floats:
        """Return the outputs for a batch."""

    def arrays(self) -> list[Array]:
        """Return the whole state: weights, optimizer, random generators."""

    def restore(self, arrays: list[Array]) -> None:
        """Put a state back."""

    def parameters(self) -> int:
        """Return the number of trained numbers."""

    def export(self, folder: Path) -> dict[str, Path]:
        """Write the model's files; return them by kind (onnx, saved_model, keras, torch)."""

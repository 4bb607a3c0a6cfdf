"""A learner without a framework: a line through the data, by gradient descent in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.recipes.checkpoints import Array
from training.recipes.data import DataSet, Floats, Part
from training.recipes.learner import Score


def line(rows: int = 40) -> DataSet:
    """Return points of y = 3x + 2."""
    x = np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    part = Part(x, (3 * x + 2).astype(np.float32))
    return DataSet("line", part, part, part)


class LineLearner:
    """y = w·x + b with a memory of its last gradient, as an optimizer has."""

    def __init__(self) -> None:
        self.values = np.zeros(2, np.float64)
        self.momentum = np.zeros(2, np.float64)

    def fit_epoch(self, part: Part, after_batch: Callable[[int], None]) -> Score:
        """Learn from every row once."""
        for start in range(0, len(part), 10):
            x = part.x[start : start + 10].astype(np.float64)
            error = x * self.values[0] + self.values[1] - np.asarray(part.y[start : start + 10])
            gradient = np.array([(error * x).mean(), error.mean()])
            self.momentum = 0.5 * self.momentum + gradient
            self.values -= 0.1 * self.momentum
            after_batch(start + len(x))
        return self.score(part)

    def score(self, part: Part) -> Score:
        """Return the mean squared error."""
        return Score(float(((self.predict(part.x) - np.asarray(part.y)) ** 2).mean()))

    def predict(self, x: Floats) -> Floats:
        """Return y."""
        return np.asarray(x * self.values[0] + self.values[1], np.float32)

    def arrays(self) -> list[Array]:
        """Return the state."""
        return [self.values.copy(), self.momentum.copy()]

    def restore(self, arrays: list[Array]) -> None:
        """Put a state back."""
        self.values, self.momentum = (np.array(array, np.float64) for array in arrays)

    def parameters(self) -> int:
        """Return 2."""
        return 2

    def export(self, folder: Path) -> dict[str, Path]:
        """Write nothing."""
        return {}

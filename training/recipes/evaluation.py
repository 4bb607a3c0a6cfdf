"""How good a model is on rows it never learned from."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.recipes.augmentation import varied
from training.recipes.data import Part
from training.recipes.learner import Learner

_VARIED_SEED = 11


def held_out_metrics(learner: Learner, part: Part, *, is_classifier: bool) -> dict[str, Any]:
    """Return the metrics of a card; numbers as decimal strings, counts as integers."""
    score = learner.score(part)
    metrics: dict[str, Any] = {"loss": _text(score.loss), "rows": len(part)}
    output = learner.predict(part.x)
    if not is_classifier:
        y = np.asarray(part.y, np.float64)
        error = output.astype(np.float64) - y
        spread = float(((y - y.mean()) ** 2).sum())
        metrics["mean_absolute_error"] = _text(float(np.abs(error).mean()))
        metrics["r2"] = _text(1 - float((error**2).sum()) / spread)
        return metrics
    y_true = np.asarray(part.y, np.int64)
    matrix = np.zeros((10, 10), np.int64)
    np.add.at(matrix, (y_true, output.argmax(1)), 1)
    metrics["accuracy"] = _text(float(score.accuracy or 0.0))
    # Rows: what it was; columns: what the model said.
    metrics["confusion"] = matrix.tolist()
    metrics["recall"] = [_text(float(row[i] / max(row.sum(), 1))) for i, row in enumerate(matrix)]
    changed = varied(part.x, np.random.default_rng(_VARIED_SEED))
    right = learner.predict(changed).argmax(1) == y_true
    metrics["accuracy_varied"] = _text(float(right.mean()))
    return metrics


def _text(value: float) -> str:
    return f"{value:.4f}"

"""Makes the CNN of `mnist-cnn` in a folder and times it without any server.

Run as `python -m benchmarks.model FOLDER`; writes JSON to stdout.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from inference.runtime.sessions import Session, open_session
from training.recipes import RECIPES
from training.recipes.keras_learner import KerasLearner, limit_threads

BATCHES = (1, 64)
SECONDS = 2.0


def rows_per_second(session: Session, rows: int) -> float:
    """Run batches of one size for some seconds."""
    batch = {"image": np.random.default_rng(0).random((rows, 28, 28), np.float32)}
    for _ in range(20):
        session.run(batch)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        session.run(batch)
        count += rows
    return count / (time.perf_counter() - start)


def main(folder: Path) -> None:
    """Export the model and print how fast each runtime is."""
    limit_threads(1)
    recipe = RECIPES["mnist-cnn"]
    # The weights make no difference to the speed: untrained ones will do.
    files = KerasLearner(recipe, recipe.defaults("digits")).export(folder)
    found = {}
    for runtime, kind in (("onnx", "onnx"), ("tensorflow", "saved_model")):
        session = open_session(runtime, files[kind])
        found[runtime] = {str(rows): rows_per_second(session, rows) for rows in BATCHES}
    print(json.dumps({"onnx_file": str(files["onnx"]), "rows_per_second": found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

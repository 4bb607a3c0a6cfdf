"""Make the files that come with the code again: `python -m training.recipes.make_shipped [NAME]`.

`digits-lstm`, the default, needs PyTorch; `docs-gru` takes minutes, and learns the documents as
they are now.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.recipes import text_run
from training.recipes.catalogue import DIGITS, DOCS, RECIPES
from training.recipes.execute import RESULT, Plan, execute
from training.recipes.shipped import FOLDER, MODEL, RECORD


def make(folder: Path) -> dict[str, Any]:
    """Train the recipe with its defaults on the bundled digits; returns the run's result."""
    from inference.runtime.sessions import open_session

    plan = Plan(
        recipe="digits-lstm",
        data=DIGITS,
        hyperparameters=RECIPES["digits-lstm"].defaults(DIGITS),
        folders=[folder],
    )
    return execute(plan, _show, lambda: "", lambda runtime, path: open_session(runtime, path).run)


def _show(event: Mapping[str, Any]) -> None:
    if event["event"] != "progress":
        sys.stderr.write(f"{dict(event)}\n")


def make_lstm() -> None:
    """Train the LSTM and put the file with its record in place."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        result = make(Path(folder))
        FOLDER.mkdir(exist_ok=True)
        shutil.copyfile(Path(folder) / RESULT / "model.onnx", MODEL)
    record = {
        "recipe": "digits-lstm",
        "recipe_version": RECIPES["digits-lstm"].version,
        "data": DIGITS,
        "hyperparameters": result["training"]["hyperparameters"],
        "seconds": result["training"]["seconds"],
        "parameters": result["parameters"],
        "metrics": result["metrics"],
        "parity": result["measurements"]["parity"],
        "made_with": {"torch": str(torch.__version__)},
        "sha256": hashlib.sha256(MODEL.read_bytes()).hexdigest(),
    }
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


def make_text() -> None:
    """Train the text model and put the file with its record in place."""
    import keras
    import tensorflow as tf

    recipe = RECIPES["docs-gru"]
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(recipe.name, DOCS, recipe.defaults(DOCS), [Path(folder)])
        result = text_run.execute(plan, _show, lambda: "")
        model = text_run.FOLDER / "docs-gru.onnx"
        shutil.copyfile(Path(folder) / RESULT / "model.onnx", model)
    # How long a step takes is measured where it is used.
    result["measurements"].pop("onnx")
    kept = ("parameters", "metrics", "measurements", "training")
    record = {
        "recipe": recipe.name,
        "result": {name: result[name] for name in kept},
        "made_with": {"keras": keras.__version__, "tensorflow": tf.__version__},
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
    }
    (text_run.FOLDER / "record.json").write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    """Make what the command line names."""
    {"digits-lstm": make_lstm, "docs-gru": make_text}[(sys.argv[1:] or ["digits-lstm"])[0]]()


if __name__ == "__main__":
    main()

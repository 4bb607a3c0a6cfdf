"""Make the LSTM's file again: `python -m training.recipes.make_shipped`, with PyTorch installed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.recipes.catalogue import DIGITS, RECIPES
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


def main() -> None:
    """Train and put the file with its record in place."""
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


if __name__ == "__main__":
    main()

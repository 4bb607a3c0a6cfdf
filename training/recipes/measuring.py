"""What an exported model answers, and how fast, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.recipes.data import Floats

# Largest difference between an export and the trained model that is still round-off.
TOLERANCE = 1e-4
PARITY_ROWS = 64
_BATCHES = (1, 64)
_SECONDS = 0.4
_MIN_RUNS = 20


class ParityError(Exception):
    """No export answers what the trained model answers."""


# (runtime, file) → a function from inputs by name to outputs by name.
Open = Callable[[str, Path], Callable[[dict[str, Floats]], Mapping[str, Any]]]


def measure(
    files: Mapping[str, Path],
    signature: Mapping[str, Any],
    x: Floats,
    expected: Floats,
    open_model: Open,
) -> dict[str, Any]:
    """Compare every export with the trained model and time it.

    Returns:
        {"onnx": {"1": {"p50_us", "rows_per_second"}, "64": …}, "tensorflow": …,
        "parity": {"rows", "onnx": "3.6e-07", …}, "runtime": the faster one that passes}

    Raises:
        ParityError: No export passes.
    """
    name = signature["inputs"][0]["name"]
    output = signature["outputs"][0]["name"]
    result: dict[str, Any] = {"parity": {"rows": len(x), "tolerance": f"{TOLERANCE:g}"}}
    passed: dict[str, float] = {}
    for runtime, kind in (("onnx", "onnx"), ("tensorflow", "saved_model")):
        if kind not in files:
            continue
        run = open_model(runtime, files[kind])
        difference = float(np.abs(np.asarray(run({name: x})[output]) - expected).max())
        result["parity"][runtime] = f"{difference:.2e}"
        result[runtime] = {str(size): _time(run, {name: _rows(x, size)}) for size in _BATCHES}
        # `not >` would let a NaN pass.
        if difference <= TOLERANCE:
            passed[runtime] = result[runtime]["1"]["p50_us"]
    if not passed:
        raise ParityError(f"The exports differ from the model: {result['parity']}.")
    result["runtime"] = min(passed, key=passed.__getitem__)
    return result


def _rows(x: Floats, size: int) -> Floats:
    return np.ascontiguousarray(np.resize(x, (size, *x.shape[1:])))


def _time(run: Callable[[dict[str, Floats]], Any], batch: dict[str, Floats]) -> dict[str, int]:
    for _ in range(5):
        run(batch)
    took: list[int] = []
    until = time.monotonic() + _SECONDS
    while len(took) < _MIN_RUNS or time.monotonic() < until:
        start = time.perf_counter_ns()
        run(batch)
        took.append(time.perf_counter_ns() - start)
    p50 = max(int(np.median(took)), 1)
    rows = len(next(iter(batch.values())))
    return {"p50_us": max(p50 // 1000, 1), "rows_per_second": rows * 1_000_000_000 // p50}

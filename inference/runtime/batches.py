"""Runs many requests as one batch; a request that breaks the model fails alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.runtime.errors import ModelError
from inference.runtime.sessions import Arrays, Session


def split(arrays: Arrays, rows: Sequence[int]) -> list[Arrays]:
    """Cut arrays of a whole batch into the parts of its requests."""
    ends = np.cumsum(rows)
    starts = ends - np.asarray(rows)
    return [
        {name: array[start:end] for name, array in arrays.items()}
        for start, end in zip(starts, ends, strict=True)
    ]


def join(parts: Sequence[Arrays]) -> Arrays:
    """Put the rows of several requests into one batch."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def run(session: Session, arrays: Arrays, rows: Sequence[int]) -> list[Arrays | ModelError]:
    """Compute a batch.

    Args:
        rows: How many rows each request has, in order.

    Returns:
        Per request its outputs, or why it failed.
    """
    try:
        return list(split(_run(session, arrays, sum(rows)), rows))
    except ModelError as error:
        if len(rows) == 1:
            return [error]
    # One of them is poison: run each alone, so that only that one fails.
    return [
        run(session, part, [count])[0]
        for part, count in zip(split(arrays, rows), rows, strict=True)
    ]


def _run(session: Session, arrays: Arrays, rows: int) -> Arrays:
    try:
        outputs = session.run(arrays)
    except Exception as error:  # a model may raise anything
        raise ModelError(f"{type(error).__name__}") from error
    for name, array in outputs.items():
        if array.shape[0] != rows:
            raise ModelError(f"Output {name} has {array.shape[0]} rows for {rows}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(f"Output {name} is not finite.")
    return outputs

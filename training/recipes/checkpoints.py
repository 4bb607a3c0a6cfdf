"""Checkpoints: complete or not there at all, so that a killed run can go on."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT = 2
_BEST = "best.npz"

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a run needs to go on after an epoch."""

    arrays: list[Array]
    # {"epoch", "curve", "best_loss"}
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, *, is_best: bool) -> None:
    """Write the checkpoint of an epoch; the last two and the best stay."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"epoch-{checkpoint.state['epoch']:05d}.npz", checkpoint)
    if is_best:
        _write(folder / _BEST, checkpoint)
    for old in sorted(folder.glob("epoch-*.npz"))[:-KEPT]:
        old.unlink()


def latest(folders: Sequence[Path]) -> Checkpoint | None:
    """Return the newest checkpoint that can be read, of this attempt or an earlier one."""
    paths = [path for folder in folders for path in folder.glob("epoch-*.npz")]
    return _first_readable(sorted(paths, key=lambda path: path.name, reverse=True))


def best(folders: Sequence[Path]) -> Checkpoint | None:
    """Return the checkpoint with the lowest validation loss."""
    found = [read(path) for folder in folders for path in folder.glob(_BEST)]
    readable = [item for item in found if item is not None]
    return min(readable, key=lambda item: float(item.state["best_loss"]), default=None)


def _first_readable(paths: Sequence[Path]) -> Checkpoint | None:
    return next((item for item in map(read, paths) if item is not None), None)


def read(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if a crash of the machine left it incomplete."""
    try:
        with np.load(path, allow_pickle=False) as file:
            state = json.loads(file["state"].tobytes())
            arrays = [file[f"a{number}"] for number in range(int(state["arrays"]))]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Checkpoint(arrays, state)


def _write(path: Path, checkpoint: Checkpoint) -> None:
    state = {**checkpoint.state, "arrays": len(checkpoint.arrays)}
    named = {f"a{number}": array for number, array in enumerate(checkpoint.arrays)}
    named["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **named)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

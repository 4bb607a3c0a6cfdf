"""What a run is told, and how its result appears: whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.recipes.checkpoints import sync_folder
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import StoppedError
from training.recipes.loop import Report

RESULT = "result"


class RecipeUnavailableError(Exception):
    """The recipe needs a framework that is not on this machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run is told."""

    recipe: str
    data: str
    hyperparameters: Hyperparameters
    # This attempt's folder, then those of earlier attempts.
    folders: Sequence[Path]
    # Where data sets may lie.
    datasets: Sequence[Path] = ()
    threads: int = 2
    # Whether the file that comes with the code may stand in for a missing framework.
    may_ship: bool = False


def stage(name: str, report: Report, should_stop: Callable[[], str]) -> None:
    """Say what is done next, unless the run was asked to stop.

    Raises:
        StoppedError: It was.
    """
    reason = should_stop()
    if reason:
        raise StoppedError(reason)
    report({"event": "stage", "stage": name})


def fresh(folder: Path) -> Path:
    """Return a folder that is empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def complete(part: Path, final: Path, result: Mapping[str, Any]) -> None:
    """Make the result appear whole: a reader finds all files or no folder."""
    (part / "result.json").write_text(json.dumps(result))
    for path in part.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(part)
    shutil.rmtree(final, ignore_errors=True)
    part.rename(final)
    sync_folder(final.parent)

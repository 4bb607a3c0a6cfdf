"""One whole run of a recipe: data, training, held-out check, export, measurement."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.recipes import data, examples, shipped, torch_learner
from training.recipes.catalogue import RECIPES, Recipe
from training.recipes.checkpoints import sync_folder
from training.recipes.data import DataSet
from training.recipes.evaluation import held_out_metrics
from training.recipes.hyperparameters import Hyperparameters
from training.recipes.learner import Learner, StoppedError
from training.recipes.loop import Report, Run
from training.recipes.measuring import PARITY_ROWS, Open, measure

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


def execute(
    plan: Plan, report: Report, should_stop: Callable[[], str], open_model: Open
) -> dict[str, Any]:
    """Run a recipe from its data to files that can be published.

    Returns:
        {"signature", "parameters", "metrics", "measurements", "examples", "training",
        "files": {kind: path}}; paths are relative to the result folder, `<attempt>/result`.

    Raises:
        RecipeUnavailableError, DataUnavailableError: This machine cannot run it.
        StoppedError: It was asked to stop.
        DivergedError: The hyper-parameters do not lead to a model.
        ParityError: No export answers what the model answers.
    """
    recipe = RECIPES[plan.recipe]
    report({"event": "stage", "stage": "data"})
    rows = data.load(plan.data, plan.datasets)
    folder = _fresh(plan.folders[0] / f"{RESULT}.part")
    learner, training = _learn(plan, recipe, rows, report, should_stop)
    _stage("evaluating", report, should_stop)
    metrics = held_out_metrics(learner, rows.held_out, is_classifier=recipe.is_classifier)
    _stage("exporting", report, should_stop)
    files = learner.export(folder)
    _stage("measuring", report, should_stop)
    x = rows.held_out.x[:PARITY_ROWS]
    measurements = measure(files, recipe.signature, x, learner.predict(x), open_model)
    if isinstance(learner, shipped.ShippedLearner):
        # Comparing the file with itself says nothing; the record compared it with PyTorch.
        measurements["parity"] = learner.parity()
    result = {
        "signature": recipe.signature,
        "parameters": learner.parameters(),
        "metrics": metrics,
        "measurements": measurements,
        "examples": _examples(recipe, rows, learner),
        "training": {
            "recipe": recipe.name,
            "recipe_version": recipe.version,
            "data": plan.data,
            "rows": {"training": len(rows.training), "validation": len(rows.validation)},
            "hyperparameters": plan.hyperparameters.as_json(),
            **training,
        },
        "files": {kind: str(path.relative_to(folder)) for kind, path in files.items()},
    }
    _complete(folder, plan.folders[0] / RESULT, result)
    return result


def _stage(name: str, report: Report, should_stop: Callable[[], str]) -> None:
    reason = should_stop()
    if reason:
        raise StoppedError(reason)
    report({"event": "stage", "stage": name})


def _learn(
    plan: Plan, recipe: Recipe, rows: DataSet, report: Report, should_stop: Callable[[], str]
) -> tuple[Learner, dict[str, Any]]:
    if recipe.framework == "pytorch" and not torch_learner.installed():
        if not plan.may_ship:
            raise RecipeUnavailableError("PyTorch is not installed where trainings run.")
        learner = shipped.ShippedLearner()
        return learner, learner.record()
    report({"event": "stage", "stage": "building"})
    trained = _learner(recipe, plan)
    run = Run(
        learner=trained,
        data=rows,
        hyperparameters=plan.hyperparameters,
        augment=recipe.is_classifier,
        folders=[folder / "checkpoints" for folder in plan.folders],
        report=report,
        should_stop=should_stop,
    )
    run.train()
    seconds = sum(float(point["seconds"]) for point in run.curve)
    return trained, {"seconds": f"{seconds:.1f}", "epochs": run.epoch}


def _learner(recipe: Recipe, plan: Plan) -> Learner:
    if recipe.framework == "pytorch":
        return torch_learner.TorchLearner(recipe, plan.hyperparameters)
    from training.recipes import keras_learner

    keras_learner.limit_threads(plan.threads)
    return keras_learner.KerasLearner(recipe, plan.hyperparameters)


def _examples(recipe: Recipe, rows: DataSet, learner: Learner) -> list[dict[str, Any]]:
    name = recipe.signature["inputs"][0]["name"]
    if not recipe.is_classifier:
        return examples.of_numbers(name)
    return examples.of_images(rows.held_out, learner.predict(rows.held_out.x), name)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _complete(part: Path, final: Path, result: Mapping[str, Any]) -> None:
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

"""One whole run of a recipe: data, training, held-out check, export, measurement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from training.recipes import data, embedder_run, examples, shipped, text_run, torch_learner
from training.recipes.catalogue import EMBEDDING, RECIPES, TEXT, Recipe
from training.recipes.data import DataSet
from training.recipes.evaluation import held_out_metrics
from training.recipes.learner import Learner
from training.recipes.loop import Report, Run
from training.recipes.measuring import PARITY_ROWS, Open, measure
from training.recipes.plans import (
    RESULT,
    Plan,
    RecipeUnavailableError,
    complete,
    fresh,
    stage,
)

__all__ = ["RESULT", "Plan", "RecipeUnavailableError", "execute"]

_OF_TEXT = {TEXT: text_run.execute, EMBEDDING: embedder_run.execute}


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
    if recipe.task in _OF_TEXT:
        return _OF_TEXT[recipe.task](plan, report, should_stop)
    report({"event": "stage", "stage": "data"})
    rows = data.load(plan.data, plan.datasets)
    folder = fresh(plan.folders[0] / f"{RESULT}.part")
    learner, training = _learn(plan, recipe, rows, report, should_stop)
    stage("evaluating", report, should_stop)
    metrics = held_out_metrics(learner, rows.held_out, is_classifier=recipe.is_classifier)
    stage("exporting", report, should_stop)
    files = learner.export(folder)
    stage("measuring", report, should_stop)
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
    complete(folder, plan.folders[0] / RESULT, result)
    return result


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

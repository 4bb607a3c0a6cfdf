"""What a training will take and cost, before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from billing.outcomes import TRAINING_POLICY
from billing.rating import PricePlan, plan_of, rate
from catalog import prices
from training.errors import DataUnavailableError, RecipeUnavailableError, TrainingTooLongError
from training.recipes import RECIPES, Recipe, data, torch_learner
from training.recipes.catalogue import TRAINING_ROWS
from training.recipes.hyperparameters import Hyperparameters

SKU = "training.cpu"
# A slow or busy machine takes longer than the one the recipes were measured on.
MARGIN = 3
# Below this, starting the frameworks on a busy machine decides, not the choices.
_MIN_SECONDS = 120
_MS = 1000

# What a training is billed, by how it ended.
POLICY = TRAINING_POLICY
BILLING = (
    "You pay for the compute of the run that finishes, at most the reserved amount. "
    "Canceled before it starts: nothing; canceled later: the compute used until then. "
    "A run that fails, or is stopped at the reserved compute, costs nothing."
)
BILLING_ZH = (
    "只按最终完成的那次运行的计算时间收费,且不超过预留金额。开始前取消不收费;"
    "开始后取消,只收取已用的计算时间。失败或达到预留上限而停止的训练不收费。"
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training is expected to take, and the most it can cost."""

    seconds: int
    expected_nanos: int
    # The run is stopped here.
    max_seconds: int
    reserved_nanos: int
    plan: PricePlan


def dataset_folders() -> list[Path]:
    """Return where data sets may lie."""
    return [settings.DATA / "datasets", Path.home() / ".keras" / "datasets"]


def is_available(recipe: Recipe) -> bool:
    """Whether tenants can train a recipe on this site."""
    return recipe.framework != "pytorch" or torch_learner.installed()


def available_data(recipe: Recipe) -> list[str]:
    """Return the data sets of a recipe that are on this site."""
    folders = dataset_folders()
    return [name for name in recipe.data if data.available(name, folders)]


def require_available(recipe: Recipe, data_name: str) -> None:
    """Refuse what cannot run here, before money is set aside.

    Raises:
        RecipeUnavailableError, DataUnavailableError
    """
    if not is_available(recipe):
        raise RecipeUnavailableError(
            f"{recipe.name} needs PyTorch, which is not installed on this site.", param="recipe"
        )
    if data_name not in available_data(recipe):
        raise DataUnavailableError(f"The data set {data_name} is not on this site.", param="data")


def estimate(recipe_name: str, data_name: str, hyperparameters: Hyperparameters) -> Estimate:
    """Return time and price of a training.

    Raises:
        TrainingTooLongError: It would take longer than a training may.
    """
    recipe = RECIPES[recipe_name]
    expected_ms = recipe.cost.milliseconds(TRAINING_ROWS[data_name], hyperparameters)
    seconds = -(-expected_ms // _MS)
    if seconds > settings.JOB_MAX_SECONDS:
        raise TrainingTooLongError(
            f"This would take about {seconds} seconds, and {settings.JOB_MAX_SECONDS} are "
            "allowed. Choose fewer epochs or larger batches.",
            param="hyperparameters.epochs",
        )
    max_seconds = min(max(seconds * MARGIN, _MIN_SECONDS), settings.JOB_MAX_SECONDS)
    plan = plan_of(prices.current_sku(SKU))
    return Estimate(
        seconds=seconds,
        expected_nanos=rate(plan, {"compute_ms": expected_ms}),
        max_seconds=max_seconds,
        reserved_nanos=rate(plan, {"compute_ms": max_seconds * _MS}),
        plan=plan,
    )

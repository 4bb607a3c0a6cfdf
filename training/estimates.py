"""What a training will take and cost, before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from django.conf import settings

from billing.errors import CostCeilingError
from billing.money import decimal_text
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
# What is stopped earlier than this has hardly begun.
_LEAST_SECONDS = 60
_MS = 1000

# What a training is billed, by how it ended.
POLICY = TRAINING_POLICY
BILLING = (
    "You pay for the compute of the run that finishes, at most the reserved amount. "
    "Canceled before it starts: nothing; canceled later: the compute used until then. "
    "A run that fails, or is stopped at the reserved compute, costs nothing."
)
BILLING_ZH = (
    "只按最终完成的那次运行的计算时间收费，且不超过预留金额。开始前取消不收费；"
    "开始后取消，只收取已用的计算时间。失败或达到预留上限而停止的训练不收费。"
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

    @property
    def policy(self) -> Mapping[str, int]:
        """What it is billed, by how it ends."""
        return POLICY


def dataset_folders() -> list[Path]:
    """Return where data sets may lie."""
    return [settings.DATA / "datasets", Path.home() / ".keras" / "datasets"]


def is_available(recipe: Recipe) -> bool:
    """Whether tenants can train a recipe on this site."""
    if not recipe.is_trained:
        return False
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
    if not recipe.is_trained:
        raise RecipeUnavailableError(
            f"{recipe.name} was trained elsewhere and cannot be trained here.", param="recipe"
        )
    if not is_available(recipe):
        raise RecipeUnavailableError(
            f"{recipe.name} needs PyTorch, which is not installed on this site.", param="recipe"
        )
    if data_name not in available_data(recipe):
        raise DataUnavailableError(f"The data set {data_name} is not on this site.", param="data")


def estimate(
    recipe_name: str,
    data_name: str,
    hyperparameters: Hyperparameters,
    *,
    at: datetime | None = None,
) -> Estimate:
    """Return time and price of a training.

    Args:
        at: When it is admitted; now if empty.

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
    plan = plan_of(prices.current_sku(SKU, at))
    return Estimate(
        seconds=seconds,
        expected_nanos=rate(plan, {"compute_ms": expected_ms}),
        max_seconds=max_seconds,
        reserved_nanos=rate(plan, {"compute_ms": max_seconds * _MS}),
        plan=plan,
    )


def limited(found: Estimate, max_seconds: int) -> Estimate:
    """Return an estimate of a training that is stopped after so many seconds."""
    reserved = rate(found.plan, {"compute_ms": max_seconds * _MS})
    expected = rate(found.plan, {"compute_ms": found.seconds * _MS})
    return replace(
        found,
        max_seconds=max_seconds,
        reserved_nanos=reserved,
        expected_nanos=min(expected, reserved),
    )


def within(found: Estimate, ceiling_nanos: int) -> Estimate:
    """Return an estimate that costs at most an amount: the training is stopped earlier.

    Raises:
        CostCeilingError: Not even a minute fits.
    """
    if found.reserved_nanos <= ceiling_nanos:
        return found
    # More never costs less, so the longest time that fits is found by halves.
    fits, too_long = 0, found.max_seconds
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if rate(found.plan, {"compute_ms": middle * _MS}) <= ceiling_nanos:
            fits = middle
        else:
            too_long = middle
    if fits < _LEAST_SECONDS:
        raise CostCeilingError(
            f"{decimal_text(ceiling_nanos)} {found.plan.currency} of Mercato-Max-Cost are not "
            "enough for a minute of compute. Nothing was charged."
        )
    return limited(found, fits)

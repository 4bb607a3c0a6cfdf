"""The bodies of the training API, checked, and the shapes of its answers."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from rest_framework import serializers

from accounts.errors import InvalidRequestError, UnknownFieldError
from billing import outcomes
from billing.money import decimal_text, parse
from training import estimates
from training.errors import TrainingTooLongError
from training.estimates import Estimate
from training.models import Job
from training.recipes import Recipe
from training.recipes.catalogue import TRAINING_ROWS
from training.recipes.hyperparameters import (
    INTEGERS,
    LEARNING_RATE_HIGH,
    LEARNING_RATE_LOW,
    OPTIMIZERS,
)

# Nobody pays a million for a row by a slip of the finger.
_MAX_PRICE_NANOS = 1_000_000_000_000


def require_known(body: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuse a body with a field that does not exist.

    Raises:
        UnknownFieldError: Naming the field.
    """
    for name in body:
        if name not in known:
            raise UnknownFieldError(f"Unknown field {name[:64]!r}.", param=name[:64])


def text(body: dict[str, Any], name: str, *, limit: int, required: bool = False) -> str:
    """Return a text of a body; absent is empty.

    Raises:
        InvalidRequestError: It is no text, too long, missing, or cannot be stored.
    """
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > limit or not _is_storable(value):
        raise InvalidRequestError(
            f"`{name}` must be a text of at most {limit} characters.", param=name
        )
    if required and not value:
        raise InvalidRequestError(f"`{name}` is required.", param=name)
    return value


def _is_storable(value: str) -> bool:
    # PostgreSQL stores neither NUL nor half a surrogate pair.
    return "\0" not in value and not any("\ud800" <= sign <= "\udfff" for sign in value)


def mapping(body: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object of a body; absent is empty.

    Raises:
        InvalidRequestError: It is something else.
    """
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise InvalidRequestError(f"`{name}` must be an object.", param=name)
    return value


def boolean(body: dict[str, Any], name: str) -> bool:
    """Return a truth value of a body; absent is false.

    Raises:
        InvalidRequestError: It is something else.
    """
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"`{name}` must be true or false.", param=name)
    return value


def price(body: dict[str, Any], name: str) -> int | None:
    """Return an amount of a body in nanos; absent is None.

    Raises:
        InvalidRequestError: It is no amount, or out of bounds.
    """
    value = body.get(name)
    if value is None:
        return None
    rule = f"`{name}` must be a decimal text such as 0.00002, at least 0 and at most 1000."
    if not isinstance(value, str):
        raise InvalidRequestError(rule, param=name)
    try:
        nanos = parse(value)
    except ValueError:
        raise InvalidRequestError(rule, param=name) from None
    if not 0 <= nanos <= _MAX_PRICE_NANOS:
        raise InvalidRequestError(rule, param=name)
    return nanos


def job_json(job: Job, *, with_curve: bool = True) -> dict[str, Any]:
    """Return what the API says of a training."""
    hold = job.hold
    return {
        "id": str(job.pk),
        "object": "training",
        "status": job.state,
        "recipe": job.recipe,
        "data": job.data,
        "hyperparameters": job.hyperparameters,
        "publish_as": job.publish_as or None,
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested_at is not None,
        "progress": job.progress,
        **({"curve": job.curve} if with_curve else {}),
        "metrics": job.metrics,
        "error": (
            {"code": job.error_code, "message": job.error_message} if job.error_code else None
        ),
        "version": job.version.path if job.version else None,
        "compute_ms": job.compute_ms,
        "cost": {
            "amount": decimal_text((hold.captured_nanos or 0) if hold else 0),
            "reserved": decimal_text(hold.reserved_nanos if hold else 0),
            "currency": hold.currency if hold else settings.CURRENCY,
            "units": {"compute_ms": job.compute_ms},
            "price_version": hold.price_version_id if hold else None,
            "hold": str(hold.pk) if hold else None,
            "receipt": f"/v1/receipts/{hold.pk}" if hold else None,
            "state": hold.state if hold else None,
        },
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
    }


def estimate_json(found: Estimate) -> dict[str, Any]:
    """Return time and price of a training, before it starts."""
    return {
        "seconds": found.seconds,
        "amount": decimal_text(found.expected_nanos),
        "max_seconds": found.max_seconds,
        "reserved": decimal_text(found.reserved_nanos),
        "currency": found.plan.currency,
        "price_version": found.plan.price_version_id,
        "billing": estimates.BILLING,
        "outcome_policy": outcomes.complete(estimates.POLICY),
    }


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe: its data, its choices with bounds and defaults, what it costs."""
    return {
        "id": recipe.name,
        "object": "training_recipe",
        "title": {"en": recipe.title_en, "zh": recipe.title_zh},
        "architecture": {"en": recipe.architecture_en, "zh": recipe.architecture_zh},
        "task": recipe.task,
        "framework": recipe.framework,
        "available": estimates.is_available(recipe),
        "signature": recipe.signature,
        "data": [_data_json(recipe, name) for name in recipe.data],
        "hyperparameters": {
            "optimizer": {"choices": list(OPTIMIZERS)},
            "learning_rate": {"low": f"{LEARNING_RATE_LOW:f}", "high": f"{LEARNING_RATE_HIGH:f}"},
            **{name: {"low": item.low, "high": item.high} for name, item in INTEGERS.items()},
        },
    }


def _data_json(recipe: Recipe, name: str) -> dict[str, Any]:
    defaults = recipe.defaults(name)
    try:
        expected = estimate_json(estimates.estimate(recipe.name, name, defaults))
    except TrainingTooLongError:
        # This site allows only shorter ones.
        expected = None
    return {
        "id": name,
        "rows": TRAINING_ROWS[name],
        "available": name in estimates.available_data(recipe),
        "defaults": defaults.as_json(),
        "estimate": expected,
    }


class HyperparametersSerializer(serializers.Serializer[object]):
    """The choices of a training; what is left out takes the recipe's default."""

    optimizer = serializers.ChoiceField(choices=OPTIMIZERS, required=False)
    learning_rate = serializers.CharField(required=False, help_text="A decimal text or number.")
    batch_size = serializers.IntegerField(required=False)
    epochs = serializers.IntegerField(required=False)
    seed = serializers.IntegerField(required=False)


class TrainingRequestSerializer(serializers.Serializer[object]):
    """What to train."""

    recipe = serializers.CharField()
    # `data` is also the name of a serializer's own attribute, hence get_fields below.
    hyperparameters = HyperparametersSerializer(required=False)
    publish_as = serializers.CharField(required=False, help_text="Publish under this name.")
    quote = serializers.UUIDField(required=False, help_text="A quote, whose price applies.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the field whose name the class itself uses."""
        return {
            **super().get_fields(),
            "data": serializers.CharField(required=False, help_text="digits, mnist or line."),
        }


class TrainingErrorSerializer(serializers.Serializer[object]):
    """Why a training failed."""

    code = serializers.CharField()
    message = serializers.CharField()


class TrainingCostSerializer(serializers.Serializer[object]):
    """What a training cost, and the most it can cost."""

    amount = serializers.CharField()
    reserved = serializers.CharField()
    currency = serializers.CharField()
    units = serializers.DictField(child=serializers.IntegerField())
    price_version = serializers.IntegerField(allow_null=True)
    hold = serializers.CharField(allow_null=True)
    receipt = serializers.CharField(allow_null=True)
    state = serializers.CharField(allow_null=True)


class TrainingSerializer(serializers.Serializer[object]):
    """A training."""

    id = serializers.UUIDField()
    object = serializers.CharField()
    status = serializers.ChoiceField(choices=Job.State.choices)
    recipe = serializers.CharField()
    hyperparameters = HyperparametersSerializer()
    publish_as = serializers.CharField(allow_null=True)
    attempt = serializers.IntegerField()
    cancel_requested = serializers.BooleanField()
    progress = serializers.JSONField()
    curve = serializers.JSONField(required=False, help_text="Not in lists.")
    metrics = serializers.JSONField()
    error = TrainingErrorSerializer(allow_null=True)
    version = serializers.CharField(allow_null=True)
    compute_ms = serializers.IntegerField()
    cost = TrainingCostSerializer()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the field whose name the class itself uses."""
        return {**super().get_fields(), "data": serializers.CharField()}


class PublishRequestSerializer(serializers.Serializer[object]):
    """How to publish a training's result."""

    name = serializers.CharField()
    title = serializers.CharField(required=False)
    summary = serializers.CharField(required=False)
    price = serializers.CharField(required=False, help_text="Per row, for a new model.")
    public = serializers.BooleanField(required=False)


class ListOfTrainings(serializers.Serializer[object]):
    """A page of trainings."""

    object = serializers.CharField()
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the field whose name the class itself uses."""
        return {**super().get_fields(), "data": TrainingSerializer(many=True)}


class RecipeSerializer(serializers.Serializer[object]):
    """A way to make a model."""

    id = serializers.CharField()
    object = serializers.CharField()
    title = serializers.JSONField()
    architecture = serializers.JSONField()
    task = serializers.CharField()
    framework = serializers.CharField()
    available = serializers.BooleanField()
    signature = serializers.JSONField()
    hyperparameters = serializers.JSONField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the field whose name the class itself uses."""
        return {**super().get_fields(), "data": serializers.JSONField()}


class ListOfRecipes(serializers.Serializer[object]):
    """All recipes."""

    object = serializers.CharField()
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the field whose name the class itself uses."""
        return {**super().get_fields(), "data": RecipeSerializer(many=True)}

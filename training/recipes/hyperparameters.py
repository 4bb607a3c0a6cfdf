"""What a person may choose about a training, with bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

OPTIMIZERS = ("adam", "sgd", "rmsprop")
LEARNING_RATE_LOW, LEARNING_RATE_HIGH = Decimal("0.00001"), Decimal("1")
_LEARNING_RATE_MAX_TEXT = 20


class HyperparameterError(ValueError):
    """A choice is unknown or out of bounds; `param` names it."""

    def __init__(self, param: str, message: str, *, is_unknown: bool = False) -> None:
        self.param = param
        self.is_unknown = is_unknown
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Integer:
    """Bounds of a whole number, both inclusive."""

    low: int
    high: int


INTEGERS = {
    "batch_size": Integer(8, 512),
    "epochs": Integer(1, 500),
    "seed": Integer(0, 2**31 - 1),
}


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """One complete set of choices."""

    optimizer: str
    # Plain decimal text: what was asked for, not its nearest binary fraction.
    learning_rate: str
    batch_size: int
    epochs: int
    seed: int = 7

    def as_json(self) -> dict[str, Any]:
        """Return what is stored in the row and shown to people."""
        return {
            "optimizer": self.optimizer,
            "learning_rate": self.learning_rate,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "seed": self.seed,
        }


def checked(raw: Mapping[str, Any], defaults: Hyperparameters) -> Hyperparameters:
    """Return the choices, completed by the defaults.

    Raises:
        HyperparameterError: A name is unknown or a value is out of bounds.
    """
    values = defaults.as_json()
    for name, value in raw.items():
        if name not in values:
            known = ", ".join(values)
            raise HyperparameterError(
                name,
                f"There is no hyper-parameter of this name; there are {known}.",
                is_unknown=True,
            )
        values[name] = _checked_one(name, value)
    return Hyperparameters(**values)


def _checked_one(name: str, value: Any) -> Any:
    if name == "optimizer":
        if value not in OPTIMIZERS:
            raise HyperparameterError(name, f"Choose one of {', '.join(OPTIMIZERS)}.")
        return value
    if name == "learning_rate":
        return _learning_rate(value)
    bounds = INTEGERS[name]
    if not isinstance(value, int) or isinstance(value, bool):
        raise HyperparameterError(name, "This must be a whole number.")
    if not bounds.low <= value <= bounds.high:
        raise HyperparameterError(name, f"This must be from {bounds.low} to {bounds.high}.")
    return value


def _learning_rate(value: Any) -> str:
    rule = f"This must be a number from {LEARNING_RATE_LOW:f} to {LEARNING_RATE_HIGH:f}."
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise HyperparameterError("learning_rate", rule)
    text = str(value)
    if len(text) > _LEARNING_RATE_MAX_TEXT or not text.isascii():
        raise HyperparameterError("learning_rate", rule)
    try:
        rate = Decimal(text)
    except InvalidOperation:
        raise HyperparameterError("learning_rate", rule) from None
    if not rate.is_finite() or not LEARNING_RATE_LOW <= rate <= LEARNING_RATE_HIGH:
        raise HyperparameterError("learning_rate", rule)
    return format(rate.normalize(), "f")

"""What a person may choose, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from training.recipes import RECIPES
from training.recipes.catalogue import DIGITS
from training.recipes.hyperparameters import HyperparameterError, checked

DEFAULTS = RECIPES["mnist-mlp"].defaults(DIGITS)


REFUSED: dict[str, list[Any]] = {
    "epochs": [-1, 0, 10**9, 1.5, "3", True, None, [3]],
    "batch_size": [0, 7, 513, "32"],
    "learning_rate": [
        *[0, "0", math.nan, math.inf, 1e30, "1e99", "nan", "", "abc", True, None],
        *["0.000001", "1" * 30],
    ],
    "optimizer": ["", "lion", 1, None, []],
    "seed": [-1, 2**31],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_value_out_of_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(HyperparameterError) as error:
        checked({name: value}, DEFAULTS)

    assert error.value.param == name
    assert not error.value.is_unknown


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(HyperparameterError) as error:
        checked({"momentum": 0.9}, DEFAULTS)

    assert (error.value.param, error.value.is_unknown) == ("momentum", True)


@pytest.mark.parametrize(
    ("given", "kept"), [("0.0010", "0.001"), (0.01, "0.01"), (1, "1"), ("1e-3", "0.001")]
)
def test_a_learning_rate_is_kept_as_plain_text(given: Any, kept: str) -> None:
    assert checked({"learning_rate": given}, DEFAULTS).learning_rate == kept


def test_what_is_left_out_is_the_default() -> None:
    found = checked({"epochs": 3}, DEFAULTS)

    assert found.as_json() == DEFAULTS.as_json() | {"epochs": 3}


def test_more_epochs_and_smaller_batches_take_longer() -> None:
    cost = RECIPES["mnist-cnn"].cost

    def milliseconds(**choices: Any) -> int:
        return cost.milliseconds(1000, checked(choices, DEFAULTS))

    assert milliseconds(epochs=10) < milliseconds(epochs=20)
    assert milliseconds(batch_size=64) < milliseconds(batch_size=8)

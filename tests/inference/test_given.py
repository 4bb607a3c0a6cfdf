"""A body's JSON is let go as soon as it is arrays."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from accounts.keys import Caller
from inference.faces.http import HttpRequest
from inference.faces.predictions import Predictions
from inference.predictions import Given
from inference.runtime import tensors
from inference.runtime.signature import Signature


class Rows(list[Any]):
    """A list that tells when it is gone."""


def test_value_is_gone_once_it_is_arrays() -> None:
    rows = Rows([1, 2])
    watch = weakref.ref(rows)

    def decode(value: Any, signature: Signature) -> tensors.Input:
        return tensors.Input({"x": np.asarray(value)}, 2, is_batch=True)

    given = Given(decode, rows)
    del rows
    assert watch() is not None
    assert given(Signature((), ())).rows == 2
    assert watch() is None


def test_calls_are_given_their_json_that_way() -> None:
    body = b'{"model": "a/b", "input": {"x": [1]}}'
    request = HttpRequest("POST", "/v1/predictions", "", {}, body, "r")
    assert isinstance(Predictions().read(request, Caller(1, "a")).decode, Given)

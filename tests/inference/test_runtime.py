"""Arrays in, arrays out: tensors, batches, loaded models."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.runtime import batches, tensors
from inference.runtime.cache import ModelCache
from inference.runtime.errors import InputError, ModelError
from inference.runtime.sessions import Arrays
from inference.runtime.signature import Signature

pytestmark = pytest.mark.once
NUMBER = Signature.from_json(
    {
        "inputs": [{"name": "x", "datatype": "float32", "shape": [1], "kind": "number"}],
        "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
    }
)
TWO = Signature.from_json(
    {
        "inputs": [
            {"name": "a", "datatype": "int64", "shape": [2]},
            {"name": "b", "datatype": "float32", "shape": [], "kind": "number"},
        ],
        "outputs": [{"name": "y", "datatype": "float32", "shape": [3], "labels": ["p", "q", "r"]}],
    }
)


class Doubler:
    """Doubles; fails on a batch that has a 13."""

    size_bytes = 10

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, arrays: Arrays) -> Arrays:
        self.batches.append(len(arrays["x"]))
        if 13 in arrays["x"]:
            raise RuntimeError("thirteen")
        return {"y": arrays["x"] * 2}


@pytest.mark.parametrize(
    ("value", "rows", "is_batch"),
    [(3, 1, False), ([3], 1, False), ([3, 4], 2, True), ([[3], [4]], 2, True), (2.5, 1, False)],
)
def test_a_number_may_be_bare_or_in_a_list(value: Any, rows: int, is_batch: bool) -> None:
    decoded = tensors.decode({"x": value}, NUMBER)

    assert (decoded.rows, decoded.is_batch) == (rows, is_batch)
    assert decoded.arrays["x"].shape == (rows, 1)
    assert decoded.arrays["x"].dtype == np.float32


def test_several_inputs_need_the_same_number_of_rows() -> None:
    assert tensors.decode({"a": [1, 2], "b": 0.5}, TWO).rows == 1
    with pytest.raises(InputError, match="rows") as caught:
        tensors.decode({"a": [[1, 2], [3, 4]], "b": 0.5}, TWO)
    assert caught.value.code == "invalid_shape"


def test_whole_numbers_are_not_rounded_from_fractions() -> None:
    with pytest.raises(InputError) as caught:
        tensors.decode({"a": [1.5, 2], "b": 0}, TWO)

    assert (caught.value.code, caught.value.param) == ("invalid_type", "input.a")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=20,
    )
)
def test_whatever_comes_is_decoded_or_refused(value: Any) -> None:
    try:
        decoded = tensors.decode({"x": value}, NUMBER)
    except InputError:
        return
    assert np.isfinite(decoded.arrays["x"]).all()
    assert 1 <= decoded.rows <= 8


def test_an_output_with_labels_names_its_best_class() -> None:
    arrays = {"y": np.array([[0, 1, 0], [2, 1, 0]], np.float32)}

    assert [row["label"] for row in tensors.encode(arrays, TWO, is_batch=True)] == ["q", "p"]


def test_a_batch_is_one_run_and_is_split_by_rows() -> None:
    model = Doubler()
    x = np.arange(6, dtype=np.float32).reshape(6, 1)

    outputs = batches.run(model, {"x": x}, [1, 3, 2])

    assert model.batches == [6]
    assert [part["y"].ravel().tolist() for part in outputs if not isinstance(part, ModelError)] == [
        [0],
        [2, 4, 6],
        [8, 10],
    ]


def test_poison_fails_alone() -> None:
    x = np.array([[1], [13], [3]], np.float32)

    outputs = batches.run(Doubler(), {"x": x}, [1, 1, 1])

    assert [isinstance(part, ModelError) for part in outputs] == [False, True, False]


def test_what_is_not_finite_is_a_failure_of_the_model() -> None:
    x = np.array([[3e38]], np.float32)
    with np.errstate(over="ignore"):
        outputs = batches.run(Doubler(), {"x": x}, [1])

    assert isinstance(outputs[0], ModelError)


def test_a_model_that_several_threads_ask_for_is_loaded_once() -> None:
    cache: ModelCache[int] = ModelCache(100)
    loads: list[int] = []
    gate = threading.Event()

    def load() -> Doubler:
        loads.append(1)
        gate.wait(10)
        return Doubler()

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cache.get, 1, load) for _ in range(4)]
        gate.set()
        sessions = {id(one.result()) for one in waiting}

    assert (len(loads), len(sessions)) == (1, 1)


def test_the_least_recently_used_model_leaves_when_the_bytes_are_too_many() -> None:
    cache: ModelCache[int] = ModelCache(20)
    for key in (1, 2, 1, 3):
        cache.get(key, Doubler)

    assert cache.loaded() == {1: 10, 3: 10}


def test_a_load_that_failed_is_tried_again() -> None:
    cache: ModelCache[int] = ModelCache(20)

    def fail() -> Doubler:
        raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"):
        cache.get(1, fail)

    assert isinstance(cache.get(1, Doubler), Doubler)


def test_a_whole_number_too_large_by_one_is_refused() -> None:
    signature = Signature.from_json(
        {
            "inputs": [{"name": "n", "datatype": "int64", "shape": [2]}],
            "outputs": [{"name": "y", "datatype": "float32", "shape": []}],
        }
    )
    assert tensors.decode({"n": [2**63 - 1, 0]}, signature).arrays["n"][0, 0] == 2**63 - 1
    with pytest.raises(InputError) as refused:
        tensors.decode({"n": [2**63, 2**63]}, signature)
    assert refused.value.code == "out_of_range"


def test_what_is_in_use_is_not_unloaded_however_little_room_there_is() -> None:
    cache: ModelCache[int] = ModelCache(15)
    with cache.using(1, Doubler) as used:
        cache.get(2, Doubler)
        cache.get(3, Doubler)

        assert set(cache.loaded()) == {1, 3}
        assert cache.get(1, Doubler) is used
    cache.get(4, Doubler)

    assert set(cache.loaded()) == {4}


def test_what_is_pinned_is_not_unloaded_until_it_is_unpinned() -> None:
    cache: ModelCache[int] = ModelCache(15)
    cache.pin({1})
    for key in (1, 2, 3):
        cache.get(key, Doubler)

    assert set(cache.loaded()) == {1, 3}
    assert cache.unload_idle(0) == [3]
    cache.get(2, Doubler)
    cache.pin(set())
    assert set(cache.loaded()) == {2}


def test_only_what_was_idle_for_long_enough_is_unloaded() -> None:
    cache: ModelCache[int] = ModelCache(100)
    cache.get(1, Doubler)
    with cache.using(2, Doubler):
        assert cache.unload_idle(60) == []
        assert cache.unload_idle(0) == [1]

    assert set(cache.loaded()) == {2}
    assert cache.unload(2)
    assert not cache.unload(2)

"""JSON values ↔ arrays, checked against the signature."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.runtime import images, tokens
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature, TensorSpec

Arrays = dict[str, NDArray[Any]]
# Of one request.
MAX_ROWS = 1024
# What JSON writers make of the largest float32: as a float64 it is a little more, and rounds back.
_FLOAT32_MAX = 3.4028235e38
# Inputs that are strings.
TEXT_KINDS = frozenset({"text", "prompt"})


@dataclass(frozen=True, slots=True)
class Input:
    """A checked input.

    Attributes:
        arrays: Input name → array (rows, *shape) of the spec's datatype.
        is_batch: Whether the caller sent rows, and wants a list back.
        input_tokens: Of all texts together; 0 for models of something else.
    """

    arrays: Arrays
    rows: int
    is_batch: bool
    input_tokens: int = 0

    def tokens(self) -> dict[str, int]:
        """Return the tokens as a quantity that has a price; nothing for a model of something "
        "else."""
        return {"input_token": self.input_tokens} if self.input_tokens else {}


def decode(value: Any, signature: Signature) -> Input:
    """Check the `input` of a prediction: an object with a value per input of the signature.

    Raises:
        InputError: Naming the value that does not fit.
    """
    if not isinstance(value, Mapping):
        names = ", ".join(spec.name for spec in signature.inputs)
        raise InputError("invalid_type", f"`input` must be an object with: {names}.", "input")
    known = {spec.name for spec in signature.inputs}
    for name in value:
        if name not in known:
            raise unknown_input(name, known, f"input.{str(name)[:64]}")
    arrays: Arrays = {}
    is_batch = False
    for spec in signature.inputs:
        if spec.name not in value:
            raise InputError("missing_input", f"`{spec.name}` is missing.", f"input.{spec.name}")
        array, has_rows = _decode_one(value[spec.name], spec, f"input.{spec.name}")
        arrays[spec.name] = array
        is_batch |= has_rows
    return as_input(arrays, is_batch=is_batch)


def counted(found: Input, signature: Signature) -> Input:
    """Return an input with the number of its tokens, if the model reads text."""
    if signature.input_kind != "text":
        return found
    counts = [np.count_nonzero(found.arrays[spec.name]) for spec in signature.inputs]
    return replace(found, input_tokens=int(sum(counts)))


def unknown_input(name: Any, known: Collection[str], param: str) -> InputError:
    """Say that the signature has no input of a name."""
    return InputError(
        "unknown_input",
        f"This model has no input {str(name)[:64]!r}; it takes {', '.join(sorted(known))}.",
        param,
    )


def as_input(arrays: Arrays, *, is_batch: bool) -> Input:
    """Put arrays (rows, …) together that are checked each for itself.

    Raises:
        InputError: They differ in rows, have none, or too many.
    """
    rows = {array.shape[0] for array in arrays.values()}
    if len(rows) != 1:
        raise InputError("invalid_shape", "The inputs have different numbers of rows.", "input")
    count = rows.pop()
    if count == 0:
        raise InputError("invalid_shape", "There is no row.", "input")
    refuse_too_many(count)
    return Input(arrays, count, is_batch)


def refuse_too_many(rows: int) -> None:
    """Refuse more rows than one request may have, before work is spent on them.

    Raises:
        InputError: `too_many_rows`.
    """
    if rows > MAX_ROWS:
        raise InputError(
            "too_many_rows", f"{rows} rows in one request; at most {MAX_ROWS} are allowed.", "input"
        )


def _texts(value: Any, spec: TensorSpec, param: str) -> tuple[NDArray[Any], bool]:
    """Cut texts into tokens."""
    if spec.kind == "prompt":
        raise InputError(
            "wrong_task",
            "This model writes text: call /v1/chat/completions or /v1/completions.",
            param,
        )
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, list)
        or not texts
        or not all(isinstance(text, str) and text for text in texts)
    ):
        raise InputError(
            "invalid_type", f"`{spec.name}` must be a text or a list of texts, none empty.", param
        )
    return tokens.encode(texts, spec, param), isinstance(value, list)


def _decode_one(value: Any, spec: TensorSpec, param: str) -> tuple[NDArray[Any], bool]:
    if spec.kind in TEXT_KINDS:
        return _texts(value, spec, param)
    if spec.kind == "image" and isinstance(value, str):
        return images.from_data_url(value, spec, param)[np.newaxis], False
    if spec.kind == "image" and isinstance(value, list) and value and isinstance(value[0], str):
        return rows_of(value, spec, param), True
    return shaped(checked(nested(value, spec, param), spec, param), spec, param)


def rows_of(values: list[Any], spec: TensorSpec, param: str) -> NDArray[Any]:
    """Check a list with one value per row; returns an array (rows, …).

    Raises:
        InputError: It does not fit.
    """
    if spec.kind == "image" and isinstance(values[0], str | Mapping):
        refuse_too_many(len(values))
        return images.stack([images.file_of(item, param) for item in values], spec, param)
    return with_rows(checked(nested(values, spec, param), spec, param), spec, param)


def shaped(array: NDArray[Any], spec: TensorSpec, param: str) -> tuple[NDArray[Any], bool]:
    """Return an array (rows, …), and whether rows were given: one row may come without that axis.

    Raises:
        InputError: `invalid_shape`.
    """
    if array.shape == spec.shape:
        return array[np.newaxis], False
    if spec.kind == "number" and array.ndim == 0:
        return array.reshape(1, *spec.shape), False
    return with_rows(array, spec, param), True


def with_rows(array: NDArray[Any], spec: TensorSpec, param: str) -> NDArray[Any]:
    """Return an array (rows, …) of one that has the axis of rows; numbers may be a flat list.

    Raises:
        InputError: `invalid_shape`.
    """
    if array.ndim == len(spec.shape) + 1 and array.shape[1:] == spec.shape:
        return array
    if spec.kind == "number" and array.ndim == 1:
        return array.reshape(-1, *spec.shape)
    wanted = list(spec.shape)
    raise InputError(
        "invalid_shape",
        f"`{spec.name}` has shape {list(array.shape)}; "
        f"expected {wanted} for one row or [rows, {', '.join(map(str, wanted))}] for several.",
        param,
    )


def nested(value: Any, spec: TensorSpec, param: str) -> NDArray[Any]:
    """Read nested lists.

    Raises:
        InputError: `invalid_shape`: they are ragged.
    """
    try:
        return np.asarray(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            "invalid_shape", f"`{spec.name}` is ragged: its rows differ in length.", param
        ) from error


def checked(array: NDArray[Any], spec: TensorSpec, param: str) -> NDArray[Any]:
    """Return an array of the spec's datatype, of whole numbers or floats that are in its range.

    Raises:
        InputError: It holds text, booleans, objects, NaN, or numbers out of range.
    """
    allowed = "iuf" if spec.datatype.startswith("float") else "iu"
    if array.dtype.kind not in allowed:
        what = "numbers" if "f" in allowed else "whole numbers"
        raise InputError("invalid_type", f"`{spec.name}` must hold {what} only.", param)
    _check_range(array, spec, param)
    # Copies only if the type differs.
    return array.astype(spec.datatype, copy=False)


@cache
def _range(datatype: str) -> tuple[float, float]:
    """Return the lowest and the highest value that a datatype holds."""
    if datatype == "float32":
        return -_FLOAT32_MAX, _FLOAT32_MAX
    if datatype == "float64":
        return -sys.float_info.max, sys.float_info.max
    limits = np.iinfo(datatype)
    return int(limits.min), int(limits.max)


def _check_range(array: NDArray[Any], spec: TensorSpec, param: str) -> None:
    if array.size == 0:
        return
    lowest, highest = array.min().item(), array.max().item()
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise InputError("non_finite_number", f"`{spec.name}` has NaN or infinity.", param)
    low, high = _range(spec.datatype)
    low = low if spec.low is None else spec.low
    high = high if spec.high is None else spec.high
    if lowest < low or highest > high:
        raise InputError(
            "out_of_range",
            f"`{spec.name}` has values from {lowest:g} to {highest:g}; "
            f"allowed are {low:g} to {high:g}.",
            param,
        )


def encode(arrays: Mapping[str, NDArray[Any]], signature: Signature, *, is_batch: bool) -> Any:
    """Turn outputs into what the caller gets: an object, or a list of objects for a batch.

    Arrays stay arrays: the JSON writer takes them.
    """
    rows = len(next(iter(arrays.values())))
    found = [_encode_row(arrays, signature, row) for row in range(rows)]
    return found if is_batch else found[0]


def _encode_row(
    arrays: Mapping[str, NDArray[Any]], signature: Signature, row: int
) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    for spec in signature.outputs:
        values = arrays[spec.name][row]
        answer[spec.name] = values if values.ndim else values.item()
        if spec.labels:
            answer["label"] = spec.labels[int(values.argmax())]
    return answer

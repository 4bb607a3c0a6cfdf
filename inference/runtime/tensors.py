"""JSON values ↔ arrays, checked against the signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.runtime import images
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature, TensorSpec

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Input:
    """A checked input.

    Attributes:
        arrays: Input name → array (rows, *shape) of the spec's datatype.
        is_batch: Whether the caller sent rows, and wants a list back.
    """

    arrays: Arrays
    rows: int
    is_batch: bool


def decode(value: Any, signature: Signature, *, max_rows: int) -> Input:
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
            raise InputError(
                "unknown_input",
                f"This model has no input {str(name)[:64]!r}; it takes {', '.join(sorted(known))}.",
                f"input.{str(name)[:64]}",
            )
    decoded: dict[str, tuple[NDArray[Any], bool]] = {}
    for spec in signature.inputs:
        if spec.name not in value:
            raise InputError("missing_input", f"`{spec.name}` is missing.", f"input.{spec.name}")
        decoded[spec.name] = _decode_one(value[spec.name], spec, f"input.{spec.name}")
    return _as_input(decoded, max_rows)


def decode_instances(instances: Any, signature: Signature, *, max_rows: int) -> Input:
    """Check the `instances` of a TensorFlow Serving request: a list of rows.

    Raises:
        InputError: Naming what does not fit.
    """
    if not isinstance(instances, list) or not instances:
        raise InputError("invalid_type", "`instances` must be a non-empty list.", "instances")
    if len(instances) > max_rows:
        raise _too_many(len(instances), max_rows)
    if isinstance(instances[0], Mapping):
        columns = _columns(instances, signature)
    elif len(signature.inputs) == 1:
        columns = {signature.inputs[0].name: instances}
    else:
        raise InputError("invalid_type", "Each instance must be an object.", "instances")
    found = {
        spec.name: (_rows_of(columns[spec.name], spec, "instances"), True)
        for spec in signature.inputs
    }
    return _as_input(found, max_rows)


def _columns(instances: list[Any], signature: Signature) -> dict[str, list[Any]]:
    names = {spec.name for spec in signature.inputs}
    for place, item in enumerate(instances):
        if not isinstance(item, Mapping) or set(item) != names:
            raise InputError(
                "invalid_type",
                f"Each instance must have exactly: {', '.join(sorted(names))}.",
                f"instances.{place}",
            )
    return {name: [item[name] for item in instances] for name in names}


def _as_input(decoded: Mapping[str, tuple[NDArray[Any], bool]], max_rows: int) -> Input:
    rows = {array.shape[0] for array, _ in decoded.values()}
    if len(rows) != 1:
        raise InputError("invalid_shape", "The inputs have different numbers of rows.", "input")
    count = rows.pop()
    if count == 0:
        raise InputError("invalid_shape", "There is no row.", "input")
    if count > max_rows:
        raise _too_many(count, max_rows)
    arrays = {name: array for name, (array, _) in decoded.items()}
    return Input(arrays, count, any(is_batch for _, is_batch in decoded.values()))


def _too_many(count: int, max_rows: int) -> InputError:
    return InputError(
        "too_many_rows", f"{count} rows in one request; at most {max_rows} are allowed.", "input"
    )


def _decode_one(value: Any, spec: TensorSpec, param: str) -> tuple[NDArray[Any], bool]:
    if spec.kind == "image" and isinstance(value, str):
        return images.from_data_url(value, spec, param)[np.newaxis], False
    if spec.kind == "image" and isinstance(value, list) and value and isinstance(value[0], str):
        return _rows_of(value, spec, param), True
    array = _numbers(value, spec, param)
    if array.shape == spec.shape:
        return array[np.newaxis], False
    if spec.kind == "number" and array.ndim == 0:
        return array.reshape(1, *spec.shape), False
    return _with_rows(array, spec, param), True


def _rows_of(values: list[Any], spec: TensorSpec, param: str) -> NDArray[Any]:
    if spec.kind == "image" and isinstance(values[0], str):
        if not all(isinstance(item, str) for item in values):
            raise InputError("invalid_type", "Send all images in the same form.", param)
        return np.stack([images.from_data_url(item, spec, param) for item in values])
    return _with_rows(_numbers(values, spec, param), spec, param)


def _with_rows(array: NDArray[Any], spec: TensorSpec, param: str) -> NDArray[Any]:
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


def _numbers(value: Any, spec: TensorSpec, param: str) -> NDArray[Any]:
    """Read nested lists of numbers; text, booleans, null and ragged lists are refused."""
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(
            "invalid_shape", f"`{spec.name}` is ragged: its rows differ in length.", param
        ) from error
    allowed = "iuf" if spec.datatype.startswith("float") else "iu"
    if array.dtype.kind not in allowed:
        what = "numbers" if "f" in allowed else "whole numbers"
        raise InputError("invalid_type", f"`{spec.name}` must hold {what} only.", param)
    _check_range(array, spec, param)
    # Copies only if the type differs.
    return array.astype(spec.datatype, copy=False)


def _check_range(array: NDArray[Any], spec: TensorSpec, param: str) -> None:
    if array.size == 0:
        return
    lowest, highest = array.min(), array.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise InputError("non_finite_number", f"`{spec.name}` has NaN or infinity.", param)
    limits = (
        np.finfo(spec.datatype) if spec.datatype.startswith("float") else np.iinfo(spec.datatype)
    )
    low = limits.min if spec.low is None else spec.low
    high = limits.max if spec.high is None else spec.high
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


def encode_instances(arrays: Mapping[str, NDArray[Any]], signature: Signature) -> list[Any]:
    """Turn outputs into TensorFlow Serving's `predictions`: bare values if there is one output."""
    names = [spec.name for spec in signature.outputs]
    if len(names) == 1:
        return list(arrays[names[0]])
    rows = len(arrays[names[0]])
    return [{name: arrays[name][row] for name in names} for row in range(rows)]

"""Tensors of the Open Inference Protocol ↔ arrays, as JSON and as binary data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.runtime import images, tensors
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature, TensorSpec

# Our names → the protocol's.
DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input as it came.

    Attributes:
        data: Its values as JSON, flat or nested; None if they are binary.
        raw: Its values in row-major order, little-endian; None if they are JSON.
    """

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: Any = None
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One output as it was asked for.

    Attributes:
        classes: 0, or how many of the most likely classes to name instead of the values.
    """

    name: str
    is_binary: bool = False
    classes: int = 0


def shape_of(spec: TensorSpec) -> list[int]:
    """Return the shape that metadata names; -1 is the number of rows."""
    return [-1, *spec.shape]


def decode(given: Sequence[Tensor], signature: Signature) -> tensors.Input:
    """Check the inputs of an `infer` request.

    Raises:
        InputError: Naming the tensor that does not fit.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in given:
        param = f"inputs.{tensor.name[:64]}"
        if tensor.name not in specs:
            raise tensors.unknown_input(tensor.name, specs, param)
        if tensor.name in arrays:
            raise InputError("invalid_type", f"`{tensor.name}` is given twice.", param)
        arrays[tensor.name] = _rows(tensor, specs[tensor.name], param)
    for name in specs:
        if name not in arrays:
            raise InputError("missing_input", f"`{name}` is missing.", f"inputs.{name}")
    return tensors.as_input(arrays, is_batch=True)


def _rows(tensor: Tensor, spec: TensorSpec, param: str) -> NDArray[Any]:
    if tensor.datatype == "BYTES" and spec.kind == "image":
        return images.stack(list(_files(tensor, param)), spec, param)
    expected = DATATYPES[spec.datatype]
    if tensor.datatype != expected:
        raise InputError(
            "invalid_type",
            f"`{spec.name}` has datatype {tensor.datatype[:32]}; this model takes {expected}.",
            param,
        )
    is_plain_number = spec.kind == "number" and len(tensor.shape) == 1
    if not is_plain_number and tensor.shape[1:] != spec.shape:
        raise _wrong_shape(tensor, spec, param)
    if len(tensor.shape) == 0 or 0 in tensor.shape:
        raise _wrong_shape(tensor, spec, param)
    array = _array(tensor, spec, param)
    return tensors.with_rows(tensors.checked(array, spec, param), spec, param)


def _wrong_shape(tensor: Tensor, spec: TensorSpec, param: str) -> InputError:
    wanted = ", ".join(map(str, ("rows", *spec.shape)))
    return InputError(
        "invalid_shape",
        f"`{spec.name}` has shape {list(tensor.shape)[:16]}; expected [{wanted}].",
        param,
    )


def _array(tensor: Tensor, spec: TensorSpec, param: str) -> NDArray[Any]:
    count = math.prod(tensor.shape)
    if tensor.raw is not None:
        dtype = np.dtype(spec.datatype).newbyteorder("<")
        if len(tensor.raw) != count * dtype.itemsize:
            raise InputError(
                "invalid_binary_data",
                f"`{spec.name}` has {len(tensor.raw)} bytes; its shape and datatype need "
                f"{count * dtype.itemsize}.",
                param,
            )
        return np.frombuffer(tensor.raw, dtype=dtype).reshape(tensor.shape)
    array = tensors.nested(tensor.data, spec, param)
    if array.shape != tensor.shape and array.shape != (count,):
        raise InputError(
            "invalid_shape",
            f"`{spec.name}` says shape {list(tensor.shape)[:16]}; its data has "
            f"{list(array.shape)[:16]}.",
            param,
        )
    return array.reshape(tensor.shape)


def _files(tensor: Tensor, param: str) -> Iterator[bytes]:
    """Yield the image files of a BYTES tensor of shape [rows] or [rows, 1]."""
    found = list(_texts(tensor.data, param) if tensor.raw is None else _parts(tensor.raw, param))
    if tensor.shape not in {(len(found),), (len(found), 1)}:
        raise InputError(
            "invalid_shape",
            f"The tensor says shape {list(tensor.shape)[:16]}; it has {len(found)} images.",
            param,
        )
    yield from found


def _texts(data: Any, param: str) -> Iterator[bytes]:
    """Yield files written as text: data URLs, or bare base64."""
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise InputError("invalid_type", "BYTES are a list of texts.", param)
    for item in data:
        text = item.partition(",")[2] if item.startswith("data:") else item
        yield images.from_base64(text, param)


def _parts(raw: bytes, param: str) -> Iterator[bytes]:
    """Yield the elements of binary BYTES: each is its length, in four bytes, and its bytes."""
    place = 0
    while place < len(raw):
        start = place + 4
        place = start + int.from_bytes(raw[place:start], "little")
        if place > len(raw):
            raise InputError("invalid_binary_data", "An element of BYTES is cut off.", param)
        yield bytes(raw[start:place])


def check_outputs(asked: Sequence[Output], signature: Signature) -> None:
    """Check the outputs that an `infer` request asks for.

    Raises:
        InputError: `unknown_output`, also for classes of an output that has none.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    for output in asked:
        param = f"outputs.{output.name[:64]}"
        if output.name not in specs:
            raise InputError(
                "unknown_output",
                f"This model has no output {output.name[:64]!r}; it gives {', '.join(specs)}.",
                param,
            )
        if output.classes and not specs[output.name].labels:
            raise InputError("unknown_output", f"`{output.name}` has no classes.", param)


def encode(
    arrays: Mapping[str, NDArray[Any]], signature: Signature, asked: Sequence[Output]
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Write outputs.

    Returns:
        The `outputs` of the answer, and the binary data that follows it.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in asked:
        spec, array = specs[output.name], arrays[output.name]
        one, raw = _classes(array, spec, output) if output.classes else _values(array, spec, output)
        if raw is not None:
            one["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        described.append(one)
    return described, binary


def _values(
    array: NDArray[Any], spec: TensorSpec, output: Output
) -> tuple[dict[str, Any], bytes | None]:
    one = {"name": spec.name, "datatype": DATATYPES[spec.datatype], "shape": list(array.shape)}
    typed = np.ascontiguousarray(array, dtype=np.dtype(spec.datatype).newbyteorder("<"))
    if output.is_binary:
        return one, typed.tobytes()
    return one | {"data": typed.ravel()}, None


def _classes(
    array: NDArray[Any], spec: TensorSpec, output: Output
) -> tuple[dict[str, Any], bytes | None]:
    """Name the most likely classes of each row: `value:index:label`."""
    values = array.reshape(len(array), -1)
    best = np.argsort(-values, axis=1, kind="stable")[:, : output.classes]
    texts = [
        f"{row[place]:f}:{place}:{spec.labels[place]}"
        for row, places in zip(values, best, strict=True)
        for place in places
    ]
    one = {"name": spec.name, "datatype": "BYTES", "shape": list(best.shape)}
    if not output.is_binary:
        return one | {"data": texts}, None
    encoded = [text.encode() for text in texts]
    return one, b"".join(len(text).to_bytes(4, "little") + text for text in encoded)

"""The body of an `infer` request: a JSON object, and the binary data of its tensors behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from accounts.errors import InvalidRequestError, UnknownFieldError
from inference.errors import InvalidBinaryDataError, InvalidShapeError, InvalidTypeError
from inference.faces import requests
from inference.runtime import open_inference
from inference.runtime.open_inference import Output, Tensor
from inference.runtime.signature import Signature
from inference.runtime.tensors import Input

_FIELDS = frozenset({"id", "inputs", "outputs", "parameters"})
_INPUT_FIELDS = frozenset({"name", "shape", "datatype", "data", "parameters"})
_OUTPUT_FIELDS = frozenset({"name", "parameters"})
_MAX_TENSORS = 64
_MAX_DIMENSIONS = 32
_MAX_CLASSES = 1024


@dataclass(slots=True)
class InferBody:
    """What an `infer` request asks.

    Attributes:
        outputs: None: all of them.
        is_binary: Whether outputs that do not say otherwise come as binary data.
        signature: Known once the inputs are decoded.
    """

    id: str | None
    inputs: list[Tensor]
    outputs: list[Output] | None
    is_binary: bool
    signature: Signature | None = None

    def __call__(self, signature: Signature) -> Input:
        """Turn the tensors into arrays."""
        self.signature = signature
        open_inference.check_outputs(self.outputs or (), signature)
        return open_inference.decode(self.inputs, signature)

    def asked(self, signature: Signature) -> list[Output]:
        """Return the outputs to give."""
        if self.outputs is not None:
            return self.outputs
        return [Output(spec.name, self.is_binary) for spec in signature.outputs]


def read(body: bytes, header_length: str | None) -> InferBody:
    """Read a body.

    Args:
        header_length: How many bytes of it are JSON: the header `Inference-Header-Content-Length`,
            if there is binary data behind.

    Raises:
        MercatoError: What is wrong, naming the field.
    """
    end = _json_end(body, header_length)
    found = requests.json_object(body[:end])
    _refuse_unknown(found, _FIELDS, "")
    is_binary = _flag(_parameters(found, {"binary_data_output"}, ""), "binary_data_output", "")
    identity = found.get("id")
    if identity is not None and (not isinstance(identity, str) or len(identity) > 200):
        raise InvalidTypeError("`id` must be a text of at most 200 characters.", param="id")
    return InferBody(
        id=identity,
        inputs=_inputs(found, body[end:]),
        outputs=_outputs(found, is_binary),
        is_binary=is_binary,
    )


def _json_end(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    is_number = header_length.isascii() and header_length.isdecimal() and len(header_length) < 10
    if not is_number or int(header_length) > len(body):
        raise InvalidRequestError(
            f"Inference-Header-Content-Length must be a number up to {len(body)}.",
            param="Inference-Header-Content-Length",
        )
    return int(header_length)


def _inputs(found: dict[str, Any], binary: bytes) -> list[Tensor]:
    tensors = []
    place = 0
    for item in _objects(found, "inputs"):
        tensor, size = _input(item)
        if size is not None:
            if size > len(binary) - place:
                raise InvalidBinaryDataError(
                    f"`{tensor.name[:64]}` says {size} bytes of binary data; "
                    f"{len(binary) - place} are left.",
                    param=f"inputs.{tensor.name[:64]}",
                )
            tensor = replace(tensor, raw=binary[place : place + size])
            place += size
        tensors.append(tensor)
    if place != len(binary):
        raise InvalidBinaryDataError(
            f"{len(binary) - place} bytes of binary data belong to no input.", param="inputs"
        )
    return tensors


def _input(item: dict[str, Any]) -> tuple[Tensor, int | None]:
    """Read one input; returns it, and how many bytes of binary data it has, if it has."""
    name = _name(item, "inputs")
    param = f"inputs.{name[:64]}"
    _refuse_unknown(item, _INPUT_FIELDS, f"{param}.")
    datatype = item.get("datatype")
    if not isinstance(datatype, str):
        raise InvalidTypeError("`datatype` must be a text, such as FP32.", param=param)
    size = _parameters(item, {"binary_data_size"}, f"{param}.").get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidTypeError("`binary_data_size` must be a number of bytes.", param=param)
    if (size is None) == ("data" not in item):
        raise InvalidRequestError(
            "An input has either `data`, or `binary_data_size` among its parameters.", param=param
        )
    return Tensor(name, _shape(item.get("shape"), param), datatype, item.get("data")), size


def _shape(shape: Any, param: str) -> tuple[int, ...]:
    is_right = (
        isinstance(shape, list)
        and len(shape) <= _MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**31 for size in shape)
    )
    if not is_right:
        raise InvalidShapeError("`shape` must be a list of whole numbers.", param=param)
    return tuple(shape)


def _outputs(found: dict[str, Any], is_binary: bool) -> list[Output] | None:
    if "outputs" not in found or found["outputs"] == []:
        return None
    outputs = [_output(item, is_binary) for item in _objects(found, "outputs")]
    if len({output.name for output in outputs}) != len(outputs):
        raise InvalidRequestError("An output is asked for twice.", param="outputs")
    return outputs


def _output(item: dict[str, Any], is_binary: bool) -> Output:
    name = _name(item, "outputs")
    prefix = f"outputs.{name[:64]}."
    _refuse_unknown(item, _OUTPUT_FIELDS, prefix)
    parameters = _parameters(item, {"binary_data", "classification"}, prefix)
    classes = parameters.get("classification", 0)
    if type(classes) is not int or not 0 <= classes <= _MAX_CLASSES:
        raise InvalidTypeError(
            f"`classification` must be a number of classes, at most {_MAX_CLASSES}.",
            param=f"{prefix}parameters.classification",
        )
    return Output(name, _flag(parameters, "binary_data", prefix, default=is_binary), classes)


def _objects(found: dict[str, Any], field: str) -> list[dict[str, Any]]:
    items: Any = found.get(field)
    if isinstance(items, list) and 0 < len(items) <= _MAX_TENSORS:
        objects = [item for item in items if isinstance(item, dict)]
        if len(objects) == len(items):
            return objects
    raise InvalidTypeError(f"`{field}` must be a list of 1 to {_MAX_TENSORS} objects.", param=field)


def _name(item: dict[str, Any], field: str) -> str:
    name = item.get("name")
    if not isinstance(name, str):
        raise InvalidTypeError("`name` must be a text.", param=field)
    return name


def _parameters(item: dict[str, Any], known: set[str], prefix: str) -> dict[str, Any]:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidTypeError("`parameters` must be an object.", param=f"{prefix}parameters")
    _refuse_unknown(parameters, known, f"{prefix}parameters.")
    return parameters


def _flag(parameters: dict[str, Any], name: str, prefix: str, *, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidTypeError(
            f"`{name}` must be true or false.", param=f"{prefix}parameters.{name}"
        )
    return value


def _refuse_unknown(found: dict[str, Any], known: frozenset[str] | set[str], prefix: str) -> None:
    for name in found:
        if name not in known:
            raise UnknownFieldError(
                f"`{prefix}{name[:64]}` means nothing here.", param=f"{prefix}{name[:64]}"
            )

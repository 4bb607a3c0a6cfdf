"""TensorFlow Serving's two forms of a body ↔ arrays: rows (`instances`) and columns (`inputs`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from inference.runtime import tensors
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature
from inference.runtime.tensors import Arrays, Input


def decode_instances(instances: Any, signature: Signature) -> Input:
    """Check the `instances` of a request: a list of rows.

    A row is an object with a value per input, or the bare value if there is one input.

    Raises:
        InputError: Naming what does not fit.
    """
    if not isinstance(instances, list) or not instances:
        raise InputError("invalid_type", "`instances` must be a non-empty list.", "instances")
    tensors.refuse_too_many(len(instances))
    if isinstance(instances[0], Mapping) and not _is_file(instances[0]):
        columns = _columns(instances, signature)
    elif len(signature.inputs) == 1:
        columns = {signature.inputs[0].name: instances}
    else:
        raise InputError("invalid_type", "Each instance must be an object.", "instances")
    arrays = {
        spec.name: tensors.rows_of(columns[spec.name], spec, "instances")
        for spec in signature.inputs
    }
    return tensors.as_input(arrays, is_batch=True)


def _is_file(value: Mapping[str, Any]) -> bool:
    """Whether an object stands for a file: `{"b64": "…"}`."""
    return value.keys() == {"b64"}


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


def decode_inputs(inputs: Any, signature: Signature) -> Input:
    """Check the `inputs` of a request: an object with a list of rows per input.

    With one input the bare list will do.

    Raises:
        InputError: Naming what does not fit.
    """
    names = {spec.name for spec in signature.inputs}
    if not isinstance(inputs, Mapping):
        if len(names) > 1:
            raise InputError("invalid_type", "`inputs` must be an object.", "inputs")
        inputs = {signature.inputs[0].name: inputs}
    for name in inputs:
        if name not in names:
            raise tensors.unknown_input(name, names, f"inputs.{str(name)[:64]}")
    arrays: Arrays = {}
    for spec in signature.inputs:
        param = f"inputs.{spec.name}"
        if spec.name not in inputs:
            raise InputError("missing_input", f"`{spec.name}` is missing.", param)
        rows = inputs[spec.name]
        if not isinstance(rows, list) or not rows:
            raise InputError(
                "invalid_type", f"`{spec.name}` must be a non-empty list of rows.", param
            )
        arrays[spec.name] = tensors.rows_of(rows, spec, param)
    return tensors.as_input(arrays, is_batch=True)


def encode_predictions(arrays: Mapping[str, NDArray[Any]], signature: Signature) -> list[Any]:
    """Turn outputs into `predictions`: rows, of bare values if there is one output."""
    names = [spec.name for spec in signature.outputs]
    if len(names) == 1:
        return list(arrays[names[0]])
    rows = len(arrays[names[0]])
    return [{name: arrays[name][row] for name in names} for row in range(rows)]


def encode_outputs(arrays: Mapping[str, NDArray[Any]], signature: Signature) -> Any:
    """Turn outputs into `outputs`: columns, a bare one if there is one output."""
    names = [spec.name for spec in signature.outputs]
    return arrays[names[0]] if len(names) == 1 else {name: arrays[name] for name in names}

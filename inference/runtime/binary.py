"""A body that is one tensor and nothing else: an `.npy` file, bare values, or an image file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.runtime import images, npy, tensors
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature, TensorSpec
from inference.runtime.tensors import Input


def decode_npy(body: bytes, signature: Signature) -> Input:
    """Read an `.npy` file; its array fits as the same numbers in JSON would.

    Raises:
        InputError: What does not fit.
    """
    spec = _only_input(signature)
    param = f"input.{spec.name}"
    array = tensors.checked(npy.decode(body, param), spec, param)
    return _input(spec, *tensors.shaped(array, spec, param))


def decode_values(body: bytes, signature: Signature) -> Input:
    """Read bare values: the input's datatype, little-endian, row after row.

    Raises:
        InputError: `invalid_binary_data`: not a whole number of rows; or what does not fit.
    """
    spec = _only_input(signature)
    param = f"input.{spec.name}"
    dtype = np.dtype(spec.datatype).newbyteorder("<")
    row_bytes = spec.row_values * dtype.itemsize
    if not body or len(body) % row_bytes:
        raise InputError(
            "invalid_binary_data",
            f"The body has {len(body)} bytes; a row of `{spec.name}` has {row_bytes} "
            f"({spec.row_values} of {spec.datatype}, little-endian).",
            param,
        )
    array = np.frombuffer(body, dtype=dtype).reshape(-1, *spec.shape)
    return _input(spec, tensors.checked(array, spec, param), len(array) > 1)


def decode_image(body: bytes, signature: Signature) -> Input:
    """Read a PNG or JPEG file as one row.

    Raises:
        InputError: `invalid_image`: it cannot be read; `invalid_type`: the model takes no images.
    """
    spec = _only_input(signature)
    param = f"input.{spec.name}"
    if spec.kind != "image":
        raise InputError("invalid_type", f"`{spec.name}` is not an image.", param)
    return _input(spec, images.from_bytes(body, spec, param)[np.newaxis], is_batch=False)


def _only_input(signature: Signature) -> TensorSpec:
    if len(signature.inputs) > 1:
        raise InputError(
            "missing_input",
            "A body of this type is one input, and this model takes several: "
            f"{', '.join(spec.name for spec in signature.inputs)}.",
            "input",
        )
    return signature.inputs[0]


def _input(spec: TensorSpec, rows: NDArray[np.generic], is_batch: bool) -> Input:
    return tensors.as_input({spec.name: rows}, is_batch=is_batch)

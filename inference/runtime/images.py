"""PNG and JPEG → arrays."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from inference.runtime.errors import InputError
from inference.runtime.signature import TensorSpec

MAX_PIXELS = 4_000_000
_UNREADABLE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    Warning,
)
_HEADERS = ("data:image/png;base64,", "data:image/jpeg;base64,")


def from_data_url(text: str, spec: TensorSpec, param: str) -> NDArray[np.float32]:
    """Decode `data:image/png;base64,…`.

    Returns:
        Array of the spec's shape (height, width), float32, 0..1, white on black.

    Raises:
        InputError: `invalid_image`.
    """
    return from_bytes(_file_of_url(text, param), spec, param)


def from_bytes(data: bytes, spec: TensorSpec, param: str) -> NDArray[np.float32]:
    """Decode the bytes of a PNG or JPEG file; see `from_data_url`."""
    rows: NDArray[np.float32] = stack([data], spec, param)[0]
    return rows


def stack(files: Sequence[bytes], spec: TensorSpec, param: str) -> NDArray[np.float32]:
    """Decode several files.

    Returns:
        Array (files, *shape), float32.

    Raises:
        InputError: `invalid_image`; also if all together have more than MAX_PIXELS: a small file
            can hold a large picture.
    """
    if not files:
        raise InputError("invalid_shape", "There is no image.", param)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            opened = [Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) for data in files]
            if sum(image.width * image.height for image in opened) > MAX_PIXELS:
                raise InputError(
                    "invalid_image", f"The input has more than {MAX_PIXELS} pixels.", param
                )
            return np.stack([_to_array(image, spec) for image in opened])
        except _UNREADABLE as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                "invalid_image", "The image is not a readable PNG or JPEG.", param
            ) from error


def file_of(value: Any, param: str) -> bytes:
    """Return the file of an image in JSON: a data URL, or TensorFlow Serving's `{"b64": "…"}`.

    Raises:
        InputError: It is neither.
    """
    if isinstance(value, str):
        return _file_of_url(value, param)
    if isinstance(value, Mapping) and value.keys() == {"b64"} and isinstance(value["b64"], str):
        return from_base64(value["b64"], param)
    raise InputError("invalid_type", "Send all images in the same form.", param)


def _file_of_url(text: str, param: str) -> bytes:
    if not text.startswith(_HEADERS):
        raise InputError(
            "invalid_image", "An image is a data URL: data:image/png;base64,… or jpeg.", param
        )
    return from_base64(text.partition(",")[2], param)


def from_base64(text: str, param: str) -> bytes:
    """Return what a text stands for.

    Raises:
        InputError: `invalid_image`.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("invalid_image", "The image is not valid base64.", param) from error


def _to_array(image: Image.Image, spec: TensorSpec) -> NDArray[np.float32]:
    height, width = spec.shape[0], spec.shape[1]
    if "A" in image.getbands() or "transparency" in image.info:
        # What is transparent shows as paper.
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    grey = image.convert("L").resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey, dtype=np.float32) / np.float32(255)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    # Dark ink on bright paper is turned round: models see white on black.
    turned = 1 - pixels if edge.mean() > 0.5 else pixels
    return np.ascontiguousarray(turned, dtype=np.float32).reshape(spec.shape)

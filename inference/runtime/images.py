"""PNG and JPEG → arrays."""

from __future__ import annotations

import base64
import binascii
import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from inference.runtime.errors import InputError
from inference.runtime.signature import TensorSpec

MAX_PIXELS = 4_000_000
_HEADERS = ("data:image/png;base64,", "data:image/jpeg;base64,")


def from_data_url(text: str, spec: TensorSpec, param: str) -> NDArray[np.float32]:
    """Decode `data:image/png;base64,…`.

    Returns:
        Array of the spec's shape (height, width), float32, 0..1, white on black.

    Raises:
        InputError: `invalid_image`.
    """
    if not text.startswith(_HEADERS):
        raise InputError(
            "invalid_image", "An image is a data URL: data:image/png;base64,… or jpeg.", param
        )
    try:
        data = base64.b64decode(text.partition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("invalid_image", "The data URL is not valid base64.", param) from error
    return from_bytes(data, spec, param)


def from_bytes(data: bytes, spec: TensorSpec, param: str) -> NDArray[np.float32]:
    """Decode the bytes of a PNG or JPEG file; see `from_data_url`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    "invalid_image", f"The image has more than {MAX_PIXELS} pixels.", param
                )
            return _to_array(image, spec)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Warning) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "invalid_image", "The image is not a readable PNG or JPEG.", param
        ) from error


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

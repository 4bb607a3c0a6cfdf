"""Inputs a person can try at once, taken from the held-out rows."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from training.recipes.data import Floats, Part


def of_images(part: Part, output: Floats, input_name: str) -> list[dict[str, Any]]:
    """Return one image per class: the first the model recognises, else the first."""
    y = np.asarray(part.y, np.int64)
    examples = []
    for label in range(10):
        rows = np.flatnonzero(y == label)
        recognised = [row for row in rows if output[row].argmax() == label]
        row = (recognised or list(rows))[0]
        examples.append({"label": str(label), "input": {input_name: png(part.x[row])}})
    return examples


def of_numbers(input_name: str) -> list[dict[str, Any]]:
    """Return a few points of the line."""
    return [
        {"label": f"{input_name} = {x}", "input": {input_name: [x]}} for x in (-2, 0, 1, 2.5, 10)
    ]


def png(image: Floats) -> str:
    """Return a grey image 0..1 as a PNG in a data URL."""
    from PIL import Image

    file = io.BytesIO()
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    Image.fromarray(pixels, mode="L").save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

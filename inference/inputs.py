"""What stored predictions and rows of files are run on: rows for the model, or a text to write."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from inference.generation import wanted
from inference.generation.options import SEED_BITS
from inference.generation.wanted import Wanted
from inference.runtime import tensors
from inference.runtime.signature import Signature

Input = tensors.Input | Wanted


def read(value: Any, signature: Signature, name: str = "") -> Input:
    """Check the `input` of a prediction, and count its tokens if the model reads text.

    Args:
        name: Of what is read, always the same for it: a text that has no seed has one by this.

    Raises:
        InputError: Naming the value that does not fit.
    """
    if signature.input_kind == "prompt":
        return wanted.read(value, signature, _seed(name))
    return tensors.counted(tensors.decode(value, signature), signature)


def _seed(name: str) -> int:
    digest = blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 64 - SEED_BITS

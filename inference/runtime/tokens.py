"""Text → tokens, by the tokenizer file that comes with a version."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.runtime.errors import InputError
from inference.runtime.signature import TensorSpec

# A batch of more takes longer than a caller waits.
MAX_TEXTS = 256


@lru_cache(maxsize=8)
def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    # Nothing is cut off in silence, and padding is ours.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(texts: list[str], spec: TensorSpec, param: str) -> NDArray[np.int32]:
    """Return the tokens of texts: (texts, longest allowed), padded with 0.

    Raises:
        InputError: `context_length_exceeded`, naming the text, or `too_many_rows`.
    """
    if len(texts) > MAX_TEXTS:
        raise InputError(
            "too_many_rows",
            f"{len(texts)} texts in one request; at most {MAX_TEXTS} are allowed.",
            param,
        )
    assert spec.tokenizer is not None
    (longest,) = spec.shape
    found = np.zeros((len(texts), longest), np.int32)
    for row, encoded in enumerate(_tokenizer(spec.tokenizer).encode_batch_fast(texts)):
        numbers = encoded.ids
        if len(numbers) > longest:
            raise InputError(
                "context_length_exceeded",
                f"A text has {len(numbers)} tokens; the model takes {longest}. Cut it.",
                f"{param}.{row}" if len(texts) > 1 else param,
            )
        found[row, : len(numbers)] = numbers
    return found

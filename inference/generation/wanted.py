"""A text that somebody wants written, checked: the prompt as numbers, and the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accounts.errors import MercatoError
from inference.generation import options
from inference.runtime import tensors
from inference.runtime.errors import InputError
from inference.runtime.sampling import Choice
from inference.runtime.signature import Signature

# Characters of an answer whose length the caller does not choose.
DEFAULT_TOKENS = 256
# What may stand beside the prompt in the `input` of a prediction, and in the columns of a file.
OPTIONS = ("max_tokens", "temperature", "top_p", "seed", "stop")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A text that is to be written.

    Attributes:
        prompt: Characters as numbers.
    """

    prompt: NDArray[np.int32]
    max_tokens: int
    choice: Choice
    stops: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows it is."""
        return 1

    def tokens(self) -> dict[str, int]:
        """Return the most that it may use, as quantities that have a price."""
        return {"input_token": len(self.prompt), "output_token": self.max_tokens}


def encode(text: str, signature: Signature) -> NDArray[np.int32]:
    """Return a prompt as numbers, at least one; characters the model does not know are 0."""
    numbers = {character: number for number, character in enumerate(signature.vocabulary)}
    # A text begins as a new line does.
    return np.array([numbers.get(one, 0) for one in text or "\n"], np.int32)


def most_tokens(signature: Signature, prompt: int, wanted: int | None) -> int:
    """Return how many tokens the answer may have.

    Args:
        prompt: How many tokens it has.
        wanted: What the caller has asked for; None leaves it to us.

    Raises:
        InputError: `context_length_exceeded`.
    """
    room = signature.context - prompt
    most = min(DEFAULT_TOKENS, max(room, 1)) if wanted is None else wanted
    if most > room:
        raise InputError(
            "context_length_exceeded",
            f"The model takes {signature.context} tokens in all; the prompt has {prompt} "
            f"and the answer may have {most}. A token is a character.",
            "max_tokens" if prompt < signature.context else "prompt",
        )
    return most


def read(value: Any, signature: Signature, seed: int) -> Wanted:
    """Check the `input` of a prediction: an object with the prompt and what options it has.

    Args:
        seed: Where none was sent: whoever writes it again writes the same.

    Raises:
        InputError: Naming the value that does not fit.
    """
    (spec,) = signature.inputs
    if not isinstance(value, Mapping):
        raise InputError("invalid_type", f"`input` must be an object with: {spec.name}.", "input")
    known = {spec.name, *OPTIONS}
    for name in value:
        if name not in known:
            raise tensors.unknown_input(name, known, f"input.{str(name)[:64]}")
    found = {name: item for name, item in value.items() if item is not None}
    if spec.name not in found:
        raise InputError("missing_input", f"`{spec.name}` is missing.", f"input.{spec.name}")
    try:
        prompt = encode(options.text(found, spec.name), signature)
        return Wanted(
            prompt=prompt,
            max_tokens=most_tokens(signature, len(prompt), options.max_tokens(found, "max_tokens")),
            choice=options.choice(found, seed),
            stops=options.stops(found),
        )
    except (MercatoError, InputError) as error:
        raise InputError(error.code, error.message, f"input.{error.param}") from error

"""What a version takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

DATATYPES = ("float32", "float64", "int32", "int64", "uint8")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        shape: Of one row: the batch axis is not part of it.
        kind: "image" also takes PNG and JPEG; "number" also takes a bare number; "text" takes
            strings, which are cut into tokens; "prompt" is text that is continued.
        low, high: Accepted range of values, or None.
        labels: Names of the classes of an output, or empty.
        tokenizer: The file that cuts texts into tokens, where `kind` is "text".
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    kind: str = "tensor"
    low: float | None = None
    high: float | None = None
    labels: tuple[str, ...] = ()
    tokenizer: Path | None = None

    @property
    def row_values(self) -> int:
        """How many values one row has."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a version.

    Attributes:
        vocabulary: Of a model that writes text: its characters, by number; number 0 is unknown.
        context: The most characters of prompt and answer together.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    vocabulary: str = ""
    context: int = 0

    @property
    def input_kind(self) -> str:
        """The kind of the first input: which of the sessions can serve it."""
        return self.inputs[0].kind

    @classmethod
    def from_json(cls, data: Mapping[str, Any], tokenizer: Path | None = None) -> Signature:
        """Read what `ModelVersion.signature` stores.

        Args:
            tokenizer: The version's file of that kind; only who decodes texts needs it.

        Raises:
            ValueError: A datatype is not supported, or there is no input or output.
        """
        inputs = tuple(_spec(item, tokenizer) for item in data["inputs"])
        outputs = tuple(_spec(item) for item in data["outputs"])
        if not inputs or not outputs:
            raise ValueError("A signature has at least one input and one output.")
        return cls(inputs, outputs, data.get("vocabulary", ""), data.get("context", 0))


def _spec(item: Mapping[str, Any], tokenizer: Path | None = None) -> TensorSpec:
    if item["datatype"] not in DATATYPES:
        raise ValueError(f"{item['datatype']} is not one of {', '.join(DATATYPES)}.")
    return TensorSpec(
        name=item["name"],
        datatype=item["datatype"],
        shape=tuple(item["shape"]),
        kind=item.get("kind", "tensor"),
        low=item.get("low"),
        high=item.get("high"),
        labels=tuple(item.get("labels", ())),
        tokenizer=tokenizer,
    )

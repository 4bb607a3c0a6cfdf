"""A record of a file → a checked input of one row. Pure: no database.

JSONL: `{"input": {…}, "id": "…"}`, where `input` is that of POST /v1/predictions. CSV: a column per
input, or `name.0`, `name.1`, … for an input of several values, and `id` if wanted. A model that
writes text has a column for the prompt, and one for each option if wanted; an empty cell is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from inference import inputs
from inference.batch_files import records
from inference.batch_files.records import FileError, Record
from inference.generation import wanted
from inference.inputs import Input
from inference.runtime import tensors
from inference.runtime.errors import InputError
from inference.runtime.signature import Signature, TensorSpec

_ID_MAX = 100
_FIELDS = {"id", "input"}


class RowError(Exception):
    """One row cannot be used: a stable code, a text, and which part of it."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        self.code, self.message, self.param = code, message[:300], param
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Row:
    """A row that can be run."""

    id: str
    input: Input


class RowReader:
    """Reads the rows of one file.

    Args:
        columns: The header of a CSV; empty for JSONL.
        name: The file's: a text without a seed has one by this and its place.
    """

    def __init__(self, signature: Signature, columns: Sequence[str] = (), name: str = "") -> None:
        self._signature, self._name = signature, name
        self._columns = list(columns)
        self._layout = layout(signature, columns) if columns else {}

    def read(self, record: Record) -> Row:
        """Check one record.

        Raises:
            RowError
        """
        try:
            row_id, value = self._from_csv(record) if self._columns else _from_jsonl(record)
            found = inputs.read(value, self._signature, f"{self._name}:{record.line}")
        except FileError as error:
            raise RowError(error.code, error.message) from error
        except InputError as error:
            raise RowError(error.code, error.message, error.param) from error
        if found.rows != 1:
            raise RowError("too_many_rows", f"{found.rows} rows in one line of the file.", "input")
        return Row(row_id, found)

    def _from_csv(self, record: Record) -> tuple[str, dict[str, Any]]:
        found = records.cells(record)
        if len(found) != len(self._columns):
            raise RowError(
                "invalid_csv", f"{len(found)} cells; the header has {len(self._columns)} columns."
            )
        value = {
            spec.name: _from_cells([found[place] for place in self._layout[spec.name]], spec)
            for spec in self._signature.inputs
        }
        for name in self._layout.keys() - value.keys():
            if cell := found[self._layout[name][0]]:
                value[name] = _option(name, cell)
        row_id = found[self._columns.index("id")] if "id" in self._columns else ""
        return _checked_id(row_id), value


def layout(signature: Signature, columns: Sequence[str]) -> dict[str, list[int]]:
    """Return input name → the places of its cells.

    Raises:
        FileError: A column is missing, unknown, or there twice.
    """
    places: dict[str, int] = {}
    for place, name in enumerate(columns):
        if name in places:
            raise FileError("duplicate_column", f"The column {name[:64]!r} is there twice.", 1)
        places[name] = place
    found = {spec.name: _places(spec, places) for spec in signature.inputs}
    if signature.input_kind == "prompt":
        found |= {name: [places[name]] for name in wanted.OPTIONS if name in places}
    known = {place for some in found.values() for place in some}
    for name, place in places.items():
        if place not in known and name != "id":
            raise FileError("unknown_column", f"This model has no input {name[:64]!r}.", 1)
    return found


def _places(spec: TensorSpec, places: Mapping[str, int]) -> list[int]:
    if spec.name in places:
        return [places[spec.name]]
    if spec.kind in tensors.TEXT_KINDS:
        raise FileError("missing_column", f"There is no column {spec.name!r}.", 1)
    names = [f"{spec.name}.{value}" for value in range(spec.row_values)]
    for name in names:
        if name not in places:
            wanted = f"`{spec.name}`, or `{names[0]}` to `{names[-1]}`"
            raise FileError("missing_column", f"There is no column {name!r}; send {wanted}.", 1)
    return [places[name] for name in names]


def _from_cells(found: list[str], spec: TensorSpec) -> Any:
    param = f"input.{spec.name}"
    if spec.kind in tensors.TEXT_KINDS:
        # As it is: a text may begin with a bracket.
        return found[0]
    if len(found) == 1 and (spec.row_values > 1 or spec.kind not in {"tensor", "number", "image"}):
        return _from_cell(found[0], spec, param)
    return np.array([_number(cell, spec, param) for cell in found]).reshape(spec.shape)


def _from_cell(cell: str, spec: TensorSpec, param: str) -> Any:
    """Read a whole input from one cell: JSON, or the text of an image."""
    if not cell.lstrip().startswith("["):
        return cell
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError as error:
        raise RowError("invalid_json", f"`{spec.name}` is no JSON list.", param) from error


def _option(name: str, cell: str) -> Any:
    """Read an option of a text: JSON, or as it is where that is a text."""
    if name == "stop" and not cell.startswith("["):
        return cell
    try:
        return orjson.loads(cell)
    except orjson.JSONDecodeError as error:
        what = "a JSON list" if name == "stop" else "a number"
        raise RowError("invalid_type", f"{cell[:40]!r} is not {what}.", f"input.{name}") from error


def _number(cell: str, spec: TensorSpec, param: str) -> float | int:
    kind = float if spec.datatype.startswith("float") else int
    try:
        # Python's own spelling of large numbers is nobody else's.
        if "_" in cell:
            raise ValueError
        found: float | int = kind(cell)
    except ValueError as error:
        what = "a number" if kind is float else "a whole number"
        raise RowError("invalid_type", f"{cell[:40]!r} is not {what}.", param) from error
    if kind is int and not -(2**63) <= found < 2**63:
        raise RowError("out_of_range", f"{cell[:40]!r} is too large.", param)
    return found


def _from_jsonl(record: Record) -> tuple[str, Any]:
    try:
        fields = orjson.loads(record.data)
    except orjson.JSONDecodeError as error:
        raise RowError("invalid_json", f"This line is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise RowError("invalid_json", "A line must be an object with `input`.")
    for name in fields:
        if name not in _FIELDS:
            raise RowError("unknown_field", f"Unknown field {name[:64]!r}.", name[:64])
    if "input" not in fields:
        raise RowError("missing_input", "`input` is missing.", "input")
    return _checked_id(fields.get("id", "")), fields["input"]


def _checked_id(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _ID_MAX:
        raise RowError("invalid_request", f"`id` is a text of at most {_ID_MAX} characters.", "id")
    return value

"""Results as a download: as far as they go, in the order of the file, a chunk at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.db.models import F

from billing.exports import plain
from inference import loading
from inference.batch_files import store
from inference.models import BatchChunk, BatchFile
from inference.runtime.signature import Signature, TensorSpec

CONTENT_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
_FIRST = ("row", "line", "id", "status")
_LAST = ("cost", "error_code", "error_message")
# What a row of text has used, by the kind of the first input.
_UNITS = {"text": ("input_token",), "prompt": ("input_token", "output_token")}


async def parts(batch: BatchFile, wanted: str) -> AsyncIterator[bytes]:
    """Yield the results of the chunks that are done; no more than one is in memory.

    Args:
        wanted: "jsonl" or "csv".
    """
    writer = _Csv(await sync_to_async(loading.signature_of)(batch.model_version_id))
    if wanted == "csv":
        yield writer.header()
    number = -1
    while True:
        chunk = await sync_to_async(_next)(batch, number)
        if chunk is None:
            return
        number = chunk.number
        data = await sync_to_async(store.result(chunk).read_bytes)()
        yield data if wanted == "jsonl" else await sync_to_async(writer.rows)(data)


def _next(batch: BatchFile, after: int) -> BatchChunk | None:
    done = BatchChunk.objects.filter(batch=batch, state=BatchChunk.State.DONE, number__gt=after)
    return done.order_by("number").first()


def failed_rows(batch: BatchFile, limit: int) -> list[dict[str, Any]]:
    """Return the first rows that failed, for a page; only chunks with failures are read."""
    found: list[dict[str, Any]] = []
    done = BatchChunk.objects.filter(batch=batch, state=BatchChunk.State.DONE)
    for chunk in done.exclude(succeeded=F("rows")).order_by("number")[:limit]:
        for line in _lines(store.result(chunk).read_bytes()):
            if line["status"] == "failed":
                found.append(line)
                if len(found) == limit:
                    return found
    return found


def _lines(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        yield orjson.loads(line)


class _Csv:
    """Writes results as CSV: a column per value of an output."""

    def __init__(self, signature: Signature) -> None:
        self._outputs = signature.outputs
        self._units = _UNITS.get(signature.input_kind, ())

    def header(self) -> bytes:
        """Return the first line."""
        names: list[str] = []
        for spec in self._outputs:
            names += _names(spec)
            if spec.labels:
                names.append("label")
        return _csv([[*_FIRST, *names, *self._units, *_LAST]])

    def rows(self, data: bytes) -> bytes:
        """Return the lines of a chunk."""
        return _csv([self._row(line) for line in _lines(data)])

    def _row(self, line: dict[str, Any]) -> list[str]:
        error = line["error"] or {}
        cells = [str(line["row"]), str(line["line"]), plain(line["id"] or ""), line["status"]]
        output, units = line["output"], line.get("units") or {}
        for spec in self._outputs:
            cells += [""] * len(_names(spec)) if output is None else _cells(spec, output)
            if spec.labels:
                cells.append("" if output is None else plain(output["label"]))
        cells += [str(units.get(name, "")) for name in self._units]
        # What is wrong may quote what somebody wrote.
        return [*cells, line["cost"], error.get("code", ""), plain(error.get("message", ""))]


def _names(spec: TensorSpec) -> list[str]:
    """Return the columns of an output."""
    if spec.kind == "prompt":
        return [spec.name, "finish_reason"]
    if spec.shape:
        return [f"{spec.name}.{value}" for value in range(spec.row_values)]
    return [spec.name]


def _cells(spec: TensorSpec, output: dict[str, Any]) -> list[str]:
    """Return what is in them."""
    if spec.kind == "prompt":
        return [plain(output[spec.name]), output["finish_reason"]]
    return [str(value) for value in _flat(output[spec.name])]


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [leaf for item in value for leaf in _flat(item)]


def _csv(rows: list[list[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()

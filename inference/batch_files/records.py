"""Bytes of a file → its records, one at a time: lines of JSONL, records of CSV. Pure.

A record is found without reading the rest of the file, from any record's beginning on: so a file
of any size takes the memory of one record.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

BOM = b"\xef\xbb\xbf"
# Compressed files and wide encodings, by how they begin.
_FOREIGN = (
    (b"\x1f\x8b", "compressed_file", "This file is compressed (gzip). Send it as it is."),
    (b"PK\x03\x04", "compressed_file", "This file is a zip archive. Send what is in it."),
    (b"PK\x05\x06", "compressed_file", "This file is an empty zip archive."),
    (b"\x28\xb5\x2f\xfd", "compressed_file", "This file is compressed (zstd). Send it as it is."),
    (b"BZh", "compressed_file", "This file is compressed (bzip2). Send it as it is."),
    (b"\xfd7zXZ", "compressed_file", "This file is compressed (xz). Send it as it is."),
    (b"7z\xbc\xaf", "compressed_file", "This file is a 7z archive. Send what is in it."),
    (b"\xff\xfe", "invalid_encoding", "This file is UTF-16. Save it as UTF-8."),
    (b"\xfe\xff", "invalid_encoding", "This file is UTF-16. Save it as UTF-8."),
)


class FileError(Exception):
    """The file cannot be used, or not from here on: a stable code, a text, the line."""

    def __init__(self, code: str, message: str, line: int = 0) -> None:
        self.code = code
        self.message = f"Line {line}: {message}" if line else message
        super().__init__(self.message)


class Record(NamedTuple):
    """The bytes of one record.

    Attributes:
        line: The number of its first line, from 1.
        lines: How many lines it has: more than one if a quoted cell has line ends.
        offset, size: Where it lies in the file, with its line end.
        data: Without the line end and without the byte order mark.
    """

    line: int
    lines: int
    offset: int
    size: int
    data: bytes

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + self.size


def require_plain(beginning: bytes) -> None:
    """Refuse by its first bytes what is no text in UTF-8.

    Raises:
        FileError
    """
    if not beginning:
        raise FileError("empty_file", "This file is empty.")
    for magic, code, message in _FOREIGN:
        if beginning.startswith(magic):
            raise FileError(code, message)
    if b"\0" in beginning:
        raise FileError("invalid_encoding", "This file is binary. Send text in UTF-8.")


def read(
    stream: BinaryIO, *, is_csv: bool, offset: int, line: int, max_bytes: int
) -> Iterator[Record]:
    """Yield the records from a record's beginning on; blank lines are no records.

    Args:
        line: How many lines come before.
        max_bytes: The longest record.

    Raises:
        FileError: A record is longer, or a quote is not closed.
    """
    stream.seek(offset)
    while first := stream.readline(max_bytes + 1):
        line += 1
        start, data, begins_at = line, first, offset
        _require_short(data, max_bytes, start)
        if is_csv and data.count(b'"') % 2:
            data, more = _quoted(stream, data, max_bytes, start)
            line += more
        offset += len(data)
        text = data.removeprefix(BOM) if begins_at == 0 else data
        if text.strip():
            yield Record(start, line - start + 1, begins_at, len(data), text.rstrip(b"\r\n"))


def _quoted(stream: BinaryIO, data: bytes, max_bytes: int, line: int) -> tuple[bytes, int]:
    """Read on until the quotes are closed; returns the record and how many lines more it has."""
    more = 0
    # A list, because a record of many lines would be copied for each of them.
    parts, quotes, size = [data], data.count(b'"'), len(data)
    while quotes % 2:
        found = stream.readline(max_bytes + 1)
        if not found:
            raise FileError("invalid_csv", "A quote is opened and never closed.", line)
        parts.append(found)
        quotes += found.count(b'"')
        size += len(found)
        more += 1
        if size > max_bytes:
            raise FileError(
                "line_too_long",
                f"A record is longer than {max_bytes} bytes. Is a quote left open?",
                line,
            )
    return b"".join(parts), more


def _require_short(data: bytes, max_bytes: int, line: int) -> None:
    if len(data) > max_bytes:
        raise FileError("line_too_long", f"A line is longer than {max_bytes} bytes.", line)


def cells(record: Record) -> list[str]:
    """Return the cells of a CSV record.

    Raises:
        FileError: It is not UTF-8, or no record of CSV.
    """
    text = decoded(record)
    # The longest record is limited where it is read.
    csv.field_size_limit(max(len(text), 131_072))
    try:
        found = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise FileError("invalid_csv", f"This is no CSV: {error}.", record.line) from error
    if len(found) != 1:
        raise FileError("invalid_csv", "This is more than one record.", record.line)
    return found[0]


def decoded(record: Record) -> str:
    """Return a record's text.

    Raises:
        FileError: It is not UTF-8.
    """
    try:
        return record.data.decode()
    except UnicodeDecodeError as error:
        raise FileError("invalid_encoding", "This line is not UTF-8.", record.line) from error

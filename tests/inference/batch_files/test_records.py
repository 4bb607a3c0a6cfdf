"""Whatever the bytes, a file is read to its end or refused with a code, and no line is lost."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.batch_files import records
from inference.batch_files.errors import FAILURES
from inference.batch_files.records import FileError, Record
from inference.batch_files.rows import RowError, RowReader, layout
from inference.errors import _INPUT_ERRORS
from inference.runtime import tensors
from inference.runtime.signature import Signature
from tests import factories

pytestmark = pytest.mark.once
MAX = 8000
IMAGE = Signature.from_json(factories.DIGIT_SIGNATURE)
LINE = Signature.from_json(
    {
        "inputs": [
            {"name": "x", "datatype": "float32", "shape": [1], "kind": "number"},
            {"name": "n", "datatype": "int32", "shape": [2]},
        ],
        "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
    }
)
HEADER = ["x", "n.0", "n.1", "id"]
# Bytes that mean something here, and others.
_TOKENS = [b'"', b",", b"\n", b"\r\n", b"\r", b"1", b"-", b".5", b"x", b"{", b"}", b"[", b"]"]
_TOKENS += [b":", b'"input"', b'"x"', b"\xff", b"\0", b"\xef\xbb\xbf", b"\xe4\xbd\xa0"]
bytes_ = st.lists(st.sampled_from(_TOKENS) | st.binary(max_size=3), max_size=40).map(b"".join)


def read(data: bytes, *, is_csv: bool, offset: int = 0, line: int = 0) -> list[Record]:
    found = records.read(io.BytesIO(data), is_csv=is_csv, offset=offset, line=line, max_bytes=MAX)
    return list(found)


def outcome(data: bytes, *, is_csv: bool) -> list[str]:
    """Return what became of a file: its code, or a code per row; empty is a row that fits."""
    try:
        found = read(data, is_csv=is_csv)
    except FileError as error:
        return [error.code]
    reader = RowReader(LINE, HEADER if is_csv else ())
    return [_row_outcome(reader, record) for record in found]


def _row_outcome(reader: RowReader, record: Record) -> str:
    try:
        reader.read(record)
    except RowError as error:
        return error.code
    return ""


@given(bytes_, st.booleans())
def test_random_bytes_are_read_or_refused_with_a_code(data: bytes, is_csv: bool) -> None:
    known = {"", *FAILURES, *_INPUT_ERRORS, "invalid_json", "unknown_field", "invalid_request"}

    assert set(outcome(data, is_csv=is_csv)) <= known


@given(bytes_, st.booleans())
def test_reading_can_go_on_at_any_record(data: bytes, is_csv: bool) -> None:
    try:
        found = read(data, is_csv=is_csv)
    except FileError:
        return
    for place, record in enumerate(found):
        rest = read(data, is_csv=is_csv, offset=record.offset, line=record.line - 1)
        assert rest == found[place:]
        after = read(data, is_csv=is_csv, offset=record.end, line=record.line - 1 + record.lines)
        assert after == found[place + 1 :]


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n",')),
                 min_size=2, max_size=4),
        min_size=1, max_size=6,
    ),
    st.sampled_from(["\n", "\r\n"]),
)  # fmt: skip
def test_what_a_csv_writer_writes_is_read_back(rows: list[list[str]], end: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)

    found = read(buffer.getvalue().encode(), is_csv=True)

    assert [records.cells(record) for record in found] == rows


def test_lines_are_counted_as_an_editor_does() -> None:
    data = b'\xef\xbb\xbfx,n.0,n.1,id\r\n\r\n1,2,3,"a\nb"\r\n4,5,6,c'
    header, *rows = read(data, is_csv=True)

    assert records.cells(header) == HEADER
    assert [(row.line, row.lines) for row in rows] == [(3, 2), (5, 1)]
    assert [RowReader(LINE, HEADER).read(row).id for row in rows] == ["a\nb", "c"]
    assert rows[-1].end == len(data)


def test_a_long_line_is_refused_before_it_is_read() -> None:
    stream = io.BytesIO(b"9" * 10 * MAX)
    with pytest.raises(FileError) as caught:
        next(records.read(stream, is_csv=False, offset=0, line=0, max_bytes=MAX))
    assert (caught.value.code, stream.tell()) == ("line_too_long", MAX + 1)


def test_a_quote_that_is_never_closed_is_refused_where_it_is_opened() -> None:
    with pytest.raises(FileError, match="Line 2") as caught:
        read(b'a\n"b\n' + b"c\n" * MAX, is_csv=True)
    assert caught.value.code == "line_too_long"


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("1_000", "invalid_type"),
        ("", "invalid_type"),
        ("0x10", "invalid_type"),
        ("nan", "non_finite_number"),
        ("1e999", "non_finite_number"),
        ("=1+1", "invalid_type"),
    ],
)
def test_a_cell_that_is_no_number_is_refused(cell: str, code: str) -> None:
    record = read(f"{cell},2,3,a".encode(), is_csv=True)[0]
    with pytest.raises(RowError) as caught:
        RowReader(LINE, HEADER).read(record)
    assert caught.value.code == code


@pytest.mark.parametrize("cell", ["99999999999999999999", "3000000000", "1.5"])
def test_a_whole_number_that_does_not_fit_is_refused(cell: str) -> None:
    record = read(f"1,{cell},3,a".encode(), is_csv=True)[0]
    with pytest.raises(RowError) as caught:
        RowReader(LINE, HEADER).read(record)
    assert caught.value.code in {"out_of_range", "invalid_type"}


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        (["x", "x", "n"], "duplicate_column"),
        (["x", "n.0"], "missing_column"),
        (["x", "n", "n.0"], "unknown_column"),
        ([], "missing_column"),
    ],
)
def test_columns_are_those_of_the_model(columns: list[str], code: str) -> None:
    with pytest.raises(FileError) as caught:
        layout(LINE, columns)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"[]", "invalid_json"),
        (b'{"input": {"x": 1, "n": [1, 2]}, "id": 3}', "invalid_request"),
        (b'{"id": "a"}', "missing_input"),
        (b'{"input": {"x": [1, 2], "n": [[1, 2], [3, 4]]}}', "too_many_rows"),
        (b'{"input": {"x": NaN, "n": [1, 2]}}', "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[" * 1500, "invalid_json"),
        (b'{"input": ' + b"[" * 900 + b"]" * 900 + b"}", "invalid_type"),
    ],
)
def test_a_line_that_is_no_row_is_refused(line: bytes, code: str) -> None:
    with pytest.raises(RowError) as caught:
        RowReader(LINE).read(read(line, is_csv=False)[0])
    assert caught.value.code == code


def test_a_cell_may_hold_a_whole_input_as_json() -> None:
    pixels: Any = factories.image(3)
    buffer = io.StringIO()
    csv.writer(buffer).writerow([str(pixels), "a"])
    row = RowReader(IMAGE, ["image", "id"]).read(read(buffer.getvalue().encode(), is_csv=True)[0])

    assert isinstance(row.input, tensors.Input)
    assert row.input.arrays["image"].tolist() == [pixels]

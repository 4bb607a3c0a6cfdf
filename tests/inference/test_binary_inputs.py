"""Bytes in, arrays out: the same numbers give the same arrays in every form, or a clear refusal."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from PIL import Image

from accounts.errors import MercatoError
from inference import errors
from inference.faces import infer_body
from inference.runtime import binary, npy, open_inference, serving, tensors
from inference.runtime.errors import InputError
from inference.runtime.signature import DATATYPES, Signature
from inference.runtime.tensors import Input

pytestmark = pytest.mark.once
# How long an example takes says more about the machine than about the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def signature(datatype: str, shape: list[int], **more: Any) -> Signature:
    spec = {"name": "x", "datatype": datatype, "shape": shape, **more}
    output = {"name": "y", "datatype": "float32", "shape": [3], "labels": ["p", "q", "r"]}
    return Signature.from_json({"inputs": [spec], "outputs": [output]})


PLAIN = signature("float32", [2, 3])
NUMBER = signature("float32", [1], kind="number")
PICTURE = signature("float32", [4, 4], kind="image", low=0, high=1)
TWO = Signature.from_json(
    {
        "inputs": [
            {"name": "a", "datatype": "float32", "shape": [2]},
            {"name": "b", "datatype": "int64", "shape": []},
        ],
        "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
    }
)


def saved(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """Return an .npy file without numbers, with a header of one's own."""
    width = "<H" if version == (1, 0) else "<I"
    body = text.encode("latin-1")
    return b"\x93NUMPY" + bytes(version) + struct.pack(width, len(body)) + body


def png(width: int = 4, height: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 0).save(file, "PNG")
    return file.getvalue()


def infer(head: dict[str, Any], binary_data: bytes = b"") -> bytes:
    return orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY) + binary_data


def decode_infer(head: dict[str, Any], binary_data: bytes, wanted: Signature) -> Input:
    length = str(len(infer(head))) if binary_data else None
    return infer_body.read(infer(head, binary_data), length)(wanted)


def in_every_form(array: np.ndarray[Any, Any], wanted: Signature) -> dict[str, Input]:
    """Send an array (rows, …) in all forms that there are."""
    little = array.astype(array.dtype.newbyteorder("<"))
    tensor = {
        "name": "x",
        "shape": list(array.shape),
        "datatype": open_inference.DATATYPES[wanted.inputs[0].datatype],
    }
    raw = little.tobytes()
    by_size = tensor | {"parameters": {"binary_data_size": len(raw)}}
    return {
        "json": tensors.decode({"x": array.tolist()}, wanted),
        "instances": serving.decode_instances(array.tolist(), wanted),
        "inputs": serving.decode_inputs({"x": array.tolist()}, wanted),
        "npy": binary.decode_npy(saved(array), wanted),
        "npy, fortran": binary.decode_npy(saved(np.asfortranarray(array)), wanted),
        "npy, big-endian": binary.decode_npy(
            saved(array.astype(array.dtype.newbyteorder(">"))), wanted
        ),
        "values": binary.decode_values(raw, wanted),
        "infer, nested": decode_infer({"inputs": [tensor | {"data": array.tolist()}]}, b"", wanted),
        "infer, flat": decode_infer({"inputs": [tensor | {"data": array.ravel()}]}, b"", wanted),
        "infer, binary": decode_infer({"inputs": [by_size]}, raw, wanted),
    }


@st.composite
def tensors_and_signatures(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], Signature]:
    datatype = draw(st.sampled_from(DATATYPES))
    shape = draw(st.lists(st.integers(1, 4), max_size=3))
    elements = (
        {"allow_nan": False, "allow_infinity": False} if datatype.startswith("float") else None
    )
    rows = draw(st.integers(1, 5))
    array = draw(arrays_of.arrays(datatype, (rows, *shape), elements=elements))
    return array, signature(datatype, shape)


@patient
@given(tensors_and_signatures())
def test_the_same_numbers_give_the_same_arrays_in_every_form(
    drawn: tuple[np.ndarray[Any, Any], Signature],
) -> None:
    array, wanted = drawn

    for form, decoded in in_every_form(array, wanted).items():
        found = decoded.arrays["x"]
        assert found.dtype == array.dtype, form
        assert decoded.rows == len(array), form
        np.testing.assert_array_equal(found, array, err_msg=form)


def outcome(decode: Callable[[], Input]) -> Input | MercatoError:
    """Return what is decoded, or the refusal that a caller would get."""
    try:
        return decode()
    except InputError as error:
        return errors.from_input_error(error)
    except MercatoError as error:
        return error


def assert_decoded_or_refused(decode: Callable[[], Input]) -> None:
    found = outcome(decode)
    if isinstance(found, MercatoError):
        assert found.status_code in {400, 413}
        assert found.code != "internal_error"
    else:
        assert 1 <= found.rows <= tensors.MAX_ROWS
        assert all(np.isfinite(array).all() for array in found.arrays.values())


@patient
@given(st.binary(max_size=400), st.sampled_from([PLAIN, NUMBER, PICTURE, TWO]))
@example(saved(np.zeros((2, 3), np.float32)), TWO)
def test_random_bytes_are_decoded_or_refused(data: bytes, wanted: Signature) -> None:
    for reader in (binary.decode_npy, binary.decode_values, binary.decode_image):
        for body in (data, b"\x93NUMPY\x01\x00" + data, png()[:40] + data):
            assert_decoded_or_refused(partial(reader, body, wanted))


LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 7, 2**40, 1e300, float("nan"), "", "x", "AAAA", [], [1], [[1, 2]], {}]
)
JSON = (
    LEAVES | st.lists(LEAVES, max_size=3) | st.dictionaries(st.sampled_from(["b64", "x"]), LEAVES)
)
TENSORS = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "y", 7])},
    optional={
        "shape": st.lists(st.integers(-1, 4), max_size=4) | JSON,
        "datatype": st.sampled_from(["FP32", "BYTES", "INT64", None]),
        "data": JSON,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-1, 40), "shared": LEAVES}
        ),
    },
)
BODIES = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2) | JSON},
    optional={"id": LEAVES, "outputs": st.lists(TENSORS, max_size=2), "parameters": JSON},
)


@patient
@given(BODIES, st.binary(max_size=40), st.sampled_from([PLAIN, NUMBER, PICTURE]))
def test_whatever_an_infer_request_says_is_decoded_or_refused(
    head: dict[str, Any], data: bytes, wanted: Signature
) -> None:
    assert_decoded_or_refused(partial(decode_infer, head, data, wanted))


@patient
@given(JSON, st.sampled_from([PLAIN, NUMBER, PICTURE, TWO]))
def test_whatever_tensorflow_serving_is_sent_is_decoded_or_refused(
    value: Any, wanted: Signature
) -> None:
    assert_decoded_or_refused(partial(serving.decode_instances, value, wanted))
    assert_decoded_or_refused(partial(serving.decode_inputs, value, wanted))


NPY_CASES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "invalid_npy"),
    "not npy": (b"hello", "invalid_npy"),
    "only the magic": (b"\x93NUMPY", "invalid_npy"),
    "version 9": (header("{}", (9, 0)), "invalid_npy"),
    "header cut off": (saved(np.zeros((2, 3)))[:40], "invalid_npy"),
    "header of 4 GiB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "invalid_npy"),
    "header is code": (header("__import__('os').abort()"), "invalid_npy"),
    "header is deep": (header("(" * 1000), "invalid_npy"),
    "header is not a dict": (header("[1]"), "invalid_npy"),
    "key missing": (header("{'descr': '<f4', 'shape': (2, 3)}"), "invalid_npy"),
    "key too many": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}"),
        "invalid_npy",
    ),
    "shape of text": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': ('2',)}"),
        "invalid_npy",
    ),
    "negative shape": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}"),
        "invalid_npy",
    ),
    "shape of booleans": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, True)}"),
        "invalid_npy",
    ),
    "hundred dimensions": (
        header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'1,' * 100})}}") + b"0000",
        "invalid_npy",
    ),
    "huge shape": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999, 9999999)}"),
        "invalid_npy",
    ),
    "huge and empty": (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999)}"),
        "invalid_shape",
    ),
    "fortran order of 1": (
        header("{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 3)}") + bytes(24),
        "invalid_npy",
    ),
    "cut off": (saved(np.zeros((2, 3), np.float32))[:-1], "invalid_npy"),
    "too long": (saved(np.zeros((2, 3), np.float32)) + b"0", "invalid_npy"),
    "objects": (saved(np.array([[{}]], dtype=object), allow_pickle=True), "invalid_type"),
    "text": (saved(np.array([["a"]])), "invalid_type"),
    "bytes": (saved(np.array([[b"a"]])), "invalid_type"),
    "booleans": (saved(np.ones((2, 3), bool)), "invalid_type"),
    "complex": (saved(np.ones((2, 3), complex)), "invalid_type"),
    "instants": (saved(np.array(["2026-11-22"], "datetime64[D]")), "invalid_type"),
    "records": (saved(np.zeros(2, [("a", "<f4")])), "invalid_type"),
    "longdouble": (saved(np.ones((2, 3), np.longdouble)), "invalid_type"),
    "NaN": (saved(np.full((2, 3), np.nan)), "non_finite_number"),
    "infinity": (saved(np.full((2, 3), np.inf)), "non_finite_number"),
    "more than float32 holds": (saved(np.full((2, 3), 1e300)), "out_of_range"),
    "wrong shape": (saved(np.zeros((3, 2))), "invalid_shape"),
    "a number": (saved(np.array(1.0)), "invalid_shape"),
    "no row": (saved(np.zeros((0, 2, 3))), "invalid_shape"),
    "too many rows": (saved(np.zeros((1025, 2, 3), np.uint8)), "too_many_rows"),
}


@pytest.mark.parametrize("name", NPY_CASES)
def test_each_bad_npy_file_has_its_own_error(name: str) -> None:
    body, code = NPY_CASES[name]

    with pytest.raises(InputError) as caught:
        binary.decode_npy(body, PLAIN)

    assert caught.value.code == code
    assert errors.from_input_error(caught.value).code == code


def test_an_npy_file_never_runs_what_it_pickles(tmp_path: Any) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return marker.touch, ()

    with pytest.raises(InputError):
        binary.decode_npy(saved(np.array([Evil()], dtype=object), allow_pickle=True), PLAIN)

    assert not marker.exists()


def test_an_npy_file_may_be_one_row_and_any_kind_of_number() -> None:
    for dtype in ("<f2", ">f8", "<i8", "|u1", ">u4"):
        decoded = binary.decode_npy(saved(np.arange(6).reshape(2, 3).astype(dtype)), PLAIN)

        assert (decoded.rows, decoded.is_batch) == (1, False)
        assert decoded.arrays["x"].dtype == np.float32
        assert decoded.arrays["x"].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert npy.decode(saved(np.arange(3), version=(2, 0)), "x").tolist() == [0, 1, 2]
    assert binary.decode_npy(saved(np.array([1.0, 2.0])), NUMBER).rows == 2


def test_whole_numbers_are_not_rounded_from_an_npy_file_of_fractions() -> None:
    with pytest.raises(InputError, match="whole numbers"):
        binary.decode_npy(saved(np.array([[1.0]])), signature("int64", [1]))


def test_bare_values_must_fill_rows() -> None:
    for body in (b"", bytes(23), bytes(25)):
        with pytest.raises(InputError) as caught:
            binary.decode_values(body, PLAIN)
        assert caught.value.code == "invalid_binary_data"
    assert not binary.decode_values(bytes(24), PLAIN).is_batch
    assert binary.decode_values(bytes(48), PLAIN).is_batch


@pytest.mark.parametrize(
    "reader",
    [binary.decode_npy, binary.decode_values, binary.decode_image],
    ids=lambda f: f.__name__,
)
def test_a_body_that_is_one_tensor_cannot_fill_two_inputs(reader: Any) -> None:
    with pytest.raises(InputError, match="a, b") as caught:
        reader(saved(np.zeros(2)), TWO)

    assert caught.value.code == "missing_input"


def test_many_small_files_cannot_hold_more_pixels_than_one_may() -> None:
    bomb = png(2000, 1000)
    assert len(bomb) < 20_000
    value = [f"data:image/png;base64,{base64.b64encode(bomb).decode()}"] * 3

    with pytest.raises(InputError, match="pixels"):
        tensors.decode({"x": value}, PICTURE)
    with pytest.raises(InputError, match="pixels"):
        serving.decode_instances([{"b64": base64.b64encode(bomb).decode()}] * 3, PICTURE)


def test_a_picture_with_a_billion_pixels_is_refused() -> None:
    body = bytearray(png())
    body[16:24] = struct.pack(">II", 40_000, 40_000)  # the width and height of the header
    body[29:33] = struct.pack(">I", zlib.crc32(bytes(body[12:29])))

    with pytest.raises(InputError) as caught:
        binary.decode_image(bytes(body), PICTURE)
    assert caught.value.code == "invalid_image"


@patient
@given(st.integers(8, 80), st.binary(min_size=1, max_size=8))
def test_a_damaged_picture_is_read_or_refused(place: int, bytes_: bytes) -> None:
    body = bytearray(png(8, 8))
    body[place : place + len(bytes_)] = bytes_
    found = outcome(partial(binary.decode_image, bytes(body), PICTURE))

    assert isinstance(found, Input) or found.code == "invalid_image"

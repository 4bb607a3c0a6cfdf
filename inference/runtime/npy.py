"""`.npy` files → arrays. Nothing in the file is believed, and nothing is ever unpickled."""

from __future__ import annotations

import ast
import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.runtime.errors import InputError

_MAGIC = b"\x93NUMPY"
# NumPy writes 118 bytes for an array of ordinary numbers.
_MAX_HEADER_BYTES = 1024
_MAX_DIMENSIONS = 32
_KEYS = {"descr", "fortran_order", "shape"}
_DESCR = re.compile(r"[<>|=]?(?:f[248]|[iu][1248])")


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    is_fortran: bool
    shape: tuple[int, ...]


def decode(data: bytes, param: str) -> NDArray[Any]:
    """Read what `numpy.save` writes: floats and whole numbers, in any byte and memory order.

    Returns:
        The array, in this machine's byte order and in C order; a view of `data` where it can be.

    Raises:
        InputError: `invalid_npy`: not a file of this kind, cut off, or too long; `invalid_type`:
            it holds something other than numbers; `invalid_shape`: it is empty.
    """
    start, end = _header_bounds(data, param)
    header = _parse(bytes(data[start:end]), param)
    count = math.prod(header.shape)
    if count == 0:
        raise InputError("invalid_shape", "The array is empty: there is no row.", param)
    needed, there = count * header.dtype.itemsize, len(data) - end
    if needed != there:
        raise InputError(
            "invalid_npy",
            f"The file has {there} bytes of numbers; its shape and type need {needed}.",
            param,
        )
    array = np.frombuffer(data, dtype=header.dtype, offset=end)
    array = array.reshape(header.shape, order="F" if header.is_fortran else "C")
    return np.ascontiguousarray(array, dtype=header.dtype.newbyteorder("=")).reshape(header.shape)


def _header_bounds(data: bytes, param: str) -> tuple[int, int]:
    """Return where the header begins and ends; the numbers follow."""
    version = data[6:8]
    width = 2 if version == b"\x01\x00" else 4
    start = 8 + width
    if not data.startswith(_MAGIC) or version not in {b"\x01\x00", b"\x02\x00", b"\x03\x00"}:
        raise InputError("invalid_npy", "The body is not an .npy file.", param)
    length = int.from_bytes(data[8:start], "little")
    if length > _MAX_HEADER_BYTES or start + length > len(data):
        raise InputError("invalid_npy", "The header of the .npy file is cut off.", param)
    return start, start + length


def _parse(text: bytes, param: str) -> _Header:
    found = _literal(text)
    if not isinstance(found, dict) or found.keys() != _KEYS:
        raise InputError("invalid_npy", "The header of the .npy file cannot be read.", param)
    descr, is_fortran, shape = found["descr"], found["fortran_order"], found["shape"]
    if not isinstance(descr, str) or not _DESCR.fullmatch(descr):
        raise InputError("invalid_type", "The .npy file must hold numbers only.", param)
    if not isinstance(is_fortran, bool) or not _is_shape(shape):
        raise InputError("invalid_npy", "The header of the .npy file cannot be read.", param)
    return _Header(np.dtype(descr), is_fortran, shape)


# A client sends the same header again and again.
@lru_cache(maxsize=256)
def _literal(text: bytes) -> Any:
    """Read a Python literal; None if it is none."""
    try:
        return ast.literal_eval(text.decode("latin-1").strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return None


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= _MAX_DIMENSIONS
        and all(type(size) is int and size >= 0 for size in shape)
    )

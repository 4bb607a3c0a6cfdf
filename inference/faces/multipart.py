"""multipart/form-data: an image as a file, for callers who would rather not encode it."""

from __future__ import annotations

import base64
import io
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from accounts import errors

_TYPES = ((b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"))


def parse(content_type: str, body: bytes) -> dict[str, Any]:
    """Read the field `model` and one file per image input.

    Returns:
        The same as the JSON body would be: files become data URLs.

    Raises:
        InvalidRequestError: The form is broken, or a file is neither PNG nor JPEG.
    """
    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": len(body)}
    try:
        parser = MultiPartParser(meta, io.BytesIO(body), [MemoryFileUploadHandler()])
        fields, files = parser.parse()
    except (MultiPartParserError, SuspiciousOperation) as error:
        raise errors.InvalidRequestError("The form cannot be read.") from error
    found: dict[str, Any] = {name: fields[name] for name in fields}
    inputs: dict[str, Any] = {}
    for name in files:
        uploads = [_data_url(file.read()) for file in files.getlist(name)]
        inputs[name] = uploads[0] if len(uploads) == 1 else uploads
    if inputs:
        found["input"] = inputs
    return found


def _data_url(data: bytes) -> str:
    for magic, kind in _TYPES:
        if data.startswith(magic):
            return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    raise errors.InvalidRequestError("A file must be a PNG or JPEG image.")

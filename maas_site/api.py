"""One error shape, one JSON reader and writer, one way to page, for every path under /v1."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import orjson
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions, status
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.response import Response

from accounts import errors
from accounts.errors import MercatoError

logger = logging.getLogger(__name__)
_BY_STATUS = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    405: errors.MethodNotAllowedError,
    413: errors.PayloadTooLargeError,
    415: errors.UnsupportedMediaTypeError,
}


class JSONRenderer(BaseRenderer):
    """Writes JSON with orjson."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Any = None,
    ) -> bytes:
        """Return the bytes of an answer."""
        return b"" if data is None else orjson.dumps(data)


class StrictJSONParser(BaseParser):
    """Reads a JSON object; anything else is a clear 400."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        """Return the object of the body.

        Raises:
            InvalidJSONError: The body is not a JSON object.
            PayloadTooLargeError: The body is too large.
        """
        try:
            data = orjson.loads(stream.read() or b"{}")
        except orjson.JSONDecodeError as error:
            raise errors.InvalidJSONError(f"The body is not valid JSON: {error}.") from error
        if not isinstance(data, dict):
            raise errors.InvalidJSONError("The body must be a JSON object.")
        return data


def _as_mercato_error(error: Exception) -> MercatoError | None:
    if isinstance(error, MercatoError):
        return error
    if isinstance(error, Http404 | exceptions.NotFound):
        return errors.NotFoundError("There is no such object.")
    if isinstance(error, PermissionDenied):
        return errors.PermissionDeniedError("You may not do this.")
    if isinstance(error, RequestDataTooBig):
        return errors.PayloadTooLargeError("The body is larger than 1 MiB.")
    if isinstance(error, exceptions.ValidationError):
        return _from_validation(error.detail)
    if isinstance(error, exceptions.APIException):
        kind = _BY_STATUS.get(error.status_code, MercatoError)
        return kind(str(error.detail))
    if isinstance(error, OperationalError | InterfaceError):
        logger.warning("database", exc_info=error)
        return errors.OverloadedError("The database is away.")
    return None


def _from_validation(detail: Any) -> MercatoError:
    """Name the first field that is wrong."""
    path: list[str] = []
    while isinstance(detail, dict | list) and detail:
        if isinstance(detail, dict):
            key, detail = next(iter(detail.items()))
            if key != "non_field_errors":
                path.append(str(key))
        else:
            detail = next((item for item in detail if item), detail[0])
    kind = errors.UnknownFieldError if getattr(detail, "code", "") == "unknown_field" else None
    return (kind or errors.InvalidRequestError)(str(detail), param=".".join(path) or None)


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn an exception of an API view into the error shape (DRF's hook)."""
    known = _as_mercato_error(error)
    if known is None:
        return None
    request = context["request"]
    response = Response(
        errors.body_of(known, getattr(request._request, "request_id", "")), status=known.status_code
    )
    if known.status_code == status.HTTP_401_UNAUTHORIZED:
        response["WWW-Authenticate"] = "Bearer"
    if known.retry_after is not None:
        response["Retry-After"] = str(known.retry_after)
    for name, value in known.headers:
        response[name] = value
    return response


def is_api(request: HttpRequest) -> bool:
    """Whether the path belongs to the API, where nothing is ever HTML."""
    return request.path.startswith(("/v1/", "/v2/")) or request.path in {"/v1", "/v2"}


_OUTSIDE_VIEWS: dict[str, MercatoError] = {
    "invalid_request": errors.InvalidRequestError("The request cannot be read."),
    "permission_denied": errors.PermissionDeniedError("You may not do this."),
    "not_found": errors.NotFoundError("There is no such path."),
    "internal_error": MercatoError("Something went wrong on our side."),
}


def api_or(page: Callable[..., HttpResponse], code: str) -> Callable[..., HttpResponse]:
    """Return an error handler: the API's shape below /v1 and /v2, a page elsewhere."""

    @wraps(page)
    def handler(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not is_api(request):
            return page(request, *args, **kwargs)
        error = _OUTSIDE_VIEWS[code]
        return HttpResponse(
            orjson.dumps(errors.body_of(error, getattr(request, "request_id", ""))),
            status=error.status_code,
            content_type="application/json",
        )

    return handler

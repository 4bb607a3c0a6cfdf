"""A request id on every answer."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

_GIVEN = re.compile(r"[A-Za-z0-9._-]{8,64}")


def request_id(given: str) -> str:
    """Return the caller's own id if it is harmless, or a new one."""
    return given if _GIVEN.fullmatch(given) else f"req_{secrets.token_hex(12)}"


class RequestIdMiddleware:
    """Sets `request.request_id` and the header `X-Request-Id`."""

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle one request, in either mode."""
        if self._is_async:
            return self._answer(request)
        _mark(request)
        return _stamp(request, self.get_response(request))  # type: ignore[arg-type]  # sync

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        _mark(request)
        return _stamp(request, await self.get_response(request))  # type: ignore[misc]  # async


def _mark(request: HttpRequest) -> None:
    request.request_id = request_id(request.headers.get("X-Request-Id", ""))  # type: ignore[attr-defined]


def _stamp(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
    return response

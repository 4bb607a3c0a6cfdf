"""A request id on every answer, and a count of every request."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from inference.metrics import counting
from maas_site import log_lines

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_CONVERTER = re.compile(r"<[^>]*>")
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
        began_ns = _mark(request)
        return _stamp(request, self.get_response(request), began_ns)  # type: ignore[arg-type]  # sync

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        began_ns = _mark(request)
        return _stamp(request, await self.get_response(request), began_ns)  # type: ignore[misc]  # async


def _mark(request: HttpRequest) -> int:
    given = request_id(request.headers.get("X-Request-Id", ""))
    request.request_id = given  # type: ignore[attr-defined]
    log_lines.request_id.set(given)
    return time.perf_counter_ns()


def _stamp(request: HttpRequest, response: HttpResponseBase, began_ns: int) -> HttpResponseBase:
    response["X-Request-Id"] = request.request_id  # type: ignore[attr-defined]
    method = request.method if request.method in _METHODS else "other"
    counting.request(str(method), _route(request), response.status_code, counting.since(began_ns))
    return response


def _route(request: HttpRequest) -> str:
    """Return the pattern of the address, never the address: there is no end to those."""
    match = request.resolver_match
    if match is None:
        is_file = request.path.startswith(str(settings.STATIC_URL))
        return f"{settings.STATIC_URL}{{}}" if is_file else "none"
    return _pattern(match.route)


@lru_cache(maxsize=2048)
def _pattern(route: str) -> str:
    return "/" + _CONVERTER.sub("{}", route).removeprefix("^").removesuffix("$")

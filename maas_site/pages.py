"""Django's part of the gateway, with a bound on how many requests it works on at once."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class PagesHandler(ASGIHandler):
    """Serves pages and the API's slower part.

    Django gives each request a thread, and each thread opens a connection to the database: two
    hundred people at once would ask PostgreSQL for two hundred, and it has a hundred for all. What
    comes above the bound waits; its body is read meanwhile, so a slow sender keeps nobody waiting.

    Args:
        most: How many requests are worked on at once.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._room = asyncio.Semaphore(most)

    async def run_get_response(self, request: HttpRequest) -> HttpResponseBase:
        """Return the response when there is room."""
        async with self._room:
            response: Any = await super().run_get_response(request)
            assert isinstance(response, HttpResponseBase)
            return response

"""Django's part of the gateway works on a bounded number of requests at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory

from maas_site.pages import PagesHandler

pytestmark = pytest.mark.once
MOST, ASKED = 3, 10


class Counting(PagesHandler):
    """Stands where Django finds the view: counts who is inside, and keeps them there."""

    def __init__(self) -> None:
        super().__init__(MOST)
        self.inside = 0
        self.full, self.gate = asyncio.Event(), asyncio.Event()

    async def get_response_async(self, request: HttpRequest) -> HttpResponse:
        self.inside += 1
        assert self.inside <= MOST
        if self.inside == MOST:
            self.full.set()
        await self.gate.wait()
        self.inside -= 1
        return HttpResponse(request.path)


def test_what_comes_above_the_bound_waits_and_is_served() -> None:
    async def scenario() -> list[bytes]:
        handler = Counting()
        requests: list[Any] = [AsyncRequestFactory().get(f"/{each}") for each in range(ASKED)]
        served = [asyncio.create_task(handler.run_get_response(each)) for each in requests]
        await asyncio.wait_for(handler.full.wait(), 10)
        assert not any(each.done() for each in served)
        handler.gate.set()
        return [bytes((await each).getvalue()) for each in served]

    assert asyncio.run(scenario()) == [f"/{each}".encode() for each in range(ASKED)]

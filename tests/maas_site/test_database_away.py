"""The API while the database is away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test import Client

from accounts.models import Organization
from inference.batch_files import door
from tests.factories import make_key


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_the_caller_may_try_again(organization: Organization, error: type[Exception]) -> None:
    _, secret = make_key(organization)

    def away(*_: Any) -> Any:
        raise error("server closed the connection")

    with connection.execute_wrapper(away):
        answer = Client().get("/v1/usage", headers={"Authorization": f"Bearer {secret}"})

    assert (answer.status_code, answer["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["code"] == "overloaded"


@pytest.mark.parametrize("path", [door.API_PATH, door.PAGE_PATH])
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_who_uploads_may_try_again(
    path: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door looks who it is before Django does, which would answer by itself."""

    def away(*_: Any) -> Any:
        raise error("server closed the connection")

    monkeypatch.setattr(door, "_admit", away)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"path": path, "headers": [], "state": {"request_id": "req_1"}}
    asyncio.run(door.application(never, scope, never, send))

    start, body = sent
    headers = dict(start["headers"])
    if path == door.PAGE_PATH:
        assert (start["status"], headers[b"location"][-10:]) == (303, b"overloaded")
        return
    assert (start["status"], headers[b"retry-after"]) == (503, b"1")
    assert json.loads(body["body"])["error"]["code"] == "overloaded"


async def never(*_: Any) -> Any:
    raise AssertionError

"""The API while the database is away."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test import Client

from accounts.models import Organization
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

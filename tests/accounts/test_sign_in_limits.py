"""Passwords cannot be guessed quickly, and addresses cannot be made up to get around that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _forget_tries() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


def sign_in(client: Client, password: str = "wrong", **options: Any) -> Any:
    return client.post(
        "/accounts/login/", {"login": "ada@example.com", "password": password}, **options
    )


def test_after_five_wrong_passwords_the_right_one_is_refused_too(client: Client) -> None:
    make_user("ada@example.com")

    for _ in range(5):
        assert sign_in(client).status_code == 200
    answer = sign_in(client, "correct horse battery")

    assert answer.status_code == 200
    assert "_auth_user_id" not in client.session
    assert "Too many failed login attempts" in answer.content.decode()


def test_who_tries_on_gets_a_page_that_says_so_whatever_address_it_claims(client: Client) -> None:
    for number in range(30):
        sign_in(client, headers={"X-Forwarded-For": f"203.0.113.{number}"})

    answer = sign_in(client, headers={"X-Forwarded-For": "203.0.113.99"})

    assert answer.status_code == 429
    assert "That was too often" in answer.content.decode()


def test_behind_a_proxy_it_is_the_visitors_address_that_counts(
    client: Client, settings: Any
) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    for _ in range(31):
        answer = sign_in(client, headers={"X-Forwarded-For": "203.0.113.1"})
    assert answer.status_code == 429

    assert sign_in(client, headers={"X-Forwarded-For": "203.0.113.2"}).status_code == 200

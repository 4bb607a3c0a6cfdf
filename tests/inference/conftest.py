"""Fixtures of tests that send webhooks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from accounts.models import Organization
from inference.models import WebhookEndpoint
from inference.webhooks import endpoints
from tests import factories
from tests.inference.receivers import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def owned(db: None) -> Organization:
    """An organization with an owner who gets its mail."""
    return factories.make_organization(owner=factories.make_user("boss@example.com"))


@pytest.fixture
def endpoint(owned: Organization, receiver: Receiver) -> WebhookEndpoint:
    return endpoints.create(owned, receiver.url)[0]

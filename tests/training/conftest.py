"""Fixtures of the training tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.keys import Caller
from accounts.models import Organization
from catalog import prices
from tests import factories
from training import doorbell, jobs, sandbox
from training.models import Job

collect_ignore = []
# Needs PyTorch; the site does not.
if importlib.util.find_spec("torch") is None:
    collect_ignore.append("test_digits_lstm_torch.py")
# Needs what Linux 6.12 has; the site uses it where it is there.
if sandbox.landlock_abi() < 6:
    collect_ignore.append("test_sandbox.py")

COMPUTE_PRICE = {"compute_ms": (50_000, 1000)}


@pytest.fixture
def compute_price(db: None) -> None:
    """Compute costs what a new site charges."""
    prices.add(sku="training.cpu", components=COMPUTE_PRICE)


@pytest.fixture
def caller(organization: Organization, compute_price: None) -> Caller:
    """A caller who can pay."""
    return Caller(organization.pk, organization.slug)


@pytest.fixture
def client(organization: Organization, compute_price: None) -> APIClient:
    """A client with a key of the organization."""
    return keyed(organization)


def keyed(organization: Organization, **fields: Any) -> APIClient:
    """Return a client with a key of an organization."""
    _, secret = factories.make_key(organization, **fields)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def start(caller: Caller) -> Callable[..., Job]:
    """Start a small training of the organization."""

    def _start(**fields: Any) -> Job:
        choices = {"epochs": 2} | fields.pop("hyperparameters", {})
        wanted = jobs.order("linear-regression", hyperparameters=choices, **fields)
        return jobs.start(caller, wanted)[0]

    return _start


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pools whose doorbell was rung."""
    heard: list[str] = []

    def ring(pool: str) -> bool:
        heard.append(pool)
        return True

    monkeypatch.setattr(doorbell, "ring", ring)
    return heard


@pytest.fixture
def data_folder(settings: Any, tmp_path: Path) -> Path:
    """A data folder for this test alone."""
    settings.DATA = tmp_path
    settings.ARTIFACTS = tmp_path / "artifacts"
    return tmp_path

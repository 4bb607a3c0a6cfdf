"""Fixtures of the tests of batch files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from accounts.models import Organization
from billing.reports import terms_of
from catalog.models import ModelVersion
from inference import loading
from inference.batch_files import checking, doorbell, running
from tests import factories

WORKER = "predict@test:1"


@pytest.fixture(autouse=True)
def _batches(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.BATCHES = tmp_path / "batches"
    # Workers of other tests must not take these.
    monkeypatch.setattr(doorbell, "ring", lambda: None)
    loading.signature_of.cache_clear()
    terms_of.cache_clear()


@pytest.fixture
def version(db: None) -> ModelVersion:
    """A model of digits whose rows cost 20,000 nanos."""
    return factories.make_version()


@pytest.fixture
def client(organization: Organization) -> APIClient:
    """A client with a key of the organization."""
    return keyed(organization)


def keyed(organization: Organization, **fields: Any) -> APIClient:
    _, secret = factories.make_key(organization, **fields)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def jsonl(rows: int, *, digit: int | None = None) -> bytes:
    """Return a file whose row i shows the digit i modulo ten."""
    lines = [
        json.dumps({"id": f"r{i}", "input": {"image": factories.image(digit or i % 10)}})
        for i in range(rows)
    ]
    return "\n".join(lines).encode() + b"\n"


def as_csv(rows: int) -> bytes:
    """Return the same as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["id", *(f"image.{i}" for i in range(784))])
    for row in range(rows):
        pixels = [value for line in factories.image(row % 10) for value in line]
        writer.writerow([f"r{row}", *(f"{value:g}" for value in pixels)])
    return buffer.getvalue().encode()


def upload(
    client: APIClient, version: ModelVersion, data: bytes, name: str = "rows.jsonl", **fields: Any
) -> Any:
    headers = fields.pop("headers", {})
    form = {"file": SimpleUploadedFile(name, data), "model": version.model.path, **fields}
    return client.post("/v1/batches", form, format="multipart", headers=headers)


def work() -> None:
    """Do what a worker does until there is nothing left to do."""
    while checking.check_next(WORKER) or running.run_next(WORKER, lambda: False):
        pass


def results(client: APIClient, batch_id: str, wanted: str = "jsonl") -> list[dict[str, Any]]:
    body = text(client, batch_id, wanted)
    return [json.loads(line) for line in body.splitlines()]


def text(client: APIClient, batch_id: str, wanted: str) -> str:
    answer: Any = client.get(f"/v1/batches/{batch_id}/results?as={wanted}")
    assert answer.status_code == 200

    async def read() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return async_to_sync(read)().decode()


@pytest.fixture
def small_chunks(settings: Any) -> None:
    """Chunks of four rows: a small file has many."""
    settings.BATCH_CHUNK_ROWS = 4


Get = Callable[[str], dict[str, Any]]


@pytest.fixture
def get(client: APIClient) -> Get:
    """Read a batch file over the API."""

    def read(batch_id: str) -> dict[str, Any]:
        answer = client.get(f"/v1/batches/{batch_id}")
        assert answer.status_code == 200
        found: dict[str, Any] = answer.json()
        return found

    return read

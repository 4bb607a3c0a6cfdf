"""Batch files over HTTP with real processes, killed in the middle."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from billing import budgets
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog.models import ModelVersion
from inference.batch_files import leases
from tests import factories
from tests.inference.batch_files.conftest import jsonl
from tests.live import Site

ROOT = Path(__file__).resolve().parents[3]
ROWS = 3000


@pytest.fixture(autouse=True)
def _batches() -> None:
    """The processes share the data folder of all tests, and hear the doorbell."""


@pytest.fixture
def version(transactional_db: None) -> ModelVersion:
    return factories.make_version()


def send(site: Site, secret: str, version: ModelVersion, data: bytes, **fields: str) -> Any:
    return site.client.post(
        "/v1/batches",
        headers={"Authorization": f"Bearer {secret}"},
        files={"file": ("rows.jsonl", data)},
        data={"model": version.model.path, **fields},
    )


def read(site: Site, secret: str, path: str) -> httpx.Response:
    return site.client.get(path, headers={"Authorization": f"Bearer {secret}"})


def test_killing_the_worker_again_and_again_loses_no_row_and_charges_none_twice(
    site: Site, version: ModelVersion
) -> None:
    """With kill -9 in the middle of a file, each row is answered and charged once."""
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    batch_id = send(site, secret, version, jsonl(ROWS), start="true").json()["id"]
    path = f"/v1/batches/{batch_id}"

    def done() -> int:
        # What beat does every three seconds.
        leases.sweep()
        found: int = read(site, secret, path).json()["counts"]["done"]
        return found

    for wanted in (1, ROWS // 3):
        site.wait_until(lambda wanted=wanted: done() >= wanted, seconds=90)  # type: ignore[misc]
        site.kill("predict")
        site.start_worker()
    site.wait_until(lambda: done() == ROWS, seconds=120)

    found = read(site, secret, path).json()
    assert (found["status"], found["counts"]["succeeded"]) == ("succeeded", ROWS)
    lines = [json.loads(line) for line in read(site, secret, f"{path}/results").text.splitlines()]
    assert [line["row"] for line in lines] == list(range(1, ROWS + 1))
    assert [line["output"]["label"] for line in lines] == [str(i % 10) for i in range(ROWS)]
    assert {line["hold"] for line in lines} == {
        str(pk) for pk in UsageEvent.objects.values_list("hold_id", flat=True)
    }
    assert not Hold.objects.filter(state="authorised").exists()
    site.settle()
    assert budgets.wallet(organization).available == 5 * NANOS - ROWS * factories.ROW_NANOS


def test_events_say_how_far_it_is_until_it_ends(site: Site, version: ModelVersion) -> None:
    _, secret = factories.make_key(factories.make_organization())
    batch_id = send(site, secret, version, jsonl(600), start="true").json()["id"]
    seen: list[tuple[str, dict[str, Any]]] = []
    headers = {"Authorization": f"Bearer {secret}"}

    with site.client.stream("GET", f"/v1/batches/{batch_id}/events", headers=headers) as answer:
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                seen.append((name, json.loads(line.removeprefix("data: "))))

    assert [name for name, _ in seen[:-1]] == ["state"] * (len(seen) - 1)
    assert (seen[-1][0], seen[-1][1]["status"]) == ("end", "succeeded")
    done = [data["counts"]["done"] for _, data in seen]
    assert done == sorted(done)
    assert done[-1] == 600


def test_an_upload_that_nobody_may_send_or_that_is_too_large_is_not_read(site: Site) -> None:
    _, secret = factories.make_key(factories.make_organization())

    def refusal(key: str, length: int) -> tuple[int, str]:
        """Announce a body, send nothing of it, and return how that is answered."""
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
        connection.putrequest("POST", "/v1/batches")
        connection.putheader("Authorization", f"Bearer {key}")
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        answer = connection.getresponse()
        code: str = json.loads(answer.read())["error"]["code"]
        connection.close()
        return answer.status, code

    assert refusal("mk_live_no", 10**6) == (401, "invalid_api_key")
    assert refusal(secret, 10**12) == (413, "payload_too_large")

"""Batch files over the API: uploaded, checked, priced, run, downloaded."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_
from hypothesis import strategies as st
from rest_framework.test import APIClient

from accounts.models import Organization
from billing import budgets, settlement
from billing.models import Hold, UsageEvent
from billing.money import NANOS, decimal_text
from catalog import prices
from catalog.models import ModelVersion
from inference import versions
from inference.batch_files import checking, running
from inference.metrics import traces
from inference.metrics.flushing import Flusher
from inference.models import BatchFile
from tests import factories
from tests.inference.batch_files.conftest import (
    Get,
    as_csv,
    jsonl,
    keyed,
    results,
    text,
    upload,
    work,
)
from tests.inference.watched import counts

__all__ = ["counts"]
pytestmark = pytest.mark.usefixtures("books", "small_chunks")


def test_a_file_is_checked_priced_started_and_its_rows_are_answered_in_order(
    client: APIClient, version: ModelVersion, organization: Organization, get: Get
) -> None:
    answer = upload(client, version, jsonl(10))
    assert answer.status_code == 201, answer.content
    batch_id = answer.json()["id"]
    assert answer.json()["status"] == "checking"
    assert answer.headers["Location"] == f"/v1/batches/{batch_id}"
    work()

    checked = get(batch_id)
    assert checked["status"] == "ready"
    assert checked["counts"] == {"rows": 10, "invalid": 0, "done": 0, "succeeded": 0, "failed": 0}
    assert checked["estimate"]["amount"] == "0.0002"
    assert not Hold.objects.exists()

    assert client.post(f"/v1/batches/{batch_id}/start").json()["status"] == "processing"
    work()

    done = get(batch_id)
    assert (done["status"], done["percent"], done["cost"]["amount"]) == ("succeeded", 100, "0.0002")
    lines = results(client, batch_id)
    assert [line["row"] for line in lines] == list(range(1, 11))
    assert [line["id"] for line in lines] == [f"r{i}" for i in range(10)]
    assert [line["output"]["label"] for line in lines] == [str(i) for i in range(10)]
    assert {line["cost"] for line in lines} == {"0.00002"}
    assert {line["hold"] for line in lines} == {
        str(pk) for pk in Hold.objects.filter(state="captured").values_list("pk", flat=True)
    }
    settlement.settle()
    assert budgets.wallet(organization).available == 5 * NANOS - 10 * factories.ROW_NANOS


def test_a_csv_gives_the_same_as_jsonl_and_results_come_as_csv(
    client: APIClient, version: ModelVersion
) -> None:
    batch_id = upload(client, version, as_csv(7), "rows.csv", start="true").json()["id"]
    work()

    assert [line["output"]["label"] for line in results(client, batch_id)] == list("0123456")
    rows = list(csv.DictReader(io.StringIO(text(client, batch_id, "csv"))))
    assert [(row["row"], row["line"], row["id"], row["label"]) for row in rows] == [
        (str(i + 1), str(i + 2), f"r{i}", str(i)) for i in range(7)
    ]
    assert float(rows[3]["probabilities.3"]) > 0.9
    assert {row["status"] for row in rows} == {"succeeded"}


def test_files_have_a_price_of_their_own(
    client: APIClient, version: ModelVersion, organization: Organization, get: Get
) -> None:
    prices.add(model=version.model, components={"row": (20_000, 1)}, batch_discount_bps=5000)
    batch_id = upload(client, version, jsonl(6), start="true").json()["id"]
    work()

    found = get(batch_id)
    assert found["estimate"]["amount"] == "0.00006"
    assert found["estimate"]["batch_discount"] == "50"
    assert found["cost"]["amount"] == "0.00006"
    settlement.settle()
    assert budgets.wallet(organization).available == 5 * NANOS - 60_000
    hold = Hold.objects.first()
    assert hold is not None
    receipt = client.get(f"/v1/receipts/{hold.pk}").json()
    assert (receipt["source"], receipt["charged"]) == ("batch", "0.00001")
    assert (receipt["price"]["batch_discount"], receipt["price"]["amount"]) == ("50", "0.00001")
    assert all(receipt["verified"].values())


def test_invalid_rows_are_named_with_their_lines_and_nothing_runs(
    client: APIClient, version: ModelVersion, get: Get
) -> None:
    data = jsonl(3) + b'\n{"input": {"image": [1]}}\nnot json\n{"input": {}, "x": 1}\n'
    batch_id = upload(client, version, data, start="true").json()["id"]
    work()

    found = get(batch_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "invalid_rows")
    assert [(one["line"], one["row"], one["code"]) for one in found["row_errors"]] == [
        (5, 4, "invalid_shape"),
        (6, 5, "invalid_json"),
        (7, 6, "unknown_field"),
    ]
    assert not Hold.objects.exists()


def test_invalid_rows_are_skipped_and_free_if_that_is_wanted(
    client: APIClient, version: ModelVersion, get: Get
) -> None:
    data = b'{"id": "bad", "input": {"image": 1}}\n' + jsonl(5)
    batch_id = upload(client, version, data, start="true", skip_invalid="true").json()["id"]
    work()

    found = get(batch_id)
    assert found["status"] == "succeeded"
    assert (found["counts"]["succeeded"], found["counts"]["failed"]) == (5, 1)
    assert found["cost"]["amount"] == found["estimate"]["amount"] == "0.0001"
    first = results(client, batch_id)[0]
    assert (first["status"], first["error"]["code"], first["cost"]) == (
        "failed",
        "invalid_shape",
        "0",
    )


@pytest.mark.parametrize(
    ("data", "name", "status", "code"),
    [
        (b"", "rows.jsonl", 400, "empty_file"),
        (b"\x1f\x8b\x08\0", "rows.jsonl", 415, "compressed_file"),
        (b"PK\x03\x04bomb", "rows.csv", 415, "compressed_file"),
        ("a,b\n".encode("utf-16"), "rows.csv", 400, "invalid_encoding"),
        (b"a\0b", "rows.csv", 400, "invalid_encoding"),
        (b"{}", "rows.parquet", 400, "unknown_batch_format"),
    ],
)
def test_what_is_no_text_is_refused_at_once(
    client: APIClient,
    version: ModelVersion,
    settings: Any,
    data: bytes,
    name: str,
    status: int,
    code: str,
) -> None:
    answer = upload(client, version, data, name)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert not BatchFile.objects.exists()
    assert not any(settings.BATCHES.glob("*"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\n \r\n\n", "empty_file"),
        (b"image,image\n1,2\n", "duplicate_column"),
        (b"id,x\n1,2\n", "missing_column"),
        (b"image,y\n1,2\n", "unknown_column"),
        (b'image\n"[1,2\n', "invalid_csv"),
        (b"image\n" + b"9" * 3000 + b"\n", "line_too_long"),
        (b"image\n" + b"1\n" * 21, "too_many_rows"),
        (b"image\n1\n", "invalid_rows"),
        (b"\xef\xbb\xbfimage\r\n\xff\xfe\r\n", "invalid_rows"),
    ],
)
def test_what_is_wrong_with_a_csv_has_a_code(
    client: APIClient, version: ModelVersion, settings: Any, get: Get, data: bytes, code: str
) -> None:
    settings.BATCH_MAX_LINE_BYTES, settings.BATCH_MAX_ROWS = 2048, 20
    batch_id = upload(client, version, data, "rows.csv", start="1").json()["id"]
    work()

    found = get(batch_id)
    assert (found["status"], found["error"]["code"]) == ("failed", code)
    assert not Hold.objects.exists()


def test_the_most_it_may_cost_is_kept(client: APIClient, version: ModelVersion, get: Get) -> None:
    most = decimal_text(4 * factories.ROW_NANOS)
    batch_id = upload(client, version, jsonl(5), start="true", max_cost=most).json()["id"]
    work()
    found = get(batch_id)
    assert (found["status"], found["error"]["code"]) == ("ready", "max_cost_exceeded")

    refused = client.post(f"/v1/batches/{batch_id}/start")
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "max_cost_exceeded")
    assert (
        client.post(f"/v1/batches/{batch_id}/start", {"max_cost": "1"}, format="json").json()[
            "status"
        ]
        == "processing"
    )


def test_a_higher_price_is_shown_before_anything_runs_by_it(
    client: APIClient, version: ModelVersion, get: Get
) -> None:
    batch_id = upload(client, version, jsonl(3)).json()["id"]
    work()
    prices.add(model=version.model, components={"row": (30_000, 1)})
    versions._cache.clear()

    refused = client.post(f"/v1/batches/{batch_id}/start")

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "batch_price_changed")
    assert get(batch_id)["estimate"]["amount"] == "0.00009"
    client.post(f"/v1/batches/{batch_id}/start")
    work()
    assert get(batch_id)["cost"]["amount"] == "0.00009"


def test_a_price_per_byte_is_estimated_row_by_row_and_again_when_it_changes(
    client: APIClient, version: ModelVersion, get: Get
) -> None:
    prices.add(model=version.model, components={"byte": (3, 7)})
    data = jsonl(6)
    batch_id = upload(client, version, data).json()["id"]
    work()
    expected = sum((2 * 3 * len(line) + 7) // 14 for line in data.splitlines(keepends=True))
    assert get(batch_id)["estimate"]["amount"] == decimal_text(expected)
    prices.add(model=version.model, components={"byte": (2, 7)})
    versions._cache.clear()

    assert client.post(f"/v1/batches/{batch_id}/start").status_code == 409
    work()
    client.post(f"/v1/batches/{batch_id}/start")
    work()

    cheaper = sum((2 * 2 * len(line) + 7) // 14 for line in data.splitlines(keepends=True))
    found = get(batch_id)
    assert found["status"] == "succeeded"
    assert found["cost"]["amount"] == found["estimate"]["amount"] == decimal_text(cheaper)


def test_the_same_key_and_file_give_the_same_batch(
    client: APIClient, version: ModelVersion, settings: Any
) -> None:
    key = {"Idempotency-Key": "one"}
    first = upload(client, version, jsonl(2), headers=key)
    again = upload(client, version, jsonl(2), headers=key)
    other = upload(client, version, jsonl(3), headers=key)

    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert len(list(settings.BATCHES.iterdir())) == 1


def test_a_batch_file_of_somebody_else_is_not_there(
    client: APIClient, version: ModelVersion
) -> None:
    batch_id = upload(client, version, jsonl(2)).json()["id"]
    other = keyed(factories.make_organization())

    for method, path in [
        ("get", ""),
        ("delete", ""),
        ("post", "/start"),
        ("post", "/cancel"),
        ("get", "/results"),
        ("get", "/events"),
    ]:
        assert getattr(other, method)(f"/v1/batches/{batch_id}{path}").status_code == 404
    assert other.get("/v1/batches").json()["data"] == []


def test_a_key_that_only_reads_starts_nothing(
    organization: Organization, version: ModelVersion
) -> None:
    reader = keyed(organization, scopes=["read"])

    assert upload(reader, version, jsonl(1)).status_code == 403
    assert reader.get("/v1/batches").status_code == 200


def test_cancel_twice_is_fine_and_what_is_done_stays(
    client: APIClient, version: ModelVersion, get: Get
) -> None:
    batch_id = upload(client, version, jsonl(12), start="true").json()["id"]
    while checking.check_next("w"):
        pass
    running.run_next("w", lambda: False)

    for _ in range(2):
        answer = client.post(f"/v1/batches/{batch_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    work()

    assert len(results(client, batch_id)) == 4
    assert UsageEvent.objects.count() == 4
    assert client.post(f"/v1/batches/{batch_id}/start").status_code == 409


def test_only_what_has_ended_is_deleted_and_then_its_files_are_gone(
    client: APIClient, version: ModelVersion, settings: Any
) -> None:
    batch_id = upload(client, version, jsonl(2), start="true").json()["id"]
    assert client.delete(f"/v1/batches/{batch_id}").status_code == 409
    work()

    assert client.delete(f"/v1/batches/{batch_id}").status_code == 204

    assert client.get(f"/v1/batches/{batch_id}").status_code == 404
    assert not any(settings.BATCHES.iterdir())
    assert UsageEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "multipart/form-data; boundary=x", 400),
        (b"\xff\0garbage", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 400),
        (b"--x", "multipart/form-data", 400),
        (b"{}", "application/json", 415),
        (b"a,b", "text/csv", 415),
    ],
)
def test_a_body_that_is_no_form_is_refused(
    client: APIClient, db: None, body: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/v1/batches", data=body, content_type=content_type)

    assert answer.status_code == status
    assert answer.json()["error"]["code"]


@settings_(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.binary(max_size=300), is_csv=st.booleans())
def test_random_files_are_taken_or_refused_and_never_a_failure_of_ours(
    client: APIClient, version: ModelVersion, get: Get, data: bytes, is_csv: bool
) -> None:
    answer = upload(client, version, data, "rows.csv" if is_csv else "rows.jsonl", start="true")
    if answer.status_code != 201:
        assert answer.status_code in {400, 415}
        return
    work()

    found = get(answer.json()["id"])
    assert found["status"] in {"succeeded", "failed"}
    assert client.delete(f"/v1/batches/{found['id']}").status_code == 204


def test_a_field_that_does_not_exist_is_refused(client: APIClient, version: ModelVersion) -> None:
    answer = upload(client, version, jsonl(1), colour="red")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "colour")


def test_where_the_time_of_each_row_went_is_kept(
    client: APIClient, version: ModelVersion, counts: None
) -> None:
    upload(client, version, jsonl(6), start="true")
    work()
    with CaptureQueriesContext(connection) as captured:
        Flusher("unit", keep=traces.keep).flush()

    assert len([each for each in captured if "calltrace" in each["sql"]]) == 1
    for hold in Hold.objects.all():
        found = client.get(f"/v1/traces/{hold.pk}").json()
        assert [stage["name"] for stage in found["stages"]] == ["queue", "run", "capture"]
    # In chunks of four rows.
    assert found["batch_requests"] in {2, 4}

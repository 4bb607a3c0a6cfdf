"""Files of texts: embedded, or continued row by row; each row is paid for by its tokens."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Organization
from billing import budgets, settlement
from billing.models import Hold, UsageEvent
from billing.money import NANOS, decimal_text
from catalog import prices
from catalog.models import ModelVersion
from inference import loading, versions
from inference.batch_files import checking, leases, orders, running
from inference.generation import steps
from inference.models import BatchFile
from inference.runtime.cache import ModelCache
from tests.inference.batch_files.conftest import WORKER, Get, results, text, upload, work
from tests.inference.batch_files.test_crashes import POINTS, Die, die_at, run_to_death
from tests.inference.embedders import LONGEST, TOKEN_NANOS, WIDTH, make_embedder
from tests.inference.writers import INPUT_NANOS, OUTPUT_NANOS, cost, make_writer

__all__ = ["die_at"]
pytestmark = pytest.mark.usefixtures("books", "small_chunks")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    # Ids come again after each test; a process of its own would know nothing of them.
    monkeypatch.setattr(loading, "sessions", ModelCache(settings.MODEL_CACHE_BYTES))
    monkeypatch.setattr(loading, "_failures", {})


@pytest.fixture
def embedder(db: None) -> ModelVersion:
    """A model with a price per token."""
    return make_embedder()


@pytest.fixture
def writer(db: None) -> ModelVersion:
    """A model with a price per character, read and written."""
    return make_writer()


def lines(*inputs: Any) -> bytes:
    return b"".join(
        json.dumps({"id": f"r{i}", "input": value}).encode() + b"\n"
        for i, value in enumerate(inputs)
    )


def table(columns: str, *rows: list[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([columns.split(","), *rows])
    return buffer.getvalue().encode()


def spent(organization: Organization) -> int:
    settlement.settle()
    wallet = budgets.wallet(organization)
    assert wallet.held == 0
    return 5 * NANOS - wallet.available


def test_texts_are_embedded_for_the_tokens_of_each_row(
    client: APIClient, embedder: ModelVersion, organization: Organization, get: Get
) -> None:
    data = lines({"text": "good"}, {"text": "good morning"}, {"text": ["night"]})
    batch_id = upload(client, embedder, data).json()["id"]
    work()
    assert get(batch_id)["estimate"]["amount"] == decimal_text((3 + 4 + 3) * TOKEN_NANOS)
    client.post(f"/v1/batches/{batch_id}/start")
    work()

    done = get(batch_id)
    assert (done["status"], done["cost"]["amount"]) == ("succeeded", done["estimate"]["amount"])
    found = results(client, batch_id)
    assert [len(line["output"]["embedding"]) for line in found] == [WIDTH] * 3
    assert [line["units"] for line in found] == [
        {"row": 1, "input_token": tokens} for tokens in (3, 4, 3)
    ]
    assert sorted(UsageEvent.objects.values_list("input_tokens", "rows")) == [
        (3, 1),
        (3, 1),
        (4, 1),
    ]
    assert spent(organization) == 10 * TOKEN_NANOS
    receipt = client.get(f"/v1/receipts/{found[1]['hold']}").json()
    assert (receipt["source"], receipt["charged"]) == ("batch", decimal_text(4 * TOKEN_NANOS))
    assert all(receipt["verified"].values())


def test_a_table_of_texts_is_read_as_it_is_and_gives_a_table(
    client: APIClient, embedder: ModelVersion
) -> None:
    data = table("id,text", ["a", "[good] morning"], ["b", 'good, "night"\nmorning'])
    batch_id = upload(client, embedder, data, "texts.csv", start="true").json()["id"]
    work()

    rows = list(csv.DictReader(io.StringIO(text(client, batch_id, "csv"))))
    assert [(row["id"], row["status"], row["line"]) for row in rows] == [
        ("a", "succeeded", "2"),
        ("b", "succeeded", "3"),
    ]
    assert [row["input_token"] for row in rows] == ["6", "8"]
    assert float(rows[0][f"embedding.{WIDTH - 1}"])


def test_texts_that_cannot_be_read_are_named_and_nothing_runs(
    client: APIClient, embedder: ModelVersion, get: Get
) -> None:
    data = lines(
        {"text": "good"},
        {"text": ""},
        {"text": "good " * LONGEST},
        {"text": ["a", "b"]},
        {"text": 7},
    )
    batch_id = upload(client, embedder, data, start="true").json()["id"]
    work()

    found = get(batch_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "invalid_rows")
    assert [(error["line"], error["code"]) for error in found["row_errors"]] == [
        (2, "invalid_type"),
        (3, "context_length_exceeded"),
        (4, "too_many_rows"),
        (5, "invalid_type"),
    ]
    assert not Hold.objects.exists()


def test_texts_are_written_held_for_the_longest_and_charged_for_what_was_used(
    client: APIClient, writer: ModelVersion, organization: Organization, get: Get
) -> None:
    first = upload(
        client, writer, lines({"prompt": "Once", "max_tokens": 30, "seed": 3}), start="true"
    )
    work()
    whole = results(client, first.json()["id"])[0]["output"]
    data = lines(
        {"prompt": "Once", "max_tokens": 30, "seed": 3},
        {"prompt": "Once", "max_tokens": 30, "seed": 3, "stop": [whole["completion"][4]]},
        {"prompt": "Twice upon", "max_tokens": 12, "temperature": 0, "top_p": 0.9},
        {"prompt": ""},
    )
    batch_id = upload(client, writer, data).json()["id"]
    work()
    most = 2 * cost("Once", 30) + cost("Twice upon", 12) + cost("\n", 256)
    assert get(batch_id)["estimate"]["amount"] == decimal_text(most)

    client.post(f"/v1/batches/{batch_id}/start")
    work()

    done, found = get(batch_id), results(client, batch_id)
    assert (done["status"], done["counts"]["succeeded"]) == ("succeeded", 4)
    assert found[0]["output"] == whole
    assert found[1]["output"]["finish_reason"] == "stop"
    assert whole["completion"].startswith(found[1]["output"]["completion"])
    written = [line["units"]["output_token"] for line in found]
    assert written[0] == 30
    assert written[1] <= 5
    assert written[2:] == [12, 256]
    assert [len(line["output"]["completion"]) for line in found] == [
        30,
        written[1] - 1,
        12,
        256,
    ]
    paid = [cost("Once", 30), cost("Once", written[1]), cost("Twice upon", 12), cost("\n", 256)]
    assert [line["cost"] for line in found] == [decimal_text(each) for each in paid]
    assert done["cost"]["amount"] == decimal_text(sum(paid))
    assert Hold.objects.get(pk=found[1]["hold"]).reserved_nanos == cost("Once", 30)
    assert spent(organization) == cost("Once", 30) + sum(paid)
    receipt = client.get(f"/v1/receipts/{found[1]['hold']}").json()
    assert (receipt["charged"], receipt["reserved"]) == (
        decimal_text(paid[1]),
        decimal_text(cost("Once", 30)),
    )
    assert all(receipt["verified"].values())


def test_a_table_of_prompts_has_a_column_per_option(
    client: APIClient, writer: ModelVersion
) -> None:
    data = table(
        "id,prompt,max_tokens,temperature,seed,stop",
        ["a", "[Once]", "9", "0.5", "1", ""],
        ["b", "=1+1", "", "", "", "zzz"],
        ["c", "Once", "9", "", "1", '["yyy", "zzz"]'],
    )
    batch_id = upload(client, writer, data, "prompts.csv", start="true").json()["id"]
    work()

    rows = list(csv.DictReader(io.StringIO(text(client, batch_id, "csv"))))
    assert [row["status"] for row in rows] == ["succeeded"] * 3
    assert [(row["input_token"], row["output_token"]) for row in rows] == [
        ("6", "9"),
        ("4", "256"),
        ("4", "9"),
    ]
    assert {row["finish_reason"] for row in rows} == {"length"}


def test_a_spreadsheet_takes_no_text_for_a_formula(client: APIClient, writer: ModelVersion) -> None:
    options = {"prompt": "1", "max_tokens": 1, "temperature": 2}
    data = lines(*({**options, "seed": seed} for seed in range(60)))
    batch_id = upload(client, writer, data, start="true").json()["id"]
    work()

    whole = [line["output"]["completion"] for line in results(client, batch_id)]
    cells = [
        row["completion"] for row in csv.DictReader(io.StringIO(text(client, batch_id, "csv")))
    ]
    assert any(each[0] in "=+-@" for each in whole)
    assert cells == [f"'{each}" if each[0] in "=+-@" else each for each in whole]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("text", "missing_column"),
        ("prompt,n", "unknown_column"),
        ("prompt,seed,seed", "duplicate_column"),
    ],
)
def test_columns_that_do_not_fit_refuse_the_file(
    client: APIClient, writer: ModelVersion, get: Get, header: str, code: str
) -> None:
    data = table(header, ["a"] * len(header.split(",")))
    batch_id = upload(client, writer, data, "prompts.csv", start="true").json()["id"]
    work()

    assert get(batch_id)["error"]["code"] == code


def test_options_that_do_not_fit_are_named_by_line(
    client: APIClient, writer: ModelVersion, get: Get
) -> None:
    data = table(
        "prompt,max_tokens,temperature,stop",
        ["a", "9", "0.5", ""],
        ["a", "x", "", ""],
        ["a", "9999", "", ""],
        ["a", "", "3", ""],
        ["a", "", "", "[1"],
        ["a", "1.5", "", ""],
    )
    batch_id = upload(
        client, writer, data, "prompts.csv", skip_invalid="true", start="true"
    ).json()["id"]
    work()

    found = get(batch_id)
    assert (found["status"], found["counts"]["succeeded"]) == ("succeeded", 1)
    assert [(error["line"], error["code"], error["param"]) for error in found["row_errors"]] == [
        (3, "invalid_type", "input.max_tokens"),
        (4, "context_length_exceeded", "input.max_tokens"),
        (5, "invalid_request", "input.temperature"),
        (6, "invalid_type", "input.stop"),
        (7, "invalid_request", "input.max_tokens"),
    ]
    assert UsageEvent.objects.count() == 1


def test_when_the_price_rises_the_file_is_estimated_anew(
    client: APIClient, writer: ModelVersion, get: Get
) -> None:
    batch_id = upload(client, writer, lines({"prompt": "Once", "max_tokens": 10})).json()["id"]
    work()
    prices.add(
        model=writer.model,
        components={"input_token": (INPUT_NANOS, 1), "output_token": (2 * OUTPUT_NANOS, 1)},
    )
    versions._cache.clear()

    refused = client.post(f"/v1/batches/{batch_id}/start")
    work()

    assert refused.json()["error"]["code"] == "batch_price_changed"
    assert get(batch_id)["estimate"]["amount"] == decimal_text(cost("Once", 20))
    assert not Hold.objects.exists()


@pytest.mark.parametrize("name", POINTS)
def test_a_worker_that_dies_loses_no_text_and_charges_none_twice(
    client: APIClient,
    writer: ModelVersion,
    organization: Organization,
    get: Get,
    die_at: Die,
    name: str,
) -> None:
    """Rows without a seed have one of their own: written again they are the same."""
    data = lines(*({"prompt": "Once", "max_tokens": 5 + i} for i in range(10)))
    whole = upload(client, writer, data, start="true").json()["id"]
    work()
    batch_id = upload(client, writer, data, start="true").json()["id"]
    while checking.check_next(WORKER):
        pass
    die_at(name)
    run_to_death()
    leases.sweep()
    work()

    assert get(batch_id)["counts"]["succeeded"] == 10
    found = results(client, batch_id)
    assert [line["units"]["output_token"] for line in found] == list(range(5, 15))
    assert len({line["output"]["completion"][:5] for line in found}) > 1
    assert UsageEvent.objects.count() == 20
    paid = sum(cost("Once", 5 + i) for i in range(10))
    assert get(whole)["cost"] == get(batch_id)["cost"]
    assert spent(organization) == 2 * paid


def test_a_row_without_a_seed_is_the_same_when_it_is_written_again(
    client: APIClient, writer: ModelVersion, monkeypatch: pytest.MonkeyPatch, die_at: Die
) -> None:
    seen: list[list[str]] = []
    lines_of = running._lines

    def note(lease: Any, entries: Any) -> Any:
        seen.append([entry.output["completion"] for entry in entries])
        return lines_of(lease, entries)

    monkeypatch.setattr(running, "_lines", note)
    data = lines({"prompt": "Once"}, {"prompt": "Once"})
    upload(client, writer, data, start="true")
    checking.check_next(WORKER)
    die_at("batch_file.written")
    run_to_death()
    leases.sweep()
    work()

    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]


def test_a_worker_that_is_to_stop_gives_its_texts_back_at_once(
    client: APIClient, writer: ModelVersion, organization: Organization, get: Get
) -> None:
    batch_id = upload(
        client, writer, lines({"prompt": "a", "max_tokens": 3000}), start="true"
    ).json()["id"]
    while checking.check_next(WORKER):
        pass
    asked: list[bool] = []

    def is_stopping() -> bool:
        asked.append(True)
        return len(asked) > 1

    assert running.run_next(WORKER, is_stopping)
    assert get(batch_id)["counts"]["done"] == 0
    assert set(Hold.objects.values_list("state", "failure")) == {("voided", "not_run")}

    work()
    assert get(batch_id)["status"] == "succeeded"
    assert spent(organization) == cost("a", 3000)


def test_a_file_that_is_canceled_while_a_text_is_written_is_not_charged_for_it(
    client: APIClient,
    writer: ModelVersion,
    organization: Organization,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "_RENEW_SECONDS", 0.0)
    monkeypatch.setattr(steps, "_SLICE_SECONDS", 0.0)
    batch_id = upload(
        client, writer, lines({"prompt": "a", "max_tokens": 3000}), start="true"
    ).json()["id"]
    while checking.check_next(WORKER):
        pass
    asked: list[bool] = []

    def cancel() -> bool:
        asked.append(True)
        if len(asked) == 2:
            orders.cancel(BatchFile.objects.get(pk=batch_id))
        return False

    running.run_next(WORKER, cancel)

    assert len(asked) < 10
    assert not UsageEvent.objects.exists()
    assert results(client, batch_id) == []
    assert spent(organization) == 0

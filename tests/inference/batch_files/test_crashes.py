"""A worker that dies between any two lines loses no row and charges none twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from rest_framework.test import APIClient

from accounts.models import Organization
from billing import budgets, crashes, credit, settlement
from billing.models import Hold, UsageEvent, UsageOrphan
from billing.money import NANOS
from catalog.models import ModelVersion
from inference import loading
from inference.batch_files import checking, leases, running, store
from inference.batch_files.leases import LeaseLostError
from inference.models import BatchChunk, BatchFile, Placement
from inference.runtime import batches
from tests import factories
from tests.inference.batch_files.conftest import (
    WORKER,
    Get,
    as_csv,
    jsonl,
    keyed,
    results,
    upload,
    work,
)
from tests.inference.watched import counted, counts

__all__ = ["counts"]
pytestmark = pytest.mark.usefixtures("books", "small_chunks")
POINTS = (
    *("batch_file.claimed", "batch_file.reserved", "batch_file.computed"),
    *("batch_file.written", "batch_file.charged", "batch_file.finished"),
)
Die = Callable[[str], None]


class DiedError(Exception):
    """The process is gone."""


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Die:
    """Let the worker die at a point, once."""

    def arm(name: str) -> None:
        def point(reached: str) -> None:
            if reached == name:
                monkeypatch.setattr(crashes, "point", lambda _: None)
                raise DiedError

        monkeypatch.setattr(crashes, "point", point)

    return arm


def run_all() -> None:
    while running.run_next("gone@host:1", lambda: False):
        pass


def run_to_death() -> None:
    with pytest.raises(DiedError):
        run_all()


def started(client: APIClient, version: ModelVersion, data: bytes, **fields: Any) -> str:
    """Upload a file and check it, but run nothing."""
    batch_id: str = upload(client, version, data, start="true", **fields).json()["id"]
    while checking.check_next(WORKER):
        pass
    return batch_id


@pytest.mark.parametrize("point", POINTS)
def test_whoever_dies_loses_nothing_and_charges_nothing_twice(
    client: APIClient,
    version: ModelVersion,
    organization: Organization,
    get: Get,
    die_at: Die,
    point: str,
) -> None:
    batch_id = started(client, version, jsonl(10))
    die_at(point)
    run_to_death()

    leases.sweep()
    work()

    assert get(batch_id)["status"] == "succeeded"
    lines = results(client, batch_id)
    assert [line["row"] for line in lines] == list(range(1, 11))
    assert {line["status"] for line in lines} == {"succeeded"}
    assert {UUID(line["hold"]) for line in lines} == set(
        UsageEvent.objects.values_list("hold_id", flat=True)
    )
    settlement.settle()
    wallet = budgets.wallet(organization)
    assert (wallet.available, wallet.held) == (5 * NANOS - 10 * factories.ROW_NANOS, 0)
    assert not Hold.objects.filter(state="authorised").exists()


def test_a_file_that_was_checked_starts_although_who_checked_it_died(
    client: APIClient, version: ModelVersion, get: Get, die_at: Die
) -> None:
    batch_id = upload(client, version, jsonl(3), start="true").data["id"]
    die_at("batch_file.ready")
    with pytest.raises(DiedError):
        work()
    assert get(batch_id)["status"] == "ready"

    leases.sweep()
    work()

    assert get(batch_id)["status"] == "succeeded"


@pytest.mark.parametrize("data", [jsonl(11), as_csv(11)], ids=["jsonl", "csv"])
def test_a_check_goes_on_where_a_dead_worker_left_it(
    client: APIClient, version: ModelVersion, get: Get, die_at: Die, data: bytes
) -> None:
    name = "rows.csv" if data.startswith(b"id,") else "rows.jsonl"
    batch_id = upload(client, version, data, name).json()["id"]
    die_at("batch_file.checked")
    with pytest.raises(DiedError):
        checking.check_next("gone@host:1")
    assert get(batch_id)["counts"]["rows"] == 4
    assert not checking.check_next(WORKER)

    leases.sweep()
    work()

    assert get(batch_id)["counts"]["rows"] == 11
    chunks = BatchChunk.objects.filter(batch=batch_id).order_by("number")
    assert [(one.number, one.first_row, one.rows) for one in chunks] == [
        (0, 1, 4),
        (1, 5, 4),
        (2, 9, 3),
    ]
    assert chunks[2].offset + chunks[2].size_bytes == len(data)


def test_a_worker_that_was_taken_for_dead_changes_nothing(
    client: APIClient,
    version: ModelVersion,
    get: Get,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch_id = started(client, version, jsonl(8))
    finish = leases.finish
    ran: list[int] = []

    def finish_late(*arguments: Any, **options: Any) -> None:
        # Everybody believes that it is dead; another worker runs the chunk before it comes back.
        monkeypatch.setattr(leases, "finish", finish)
        leases.sweep()
        running.run_next(WORKER, lambda: False)
        ran.append(get(batch_id)["counts"]["done"])
        with pytest.raises(LeaseLostError):
            finish(*arguments, **options)
        raise LeaseLostError

    monkeypatch.setattr(leases, "finish", finish_late)
    running.run_next("slow@host:1", lambda: False)

    # The file still runs: only the attempt tells the late worker from the other one.
    assert ran == [4]
    assert UsageEvent.objects.count() == 4
    assert not UsageOrphan.objects.exists()
    chunk = BatchChunk.objects.get(number=0)
    assert (chunk.state, chunk.attempt, chunk.losses) == ("done", 2, 1)
    work()
    assert [line["row"] for line in results(client, batch_id)] == list(range(1, 9))


def test_a_cancel_while_a_chunk_runs_charges_nothing_for_it(
    client: APIClient, version: ModelVersion, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = started(client, version, jsonl(4))
    write = store.write

    def write_and_cancel(*arguments: Any) -> int:
        client.post(f"/v1/batches/{batch_id}/cancel")
        return write(*arguments)

    monkeypatch.setattr(store, "write", write_and_cancel)
    running.run_next(WORKER, lambda: False)

    assert get(batch_id)["status"] == "canceled"
    assert results(client, batch_id) == []
    assert set(Hold.objects.values_list("state", flat=True)) == {"voided"}


@pytest.mark.usefixtures("counts")
def test_rows_that_kill_workers_fail_without_a_charge_and_the_others_go_on(
    client: APIClient, version: ModelVersion, get: Get, die_at: Die
) -> None:
    batch_id = started(client, version, jsonl(6))
    for _ in range(leases.MAX_LOSSES):
        die_at("batch_file.reserved")
        with pytest.raises(DiedError):
            running.run_next("gone@host:1", lambda: False)
        leases.sweep()
    work()

    found = get(batch_id)
    assert (found["status"], found["cost"]["amount"]) == ("succeeded", "0.00004")
    codes = [line["error"] and line["error"]["code"] for line in results(client, batch_id)]
    assert codes == ["worker_lost"] * 4 + [None] * 2
    # Once each, however often they were tried.
    ends = {"model": version.model.path, "kind": "batch"}
    assert counted().value("mercato_calls_total", **ends, outcome="worker_lost") == 4


@pytest.mark.usefixtures("counts")
def test_a_poison_row_fails_alone_and_is_charged_by_the_outcome_policy(
    client: APIClient, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = factories.make_version(outcome_policy={"model_error": 50})
    session = loading.session_of(version.pk)

    class Poisoned:
        def run(self, arrays: Any) -> Any:
            if arrays["image"][:, 0].any():
                raise ValueError("poison")
            return session.run(arrays)

    @contextmanager
    def using(_: int) -> Iterator[Poisoned]:
        yield Poisoned()

    monkeypatch.setattr(loading, "using", using)
    batch_id = started(client, version, jsonl(2) + jsonl(2, digit=1) + jsonl(2, digit=9))
    poisoned = [i for i, digit in enumerate([0, 1, 1, 1, 9, 9]) if digit == 0]
    work()

    lines = results(client, batch_id)
    failed = [i for i, line in enumerate(lines) if line["status"] == "failed"]
    assert failed == poisoned
    assert (lines[0]["error"]["code"], lines[0]["cost"]) == ("model_error", "0.00001")
    assert get(batch_id)["cost"]["amount"] == "0.00011"
    found, path = counted(), version.model.path
    ends = {
        labels["outcome"]: found.value("mercato_calls_total", **labels)
        for labels in found.labels("mercato_calls_total")
        if (labels["model"], labels["kind"]) == (path, "batch")
    }
    # A row is a call, whoever sent it with how many others.
    assert ends == {"succeeded": 5, "model_error": 1}
    assert found.value("mercato_rows_total", model=path, kind="batch") == 5
    worker, name = WORKER.partition(":")[0], "mercato_worker_requests_total"
    assert found.value(name, worker=worker, outcome="succeeded") == 5


def test_without_money_it_waits_and_goes_on_when_there_is_some(
    version: ModelVersion, get: Get, client: APIClient, organization: Organization
) -> None:
    poor = factories.make_organization(credit_nanos=6 * factories.ROW_NANOS)
    mine = keyed(poor)
    batch_id = started(mine, version, jsonl(10))
    work()

    found = mine.get(f"/v1/batches/{batch_id}").json()
    assert (found["status"], found["error"]["code"]) == ("paused", "insufficient_credit")
    assert found["counts"]["done"] == 4
    assert len(results(mine, batch_id)) == 4
    credit.grant(poor, NANOS, external_ref="more", reason="test")
    assert mine.post(f"/v1/batches/{batch_id}/start").json()["status"] == "paused"
    work()

    found = mine.get(f"/v1/batches/{batch_id}").json()
    assert (found["status"], found["error"], found["counts"]["succeeded"]) == (
        "succeeded",
        None,
        10,
    )
    settlement.settle()
    assert budgets.wallet(poor).available == NANOS - 4 * factories.ROW_NANOS


def test_without_money_it_fails_if_that_was_chosen(version: ModelVersion) -> None:
    poor = factories.make_organization(credit_nanos=6 * factories.ROW_NANOS)
    mine = keyed(poor)
    batch_id = started(mine, version, jsonl(10), when_refused="fail")
    work()

    found = mine.get(f"/v1/batches/{batch_id}").json()
    assert (found["status"], found["error"]["code"]) == ("failed", "insufficient_credit")
    assert len(results(mine, batch_id)) == 4


def test_a_model_that_cannot_be_loaded_pauses_the_file(
    client: APIClient, version: ModelVersion, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = started(client, version, jsonl(2))
    with monkeypatch.context() as patched:

        def broken(_: int) -> None:
            raise OSError("damaged")

        patched.setattr(loading, "session_of", broken)
        work()
    found = get(batch_id)
    assert (found["status"], found["error"]["code"]) == ("paused", "not_loaded")
    assert found["retry_at"] is not None

    client.post(f"/v1/batches/{batch_id}/start")
    work()

    assert get(batch_id)["status"] == "succeeded"


def test_a_revoked_key_ends_what_it_started(
    client: APIClient, version: ModelVersion, organization: Organization, get: Get
) -> None:
    batch_id = started(client, version, jsonl(6))
    running.run_next(WORKER, lambda: False)
    other = BatchFile.objects.get(pk=batch_id).api_key
    assert other is not None
    other.revoked_at = other.created_at
    other.save()
    work()

    batch = BatchFile.objects.get(pk=batch_id)
    assert (batch.status, batch.error_code) == ("failed", "key_revoked")
    assert UsageEvent.objects.count() == 4


def test_a_worker_that_is_asked_to_stop_gives_the_chunk_back(
    client: APIClient, version: ModelVersion, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = started(client, version, jsonl(4))
    monkeypatch.setattr(running, "PIECE_ROWS", 2)
    asked = iter([False, True])
    pieces: list[int] = []
    run = batches.run

    def counted(session: Any, arrays: Any, rows: list[int]) -> Any:
        pieces.append(len(rows))
        return run(session, arrays, rows)

    monkeypatch.setattr(batches, "run", counted)
    running.run_next(WORKER, lambda: next(asked))

    chunk = BatchChunk.objects.get()
    assert (pieces, chunk.state, chunk.losses) == ([2], "waiting", 0)
    assert not Hold.objects.filter(state="authorised").exists()
    work()
    assert get(batch_id)["status"] == "succeeded"


def test_a_worker_leaves_versions_to_others_that_need_more_than_it_has(
    client: APIClient, version: ModelVersion, get: Get
) -> None:
    Placement.objects.create(version=version, labels={"gpu": "1"})
    batch_id = started(client, version, jsonl(2))

    assert not running.run_next(WORKER, lambda: False, {"gpu": "0"})
    assert running.run_next(WORKER, lambda: False, {"gpu": "1", "cpu": "2"})

    assert get(batch_id)["status"] == "succeeded"


def test_what_is_not_kept_any_longer_is_removed(
    client: APIClient, version: ModelVersion, settings: Any
) -> None:
    done = started(client, version, jsonl(2))
    work()
    never = upload(client, version, jsonl(2)).json()["id"]
    work()
    yesterday = datetime.now(UTC) - timedelta(days=1)
    BatchFile.objects.update(expires_at=yesterday)

    assert leases.forget() == 1
    assert not BatchFile.objects.filter(pk=done).exists()
    assert BatchFile.objects.get(pk=never).error_code == "expired"
    BatchFile.objects.update(expires_at=yesterday)
    assert leases.forget() == 1
    assert not any(settings.BATCHES.iterdir())

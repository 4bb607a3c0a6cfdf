"""Texts that are embedded or written later: held for the most, charged for what was used, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from accounts.models import Organization
from billing import budgets, settlement
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog.models import ModelVersion
from inference import registry
from inference.asynchronous import (
    announcing,
    choosing,
    claims,
    endings,
    running,
    snapshots,
    writing,
)
from inference.asynchronous.claims import Claim
from inference.batch_files import giving_way
from inference.generation import steps
from inference.models import Prediction, WebhookDelivery
from inference.registry import Member
from tests.inference.asynchronous.conftest import Accept
from tests.inference.asynchronous.test_announcing import listen
from tests.inference.asynchronous.test_crashes import DiedError, die_at, lose, recover
from tests.inference.embedders import LONGEST, TOKEN_NANOS, WIDTH, make_embedder
from tests.inference.writers import cost, make_writer

ORDER = {"prompt": "Once", "max_tokens": 40, "temperature": 0.5}
DEATHS = ("async.claimed", "async.begun", "async.stored_ends", "capture.used", "async.finished")
Write = Callable[..., Prediction]


@pytest.fixture
def writer() -> ModelVersion:
    return make_writer()


@pytest.fixture
def write(accept: Accept, writer: ModelVersion) -> Write:
    """Accept a text: forty characters after "Once" unless another input is given."""

    def make(**fields: Any) -> Prediction:
        return accept(version=writer, value={**ORDER, **fields})

    return make


def run_all() -> None:
    while running.run_next("w1"):
        pass


def told(prediction: Prediction) -> dict[str, Any]:
    return snapshots.as_json(Prediction.objects.with_version().get(pk=prediction.pk))


def spent(organization: Organization) -> int:
    settlement.settle()
    wallet = budgets.wallet(organization)
    assert wallet.held == 0
    return 5 * NANOS - wallet.available


def test_texts_are_embedded_for_the_tokens_that_they_have(
    accept: Accept, organization: Organization
) -> None:
    version = make_embedder()
    one = accept(version=version, value={"text": "good night"})
    many = accept(version=version, value={"text": ["good", "morning morning"]})
    assert budgets.wallet(organization).held == (4 + 3 + 4) * TOKEN_NANOS

    run_all()

    first, second = told(one), told(many)
    assert (first["status"], second["status"]) == ("succeeded", "succeeded")
    assert len(first["output"]["embedding"]) == WIDTH
    assert [len(row["embedding"]) for row in second["output"]] == [WIDTH, WIDTH]
    assert first["cost"]["units"] == {"row": 1, "input_token": 4}
    assert second["cost"]["units"] == {"row": 2, "input_token": 7}
    assert sorted(UsageEvent.objects.values_list("input_tokens", "rows")) == [(4, 1), (7, 2)]
    assert spent(organization) == 11 * TOKEN_NANOS


def test_a_text_is_held_for_its_longest_and_charged_for_what_was_written(
    write: Write, organization: Organization
) -> None:
    whole = write(seed=1)
    run_all()
    # A text that ends early: at the third character of the first one.
    stop = told(whole)["output"]["completion"][2]
    short = write(seed=1, stop=stop)
    hold = Hold.objects.get(pk=short.hold_id)
    assert hold.reserved_nanos == cost("Once", 40)

    run_all()

    first, second = told(whole), told(short)
    assert first["output"]["finish_reason"] == "length"
    assert len(first["output"]["completion"]) == 40
    assert first["cost"]["units"] == {"row": 1, "input_token": 4, "output_token": 40}
    assert second["output"]["finish_reason"] == "stop"
    written = second["cost"]["units"]["output_token"]
    assert second["output"]["completion"] == first["output"]["completion"][: written - 1]
    assert written <= 3
    assert first["input"] == {**ORDER, "seed": 1}
    assert spent(organization) == cost("Once", 40) + cost("Once", written)


def test_a_text_of_one_character_has_one(write: Write, organization: Organization) -> None:
    one = write(max_tokens=1)

    run_all()

    assert len(told(one)["output"]["completion"]) == 1
    assert told(one)["cost"]["units"]["output_token"] == 1
    assert spent(organization) == cost("Once", 1)


@pytest.mark.parametrize("name", DEATHS)
def test_a_worker_that_dies_loses_no_text_and_charges_none_twice(
    write: Write, organization: Organization, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = write(seed=7)
    run_all()
    rows = [write(seed=7), write()]
    with monkeypatch.context() as patched:
        die_at(patched, name)
        with pytest.raises(DiedError):
            running.run_next("w1")

    recover()

    assert told(rows[0])["output"] == told(before)["output"]
    assert [told(one)["status"] for one in rows] == ["succeeded", "succeeded"]
    assert spent(organization) == 3 * cost("Once", 40)
    assert UsageEvent.objects.count() == 3


def test_a_text_without_a_seed_is_the_same_when_it_is_written_again(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    one = write()
    ran = writing._ran

    def note(*given: Any) -> Any:
        texts.append(given[1].written)
        return ran(*given)

    monkeypatch.setattr(writing, "_ran", note)
    with monkeypatch.context() as patched:
        die_at(patched, "async.finished")
        with pytest.raises(DiedError):
            running.run_next("w1")

    recover()

    assert len(texts) == 2
    assert texts[0] == texts[1] == told(one)["output"]["completion"]


def test_a_worker_that_is_to_stop_gives_its_texts_back(
    write: Write, organization: Organization
) -> None:
    one = write(max_tokens=3000)

    assert running.run_next("w1", is_stopping=lambda: True)

    row = Prediction.objects.get()
    assert (row.status, row.lease_owner, row.output_tokens) == ("queued", "", 0)
    run_all()
    assert told(one)["cost"]["units"]["output_token"] == 3000
    assert spent(organization) == cost("Once", 3000)


def test_what_is_canceled_costs_what_was_written_by_then(
    write: Write, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy of this model charges for texts that are canceled."""
    tell_each_step(monkeypatch)
    canceled, kept = write(max_tokens=3000), write(max_tokens=60)
    looks = 0

    def cancel() -> bool:
        nonlocal looks
        looks += 1
        if looks == 10:
            assert endings.cancel(Prediction.objects.get(pk=canceled.pk))
        return False

    running.run_next("w1", is_stopping=cancel)

    found = told(canceled)
    written = found["cost"]["units"]["output_token"]
    assert (found["status"], found["output"]) == ("canceled", None)
    assert written == 10
    # It is not written on: the other one's end is the end.
    assert looks < 100
    assert told(kept)["status"] == "succeeded"
    assert spent(organization) == cost("Once", written) + cost("Once", 60)
    assert sorted(UsageEvent.objects.values_list("outcome", flat=True)) == ["canceled", "succeeded"]


def tell_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(steps, "_SLICE_SECONDS", 0.0)


def test_what_a_dead_worker_wrote_is_not_counted(
    write: Write, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_each_step(monkeypatch)
    one = write()
    looks = 0

    def die() -> bool:
        nonlocal looks
        looks += 1
        if looks == 10:
            raise DiedError
        return False

    with pytest.raises(DiedError):
        running.run_next("w1", is_stopping=die)
    assert Prediction.objects.get().output_tokens
    lose()

    assert endings.cancel(Prediction.objects.get())

    assert told(one)["cost"]["units"] == {"row": 1, "input_token": 4, "output_token": 0}
    assert spent(organization) == 0


def test_what_is_canceled_before_its_first_character_is_free(
    write: Write, organization: Organization
) -> None:
    one = write()
    claimed = _claimed()
    claims.begin(claimed)

    assert endings.cancel(one)

    assert told(one)["error"]["code"] == "canceled"
    assert told(one)["cost"]["amount"] == "0"
    assert spent(organization) == 0
    assert Hold.objects.get().failure == "canceled"


def _claimed() -> Claim:
    found = claims.claim("w1")
    assert found is not None
    return found


def test_live_calls_go_between_groups_of_long_texts(
    accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(giving_way, "wait", lambda *given: waits.append(sum(given)))
    accept(version=make_embedder(), value={"text": ["good " * (LONGEST - 2)] * 256})

    running.run_next("w1")

    assert Prediction.objects.get().status == "succeeded"
    # Once before the batch, then before each thousand of tokens.
    assert len(waits) == 1 + 256 * LONGEST // 1024


def test_an_end_is_announced_with_its_text(write: Write, organization: Organization) -> None:
    listen(organization)
    one = write(seed=1)
    run_all()

    announcing.announce()

    data = json.loads(WebhookDelivery.objects.get().payload)["data"]
    assert data["output"] == told(one)["output"]
    assert data["cost"]["units"]["output_token"] == 40


def test_rows_do_not_wait_for_texts(write: Write, accept: Accept) -> None:
    """Each worker has a thread for the ones and one for the others."""
    text, row = write(), accept()
    member = Member("w1")

    rows = claims.claim("w1", choosing.runnable(member, texts=False))
    texts = claims.claim("w1", choosing.runnable(member, texts=True))

    assert rows is not None
    assert texts is not None
    assert [one.pk for one in rows.predictions] == [row.pk]
    assert [one.pk for one in texts.predictions] == [text.pk]
    assert choosing.runnable(Member("w1", duty=registry.DRAINED), texts=True) is None

"""Texts that run later, over HTTP with a real worker: embedded, written, canceled, killed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Organization
from billing import budgets
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog.models import ModelVersion
from inference.asynchronous import sweeping
from inference.batch_files import leases
from inference.models import Prediction
from tests import factories
from tests.inference.embedders import LONGEST, TOKEN_NANOS, make_embedder
from tests.inference.writers import cost, make_writer
from tests.live import Site

LATER = {"Prefer": "respond-async"}
# Long enough that it is under way whenever a test acts, however fast the machine is.
LONG = 120_000


@pytest.fixture
def payer(site: Site) -> Organization:
    """An organization with five dollars."""
    return factories.make_organization()


@pytest.fixture
def secret(payer: Organization) -> str:
    return factories.make_key(payer)[1]


@pytest.fixture
def writer(site: Site) -> ModelVersion:
    """A model whose texts may be long."""
    return make_writer(context=2 * LONG, hidden=256)


def ask(site: Site, secret: str, version: ModelVersion, value: Any, **headers: str) -> Any:
    body = json.dumps({"model": version.model.path, "input": value}).encode()
    return site.predict(secret, body, **(LATER | headers))


def read(site: Site, secret: str, path: str) -> dict[str, Any]:
    answer = site.client.get(path, headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ended(site: Site, secret: str, row: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """Wait for the end of a prediction; the sweep is beat's, and here the test's."""

    def is_over() -> bool:
        sweeping.sweep()
        return Prediction.objects.get(pk=row["id"]).is_ended

    site.wait_until(is_over, seconds=seconds)
    return read(site, secret, row["urls"]["get"])


def paid(site: Site, payer: Organization) -> int:
    site.settle()
    wallet = budgets.wallet(payer)
    assert wallet.held == 0
    return wallet.posted


def test_texts_are_embedded_later_as_they_are_now(
    site: Site, secret: str, payer: Organization
) -> None:
    version = make_embedder()
    value = {"text": ["good night", "good " * 3]}
    now = ask(site, secret, version, value, Prefer="").json()

    accepted = ask(site, secret, version, value, **{"Idempotency-Key": "once"})
    again = ask(site, secret, version, value, **{"Idempotency-Key": "once"})

    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
    assert again.json()["id"] == accepted.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    found = ended(site, secret, accepted.json())
    assert (found["status"], found["output"]) == ("succeeded", now["output"])
    assert found["cost"]["amount"] == now["cost"]["amount"]
    assert found["cost"]["units"] == now["cost"]["units"] == {"row": 2, "input_token": 9}
    assert paid(site, payer) == 2 * 9 * TOKEN_NANOS
    receipt = read(site, secret, found["cost"]["receipt"])
    assert all(receipt["verified"].values())


def test_a_text_is_written_later_as_it_is_now(
    site: Site, secret: str, payer: Organization, writer: ModelVersion
) -> None:
    options = {"prompt": "Once", "max_tokens": 50, "temperature": 0.7, "top_p": 0.9, "seed": 5}
    now = site.client.post(
        "/v1/completions",
        json={"model": writer.model.path, **options},
        headers={"Authorization": f"Bearer {secret}"},
    ).json()

    accepted = ask(site, secret, writer, options)
    waited = ask(site, secret, writer, options, Prefer="wait=30")

    assert (accepted.status_code, waited.status_code) == (202, 200)
    found = ended(site, secret, accepted.json())
    assert found["output"] == waited.json()["output"]
    assert found["output"] == {"completion": now["choices"][0]["text"], "finish_reason": "length"}
    assert found["cost"]["units"] == {"row": 1, "input_token": 4, "output_token": 50}
    assert Decimal(found["cost"]["amount"]) * NANOS == cost("Once", 50)
    assert waited.headers["Mercato-Cost"] == found["cost"]["amount"] == now["cost"]["amount"]
    used = UsageEvent.objects.get(hold=found["cost"]["hold"])
    assert (used.input_tokens, used.output_tokens, used.rows) == (4, 50, 1)
    assert paid(site, payer) == 3 * cost("Once", 50)
    assert all(read(site, secret, found["cost"]["receipt"])["verified"].values())


def test_an_id_of_ones_own_names_a_text_and_it_is_written_once(
    site: Site, secret: str, payer: Organization, writer: ModelVersion
) -> None:
    path = "/v1/predictions/4b6d8f1e-5a43-4c6c-9f0e-1f2a3b4c5d6e"
    body = {"model": writer.model.path, "input": {"prompt": "a", "max_tokens": 5}}
    headers = {"Authorization": f"Bearer {secret}"}

    first = site.client.put(path, json=body, headers=headers)
    again = site.client.put(path, json=body, headers=headers)

    assert (first.status_code, again.status_code) == (202, 200)
    ended(site, secret, first.json())
    assert paid(site, payer) == cost("a", 5)


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        ("Once", "invalid_type", "input"),
        ({}, "missing_input", "input.prompt"),
        ({"prompt": None}, "missing_input", "input.prompt"),
        ({"prompt": ["a"]}, "invalid_request", "input.prompt"),
        ({"prompt": "a", "best_of": 2}, "unknown_input", "input.best_of"),
        ({"prompt": "a", "max_tokens": 0}, "invalid_request", "input.max_tokens"),
        ({"prompt": "a", "max_tokens": True}, "invalid_request", "input.max_tokens"),
        ({"prompt": "a", "max_tokens": 2 * LONG}, "context_length_exceeded", "input.max_tokens"),
        ({"prompt": "a" * 2 * LONG}, "context_length_exceeded", "input.prompt"),
        ({"prompt": "a", "temperature": 3}, "invalid_request", "input.temperature"),
        ({"prompt": "a", "top_p": "1"}, "invalid_request", "input.top_p"),
        ({"prompt": "a", "seed": 1.5}, "invalid_request", "input.seed"),
        ({"prompt": "a", "stop": ["a"] * 5}, "invalid_request", "input.stop"),
        ({"prompt": "a", "stop": [""]}, "invalid_request", "input.stop"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    site: Site, secret: str, writer: ModelVersion, value: Any, code: str, param: str
) -> None:
    answer = ask(site, secret, writer, value)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert not Prediction.objects.exists()
    assert not Hold.objects.exists()


def test_what_cannot_be_embedded_or_paid_for_is_refused_at_once(
    site: Site, secret: str, writer: ModelVersion
) -> None:
    long = ask(site, secret, make_embedder(), {"text": ["good", "good " * LONGEST]})
    poor = factories.make_key(factories.make_organization(credit_nanos=cost("a", 9)))[1]
    dear = ask(site, poor, writer, {"prompt": "a", "max_tokens": 10})
    fits = ask(site, poor, writer, {"prompt": "a", "max_tokens": 9})
    ceiling = {"Mercato-Max-Cost": "0.000000903"}
    above = ask(site, secret, writer, {"prompt": "a", "max_tokens": 10}, **ceiling)
    now = ask(site, secret, writer, {"prompt": "a"}, Prefer="")

    refused = (long, dear, above, now)
    assert [(one.status_code, one.json()["error"]["code"]) for one in refused] == [
        (400, "context_length_exceeded"),
        (402, "insufficient_credit"),
        (402, "max_cost_exceeded"),
        (400, "wrong_task"),
    ]
    assert long.json()["error"]["param"] == "input.text.1"
    assert ended(site, poor, fits.json())["status"] == "succeeded"
    assert Hold.objects.count() == 1


def _written(row: dict[str, Any]) -> int:
    return Prediction.objects.get(pk=row["id"]).output_tokens or 0


def test_killing_the_worker_costs_no_text_and_charges_none_twice(
    site: Site, secret: str, payer: Organization, writer: ModelVersion
) -> None:
    """With kill -9 in the middle of a text it is written anew, the same, and charged once."""
    value = {"prompt": "Once", "max_tokens": LONG}
    row = ask(site, secret, writer, value).json()
    site.wait_until(lambda: 0 < _written(row) < LONG, seconds=60)
    site.kill("predict")
    assert not UsageEvent.objects.exists()
    site.start_worker()

    found = ended(site, secret, row, seconds=240)

    assert (found["status"], len(found["output"]["completion"])) == ("succeeded", LONG)
    assert Prediction.objects.get(pk=row["id"]).attempt == 2
    assert UsageEvent.objects.get().cost_nanos == cost("Once", LONG)
    assert paid(site, payer) == cost("Once", LONG)


def test_what_is_canceled_is_not_written_on_and_costs_what_was_written(
    site: Site, secret: str, payer: Organization, writer: ModelVersion
) -> None:
    """The policy of this model charges for texts that are canceled."""
    row = ask(site, secret, writer, {"prompt": "Once", "max_tokens": LONG}).json()
    site.wait_until(lambda: 0 < _written(row) < LONG, seconds=60)

    found = site.client.post(
        row["urls"]["cancel"], headers={"Authorization": f"Bearer {secret}"}
    ).json()

    written = found["cost"]["units"]["output_token"]
    assert (found["status"], found["output"]) == ("canceled", None)
    assert 0 < written < LONG
    assert Decimal(found["cost"]["amount"]) * NANOS == cost("Once", written)
    assert UsageEvent.objects.get().outcome == "canceled"
    assert paid(site, payer) == cost("Once", written)
    # The worker goes on with the next one: it does not write the first one to its end.
    after = ask(site, secret, writer, {"prompt": "a", "max_tokens": 3})
    assert ended(site, secret, after.json())["status"] == "succeeded"


def test_live_calls_and_rows_are_answered_while_a_long_text_is_written(
    site: Site, secret: str, payer: Organization, writer: ModelVersion
) -> None:
    other = factories.make_key(factories.make_organization())[1]
    row = ask(site, secret, writer, {"prompt": "Once", "max_tokens": LONG}).json()
    site.wait_until(lambda: _written(row) > 0, seconds=60)

    text = site.client.post(
        "/v1/completions",
        json={"model": writer.model.path, "prompt": "Twice", "max_tokens": 20},
        headers={"Authorization": f"Bearer {other}"},
    )
    digits = factories.make_version()
    now = site.predict(other, factories.body(digits, 7))
    later = site.predict(other, factories.body(digits, 3), **LATER).json()

    assert (text.status_code, now.status_code) == (200, 200)
    assert ended(site, other, later)["output"]["label"] == "3"
    assert not Prediction.objects.get(pk=row["id"]).is_ended
    cancel = site.client.post(row["urls"]["cancel"], headers={"Authorization": f"Bearer {secret}"})
    assert cancel.json()["status"] == "canceled"


def test_killing_the_worker_again_and_again_loses_no_row_of_a_file(
    site: Site, secret: str, payer: Organization, writer: ModelVersion
) -> None:
    rows, length = 256, 200
    options = {"max_tokens": length, "seed": 11}
    lines = [{"input": {"prompt": f"Row {i}", **options}} for i in range(rows)]
    headers = {"Authorization": f"Bearer {secret}"}
    batch = site.client.post(
        "/v1/batches",
        headers=headers,
        files={"file": ("prompts.jsonl", "\n".join(map(json.dumps, lines)).encode())},
        data={"model": writer.model.path, "start": "true"},
    ).json()
    path = f"/v1/batches/{batch['id']}"

    def done() -> int:
        # What beat does every three seconds.
        leases.sweep()
        found: int = read(site, secret, path)["counts"]["done"]
        return found

    for wanted in (1, rows // 2):
        site.wait_until(lambda wanted=wanted: done() >= wanted, seconds=120)  # type: ignore[misc]
        site.kill("predict")
        site.start_worker()
    site.wait_until(lambda: done() == rows, seconds=180)

    found = read(site, secret, path)
    assert (found["status"], found["counts"]["succeeded"]) == ("succeeded", rows)
    body = site.client.get(f"{path}/results", headers=headers).text
    results = [json.loads(line) for line in body.splitlines()]
    assert [line["row"] for line in results] == list(range(1, rows + 1))
    assert {line["hold"] for line in results} == {
        str(pk) for pk in UsageEvent.objects.values_list("hold_id", flat=True)
    }
    assert not Hold.objects.filter(state="authorised").exists()
    expected = sum(cost(f"Row {i}", length) for i in range(rows))
    assert Decimal(found["cost"]["amount"]) * NANOS == expected
    assert paid(site, payer) == expected
    now = site.client.post(
        "/v1/completions",
        json={"model": writer.model.path, "prompt": "Row 7", **options},
        headers=headers,
    ).json()
    assert results[7]["output"]["completion"] == now["choices"][0]["text"]

"""PUT /v1/predictions/{id} over HTTP: an id of the caller's own, used once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import httpx
import pytest

from accounts.models import Organization
from billing import budgets
from billing.ids import uuid7
from billing.models import Hold, UsageEvent
from billing.money import NANOS
from catalog.models import ModelVersion
from inference.models import Prediction
from tests import factories
from tests.live import Site

AT_ONCE = 12


@pytest.fixture
def organization(site: Site) -> Organization:
    return factories.make_organization()


@pytest.fixture
def secret(organization: Organization) -> str:
    return factories.make_key(organization)[1]


@pytest.fixture
def version(site: Site) -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def body(version: ModelVersion) -> bytes:
    return factories.body(version, 7)


def put(site: Site, secret: str, name: Any, body: bytes, **headers: str) -> httpx.Response:
    """Send a PUT over a connection of its own."""
    given = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    url = f"{site.url}/v1/predictions/{name}"
    return httpx.put(url, content=body, headers=given | headers, timeout=60)


def error_of(answer: httpx.Response) -> tuple[int, str, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"], error["message"]


@pytest.mark.parametrize("make", [uuid4, uuid7])
def test_the_same_request_is_accepted_run_and_charged_once(
    site: Site, organization: Organization, secret: str, body: bytes, make: Any
) -> None:
    chosen = make()
    site.kill("predict")

    first, again = put(site, secret, chosen, body), put(site, secret, chosen, body)

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"] == str(chosen)
    assert (first.json()["status"], again.json()["status"]) == ("queued", "queued")
    assert first.headers["Location"] == f"/v1/predictions/{chosen}"
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Preference-Applied" not in first.headers
    site.start()
    other_key = factories.make_key(organization)[1]
    done = put(site, other_key, chosen, body, Prefer="wait=60")
    assert (done.status_code, done.headers["Preference-Applied"]) == (200, "wait=60")
    assert (done.json()["status"], done.json()["output"]["label"]) == ("succeeded", "7")
    assert put(site, secret, chosen, body).json() == done.json()
    assert Hold.objects.count() == UsageEvent.objects.count() == 1
    site.settle()
    assert budgets.wallet(organization).available == 5 * NANOS - factories.ROW_NANOS


def test_an_id_that_is_used_says_nothing_of_who_uses_it(
    site: Site, organization: Organization, secret: str, version: ModelVersion, body: bytes
) -> None:
    chosen = uuid4()
    stranger = factories.make_organization()
    assert put(site, secret, chosen, body).status_code == 202

    mine = put(site, secret, chosen, factories.body(version, 8))
    theirs = put(site, factories.make_key(stranger)[1], chosen, body)

    assert mine.status_code == 422
    assert error_of(mine) == error_of(theirs)
    assert error_of(mine)[1:3] == ("idempotency_mismatch", "id")
    assert Prediction.objects.get().organization_id == organization.pk
    assert not Hold.objects.filter(organization=stranger).exists()


def test_an_id_of_a_synchronous_run_is_used_too(site: Site, secret: str, body: bytes) -> None:
    ran = site.predict(secret, body, **{"Idempotency-Key": "one"})
    assert ran.status_code == 200

    answer = put(site, secret, ran.json()["id"], body)

    assert error_of(answer)[:2] == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    "name",
    [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "8a1bd2c0-e6b5-11f1-8565-02fc00000001",
        "F646EA34-7945-45B3-9165-1E5F39FFDA48",
        "501b0275c02146979cb89e30def1498b",
        "{4be13a63-b9ac-4032-a1ac-5d2fb63906f0}",
        "urn:uuid:0c0f274b-ea5f-494b-904a-0570f5fe20f0",
        "%00",
        "order-7",
    ],
)
def test_an_id_is_a_uuid_that_nobody_guesses_written_in_one_way(
    site: Site, secret: str, body: bytes, name: str
) -> None:
    assert error_of(put(site, secret, name, body))[:3] == (400, "invalid_request", "id")
    assert not Prediction.objects.exists()


def test_what_does_not_fit_is_refused_and_the_id_stays_free(
    site: Site, secret: str, body: bytes
) -> None:
    chosen = uuid4()
    keyed = put(site, secret, chosen, body, **{"Idempotency-Key": "x"})
    assert error_of(keyed)[:3] == (400, "invalid_request", "Idempotency-Key")
    bare = put(site, secret, chosen, b"x", **{"Content-Type": "image/png"})
    assert error_of(bare)[:2] == (415, "unsupported_media_type")
    assert put(site, secret, chosen, b'{"model": "no/such", "input": 1}').status_code == 404
    assert put(site, "mk_live_no", chosen, body).status_code == 401

    assert put(site, secret, chosen, body).status_code == 202


def test_many_at_once_are_one(site: Site, secret: str, body: bytes) -> None:
    chosen, together = uuid4(), Barrier(AT_ONCE)
    site.kill("predict")

    def send(_: int) -> httpx.Response:
        together.wait()
        return put(site, secret, chosen, body)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(send, range(AT_ONCE)))

    assert sorted(one.status_code for one in answers) == [200] * (AT_ONCE - 1) + [202]
    assert {one.json()["id"] for one in answers} == {str(chosen)}
    assert Prediction.objects.count() == Hold.objects.count() == 1
    site.start()


def test_of_two_organizations_with_one_id_one_gets_it_and_the_other_pays_nothing(
    site: Site, body: bytes
) -> None:
    owners = [factories.make_organization() for _ in range(2)]
    secrets = [factories.make_key(one)[1] for one in owners]
    chosen, together = uuid7(), Barrier(AT_ONCE)
    site.kill("predict")

    def send(place: int) -> tuple[int, int]:
        together.wait()
        return place % 2, put(site, secrets[place % 2], chosen, body).status_code

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(send, range(AT_ONCE)))

    [winner] = [place for place, status in answers if status == 202]
    assert {status for place, status in answers if place != winner} == {422}
    loser = owners[1 - winner]
    assert not Hold.objects.filter(organization=loser).exists()
    assert budgets.wallet(loser).held == 0
    assert Prediction.objects.get().organization_id == owners[winner].pk
    site.start()

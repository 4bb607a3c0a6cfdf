"""/v1/trainings through the door, with a real key."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Organization
from billing.models import Hold
from tests import factories
from tests.training.conftest import keyed
from training import leases
from training.models import Job

pytestmark = pytest.mark.usefixtures("books", "rings")
Start = Callable[..., Job]
PATH = "/v1/trainings"
BODY = {"recipe": "linear-regression", "hyperparameters": {"epochs": 2}}


def post(client: APIClient, path: str, body: Any = None, **headers: str) -> Any:
    return client.post(path, body or {}, format="json", headers=headers)


def test_a_training_is_started_with_its_defaults(client: APIClient) -> None:
    answer = post(client, PATH, {"recipe": "linear-regression"})

    assert answer.status_code == 201
    body = answer.json()
    assert (body["object"], body["status"], body["data"]) == ("training", "queued", "line")
    assert body["hyperparameters"]["optimizer"] == "sgd"
    assert body["cost"]["amount"] == "0"
    assert body["cost"]["reserved"] == "0.006"
    assert answer["Location"] == f"{PATH}/{body['id']}"
    assert client.get(answer["Location"]).json() == body


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request", "recipe"),
        ({"recipe": 3}, "invalid_request", "recipe"),
        ({"recipe": "gpt"}, "invalid_recipe", "recipe"),
        ({"recipe": "mnist-mlp\0"}, "invalid_request", "recipe"),
        (BODY | {"data": "digits"}, "invalid_data", "data"),
        (BODY | {"gpu": 1}, "unknown_field", "gpu"),
        (BODY | {"hyperparameters": []}, "invalid_request", "hyperparameters"),
        (BODY | {"hyperparameters": {"x": 1}}, "unknown_field", "hyperparameters.x"),
        (
            BODY | {"hyperparameters": {"epochs": 0}},
            "invalid_hyperparameter",
            "hyperparameters.epochs",
        ),
        (
            BODY | {"hyperparameters": {"epochs": 2**80}},
            "invalid_hyperparameter",
            "hyperparameters.epochs",
        ),
        (BODY | {"publish_as": "Bad Name"}, "invalid_name", "publish_as"),
    ],
)
def test_a_bad_body_is_a_400_that_names_the_field(
    client: APIClient, body: Any, code: str, param: str | None
) -> None:
    answer = post(client, PATH, body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert not Hold.objects.exists()


def test_without_money_it_is_a_402(compute_price: None) -> None:
    poor = keyed(factories.make_organization(credit_nanos=1))

    answer = post(poor, PATH, BODY)

    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "insufficient_credit")


def test_the_same_idempotency_key_starts_one_training(client: APIClient) -> None:
    first = post(client, PATH, BODY, **{"Idempotency-Key": "k1"})
    again = post(client, PATH, BODY, **{"Idempotency-Key": "k1"})
    other = post(client, PATH, {"recipe": "mnist-mlp"}, **{"Idempotency-Key": "k1"})

    assert again.json()["id"] == first.json()["id"]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    assert Job.objects.count() == 1


def test_the_same_key_of_another_organization_is_another_training(client: APIClient) -> None:
    stranger = keyed(factories.make_organization())

    for one in (client, stranger):
        assert post(one, PATH, BODY, **{"Idempotency-Key": "k1"}).status_code == 201

    assert Job.objects.count() == 2


def test_trainings_are_listed_newest_first_without_curves(client: APIClient, start: Start) -> None:
    started = [str(start().pk) for _ in range(3)]

    first = client.get(f"{PATH}?limit=2").json()
    rest = client.get(f"{PATH}?limit=2&cursor={first['next_cursor']}").json()

    assert first["has_more"] is True
    assert rest["has_more"] is False
    assert [item["id"] for item in first["data"] + rest["data"]] == sorted(started, reverse=True)
    assert "curve" not in first["data"][0]


def test_another_tenants_training_is_not_there(client: APIClient, start: Start) -> None:
    job = start()
    stranger = keyed(factories.make_organization())

    for answer in (
        stranger.get(f"{PATH}/{job.pk}"),
        stranger.get(f"{PATH}/{job.pk}/events"),
        post(stranger, f"{PATH}/{job.pk}/cancel"),
        post(stranger, f"{PATH}/{job.pk}/publish", {"name": "mine"}),
        stranger.get(f"{PATH}/{uuid.uuid4()}"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert stranger.get(PATH).json()["data"] == []
    job.refresh_from_db()
    assert job.cancel_requested_at is None


def test_a_key_needs_the_scope(organization: Organization, start: Start) -> None:
    job = start()
    reader = keyed(organization, scopes=["read"])

    assert reader.get(PATH).status_code == 200
    for path in (PATH, f"{PATH}/{job.pk}/cancel", f"{PATH}/{job.pk}/publish"):
        assert post(reader, path, BODY).status_code == 403
    assert keyed(organization, scopes=["predict"]).get(PATH).status_code == 403
    assert APIClient().get(PATH).status_code == 401


def test_a_waiting_training_is_canceled(client: APIClient, start: Start) -> None:
    job = start()

    answer = post(client, f"{PATH}/{job.pk}/cancel")
    again = post(client, f"{PATH}/{job.pk}/cancel")

    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert again.json() == answer.json()
    assert answer.json()["cost"]["state"] == "voided"


def test_what_has_ended_cannot_be_canceled(client: APIClient, start: Start) -> None:
    job = start()
    lease = leases.claim("cpu", "worker")
    assert lease is not None
    leases.finish(lease, leases.failed("training_diverged", outcome="model_error"))

    answer = post(client, f"{PATH}/{job.pk}/cancel")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_cancelable")
    failed = client.get(f"{PATH}/{job.pk}").json()
    assert failed["error"]["code"] == "training_diverged"
    assert failed["cost"]["amount"] == "0"


def test_a_training_that_has_not_ended_cannot_be_published(client: APIClient, start: Start) -> None:
    answer = post(client, f"{PATH}/{start().pk}/publish", {"name": "mine"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_publishable")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "mine", "price": 0.1}, "price"),
        ({"name": "mine", "price": "-1"}, "price"),
        ({"name": "mine", "price": "1001"}, "price"),
        ({"name": "mine", "public": "yes"}, "public"),
        ({"name": "mine", "owner": "mercato"}, "owner"),
    ],
)
def test_a_bad_publication_is_a_400(client: APIClient, start: Start, body: Any, param: str) -> None:
    answer = post(client, f"{PATH}/{start().pk}/publish", body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_the_recipes_are_listed_with_bounds_defaults_and_estimates(client: APIClient) -> None:
    answer = client.get("/v1/training-recipes").json()

    assert [item["id"] for item in answer["data"]] == [
        "mnist-mlp",
        "mnist-cnn",
        "mnist-cnn-deep",
        "mnist-dropout",
        "digits-lstm",
        "linear-regression",
        "docs-gru",
    ]
    recipe = answer["data"][0]
    assert recipe["hyperparameters"]["epochs"] == {"low": 1, "high": 500}
    digits = recipe["data"][0]
    assert digits["defaults"]["learning_rate"] == "0.001"
    assert digits["available"] is True
    assert digits["estimate"]["seconds"] * 3 <= digits["estimate"]["max_seconds"]
    assert "Canceled" in digits["estimate"]["billing"]

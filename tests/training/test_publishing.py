"""A finished training becomes a version."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.db.models.functions import Now
from rest_framework.test import APIClient

from accounts.models import Organization
from catalog import artifacts, prices
from catalog.cards import render
from catalog.models import MLModel, ModelVersion
from catalog.publishing import ModelMismatchError
from tests.training.results import make_finished, make_result
from training import cards, estimates, folders, publishing
from training.errors import NotPublishableError
from training.models import Job
from training.recipes import RECIPES
from training.recipes.catalogue import MNIST

pytestmark = pytest.mark.django_db
# A comma, a bracket or the like that stands beside a Chinese character, or follows a bracket.
_HALF_WIDTH = re.compile(
    r"[\u3400-\u9fff（），；：。]\*{0,2}[,;:?!()]|[,;:?!()]\*{0,2}[\u3400-\u9fff（），；：。]"
)


def test_a_finished_training_is_offered_with_all_it_found(
    organization: Organization, data_folder: Path
) -> None:
    job = make_finished(organization)

    version = publishing.publish(job, "mine")

    job.refresh_from_db()
    assert job.version == version
    assert version.path == f"{organization.slug}/mine:1"
    assert version.status == ModelVersion.Status.PUBLISHED
    assert version.model.current_version == version
    assert (version.runtime, version.parameters, version.latency_us) == ("onnx", 235_146, 14)
    assert version.metrics["accuracy"] == "0.9889"
    assert version.outcome_policy["model_error"] == 0
    assert version.size_bytes == len(b"onnx")
    assert not version.model.is_public
    price = prices.current(version.model)
    assert price is not None
    assert [(c.dimension, c.amount_nanos) for c in price.components.all()] == [("row", 20_000)]


def test_the_files_are_those_that_were_made(organization: Organization, data_folder: Path) -> None:
    job = make_finished(organization)

    version = publishing.publish(job, "mine")

    found = {artifact.kind: artifact for artifact in version.artifacts.all()}
    assert set(found) == {"onnx", "saved_model"}
    assert found["onnx"].path == f"{version.model_id}/1/model.onnx"
    assert all(artifacts.is_intact(artifact) for artifact in found.values())
    (data_folder / "artifacts" / found["onnx"].path).write_bytes(b"evil")
    assert not artifacts.is_intact(found["onnx"])
    assert list((data_folder / "artifacts" / ".staging").iterdir()) == []


def test_a_training_is_published_once(organization: Organization, data_folder: Path) -> None:
    job = make_finished(organization)
    version = publishing.publish(job, "mine")

    assert publishing.publish(job, "mine") == version
    with pytest.raises(NotPublishableError):
        publishing.publish(job, "other")
    assert ModelVersion.objects.count() == 1


@pytest.mark.parametrize("name", ["mine", "other"])
def test_two_publish_a_training_at_the_same_moment(
    organization: Organization, data_folder: Path, name: str
) -> None:
    job = make_finished(organization)
    read_before = Job.objects.get(pk=job.pk)
    version = publishing.publish(job, "mine")

    if name == "mine":
        assert publishing.publish(read_before, name) == version
    else:
        with pytest.raises(NotPublishableError, match=r"published as .*/mine:1\."):
            publishing.publish(read_before, name)

    assert ModelVersion.objects.get() == version


def test_a_second_training_is_the_next_version_at_the_same_price(
    organization: Organization, data_folder: Path
) -> None:
    publishing.publish(make_finished(organization), "mine", price_nanos=7)

    second = publishing.publish(make_finished(organization), "mine", price_nanos=9)

    assert second.number == 2
    assert second.model.prices.count() == 1
    model = MLModel.objects.get(name="mine")
    assert model.current_version == second


def test_a_name_of_another_kind_of_model_is_refused(
    organization: Organization, data_folder: Path
) -> None:
    publishing.publish(make_finished(organization), "mine")
    other = make_finished(organization, "linear-regression")

    with pytest.raises(ModelMismatchError):
        publishing.publish(other, "mine")

    other.refresh_from_db()
    assert other.version is None
    assert not (data_folder / "artifacts" / ".staging").exists() or not list(
        (data_folder / "artifacts" / ".staging").iterdir()
    )


def test_files_that_are_gone_are_said(organization: Organization, data_folder: Path) -> None:
    job = make_finished(organization)
    shutil.rmtree(folders.result(job))

    with pytest.raises(NotPublishableError):
        publishing.publish(job, "mine")


def test_a_wish_to_publish_that_cannot_be_met_is_written_down(
    organization: Organization, data_folder: Path
) -> None:
    publishing.publish(make_finished(organization), "mine")
    job = make_finished(organization, "linear-regression", publish_as="mine")

    publishing.publish_wanted(job)

    job.refresh_from_db()
    assert (job.state, job.error_code) == (Job.State.SUCCEEDED, "model_mismatch")


def test_what_a_dead_worker_left_is_published_later(
    organization: Organization, data_folder: Path
) -> None:
    job = make_finished(organization, publish_as="mine")
    Job.objects.filter(pk=job.pk).update(finished_at=Now() - timedelta(seconds=60))

    publishing.publish_forgotten()
    publishing.publish_forgotten()

    job.refresh_from_db()
    assert job.version is not None
    assert job.version.path == f"{organization.slug}/mine:1"


def test_a_tenant_publishes_over_the_api(
    client: APIClient, organization: Organization, data_folder: Path
) -> None:
    job = make_finished(organization)

    answer = client.post(
        f"/v1/trainings/{job.pk}/publish",
        {"name": "mine", "title": "My digits", "price": "0.0001", "public": True},
        format="json",
    )

    assert answer.status_code == 200
    assert answer.json()["version"] == f"{organization.slug}/mine:1"
    listed = client.get(f"/v1/models/{organization.slug}/mine").json()
    assert listed["title"]["en"] == "My digits"
    assert listed["price"]["components"][0]["amount"] == "0.0001"


def test_a_card_says_which_data_it_really_was() -> None:
    recipe = RECIPES["mnist-mlp"]
    digits = cards.card(recipe, make_result())
    mnist = make_result()
    mnist["training"]["data"] = MNIST

    assert "scikit-learn" in digits.en
    assert "*not* MNIST" in digits.en
    assert "这不是 MNIST" in digits.zh
    assert "scikit-learn" not in cards.card(recipe, mnist).en


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_card_has_all_its_parts_in_both_languages(recipe: str) -> None:
    result = make_result(recipe)
    text = cards.card(RECIPES[recipe], result)
    short = cards.summary(RECIPES[recipe], result)

    assert text.en.count("## ") == text.zh.count("## ") == 6
    assert "235,146" in text.en
    assert len(short.en) <= 300
    assert short.zh


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_chinese_card_has_chinese_punctuation_and_no_loose_asterisk(recipe: str) -> None:
    for data in RECIPES[recipe].data:
        result = make_result(recipe)
        result["training"]["data"] = data
        card = cards.card(RECIPES[recipe], result).zh
        short = cards.summary(RECIPES[recipe], result).zh

        for text in (card, short, RECIPES[recipe].title_zh, estimates.BILLING_ZH):
            assert _HALF_WIDTH.findall(text) == []
        assert "*" not in re.sub("<code>.*?</code>", "", render(card))


def test_a_card_tells_that_the_file_was_shipped() -> None:
    result = make_result("digits-lstm")
    result["training"] |= {"shipped": True, "sha256": "ab12", "made_with": {"torch": "2.13.0"}}

    text = cards.card(RECIPES["digits-lstm"], result)

    assert "ab12" in text.en
    assert "ab12" in text.zh
    assert "PyTorch 2.13.0" in text.en

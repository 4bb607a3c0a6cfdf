"""Versions: made, offered, withdrawn."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from accounts.models import AuditEntry, Organization
from catalog import artifacts, publishing
from catalog.models import Artifact, MLModel, ModelVersion
from catalog.publishing import Build, Text
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def build(tmp_path: Path, settings: Any) -> Build:
    """Everything a small version consists of."""
    settings.ARTIFACTS = tmp_path / "artifacts"
    path = tmp_path / "model.onnx"
    path.write_bytes(b"bytes of a model")
    return Build(
        title=Text("Digits", "数字"),
        summary=Text("Reads digits.", "识别数字。"),
        card=Text("# Card", "# 卡片"),
        task="image-classification",
        framework="tensorflow",
        runtime="onnx",
        signature=factories.DIGIT_SIGNATURE,
        files={"onnx": path},
        price={"row": (20_000, 1)},
    )


def test_the_first_version_makes_the_model(organization: Organization, build: Build) -> None:
    version = publishing.publish_version(organization, "digits", build, is_public=True)

    model = MLModel.objects.get()
    assert (model.path, model.current_version) == (f"{organization.slug}/digits", version)
    assert (version.number, version.status) == (1, ModelVersion.Status.PUBLISHED)
    assert " digits " in model.search_text
    assert MLModel.objects.published().get() == model
    artifact = version.artifacts.get()
    assert (artifact.path, artifact.size_bytes) == (f"{model.pk}/1/model.onnx", 16)
    assert artifacts.is_intact(artifact)


def test_publishing_never_hides_a_model(organization: Organization, build: Build) -> None:
    publishing.publish_version(organization, "digits", build, is_public=True)

    version = publishing.publish_version(organization, "digits", build)

    assert version.number == 2
    assert version.model.is_public


def test_a_withdrawn_version_gives_way_to_the_one_before(
    organization: Organization, build: Build
) -> None:
    first = publishing.publish_version(organization, "digits", build)
    second = publishing.publish_version(organization, "digits", build)
    operator = factories.make_user()

    assert publishing.withdraw(second, actor=operator, reason="wrong labels")
    assert not publishing.withdraw(second, actor=operator)

    model = MLModel.objects.get()
    assert (second.status, model.current_version) == (ModelVersion.Status.WITHDRAWN, first)
    entry = AuditEntry.objects.get(action="version.withdrawn")
    assert (entry.actor, entry.reason) == (operator, "wrong labels")
    assert publishing.publish(second, actor=operator)
    assert not publishing.publish(second, actor=operator)
    model.refresh_from_db()
    assert model.current_version == second


def test_without_a_version_on_offer_the_model_is_not_in_the_catalogue(
    organization: Organization, build: Build
) -> None:
    version = publishing.publish_version(organization, "digits", build, is_public=True)

    publishing.withdraw(version, actor=None)

    assert not MLModel.objects.published().exists()


def test_a_refusal_leaves_neither_row_nor_file(
    organization: Organization, build: Build, settings: Any
) -> None:
    class RefusedError(Exception):
        pass

    def refuse(version: ModelVersion) -> None:
        raise RefusedError

    with pytest.raises(RefusedError):
        publishing.publish_version(organization, "digits", build, then=refuse)

    assert not MLModel.objects.exists()
    assert [path for path in settings.ARTIFACTS.rglob("*") if path.is_file()] == []


def test_a_folder_that_a_crash_left_is_replaced(
    organization: Organization, build: Build, settings: Any
) -> None:
    first = publishing.publish_version(organization, "digits", build)
    left = settings.ARTIFACTS / str(first.model_id) / "2"
    left.mkdir()
    (left / "old").write_bytes(b"old")

    second = publishing.publish_version(organization, "digits", build)

    assert artifacts.is_intact(second.artifacts.get())
    assert not (left / "old").exists()


def test_a_link_is_not_followed(organization: Organization, build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "saved_model"
    folder.mkdir()
    (folder / "secret").symlink_to("/etc/passwd")
    files = {**build.files, "saved_model": folder}

    with pytest.raises(OSError, match="link"):
        artifacts.stage(files)


def test_the_sum_of_a_folder_knows_names_and_contents(tmp_path: Path) -> None:
    sums = set()
    for name, files in {
        "a": {"x": b"1", "y": b"2"},
        "b": {"x": b"2", "y": b"1"},
        "c": {"x": b"12", "y": b""},
        "d": {"x": b"1", "z": b"2"},
    }.items():
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_bytes(content)
        sums.add(artifacts.sha256(tmp_path / name))

    assert len(sums) == 4


@pytest.mark.django_db(transaction=True)
def test_two_publishers_at_the_same_moment_get_two_numbers(
    organization: Organization, build: Build
) -> None:
    publishing.publish_version(organization, "digits", build)
    barrier = threading.Barrier(4)
    failed: list[Exception] = []

    def publish() -> None:
        try:
            barrier.wait()
            publishing.publish_version(organization, "digits", build)
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert sorted(ModelVersion.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5]
    assert Artifact.objects.count() == 5
    assert all(artifacts.is_intact(artifact) for artifact in Artifact.objects.all())
    model = MLModel.objects.get()
    assert model.current_version is not None
    assert model.current_version.number == 5

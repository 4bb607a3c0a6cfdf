"""Copies of model files on a worker's disk are what was published, or are not used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from catalog import artifacts
from catalog.models import Artifact
from inference import fetching
from inference.fetching import DamagedArtifactError
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _folders(settings: Any, tmp_path: Path) -> None:
    settings.ARTIFACTS, settings.MODEL_FILES = tmp_path / "artifacts", tmp_path / "files"


def make_artifact() -> Artifact:
    return Artifact.objects.get(version=factories.make_version())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_file_is_copied_once(settings: Any) -> None:
    artifact = make_artifact()
    first = fetching.fetch(artifact)
    (settings.ARTIFACTS / artifact.path).unlink()

    assert fetching.fetch(artifact) == first
    assert artifacts.sha256(first) == artifact.sha256


def test_a_copy_with_a_flipped_byte_is_fetched_again() -> None:
    artifact = make_artifact()
    path = fetching.fetch(artifact)
    flip(path)

    assert fetching.fetch(artifact) == path
    assert artifacts.sha256(path) == artifact.sha256


def test_a_damaged_original_is_refused_and_leaves_nothing(settings: Any) -> None:
    artifact = make_artifact()
    flip(settings.ARTIFACTS / artifact.path)

    with pytest.raises(DamagedArtifactError):
        fetching.fetch(artifact)

    assert [path for path in settings.MODEL_FILES.rglob("*") if path.is_file()] == []


def test_a_folder_is_checked_as_a_whole(settings: Any) -> None:
    artifact = make_artifact()
    folder = settings.ARTIFACTS / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights")
    artifact.path, artifact.sha256 = "saved", artifacts.sha256(folder)
    path = fetching.fetch(artifact)
    (path / "more").write_bytes(b"")

    fetched = fetching.fetch(artifact)

    assert not (fetched / "more").exists()
    assert artifacts.sha256(fetched) == artifact.sha256


def test_what_was_read_longest_ago_makes_room(settings: Any) -> None:
    made = [make_artifact() for _ in range(3)]
    for place, artifact in enumerate(made):
        artifact.sha256 = ""
        path = settings.ARTIFACTS / artifact.path
        path.write_bytes(bytes([place]) * 1000)
        artifact.sha256 = artifacts.sha256(path)
    settings.MODEL_FILES_BYTES = 2500
    first, second = (fetching.fetch(artifact) for artifact in made[:2])
    os.utime(first.parent, (1000, 1000))
    os.utime(second.parent, (2000, 2000))

    third = fetching.fetch(made[2])

    assert [path.exists() for path in (first, second, third)] == [False, True, True]

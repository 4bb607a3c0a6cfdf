"""Loading in a predict worker: once, measured, and never for ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from catalog.models import Artifact, ModelVersion
from inference import crashes, loading
from inference.connections import PREDICT_DB, redis_client
from inference.crashes import CrashingModelError
from inference.fetching import DamagedArtifactError
from inference.models import VersionStart
from inference.runtime import memory
from inference.runtime.cache import ModelCache
from tests import factories


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_starts", "_failures"):
        monkeypatch.setattr(loading, name, {})
    monkeypatch.setattr(loading, "sessions", ModelCache[int](1 << 30))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count loads, and keep each until the gate is open."""
    seen: list[int] = []
    measured = loading._measured

    def count(version: ModelVersion) -> Any:
        seen.append(version.pk)
        return measured(version)

    monkeypatch.setattr(loading, "_measured", count)
    yield seen
    loading._loader.submit(connections.close_all).result()


@pytest.mark.django_db(transaction=True)
def test_all_who_wait_for_a_model_are_called_after_one_load(loads: list[int]) -> None:
    version = factories.make_version()
    called = [threading.Event() for _ in range(5)]

    for event in called:
        loading.start(version.pk, event.set)

    assert all(event.wait(60) for event in called)
    assert loads == [version.pk]
    assert loading.is_settled(version.pk)
    assert loading.starting() == {}
    start = VersionStart.objects.get(pk=version.pk)
    assert start.size_bytes == loading.sessions.loaded()[version.pk] >= 31_000


@pytest.mark.django_db
def test_a_damaged_file_is_refused_and_not_tried_again_at_once(loads: list[int]) -> None:
    version = factories.make_version()
    Artifact.objects.filter(version=version).update(sha256="0" * 64)

    for _ in range(3):
        with pytest.raises(DamagedArtifactError):
            loading.session_of(version.pk)

    assert loads == [version.pk]
    assert loading.is_settled(version.pk)
    # It was survived: it does not count.
    assert redis_client(PREDICT_DB).hget(crashes.loads_key(version.pk), crashes.node) == b"0"


@pytest.mark.django_db
def test_a_version_that_has_gone_is_settled_as_one_that_cannot_be_loaded() -> None:
    """What waits for it would otherwise go round between the list and the loader for ever."""
    with pytest.raises(ModelVersion.DoesNotExist):
        loading.session_of(2**31)

    assert loading.is_settled(2**31)


@pytest.mark.django_db
def test_a_model_that_has_killed_its_worker_three_times_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, loads: list[int]
) -> None:
    version: ModelVersion = factories.make_version()
    monkeypatch.setattr(crashes, "node", "n1")
    key = crashes.loads_key(version.pk)
    redis_client(PREDICT_DB).hset(key, "n1", crashes.MAX_DEATHS)

    with pytest.raises(CrashingModelError):
        loading.session_of(version.pk)

    assert loads == []
    assert redis_client(PREDICT_DB).hget(key, "n1") == b"3"
    monkeypatch.setattr(crashes, "node", "n2")
    loading._failures.clear()
    assert loading.session_of(version.pk).size_bytes
    assert redis_client(PREDICT_DB).hget(key, "n2") is None
    redis_client(PREDICT_DB).delete(key)


@pytest.mark.once
def test_gpus_are_what_nvidias_tool_says_and_none_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert memory.gpus() == []
    tool = tmp_path / "nvidia-smi"
    lines = "0, NVIDIA H200, 512, 143771\\n1, Odd, Name, [N/A], 9\\n"
    tool.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
    tool.chmod(0o700)

    [gpu] = memory.gpus()

    assert (gpu.index, gpu.name, gpu.used_bytes) == (0, "NVIDIA H200", 512 << 20)
    assert memory.resident_bytes() > 1 << 20
    assert memory.machine_bytes() > memory.resident_bytes()
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert memory.gpus() == []
    assert os.environ["PATH"] == str(tmp_path)

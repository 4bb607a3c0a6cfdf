"""The folders of trainings go when nothing needs them any more."""

from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from catalog.models import Artifact
from tests import factories
from tests.training.results import make_finished
from training import folders, publishing, tasks
from training.errors import NotPublishableError
from training.models import Job

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_folder")]


def age(job: Job, days: int) -> Path:
    """Let a training have ended days ago; returns its folder."""
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=days))
    return aged(folders.of(job.pk), days)


def aged(folder: Path, days: int) -> Path:
    """Let nothing have been written into a folder for days."""
    folder.mkdir(parents=True, exist_ok=True)
    seconds = time.time() - days * 86_400
    os.utime(folder, (seconds, seconds))
    return folder


def names() -> set[str]:
    return {place.name for place in (settings.DATA / "jobs").iterdir()}


def test_what_ended_long_ago_goes_and_what_was_published_stays(
    organization: Organization, settings: Any
) -> None:
    settings.TRAINING_RETENTION_DAYS = 7
    published, old, young = (make_finished(organization) for _ in range(3))
    version = publishing.publish(published, "mine")
    age(published, 8)
    age(old, 8)
    age(young, 6)

    tasks.forget_folders()
    tasks.forget_folders()

    assert names() == {str(young.pk)}
    for artifact in Artifact.objects.filter(version=version):
        assert (settings.ARTIFACTS / artifact.path).exists()
    assert publishing.publish(young, "mine").number == 2


def test_what_runs_or_waits_keeps_its_folder_however_old_it_is(organization: Organization) -> None:
    job = make_finished(organization)
    for state in (Job.State.QUEUED, Job.State.STARTING, Job.State.PROCESSING):
        Job.objects.filter(pk=job.pk).update(state=state)
        age(job, 400)

        assert folders.forget() == 0
        assert names() == {str(job.pk)}


def test_what_has_no_row_goes_too_and_what_is_no_training_stays(
    organization: Organization,
) -> None:
    root = settings.DATA / "jobs"
    aged(root / str(uuid4()), 31)
    aged(root / str(uuid4()), 29)
    aged(root / "notes", 400)

    assert folders.forget() == 1

    assert len(names()) == 2
    assert "notes" in names()


def test_who_dies_while_deleting_leaves_nothing_that_looks_like_a_result(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_finished(organization), make_finished(organization)
    age(first, 31)
    age(second, 31)

    class DiedError(BaseException):
        pass

    def die(place: Path, **_: Any) -> None:
        (next(place.rglob("model.onnx"))).unlink()
        raise DiedError

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        with pytest.raises(DiedError):
            folders.forget()

    for job in (first, second):
        assert not folders.is_kept(job)
        with pytest.raises(NotPublishableError, match="no longer kept"):
            publishing.publish(job, "mine")
    assert folders.forget() == 2
    assert names() == set()


def test_a_result_that_goes_while_it_is_published_is_refused(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_finished(organization)
    build = publishing._build

    def go(*arguments: Any) -> Any:
        found = build(*arguments)
        age(job, 31)
        folders.forget()
        return found

    monkeypatch.setattr(publishing, "_build", go)

    with pytest.raises(NotPublishableError, match="no longer kept"):
        publishing.publish(job, "mine")


def test_the_page_offers_to_publish_only_what_is_kept(client: Client) -> None:
    owner = factories.make_user()
    job = make_finished(factories.make_organization(owner=owner))
    client.force_login(owner)
    address = f"/console/trainings/{job.pk}"
    assert "Publish it as a model" in client.get(address).content.decode()

    age(job, 31)
    folders.forget()

    page = client.get(address).content.decode()
    assert "Publish it as a model" not in page
    assert "no longer kept" in page

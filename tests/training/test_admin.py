from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from tests.maas_site.rows import make_job, make_organization
from training.models import Job

pytestmark = pytest.mark.django_db
FORM = {"reason": "Too long", "submission": "018f2f5e-0000-7000-8000-000000000000"}


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


def test_a_training_that_waits_is_canceled_for_a_reason(client: Client, operator: User) -> None:
    job = make_job(make_organization(), state=Job.State.QUEUED)

    client.post(reverse("admin:training_job_cancel", args=[job.pk]), FORM)

    job.refresh_from_db()
    assert job.state == Job.State.CANCELED
    entry = AuditEntry.objects.get(action="training.canceled")
    assert (entry.actor, entry.reason) == (operator, "Too long")
    assert entry.organization == job.organization


def test_a_running_training_is_asked_to_stop(client: Client, operator: User) -> None:
    job = make_job(make_organization(), state=Job.State.PROCESSING)

    client.post(reverse("admin:training_job_cancel", args=[job.pk]), FORM)

    job.refresh_from_db()
    assert job.state == Job.State.PROCESSING
    assert job.cancel_requested_at is not None


def test_a_training_that_has_ended_cannot_be_canceled(client: Client, operator: User) -> None:
    job = make_job(make_organization(), state=Job.State.SUCCEEDED)

    answer = client.post(reverse("admin:training_job_cancel", args=[job.pk]), FORM)

    assert answer.status_code == 200
    assert "already succeeded" in answer.content.decode()
    assert not AuditEntry.objects.filter(action="training.canceled").exists()

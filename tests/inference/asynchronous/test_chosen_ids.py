"""Ids that callers have chosen say nothing about when: not in lists, not in the queue."""

from __future__ import annotations

from uuid import UUID

import pytest
from rest_framework.test import APIClient

from accounts.errors import IdempotencyMismatchError
from accounts.models import Organization
from inference.asynchronous import accepting, announcing, claims, running
from inference.models import Prediction, WebhookDelivery, WebhookEndpoint
from tests import factories
from tests.inference.asynchronous.conftest import Accept

FIRST = UUID("00000000-0000-4000-8000-000000000001")
LAST = UUID("ffffffff-ffff-4fff-bfff-ffffffffffff")


def test_lists_are_newest_first_whatever_the_ids(
    accept: Accept, organization: Organization
) -> None:
    _, secret = factories.make_key(organization)
    api = APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")
    rows = [accept(prediction_id=LAST), accept(), accept(prediction_id=FIRST)]

    found: list[str] = []
    cursor = ""
    for _ in rows:
        page = api.get(f"/v1/predictions?limit=1&cursor={cursor}").json()
        found += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]

    assert found == [str(one.pk) for one in rows[::-1]]
    assert cursor is None


def test_nobody_comes_first_by_an_id(accept: Accept) -> None:
    waits = [accept(organization=factories.make_organization()) for _ in range(2)]
    sly = accept(organization=factories.make_organization(), prediction_id=FIRST)
    assert {one.turn for one in [*waits, sly]} == {0}

    claimed = claims.claim("w1")

    assert claimed is not None
    assert [one.pk for one in claimed.predictions] == [*(one.pk for one in waits), FIRST]


def test_an_id_that_comes_again_after_it_was_forgotten_is_announced_again(
    accept: Accept, organization: Organization
) -> None:
    WebhookEndpoint.objects.create(
        organization=organization, url="https://example.com/hook", secret="sealed"
    )
    for _ in range(2):
        accept(prediction_id=FIRST)
        running.run_next("w1")
        announcing.announce()
        Prediction.objects.all().delete()

    assert WebhookDelivery.objects.count() == 2


def test_an_id_that_was_taken_meanwhile_sets_no_money_aside(
    accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looked before the other had stored it: the database says it, and all is undone."""
    accept(prediction_id=FIRST, organization=factories.make_organization())
    real, looks = accepting._chosen, iter([True])
    monkeypatch.setattr(
        accepting, "_chosen", lambda *args: None if next(looks, False) else real(*args)
    )
    late = factories.make_organization()

    with pytest.raises(IdempotencyMismatchError):
        accept(prediction_id=FIRST, organization=late)

    assert Prediction.objects.filter(organization=late).count() == 0
    assert not late.holds.exists()

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from billing import crashes, rollups, settlement
from billing.checks.usage import rollups_are_usage
from billing.models import UsageRollup
from catalog.models import ModelVersion
from tests.billing.calls import fail, succeed
from tests.factories import make_key, make_organization, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def used(organization: Organization, version: ModelVersion) -> Organization:
    """An organization with usage in several hours, by several keys, of two models."""
    key, _secret = make_key(organization)
    other, now = make_version(), timezone.now()
    for hours in range(3):
        succeed(organization, version, key=key, rows=hours + 1, at=now - timedelta(hours=hours))
        succeed(organization, other, at=now - timedelta(hours=hours))
    fail(organization, version)
    settlement.settle()
    succeed(organization, version)
    return organization


def rows() -> list[Any]:
    return list(UsageRollup.objects.order_by("pk").values())


def test_a_rebuild_gives_identical_rows(used: Organization) -> None:
    """Invariant 33: rollups are the sum of settled usage, and a rebuild changes nothing."""
    before = rows()
    assert len(before) == 6

    assert rollups.rebuild(used) == 0

    assert rows() == before
    assert rollups_are_usage() == []


def test_a_rebuild_makes_again_what_was_lost_or_wrong(used: Organization) -> None:
    """Invariant 33: whatever the rollups say, a rebuild says what usage says."""
    before = rollups.stored(used)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM billing_usagerollup WHERE rows = 2")
        cursor.execute("UPDATE billing_usagerollup SET cost_nanos = 1 WHERE rows = 3")
    UsageRollup.objects.create(organization=used, hour=timezone.now(), calls=1)
    assert len(rollups_are_usage()) == 3

    assert rollups.rebuild(used) == 3

    assert rollups.stored(used) == before
    assert rollups_are_usage() == []


@pytest.mark.parametrize("point", ["settle.claimed", "settle.opened", "settle.booked"])
def test_a_settler_that_dies_adds_nothing_twice(
    used: Organization, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Invariant 33: the rollups are right after a settler died at any point."""

    def die(name: str) -> None:
        if name == point:
            raise RuntimeError(name)

    monkeypatch.setattr(crashes, "point", die)
    with pytest.raises(RuntimeError):
        settlement.settle()
    monkeypatch.undo()

    settlement.settle()

    assert rollups_are_usage() == []
    assert rollups.rebuild(used) == 0


def test_a_rebuild_touches_nobody_else(used: Organization, version: ModelVersion) -> None:
    other = make_organization()
    succeed(other, version)
    settlement.settle()
    UsageRollup.objects.update(calls=99)

    rollups.rebuild(used)

    assert set(UsageRollup.objects.filter(organization=other).values_list("calls", flat=True)) == {
        99
    }


def test_the_command_says_how_many_were_wrong(
    used: Organization, capsys: pytest.CaptureFixture[str]
) -> None:
    UsageRollup.objects.update(calls=99)

    call_command("rebuild_rollups", organization=used.slug)

    assert "6 hourly sums were wrong." in capsys.readouterr().out
    with pytest.raises(CommandError):
        call_command("rebuild_rollups", organization="nobody")

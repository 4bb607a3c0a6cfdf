from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from accounts.models import AuditEntry, Organization, User
from billing import settlement, shares
from billing.errors import ShareNotAllowedError
from billing.models import Earning, ShareVersion
from tests.billing.calls import succeed
from tests.factories import make_organization, make_user, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(db: None) -> User:
    return make_user("operator@example.com", is_staff=True)


def test_the_narrowest_share_that_has_taken_effect_applies(operator: User) -> None:
    version, other = make_version(), make_version()
    model, publisher = version.model, version.model.owner
    assert shares.current(model).publisher_bps == 8000

    shares.add(7000, actor=operator, reason="All")
    shares.add(9000, actor=operator, reason="Partner", publisher=publisher)
    later = timezone.now() + timedelta(days=1)
    shares.add(9500, actor=operator, reason="Star", model=model, effective_from=later)

    assert shares.current(model).publisher_bps == 9000
    assert shares.current(other.model).publisher_bps == 7000
    assert shares.current().publisher_bps == 7000
    shares.add(100, actor=operator, reason="Model", model=model)
    assert shares.current(model).publisher_bps == 100


def test_the_newest_of_two_is_the_one_that_took_effect_last(operator: User) -> None:
    now = timezone.now()
    first = shares.add(1, actor=operator, reason="a", effective_from=now - timedelta(days=9))
    second = shares.add(2, actor=operator, reason="b")

    assert first.effective_from >= now
    assert shares.current() == second


def test_a_share_has_a_reason_an_actor_and_an_audit_entry(operator: User) -> None:
    added = shares.add(5000, actor=operator, reason="Contract 7")

    assert (added.created_by, added.reason) == (operator, "Contract 7")
    assert AuditEntry.objects.get(action="share.added").reason == "Contract 7"


@pytest.mark.parametrize(("bps", "reason"), [(-1, "x"), (10_001, "x"), (5000, ""), (5000, " ")])
def test_a_share_that_cannot_be_is_refused(operator: User, bps: int, reason: str) -> None:
    with pytest.raises(ShareNotAllowedError):
        shares.add(bps, actor=operator, reason=reason)


def test_a_share_is_for_a_publisher_or_a_model(operator: User) -> None:
    version = make_version()
    with pytest.raises(ShareNotAllowedError, match="not for both"):
        shares.add(
            1, actor=operator, reason="x", publisher=version.model.owner, model=version.model
        )


@pytest.mark.parametrize("change", [{"publisher_bps": 1}, {"effective_from": "2020-01-01T00:00Z"}])
def test_the_database_refuses_to_change_a_share(operator: User, change: dict[str, object]) -> None:
    added = shares.add(5000, actor=operator, reason="x")
    row = ShareVersion.objects.filter(pk=added.pk)

    with pytest.raises(DatabaseError, match="do not change"), transaction.atomic():
        row.update(**change)
    with pytest.raises(DatabaseError, match="do not change"), transaction.atomic():
        row.delete()


@pytest.mark.usefixtures("books")
def test_share_and_platform_are_the_charge(organization: Organization, operator: User) -> None:
    """Invariant 20: share and platform are the cost, and what is owed is the sum of the shares."""
    shares.add(3333, actor=operator, reason="x")
    version = make_version(owner=make_organization(credit_nanos=0), row_nanos=7)
    for rows in (1, 2, 3):
        succeed(organization, version, rows=rows)
    settlement.settle()

    # 7, 14 and 21 nanos; the publisher's part of each is rounded down.
    assert Earning.objects.get().amount_nanos == 2 + 4 + 6

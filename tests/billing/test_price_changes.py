"""Proposing, approving and announcing prices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.errors import MercatoError
from accounts.models import AuditEntry, Membership, Organization, User
from billing import credit, price_changes, price_previews, settlement
from billing.errors import InvalidPriceError, PriceChangeDecidedError, SecondOperatorError
from billing.price_changes import Target
from billing.rating import plan_from
from catalog import prices
from catalog.models import ModelVersion, PriceChange, PriceVersion
from tests import factories
from tests.billing import calls
from tests.factories import ROW_NANOS

pytestmark = pytest.mark.usefixtures("books")
DEARER = {"row": (2 * ROW_NANOS, 1)}
CHEAPER = {"row": (ROW_NANOS // 2, 1)}
State = PriceChange.State


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


@pytest.fixture
def target(version: ModelVersion) -> Target:
    return Target(version.model)


@pytest.fixture
def proposer(db: None) -> User:
    return factories.make_user("proposer@example.com", is_staff=True)


@pytest.fixture
def second(db: None) -> User:
    return factories.make_user("second@example.com", is_staff=True)


@pytest.fixture
def tenant(version: ModelVersion) -> Organization:
    """Another organization, which has used the model."""
    made = factories.make_organization(owner=factories.make_user("tenant@example.com"))
    use(made, version)
    return made


def use(organization: Organization, version: ModelVersion, *, rows: int = 1) -> None:
    """Run the model once, an hour ago."""
    calls.succeed(organization, version, rows=rows, at=timezone.now() - timedelta(hours=1))
    settlement.settle()


def test_a_cheaper_price_is_applied_at_once(
    target: Target, proposer: User, tenant: Organization
) -> None:
    change = price_changes.propose(target, CHEAPER, actor=proposer, reason="Spring sale")

    assert change.state == State.APPROVED
    assert change.price_version is not None
    assert timedelta() < change.price_version.effective_from - timezone.now() <= price_changes.LEAD
    assert list(AuditEntry.objects.values_list("action", flat=True))[:2] == [
        "price.added",
        "price.proposed",
    ]


def test_a_dearer_price_that_nobody_else_uses_is_applied_at_once(
    target: Target, proposer: User, version: ModelVersion
) -> None:
    use(_funded(version.model.owner), version)

    assert price_changes.propose(target, DEARER, actor=proposer).state == State.APPROVED


def _funded(organization: Organization) -> Organization:
    credit.grant(organization, 10**9, external_ref=f"own:{organization.pk}", reason="test")
    return organization


def test_a_dearer_price_waits_for_a_second_operator_and_then_for_the_notice(
    target: Target, proposer: User, second: User, tenant: Organization
) -> None:
    change = price_changes.propose(target, DEARER, actor=proposer)
    assert (change.state, change.price_version) == (State.PROPOSED, None)

    with pytest.raises(SecondOperatorError):
        price_changes.approve(change, actor=proposer)
    made = price_changes.approve(change, actor=second, reason="Agreed")

    change.refresh_from_db()
    assert (change.state, change.decided_by, change.decision_reason) == (
        State.APPROVED,
        second,
        "Agreed",
    )
    assert change.price_version == made
    assert made.effective_from > timezone.now() + timedelta(days=13, hours=23)
    assert prices.current(target.model) != made  # type: ignore[arg-type]  # a model is set


def test_a_later_date_than_the_notice_is_kept(
    target: Target, proposer: User, second: User, tenant: Organization
) -> None:
    begins = timezone.now() + timedelta(days=40)
    change = price_changes.propose(target, DEARER, effective_from=begins, actor=proposer)

    assert price_changes.approve(change, actor=second).effective_from == begins


def test_without_the_setting_a_dearer_price_is_applied_after_the_notice(
    target: Target, proposer: User, tenant: Organization, settings: Any
) -> None:
    settings.PRICE_APPROVAL = False

    change = price_changes.propose(target, DEARER, actor=proposer)

    assert change.state == State.APPROVED
    assert change.price_version is not None
    assert change.price_version.effective_from > timezone.now() + timedelta(days=13)


def test_only_an_operator_approves(target: Target, proposer: User, tenant: Organization) -> None:
    change = price_changes.propose(target, DEARER, actor=proposer)

    with pytest.raises(SecondOperatorError):
        price_changes.approve(change, actor=factories.make_user())


def test_a_member_of_the_publisher_cannot_approve_what_a_key_without_a_maker_proposed(
    target: Target, second: User, tenant: Organization
) -> None:
    change = price_changes.propose(target, DEARER, actor=None)
    assert target.owner is not None
    member = Membership.objects.create(
        organization=target.owner, user=second, role=Membership.Role.DEVELOPER
    )

    with pytest.raises(SecondOperatorError):
        price_changes.approve(change, actor=second)
    member.delete()
    price_changes.approve(change, actor=second)


def test_a_raise_in_steps_is_compared_with_the_price_it_follows(
    target: Target, proposer: User, tenant: Organization
) -> None:
    """First down, then up to where it was: the second step is dearer than what precedes it."""
    later = timezone.now() + timedelta(days=1)
    price_changes.propose(target, CHEAPER, actor=proposer)

    change = price_changes.propose(
        target, {"row": (ROW_NANOS, 1)}, effective_from=later, actor=proposer
    )

    assert change.state == State.PROPOSED


@pytest.mark.parametrize("act", ["reject", "withdraw"])
def test_what_is_decided_cannot_be_approved(
    target: Target, proposer: User, second: User, tenant: Organization, act: str
) -> None:
    change = price_changes.propose(target, DEARER, actor=proposer)
    getattr(price_changes, act)(change, actor=second, reason="No")

    with pytest.raises(PriceChangeDecidedError):
        price_changes.approve(change, actor=second)
    with pytest.raises(PriceChangeDecidedError):
        price_changes.withdraw(change, actor=proposer)

    assert PriceVersion.objects.filter(model=target.model).count() == 1


@pytest.mark.parametrize(
    ("components", "minimum"),
    [
        ({}, 0),
        ({"output_token": (1, 1)}, 0),
        ({"compute_ms": (1, 1)}, 0),
        ({"gold": (1, 1)}, 0),
        ({"row": (-1, 1)}, 0),
        ({"row": (1, 0)}, 0),
        ({"row": [(5, 1, 1)]}, 0),
        ({"row": [(0, 1, 1), (0, 2, 1)]}, 0),
        ({"row": (1, 1)}, -1),
        ({"row": (10**16, 1)}, 0),
    ],
)
def test_what_cannot_be_a_price_is_refused(
    target: Target, components: Any, minimum: int, proposer: User
) -> None:
    with pytest.raises(InvalidPriceError):
        price_changes.propose(target, components, min_charge_nanos=minimum, actor=proposer)

    assert not PriceChange.objects.exists()


def test_a_proposal_never_changes_and_is_decided_once(
    target: Target, proposer: User, second: User, tenant: Organization
) -> None:
    """Whoever approves has seen what becomes the price."""
    change = price_changes.propose(target, DEARER, actor=proposer)

    mine = PriceChange.objects.filter(pk=change.pk)
    for values in ({"components": {"row": [[0, 1, 1]]}}, {"proposed_by": second}):
        with pytest.raises(DatabaseError), transaction.atomic():
            mine.update(**values)
    price_changes.reject(change, actor=second, reason="No")
    with pytest.raises(DatabaseError), transaction.atomic():
        mine.update(state=State.APPROVED)


def test_the_preview_is_what_was_charged_if_the_price_stays(
    target: Target, version: ModelVersion, tenant: Organization
) -> None:
    for rows in (1, 1, 7, 300):
        use(tenant, version, rows=rows)

    same = price_previews.begin(target.model, "", plan_from({"row": (ROW_NANOS, 1)}))

    found = price_previews.read(same)
    assert found is not None
    assert found.is_complete
    (line,) = found.lines
    assert (line.organization, line.calls) == (tenant, 5)
    assert line.old_nanos == line.new_nanos == 310 * ROW_NANOS


def test_the_preview_rates_every_call_with_tiers_and_minimum_for_each_tenant(
    target: Target, version: ModelVersion, tenant: Organization
) -> None:
    other = factories.make_organization()
    use(tenant, version, rows=5)
    use(other, version, rows=200)
    tiers = {"row": [(0, 40_000, 1), (100, 10_000, 1)]}

    preview = price_previews.begin(target.model, "", plan_from(tiers, 100_000))

    found = price_previews.read(preview)
    assert found is not None
    assert {line.organization.slug: (line.old_nanos, line.new_nanos) for line in found.lines} == {
        # One row costs the minimum, five rows more.
        tenant.slug: (6 * ROW_NANOS, 100_000 + 200_000),
        other.slug: (200 * ROW_NANOS, 100 * 40_000 + 100 * 10_000),
    }
    assert found.total.new_nanos == 300_000 + 5_000_000
    assert found.lines[0].organization == other or found.lines[0].difference_nanos


def test_equal_calls_are_rated_once_however_many_there_are(
    target: Target,
    version: ModelVersion,
    tenant: Organization,
    count_queries: Callable[[Callable[[], object]], int],
) -> None:
    plan = plan_from(DEARER)

    def preview() -> object:
        return price_previews.begin(target.model, "", plan)

    few = count_queries(preview)
    for _ in range(20):
        use(tenant, version)

    assert count_queries(preview) == few


def test_a_preview_that_takes_long_goes_on_where_it_stopped(
    target: Target, version: ModelVersion, tenant: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    for back in (3, 5, 9):
        calls.succeed(tenant, version, at=timezone.now() - timedelta(days=back))
    settlement.settle()
    plan = plan_from(DEARER)
    whole = price_previews.begin(target.model, "", plan)
    monkeypatch.setattr(price_previews, "PATIENCE_SECONDS", -1)

    parts = price_previews.begin(target.model, "", plan)
    assert not parts["is_complete"]
    change = PriceChange.objects.create(
        model=target.model, components={"row": [[0, 2 * ROW_NANOS, 1]]}, preview=parts
    )
    assert price_previews.continue_waiting() == 1

    change.refresh_from_db()
    assert change.preview["tenants"] == whole["tenants"]
    assert change.preview["tenants"][str(tenant.pk)] == [4, 4 * ROW_NANOS, 8 * ROW_NANOS]


Act = Callable[[], object]


def press(acts: list[Act]) -> list[str]:
    """Do all at once, each on a connection of its own; returns `done` or the refusal's code."""
    start, outcomes = threading.Barrier(len(acts)), list[str]()

    def one(act: Act) -> None:
        start.wait()
        try:
            act()
            outcomes.append("done")
        except MercatoError as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_an_increase_is_approved_by_two_even_if_all_press_at_once(
    transactional_db: None, version: ModelVersion, tenant: Organization
) -> None:
    target = Target(version.model)
    proposer = factories.make_user("one@example.com", is_staff=True)
    second = factories.make_user("two@example.com", is_staff=True)
    change = price_changes.propose(target, DEARER, actor=proposer)
    alone: list[Act] = [lambda: price_changes.approve(change, actor=proposer)] * 4
    assert press(alone) == ["second_operator_required"] * 4

    outcomes = press(
        [
            *alone[:2],
            lambda: price_changes.approve(change, actor=second),
            lambda: price_changes.approve(change, actor=second),
            lambda: price_changes.withdraw(change, actor=proposer),
            lambda: price_changes.reject(change, actor=second, reason="No"),
        ]
    )

    assert outcomes.count("done") == 1
    change = PriceChange.objects.get(pk=change.pk)
    made = PriceVersion.objects.filter(model=version.model).count() - 1
    assert made == (change.state == State.APPROVED)
    if change.state == State.APPROVED:
        assert change.decided_by == second

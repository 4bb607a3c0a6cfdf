"""Proposing, approving and announcing prices."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Count
from django.utils import timezone

from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.models import AuditEntry, Membership, Organization, User
from billing import credit, holds, price_changes, price_previews, settlement, shares
from billing.checks.rating import usage_is_rated_by_its_price
from billing.errors import InvalidPriceError, PriceChangeDecidedError, SecondOperatorError
from billing.models import Hold, UsageEvent
from billing.price_changes import Target
from billing.rating import plan_from
from billing.reports import Report, Terms
from catalog import prices
from catalog.errors import NoPriceError
from catalog.models import ModelVersion, PriceChange, PriceComponent, PriceVersion
from inference import versions
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


def test_a_price_that_changes_after_admission_does_not_alter_the_cost(
    version: ModelVersion, tenant: Organization
) -> None:
    """Invariant 18: a price change after admission does not alter cost; one before does."""
    before = calls.reserve(tenant, version)
    prices.add(model=version.model, components=DEARER)
    after = calls.reserve(tenant, version)

    assert (before.reserved_nanos, after.reserved_nanos) == (ROW_NANOS, 2 * ROW_NANOS)
    assert before.price_version_id != after.price_version_id


def test_one_and_only_one_price_applies_at_the_boundary_instant(version: ModelVersion) -> None:
    """Invariant 24: at 23:59:59.999999 the old price, at 00:00:00 the new one, in every process."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    boundary = midnight + timedelta(days=1)
    old = prices.current(version.model)
    new = prices.add(model=version.model, components=DEARER, effective_from=boundary)
    target = Target(version.model)

    last = boundary - timedelta(microseconds=1)
    assert price_changes.at(target, last) == old
    assert price_changes.at(target, boundary) == new
    served = versions._load(version.model.path)
    assert served.terms_at(last).plan.price_version_id == old.pk  # type: ignore[union-attr]  # there is one
    assert served.terms_at(boundary).plan.price_version_id == new.pk


def test_a_new_price_is_known_everywhere_before_it_begins() -> None:
    """Regression 37: killbill#1856, two clocks: no process remembers an older price for longer."""
    assert timedelta(seconds=versions.CACHE_SECONDS) < price_changes.LEAD


def test_past_usage_is_never_priced_again(
    version: ModelVersion, tenant: Organization, proposer: User
) -> None:
    """Regression 35: killbill#1001, getsentry/sentry#84670, a price change reprices the past."""
    use(tenant, version, rows=3)
    prices.add(model=version.model, components=DEARER)

    assert price_changes.users(Target(version.model)) == [tenant.pk]
    with pytest.raises(DatabaseError), transaction.atomic():
        PriceVersion.objects.filter(model=version.model).update(min_charge_nanos=1)


def test_usage_at_another_price_than_its_own_is_found(
    version: ModelVersion, tenant: Organization
) -> None:
    """Invariant 19: re-rating stored quantities by the stored price gives the cost, always."""
    assert usage_is_rated_by_its_price() == []
    other = prices.add(model=version.model, components=DEARER)
    sealed = "billing_hold_ended"
    with transaction.atomic(), connection.cursor() as cursor:
        _without_guard(cursor, sealed)
        Hold.objects.filter(organization=tenant).update(price_version=other)
        (trouble,) = usage_is_rated_by_its_price()
        transaction.set_rollback(True)

    assert (trouble.expected, trouble.found) == (2 * ROW_NANOS, ROW_NANOS)


def _without_guard(cursor: Any, name: str) -> None:
    on = " ON billing_hold" if connection.vendor == "postgresql" else ""
    cursor.execute(f"DROP TRIGGER {name}{on}")


def test_a_model_without_a_price_runs_nothing_instead_of_running_unrated(
    tenant: Organization,
) -> None:
    """Regression 36: mozilla-ai/otari#407, without a price the cost was never worked out."""
    version = factories.make_version()
    with connection.cursor() as cursor, transaction.atomic():
        for name in ("catalog_pricecomponent", "catalog_priceversion"):
            on = f" ON {name}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER {name}_no_delete{on}")
        PriceComponent.objects.filter(price_version__model=version.model).delete()
        PriceVersion.objects.filter(model=version.model).delete()
        caller = Caller(tenant.pk, tenant.slug)

        with pytest.raises(NoPriceError):
            versions.resolve(version.model.path, caller)
        transaction.set_rollback(True)


def test_usage_on_both_sides_of_a_price_change_is_charged_once_each(
    version: ModelVersion, tenant: Organization, proposer: User
) -> None:
    """Regression 38: polarsource/polar#9090, a change in the middle charged usage twice."""
    price_changes.propose(Target(version.model), CHEAPER, actor=proposer)
    boundary = prices.upcoming(version.model)[0].effective_from
    served = versions._load(version.model.path)
    for back in (2, 1, 0, -1):
        at = boundary - timedelta(microseconds=back)
        _run_by(served.terms_at(at), tenant, version, at)
    settlement.settle()

    of_both = UsageEvent.objects.filter(occurred_at__gte=boundary - timedelta(seconds=1))
    by_price = of_both.values_list("cost_nanos").annotate(calls=Count("pk"))
    assert dict(by_price) == {ROW_NANOS: 2, ROW_NANOS // 2: 2}
    assert UsageEvent.objects.count() == 5


def _run_by(terms: Terms, organization: Organization, version: ModelVersion, at: datetime) -> None:
    """Admit and charge one call that was accepted at an instant."""
    made = holds.prepare(
        Caller(organization.pk, organization.slug),
        terms.plan,
        share_version_id=shares.current().pk,
        quantities={"call": 1, "row": 1},
        source="api",
        accepted_at=at,
        expires_at=at + timedelta(minutes=1),
        model_version_id=version.pk,
    )
    holds.reserve(made)
    holds.capture(
        Report(
            hold_id=made.hold_id,
            outcome="succeeded",
            terms=terms,
            quantities={"call": 1, "row": 1},
            organization_id=organization.pk,
            reserved_nanos=made.reserved_nanos,
            accepted_at=at,
            completed_at=at,
            model_version_id=version.pk,
        )
    )

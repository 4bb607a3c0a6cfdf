"""Runs whose money is set aside, and taken, together: one transaction, and each decided alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization
from billing import budgets, holds, quotes, shares
from billing.errors import (
    InsufficientCreditError,
    QuoteExpiredError,
)
from billing.holds import Admission
from billing.rating import plan_of
from catalog import prices
from catalog.models import ModelVersion
from tests import factories
from tests.billing.calls import prepare, report

pytestmark = pytest.mark.usefixtures("books")
ROW = factories.ROW_NANOS


@pytest.fixture
def version(db: None) -> ModelVersion:
    return factories.make_version()


def test_a_batch_that_does_not_fit_is_admitted_in_the_order_of_arrival(
    version: ModelVersion,
) -> None:
    """Invariant 4; regression 1: all budgets of a run or none, decided by the row itself."""
    poor = factories.make_organization(credit_nanos=3 * ROW)
    rich = factories.make_organization()
    wanted = [
        prepare(poor, version, rows=2),
        prepare(poor, version, rows=2),
        prepare(rich, version, rows=5),
        prepare(poor, version, rows=1),
    ]

    outcomes = holds.reserve_many(wanted)

    assert [type(outcome) for outcome in outcomes] == [
        Admission,
        InsufficientCreditError,
        Admission,
        Admission,
    ]
    assert budgets.wallet(poor).available == 0


def test_a_batch_is_admitted_with_the_queries_of_one(
    organization: Organization, version: ModelVersion
) -> None:
    one, many = (
        [prepare(organization, version)],
        [prepare(organization, version) for _ in range(50)],
    )

    with CaptureQueriesContext(connection) as single:
        holds.reserve_many(one)
    with CaptureQueriesContext(connection) as batch:
        holds.reserve_many(many)

    assert len(batch) == len(single)


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_two_commits_also_when_one_of_its_organizations_is_short(
    version: ModelVersion,
) -> None:
    """Only the calls of the one that is short are tried one by one, in the same transaction."""
    tenants = [factories.make_organization() for _ in range(16)]
    short = tenants[7]
    budgets.set_limit(short, "month", ROW)
    wanted = [prepare(tenant, version) for _ in range(2) for tenant in tenants]

    with CaptureQueriesContext(connection) as admitting:
        outcomes = holds.reserve_many(wanted)
    admitted = [one for one, outcome in zip(wanted, outcomes, strict=True) if is_in(outcome)]
    with CaptureQueriesContext(connection) as charging:
        ended = holds.capture_many([report(one, version) for one in admitted])

    refused = [one for one, outcome in zip(wanted, outcomes, strict=True) if not is_in(outcome)]
    assert refused == [wanted[16 + 7]]
    assert ended == [True] * 31
    assert [commits(each) for each in (admitting, charging)] == [1, 1]


def is_in(outcome: object) -> bool:
    return isinstance(outcome, Admission)


def commits(captured: CaptureQueriesContext) -> int:
    """Count commits; a statement outside of a transaction is one as well."""
    done, is_inside = 0, False
    for query in captured:
        word = query["sql"].split()[0]
        done += word == "COMMIT" or not (is_inside or word in {"BEGIN", "SELECT"})
        is_inside = word == "BEGIN" or (is_inside and word not in {"COMMIT", "ROLLBACK"})
    return done


def test_a_call_that_does_not_fit_is_told_what_is_left_at_its_place_in_the_batch(
    version: ModelVersion,
) -> None:
    poor = factories.make_organization(credit_nanos=3 * ROW)
    wanted = [prepare(poor, version, rows=rows) for rows in (2, 2, 1)]

    _, refused, _ = holds.reserve_many(wanted)

    assert isinstance(refused, InsufficientCreditError)
    assert "and 0.00002 is available" in str(refused)


def test_a_quote_that_two_calls_of_a_batch_name_is_used_by_the_first(
    organization: Organization, version: ModelVersion
) -> None:
    price = prices.current(version.model)
    assert price is not None
    quote = quotes.make(
        organization.pk,
        plan_of(price),
        share_version_id=shares.current().pk,
        quantities={"row": 1},
        model_version_id=version.pk,
    )
    wanted = [replace(prepare(organization, version), quote_id=quote.pk) for _ in range(2)]
    other = prepare(organization, version)

    first, second, third = holds.reserve_many([*wanted, other])

    assert (is_in(first), type(second), is_in(third)) == (True, QuoteExpiredError, True)
    assert budgets.wallet(organization).held == 2 * ROW


def test_a_batch_is_charged_with_the_queries_of_one(
    organization: Organization, version: ModelVersion
) -> None:
    made = [prepare(organization, version) for _ in range(51)]
    holds.reserve_many(made)
    reports = [report(one, version) for one in made]

    with CaptureQueriesContext(connection) as single:
        holds.capture_many(reports[:1])
    with CaptureQueriesContext(connection) as batch:
        holds.capture_many(reports[1:])

    assert len(batch) == len(single)


def test_a_batch_with_one_ended_hold_charges_the_others(
    organization: Organization, version: ModelVersion
) -> None:
    made = [prepare(organization, version) for _ in range(3)]
    holds.reserve_many(made)
    holds.void(made[1].hold_id, "worker_lost")

    ours = holds.capture_many([report(one, version) for one in made])

    assert ours == [True, False, True]

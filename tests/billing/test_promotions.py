"""Redeem codes, trial credit, and credit that lapses."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from accounts.models import AuditEntry, Organization, User
from billing import ledger, promotions, wallets
from billing.errors import OrganizationFrozenError, RedeemCodeError, TooManyGuessesError
from billing.models import CreditGrant, RedeemCode, Redemption
from billing.money import NANOS
from catalog.models import ModelVersion
from tests.billing.calls import reserve, succeed
from tests.billing.prepaid import available
from tests.factories import make_organization, make_user, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]


@pytest.fixture(autouse=True)
def _no_guesses() -> None:
    cache.clear()


@pytest.fixture
def organization(db: None) -> Organization:
    return make_organization(credit_nanos=0)


def make_code(**fields: Any) -> tuple[RedeemCode, str]:
    return promotions.make_code(3 * NANOS, actor=make_user(), **fields)


def test_a_code_gives_credit_once_per_organization(organization: Organization) -> None:
    code, text = make_code(max_redemptions=5)

    made = promotions.redeem(organization, text)
    with pytest.raises(RedeemCodeError, match="has redeemed"):
        promotions.redeem(organization, text)

    assert (available(organization), made.grant.amount_nanos) == (3 * NANOS, 3 * NANOS)
    code.refresh_from_db()
    assert code.redemptions == 1
    assert AuditEntry.objects.filter(action="redeem_code.redeemed").count() == 1


def test_the_code_itself_is_stored_nowhere(organization: Organization) -> None:
    code, text = make_code()
    plain = text.replace("-", "")

    assert len(plain) * 5 >= 256
    assert code.last4 == plain[-4:]
    assert plain not in str(RedeemCode.objects.values().get())
    assert promotions.digest(f" {text.lower()} ") == code.digest


def test_no_more_may_redeem_than_it_says(organization: Organization) -> None:
    _, text = make_code(max_redemptions=1)
    promotions.redeem(organization, text)

    with pytest.raises(RedeemCodeError, match="used up"):
        promotions.redeem(make_organization(), text)


def test_an_expired_or_disabled_code_gives_nothing(organization: Organization) -> None:
    _, old = make_code(expires_at=timezone.now() - timedelta(seconds=1))
    code, off = make_code()
    assert promotions.disable(code, actor=make_user(), reason="Leaked")
    assert not promotions.disable(code, actor=make_user(), reason="Leaked")

    with pytest.raises(RedeemCodeError, match="expired"):
        promotions.redeem(organization, old)
    with pytest.raises(RedeemCodeError, match="no such"):
        promotions.redeem(organization, off)

    assert available(organization) == 0
    assert not Redemption.objects.exists()


def test_credit_of_a_code_may_lapse(organization: Organization) -> None:
    _, text = make_code(credit_days=30)

    made = promotions.redeem(organization, text)

    assert made.grant.expires_at is not None
    assert timedelta(days=29) < made.grant.expires_at - timezone.now() <= timedelta(days=30)


def test_guessing_is_stopped(organization: Organization) -> None:
    _, text = make_code()
    for _ in range(promotions.GUESSES):
        with pytest.raises(RedeemCodeError):
            promotions.redeem(organization, "nonsense")

    with pytest.raises(TooManyGuessesError):
        promotions.redeem(organization, text)
    promotions.redeem(make_organization(), text)

    assert available(organization) == 0


def test_a_frozen_organization_redeems_nothing(organization: Organization) -> None:
    _, text = make_code()
    organization.is_frozen = True

    with pytest.raises(OrganizationFrozenError):
        promotions.redeem(organization, text)


@pytest.mark.django_db(transaction=True)
def test_a_code_for_two_raced_by_five_is_redeemed_twice() -> None:
    _, text = make_code(max_redemptions=2)
    tenants = [make_organization(credit_nanos=0) for _ in range(4)]
    # One of them tries twice at the same time.
    racers = [*tenants, tenants[0]]
    ready, refused = threading.Barrier(len(racers)), list[Exception]()

    def redeem(organization: Organization) -> None:
        try:
            ready.wait()
            promotions.redeem(organization, text)
        except RedeemCodeError as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=redeem, args=[each]) for each in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (Redemption.objects.count(), len(refused)) == (2, 3)
    assert sum(available(each) for each in tenants) == 6 * NANOS


# Trial credit ---------------------------------------------------------------------------------


def test_trial_credit_is_given_once(organization: Organization) -> None:
    promotions.grant_trial(organization)
    promotions.grant_trial(organization)

    assert available(organization) == 5 * NANOS
    assert CreditGrant.objects.get().expires_at is None


def test_trial_credit_may_lapse(organization: Organization, settings: Any) -> None:
    settings.TRIAL_CREDIT_DAYS = 7

    promotions.grant_trial(organization)

    expires_at = CreditGrant.objects.get().expires_at
    assert expires_at is not None
    assert timedelta(days=6) < expires_at - timezone.now() <= timedelta(days=7)


def test_a_site_may_give_no_trial_credit(organization: Organization, settings: Any) -> None:
    settings.TRIAL_CREDIT_NANOS = 0

    assert promotions.grant_trial(organization) is None


# Lapsing ----------------------------------------------------------------------------------------


def lapse(grant: CreditGrant) -> None:
    CreditGrant.objects.filter(pk=grant.pk).update(expires_at=timezone.now() - timedelta(days=1))


def grant(organization: Organization, nanos: int, name: str) -> CreditGrant:
    given, _ = wallets.add_grant(
        organization,
        nanos,
        kind="credit_granted",
        external_ref=name,
        reason="",
        expires_at=timezone.now() + timedelta(days=1),
    )
    return given


def test_credit_lapses_once_at_its_boundary(organization: Organization) -> None:
    """Regression 13: openmeter#4252, #1408, a grant is applied and ended once at its boundary."""
    grant(organization, 2 * NANOS, "stays")
    lapse(grant(organization, 3 * NANOS, "goes"))

    assert [wallets.expire_grants() for _ in range(3)] == [1, 0, 0]

    assert available(organization) == 2 * NANOS
    assert ledger.balance_of(ledger.PROMOTIONAL, organization) == -2 * NANOS


def test_what_an_open_run_may_need_lapses_after_it(
    organization: Organization, version: ModelVersion
) -> None:
    expensive = make_version(row_nanos=NANOS)
    given = grant(organization, 3 * NANOS, "goes")
    reserve(organization, expensive)
    lapse(given)

    wallets.expire_grants()

    given.refresh_from_db()
    assert given.remaining_nanos == NANOS


def test_the_grant_that_lapses_first_is_used_first(organization: Organization) -> None:
    expensive = make_version(row_nanos=NANOS)
    later = grant(organization, 3 * NANOS, "later")
    CreditGrant.objects.filter(pk=later.pk).update(expires_at=timezone.now() + timedelta(days=9))
    sooner = grant(organization, 2 * NANOS, "sooner")
    succeed(organization, expensive, rows=3)
    from billing import settlement

    settlement.settle()

    later.refresh_from_db()
    sooner.refresh_from_db()
    assert (sooner.remaining_nanos, later.remaining_nanos) == (0, 2 * NANOS)


def test_whoever_redeemed_is_on_the_grant(organization: Organization, owner: User) -> None:
    _, text = make_code()

    made = promotions.redeem(organization, text, actor=owner)

    assert made.grant.ledger_transaction.actor == owner

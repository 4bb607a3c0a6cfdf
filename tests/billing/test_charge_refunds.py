from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import AuditEntry, Organization, User
from billing import budgets, charge_refunds, earnings, ledger, settlement, shares, wallets
from billing.errors import ChargeRefundError
from billing.invariants import violations
from billing.models import ChargeRefund, ChargeRefundRun, Earning, Hold, LedgerTransaction
from catalog.models import ModelVersion
from tests.billing.calls import fail, reserve, succeed
from tests.billing.deaths import DeathError, death_at
from tests.factories import make_organization, make_user, make_version

COST = 20_000
PART = 16_000


@pytest.fixture
def operator(db: None) -> User:
    return make_user("operator@example.com", is_staff=True)


def give_back(hold_id: UUID, nanos: int | None, actor: User, ref: str = "") -> ChargeRefund:
    return charge_refunds.refund(
        hold_id, nanos, external_ref=ref or uuid.uuid4().hex, reason="Faulty answer", actor=actor
    )


def publisher_of(version: ModelVersion) -> Organization:
    return version.model.owner


@pytest.mark.django_db
@pytest.mark.usefixtures("books")
class TestOneCharge:
    def test_all_of_it_is_given_back_and_taken_from_publisher_and_platform(
        self, organization: Organization, version: ModelVersion, operator: User
    ) -> None:
        """Invariant 20: what a refund takes from publisher and platform sums to what it gives."""
        hold_id = succeed(organization, version)
        settlement.settle()
        had = budgets.wallet(organization).available

        made = give_back(hold_id, None, operator)

        assert (made.amount_nanos, made.publisher_nanos) == (COST, PART)
        assert budgets.wallet(organization).available == had + COST
        assert wallets.of(organization).paid_nanos == COST
        assert ledger.balance_of(ledger.ACCRUED, publisher_of(version)) == 0
        assert ledger.balance_of(ledger.REVENUE) == 0
        assert Earning.objects.get().clawed_back_nanos == PART
        booked = made.ledger_transaction
        assert (booked.actor, booked.reason) == (operator, "Faulty answer")
        charged = LedgerTransaction.objects.get(kind="settlement")
        assert booked.reversal_of == charged
        assert AuditEntry.objects.filter(action="charge.refunded", actor=operator).exists()

    def test_what_was_released_is_taken_from_what_is_payable_which_may_fall_below_zero(
        self,
        organization: Organization,
        version: ModelVersion,
        operator: User,
        settings: object,
    ) -> None:
        hold_id = succeed(organization, version)
        settlement.settle()
        earnings.release_due(timezone.now() + timedelta(days=31))
        publisher = publisher_of(version)
        assert ledger.balance_of(ledger.PAYABLE, publisher) == -PART

        made = give_back(hold_id, None, operator)

        assert made.is_from_payable
        assert ledger.balance_of(ledger.PAYABLE, publisher) == 0
        assert Earning.objects.get().clawed_back_nanos == 0

    def test_the_same_form_gives_back_once(
        self, organization: Organization, version: ModelVersion, operator: User
    ) -> None:
        hold_id = succeed(organization, version)
        settlement.settle()

        first = give_back(hold_id, 5_000, operator, ref="form-1")
        second = give_back(hold_id, 5_000, operator, ref="form-1")

        assert first == second
        assert ChargeRefund.objects.count() == 1

    @pytest.mark.parametrize("nanos", [0, -1, COST + 1])
    def test_more_than_the_charge_or_nothing_is_refused(
        self, organization: Organization, version: ModelVersion, operator: User, nanos: int
    ) -> None:
        hold_id = succeed(organization, version)
        settlement.settle()

        with pytest.raises(ChargeRefundError):
            give_back(hold_id, nanos, operator)

        assert not ChargeRefund.objects.exists()

    def test_pieces_are_at_most_the_charge(
        self, organization: Organization, version: ModelVersion, operator: User
    ) -> None:
        hold_id = succeed(organization, version)
        settlement.settle()
        give_back(hold_id, 15_000, operator)

        with pytest.raises(ChargeRefundError):
            give_back(hold_id, 5_001, operator)

        assert give_back(hold_id, None, operator).amount_nanos == 5_000

    def test_what_is_not_booked_failed_or_still_runs_cannot_be_given_back(
        self, organization: Organization, version: ModelVersion, operator: User
    ) -> None:
        for hold_id in [
            succeed(organization, version),
            fail(organization, version),
            reserve(organization, version).hold_id,
        ]:
            with pytest.raises(ChargeRefundError):
                give_back(hold_id, None, operator)

    def test_a_charge_on_the_credit_line_is_given_back_as_credit(
        self, version: ModelVersion, operator: User
    ) -> None:
        organization = make_organization(credit_nanos=0)
        wallets.set_line(organization, 1_000_000, actor=operator, reason="test")
        hold_id = succeed(organization, version)
        settlement.settle()

        give_back(hold_id, None, operator)

        wallet = wallets.of(organization)
        assert (wallet.owed_nanos, wallet.paid_nanos) == (COST, COST)
        assert budgets.wallet(organization).available == 1_000_000

    def test_the_database_refuses_more_than_the_charge_and_any_change(
        self, organization: Organization, version: ModelVersion, operator: User
    ) -> None:
        hold_id = succeed(organization, version)
        settlement.settle()
        made = give_back(hold_id, 15_000, operator)
        other = give_back(succeed_and_settle(organization, version), None, operator)

        with pytest.raises(DatabaseError, match="more would be given back"), transaction.atomic():
            ChargeRefund.objects.create(
                hold_id=hold_id,
                number=2,
                external_ref="by hand",
                amount_nanos=5_001,
                reason="",
                ledger_transaction=ledger.post(
                    "test",
                    "1",
                    {
                        ledger.account(ledger.REVENUE): 1,
                        ledger.account(ledger.SUSPENSE): -1,
                    },
                )[0],
            )
        with pytest.raises(DatabaseError, match="do not change"), transaction.atomic():
            ChargeRefund.objects.filter(pk=made.pk).update(amount_nanos=1)
        with pytest.raises(DatabaseError, match="do not change"), transaction.atomic():
            ChargeRefund.objects.filter(pk=other.pk).delete()


def succeed_and_settle(organization: Organization, version: ModelVersion) -> UUID:
    hold_id = succeed(organization, version)
    settlement.settle()
    return hold_id


@pytest.mark.django_db(transaction=True)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    bps=st.integers(0, 10_000),
    row_nanos=st.integers(1, 999),
    pieces=st.lists(st.integers(1, 400), max_size=6),
    release_after=st.integers(0, 6),
)
def test_pieces_take_exactly_what_the_publisher_got(
    bps: int, row_nanos: int, pieces: list[int], release_after: int
) -> None:
    """Invariant 20: any pieces of a refund take in the end exactly the shares of the charge."""
    actor = make_user()
    version = make_version(row_nanos=row_nanos)
    shares.add(bps, actor=actor, reason="test")
    organization = make_organization()
    hold_id = succeed_and_settle(organization, version)
    part = row_nanos * shares.current().publisher_bps // 10_000
    publisher = publisher_of(version)

    for number, piece in enumerate([*pieces, None]):
        if number == release_after:
            earnings.release_due(timezone.now() + timedelta(days=31))
        left = charge_refunds.left_of(Hold.objects.get(pk=hold_id))
        wanted = left if piece is None else min(piece, left)
        if wanted:
            give_back(hold_id, wanted, actor)

    refunds = ChargeRefund.objects.filter(hold=hold_id)
    assert sum(each.amount_nanos for each in refunds) == row_nanos
    assert sum(each.publisher_nanos for each in refunds) == part
    # Each piece names the one transaction that it takes a part of back.
    booked = refunds.values_list("ledger_transaction__reversal_of__kind", flat=True)
    assert set(booked) == {"settlement"}
    owed = ledger.balance_of(ledger.ACCRUED, publisher) + ledger.balance_of(
        ledger.PAYABLE, publisher
    )
    assert owed == 0
    assert violations() == []


@pytest.mark.django_db(transaction=True)
def test_eight_operators_at_once_give_back_at_most_the_charge(operator: User) -> None:
    """Regression 27: elizaOS/eliza#10920, refunds that race never give back more than was paid."""
    version = make_version()
    organization = make_organization()
    hold_id = succeed_and_settle(organization, version)
    start = threading.Barrier(8)
    refused = []

    def press() -> None:
        start.wait()
        try:
            give_back(hold_id, 6_000, operator)
        except ChargeRefundError as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 5
    assert ChargeRefund.objects.count() == 3
    assert violations() == []


@pytest.mark.django_db(transaction=True)
def test_a_refund_and_a_release_at_once_take_from_one_place_only(operator: User) -> None:
    version = make_version()
    organization = make_organization()
    holds = [succeed(organization, version) for _ in range(6)]
    settlement.settle()
    start = threading.Barrier(3)
    later = timezone.now() + timedelta(days=31)

    def run(*acts: Callable[[], object]) -> None:
        start.wait()
        try:
            for act in acts:
                act()
        finally:
            connection.close()

    threads = [
        threading.Thread(target=run, args=[lambda: [give_back(h, None, operator) for h in holds]]),
        threading.Thread(target=run, args=[lambda: earnings.release_due(later)]),
        threading.Thread(target=run, args=[lambda: earnings.release_due(later)]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    publisher = publisher_of(version)
    assert ledger.balance_of(ledger.ACCRUED, publisher) == 0
    assert ledger.balance_of(ledger.PAYABLE, publisher) == 0
    assert violations() == []


@pytest.mark.django_db
@pytest.mark.usefixtures("books")
class TestAllChargesOfAVersion:
    def start(self, version: ModelVersion, operator: User) -> ChargeRefundRun:
        now = timezone.now()
        return charge_refunds.start_run(
            uuid.uuid4(),
            version,
            now - timedelta(hours=1),
            now + timedelta(hours=1),
            reason="Wrong labels",
            actor=operator,
        )

    def test_each_charge_is_given_back_once_and_what_is_open_is_waited_for(
        self, organization: Organization, version: ModelVersion, operator: User
    ) -> None:
        charged = [succeed(organization, version) for _ in range(3)]
        other = succeed(organization, make_version())
        failed = fail(organization, version)
        settlement.settle()
        give_back(charged[0], 5_000, operator)
        late = succeed(organization, version)
        run = self.start(version, operator)

        assert charge_refunds.resume_runs() == 3
        run.refresh_from_db()
        assert run.state == "running"
        settlement.settle()
        assert charge_refunds.resume_runs() == 1

        run.refresh_from_db()
        assert run.state == "done"
        assert charge_refunds.resume_runs() == 0
        assert {refund.hold_id for refund in run.refunds.all()} == {*charged, late}
        assert not ChargeRefund.objects.filter(hold__in=[other, failed]).exists()
        assert ledger.balance_of(ledger.ACCRUED, publisher_of(version)) == 0

    def test_it_goes_on_where_it_was_stopped(
        self,
        organization: Organization,
        version: ModelVersion,
        operator: User,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(charge_refunds, "_PAGE", 2)
        for _ in range(5):
            succeed(organization, version)
        settlement.settle()
        run = self.start(version, operator)

        counts = [charge_refunds.resume(run, limit=2) for _ in range(4)]

        assert counts == [2, 2, 1, 0]
        run.refresh_from_db()
        assert run.state == "done"
        assert ChargeRefund.objects.count() == 5

    @pytest.mark.parametrize("line", ["refund.clawed_back", "refund.booked", "refund.next"])
    def test_killed_at_any_line_each_is_given_back_once(
        self, organization: Organization, version: ModelVersion, operator: User, line: str
    ) -> None:
        for _ in range(3):
            succeed(organization, version)
        settlement.settle()
        before = budgets.wallet(organization).available
        run = self.start(version, operator)

        for _ in range(2):
            with death_at(line), pytest.raises(DeathError):
                charge_refunds.resume(run)
        charge_refunds.resume(run)

        assert ChargeRefund.objects.count() == 3
        assert budgets.wallet(organization).available == before + 3 * COST
        assert ledger.balance_of(ledger.ACCRUED, publisher_of(version)) == 0
        assert not violations()

    def test_an_empty_period_is_refused(self, version: ModelVersion, operator: User) -> None:
        later = timezone.now() + timedelta(hours=1)
        with pytest.raises(ChargeRefundError, match="empty"):
            charge_refunds.start_run(
                uuid.uuid4(), version, later, later, reason="?", actor=operator
            )

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Organization, User
from billing import meter_sender, meters, months, postpaid, wallets
from billing.models import BillingPeriod, MeterBucket, MeterReport, Wallet
from billing.stripe import client
from billing.stripe.fake.transport import Fault
from tests.billing import postpaid_world as world
from tests.billing.postpaid_world import Clock

pytestmark = pytest.mark.django_db
HOUR = datetime(2026, 1, 10, 10, tzinfo=UTC)
EVENTS = "POST /v1/billing/meter_events"
State = MeterReport.State


@pytest.fixture
def tenant(clock: Clock) -> Organization:
    return world.make_postpaid(slug="acme")


def at_stripe(tenant: Organization, hour: datetime) -> int:
    """Return what Stripe's meter has for an hour."""
    gateway = client.gateway()
    (meter,) = gateway.list_meters()
    found = gateway.usage_summaries(
        meter=meter.id,
        customer=wallets.of(tenant).stripe_customer,
        start=hour,
        end=hour + timedelta(hours=1),
    )
    return sum(each.value for each in found)


def grow(bucket: MeterBucket, nanos: int) -> None:
    bucket.refresh_from_db()
    MeterBucket.objects.filter(pk=bucket.pk).update(nanos=bucket.nanos + nanos)


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=30))
def test_cuts_never_drift(parts: list[int]) -> None:
    """Invariant 21: the values of any cuts sum to the floor of what was used in micro-units."""
    ends = [sum(parts[: place + 1]) for place in range(len(parts))]

    values = [meters.value(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    assert sum(values) == sum(parts) // 1000
    assert all(value >= 0 for value in values)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=st.lists(st.integers(1, 5_000_000), min_size=1, max_size=5), data=st.data())
def test_any_schedule_of_cuts_reports_the_same(
    tenant: Organization, parts: list[int], data: st.DataObject
) -> None:
    """Invariant 21: whenever a bucket is cut while it grows, its reports sum to its floor."""
    MeterReport.objects.all().delete()
    MeterBucket.objects.all().delete()
    bucket = world.add_bucket(tenant, HOUR, 0)
    now = HOUR + timedelta(hours=1, seconds=30)
    for part in parts:
        grow(bucket, part)
        if data.draw(st.booleans()):
            meters.cut(now)
    meters.cut(now)
    reports = list(bucket.reports.order_by("seq"))

    assert meters.micros(bucket.reports.all()) == sum(parts) // 1000
    assert [report.nanos_from for report in reports[1:]] == [r.nanos_to for r in reports[:-1]]
    assert [report.seq for report in reports] == list(range(1, len(reports) + 1))


def test_an_hour_is_cut_thirty_seconds_after_it_ends(tenant: Organization) -> None:
    world.add_bucket(tenant, HOUR, 1_500_000)
    end = HOUR + timedelta(hours=1)

    assert meters.cut(end + timedelta(seconds=29)) == 0
    assert meters.cut(end + timedelta(seconds=30)) == 1
    assert meters.cut(end + timedelta(seconds=31)) == 0

    report = MeterReport.objects.get()
    assert report.identifier == f"u1:{tenant.pk}:usd:2026011010:1"
    assert report.counted_at == end - timedelta(seconds=1)
    assert report.value == 1500


def test_what_is_used_later_becomes_the_next_report_of_its_hour(tenant: Organization) -> None:
    bucket = world.add_bucket(tenant, HOUR, 1_500)
    meters.cut(HOUR + timedelta(hours=2))
    grow(bucket, 700)

    meters.cut(HOUR + timedelta(hours=3))

    late = bucket.reports.get(seq=2)
    assert late.identifier.endswith(":2")
    assert late.counted_at == HOUR + timedelta(minutes=59, seconds=59)
    assert (late.nanos_from, late.nanos_to, late.value) == (1_500, 2_200, 1)


@pytest.mark.parametrize("state", [BillingPeriod.State.METERED, BillingPeriod.State.FINALISED])
def test_usage_of_a_closed_month_counts_for_the_running_one(
    tenant: Organization, clock: Clock, state: str
) -> None:
    """Regression 37: killbill#1856, #1934: late usage is billed once, in the month that runs."""
    bucket = world.add_bucket(tenant, datetime(2026, 1, 31, 23, tzinfo=UTC), 5_000)
    clock.go_to(datetime(2026, 2, 1, 3, tzinfo=UTC))
    BillingPeriod.objects.create(organization=tenant, month=bucket.hour.date().replace(day=1))
    BillingPeriod.objects.update(state=state)

    meters.cut(clock.now)

    assert bucket.reports.get().counted_at == clock.now
    january, february = BillingPeriod.objects.order_by("month")
    assert not meters.counted_in(january).exists()
    assert meters.micros(meters.counted_in(february)) == 5


def test_usage_older_than_thirty_days_counts_now(tenant: Organization, clock: Clock) -> None:
    bucket = world.add_bucket(tenant, HOUR, 5_000)
    clock.wait(days=31)

    world.report(clock)

    report = bucket.reports.get()
    assert (report.state, report.counted_at) == (State.OK, clock.now)


def test_a_report_that_was_never_sent_for_thirty_days_counts_now(
    tenant: Organization, clock: Clock
) -> None:
    bucket = world.add_bucket(tenant, HOUR, 5_000)
    meters.cut(HOUR + timedelta(hours=2))
    clock.wait(days=36)

    meter_sender.send(clock.now)

    assert bucket.reports.get().state == State.OK
    assert at_stripe(tenant, months.hour_of(clock.now)) == 5


def test_nothing_is_reported_before_there_is_a_subscription(clock: Clock) -> None:
    client.fake().fail(Fault.CONFLICT, "POST /v1/subscriptions")
    tenant = world.make_postpaid(slug="late", card=False)
    assert wallets.of(tenant).stripe_subscription == ""
    bucket = world.add_bucket(tenant, HOUR, 5_000)
    clock.go_to(HOUR + timedelta(hours=4))
    assert meters.cut(clock.now) == 0

    assert postpaid.enrol_due() == 1
    world.report(clock)

    # Stripe bills what counts from the beginning of the subscription on.
    report = bucket.reports.get()
    assert report.counted_at == wallets.of(tenant).subscribed_at
    assert report.state == State.OK


def send_one(tenant: Organization, clock: Clock, nanos: int = 7_000) -> MeterReport:
    world.add_bucket(tenant, HOUR, nanos)
    clock.go_to(HOUR + timedelta(hours=1, minutes=1))
    world.report(clock)
    return MeterReport.objects.get()


def send_unclear(tenant: Organization, clock: Clock) -> MeterReport:
    """Lose a report on its way, beside usage at Stripe that the site has not sent."""
    client.fake().fail(Fault.BEFORE_SEND, EVENTS)
    report = send_one(tenant, clock)
    client.gateway().report_usage(
        event_name="mercato_spend_usd",
        customer=wallets.of(tenant).stripe_customer,
        value=3,
        at=HOUR,
        identifier="somebody-else",
    )
    clock.wait(hours=26)
    meter_sender.send(clock.now)
    report.refresh_from_db()
    return report


def test_a_report_is_sent_once(tenant: Organization, clock: Clock) -> None:
    """Regression 18: langfuse/langfuse#15917, a report has an identifier that retries keep."""
    report = send_one(tenant, clock)
    world.report(clock)

    assert report.state == State.OK
    (call,) = client.fake().calls(EVENTS)
    assert call.key == call.params["identifier"] == report.identifier
    assert call.params["payload"]["value"] == "7"


def test_the_identifier_is_derived_from_what_it_reports(tenant: Organization) -> None:
    """Regression 21: Vexa-ai/vexa#330, #350: no id is made up when something is sent."""
    bucket = world.add_bucket(tenant, HOUR, 5)

    assert meters.identifier(bucket, 3) == meters.identifier(bucket, 3)
    assert len(f"u1:{2**63}:usd:2026011010:{2**31}") <= 100


def test_a_duplicate_is_a_success(tenant: Organization, clock: Clock) -> None:
    """Regression 19: langfuse#16292, a duplicate identifier does not stall metering."""
    report = send_one(tenant, clock)
    # As after a crash: sent, and not written down. Stripe has forgotten the key, not the event.
    MeterReport.objects.update(state=State.SENT, identifier=report.identifier)
    forget_answers()

    meter_sender.send(clock.now)

    report.refresh_from_db()
    assert report.state == State.OK
    assert at_stripe(tenant, HOUR) == 7
    assert client.fake().calls(EVENTS)[-1].status == 400


def forget_answers() -> None:
    with client.fake()._store.transaction() as state:
        state.db.execute("DELETE FROM answers")


FAULTS = [Fault.BEFORE_SEND, Fault.AFTER_SEND, Fault.CONFLICT, Fault.RATE_LIMITED]
FAULTS += [Fault.BAD_GATEWAY]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(faults=st.lists(st.sampled_from(FAULTS), max_size=5))
def test_whatever_goes_wrong_each_hour_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, tenant: Organization, faults: list[Fault]
) -> None:
    """Invariant 23: after any faults Stripe has for each hour what the ledger has, once drained."""
    MeterReport.objects.all().delete()
    MeterBucket.objects.all().delete()
    clock = Clock(monkeypatch)
    # Each example uses hours of its own: Stripe's side is kept.
    first = HOUR + timedelta(hours=3 * len(client.fake().calls(EVENTS)))
    for number in range(3):
        world.add_bucket(tenant, first + timedelta(hours=number), 1_000 * (number + 1))
    clock.go_to(first + timedelta(hours=4))
    for fault in faults:
        client.fake().fail(fault, EVENTS)

    world.report(clock)
    while meter_sender.open_reports().exists():
        clock.wait(minutes=61)
        world.report(clock)

    assert set(MeterReport.objects.values_list("state", flat=True)) == {State.OK}
    counted = [at_stripe(tenant, first + timedelta(hours=number)) for number in range(3)]
    assert counted == [1, 2, 3]


def test_only_one_report_of_a_customer_is_in_flight(tenant: Organization, clock: Clock) -> None:
    world.add_bucket(tenant, HOUR, 5_000)
    world.add_bucket(tenant, HOUR + timedelta(hours=1), 6_000)
    clock.go_to(HOUR + timedelta(hours=3))
    meters.cut(clock.now)
    first = meter_sender._claim(tenant.pk, clock.now)

    assert first is not None
    assert meter_sender.send(clock.now) == 0

    # Its process has died: after the lease another takes over, in order.
    clock.wait(minutes=3)
    assert meter_sender.send(clock.now) == 2
    sent = [call.key for call in client.fake().calls(EVENTS)]
    assert sent == list(MeterReport.objects.order_by("pk").values_list("identifier", flat=True))


def test_a_failure_of_one_customer_does_not_stop_others(tenant: Organization, clock: Clock) -> None:
    """Regression 43: HamedMP/matrix-os#1823, one bad row does not stop the sweep."""
    other = world.make_postpaid(slug="other", card=False)
    for each in (tenant, other):
        world.add_bucket(each, HOUR, 5_000)
    clock.go_to(HOUR + timedelta(hours=2))
    client.fake().fail(Fault.RATE_LIMITED, EVENTS)

    world.report(clock)

    states = dict(MeterReport.objects.values_list("bucket__organization__slug", "state"))
    assert states == {"acme": State.PENDING, "other": State.OK}


def test_a_refusal_is_kept_for_an_operator(tenant: Organization, clock: Clock) -> None:
    customer = wallets.of(tenant).stripe_customer
    Wallet.objects.update(stripe_customer="cus_gone")
    report = send_one(tenant, clock)
    assert report.state == State.REJECTED
    assert "No such customer" in report.last_error

    Wallet.objects.update(stripe_customer=customer)
    operator = User.objects.get(email="operator@example.com")
    assert meter_sender.retry(report, actor=operator, reason="repaired")
    assert not meter_sender.retry(report, actor=operator, reason="repaired")
    forget_answers()
    meter_sender.send(clock.now)

    report.refresh_from_db()
    assert report.state == State.OK


@pytest.mark.parametrize("was_counted", [True, False])
def test_after_23_hours_stripe_is_asked_before_anything_is_sent(
    tenant: Organization, clock: Clock, was_counted: bool
) -> None:
    """Invariant 22: what is not known for 23 hours is compared, and never counted twice."""
    fault = Fault.AFTER_SEND if was_counted else Fault.BEFORE_SEND
    client.fake().fail(fault, EVENTS)
    report = send_one(tenant, clock)
    assert report.state == State.UNKNOWN
    # Stripe may have forgotten both the key and the identifier by now.
    clock.wait(hours=26)
    before = len(client.fake().calls(EVENTS))

    meter_sender.send(clock.now)

    report.refresh_from_db()
    assert report.state == State.OK
    assert at_stripe(tenant, HOUR) == 7
    assert len(client.fake().calls(EVENTS)) - before == (0 if was_counted else 1)


def test_sums_that_cannot_be_explained_are_left_to_an_operator(
    tenant: Organization, clock: Clock
) -> None:
    """Invariant 22: nothing is sent while Stripe's sum is neither with nor without the report."""
    report = send_unclear(tenant, clock)

    assert report.state == State.REJECTED
    assert "Stripe counts 3" in report.last_error


def test_less_than_a_micro_unit_is_not_sent(tenant: Organization, clock: Clock) -> None:
    report = send_one(tenant, clock, nanos=999)

    assert (report.value, report.state) == (0, State.OK)
    assert client.fake().calls(EVENTS) == []


@pytest.mark.django_db(transaction=True)
def test_senders_in_parallel_send_each_report_once(
    clock: Clock, run_threads: Callable[[Callable[[], object], int], list[object]]
) -> None:
    """Invariant 22: each identifier is accepted once, however many senders there are."""
    tenant = world.make_postpaid(slug="acme", card=False)
    for number in range(4):
        world.add_bucket(tenant, HOUR + timedelta(hours=number), 1_000)
    clock.go_to(HOUR + timedelta(hours=6))

    def act() -> None:
        meters.cut(clock.now)
        meter_sender.send(clock.now)

    run_threads(act, 6)
    meter_sender.send(clock.now)

    assert MeterReport.objects.filter(state=State.OK).count() == 4
    accepted = [call.key for call in client.fake().calls(EVENTS) if call.status == 200]
    assert len(accepted) == len(set(accepted)) == 4


@pytest.fixture
def run_threads() -> Callable[[Callable[[], object], int], list[object]]:
    """Run something in several threads at once, each with a connection of its own."""

    def run(act: Callable[[], object], count: int) -> list[object]:
        done: list[object] = []
        barrier = threading.Barrier(count)

        def work() -> None:
            try:
                barrier.wait()
                done.append(act())
            except Exception as error:
                done.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        failures = [each for each in done if isinstance(each, Exception)]
        assert failures == []
        return done

    return run

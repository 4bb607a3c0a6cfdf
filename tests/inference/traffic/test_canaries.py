"""Canaries and aliases: who gets which version, when it is rolled back, who is told."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import pytest

from accounts.errors import ConflictError, InvalidRequestError, MercatoError
from accounts.keys import Caller
from accounts.models import AuditEntry, Organization, OutgoingMail
from billing import holds
from catalog import publishing
from catalog.errors import ModelNotFoundError
from catalog.models import ModelVersion
from inference import versions
from inference.models import Canary
from inference.traffic import aliases, canaries, watching
from inference.traffic.canaries import Rule
from inference.webhooks import endpoints
from tests.billing import calls
from tests.inference.traffic.conftest import add_version

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]
State = Canary.State


@pytest.fixture
def caller(organization: Organization) -> Caller:
    return Caller(organization.pk, organization.slug)


def served(ref: str, caller: Caller) -> versions.Served:
    versions._cache.clear()
    return versions.resolve(ref, caller)


def run(organization: Organization, version: ModelVersion, *, run_us: int) -> None:
    """Make a call that ran so long."""
    reservation = calls.reserve(organization, version)
    assert holds.capture(replace(calls.report(reservation, version), run_us=run_us))


def start(version: ModelVersion, **rule: Any) -> Canary:
    version.refresh_from_db()
    version.model.refresh_from_db()
    return canaries.start(version, Rule(**rule), actor=None)


def test_a_pinned_version_stays_current_when_another_is_published(
    first: ModelVersion, second: ModelVersion, caller: Caller
) -> None:
    assert served("house/digits", caller).path == "house/digits:1"
    assert served("house/digits:2", caller).path == "house/digits:2"

    aliases.remove(first.model, "stable", actor=None)

    assert served("house/digits", caller).path == "house/digits:2"


def test_a_canary_gets_its_percent_and_the_same_request_the_same_version(
    first: ModelVersion, second: ModelVersion, caller: Caller
) -> None:
    start(second, percent=20)

    both = served("house/digits", caller)
    chosen = [both.choose(f"req_{number}").version_id for number in range(5000)]

    assert 0.18 < chosen.count(second.pk) / 5000 < 0.22
    assert chosen == [both.choose(f"req_{number}").version_id for number in range(5000)]
    # What is named exactly is not split.
    assert served("house/digits:1", caller).canary is None
    assert served("house/digits:stable", caller).canary is None
    assert served("house/digits:canary", caller).path == "house/digits:2"
    # The price is the model's.
    assert both.canary is not None
    assert both.terms.plan == both.canary.terms.plan


@pytest.mark.parametrize("end", ["promote", "stop"])
def test_a_canary_ends_once(
    first: ModelVersion, second: ModelVersion, caller: Caller, end: str
) -> None:
    canary = start(second)

    assert getattr(canaries, end)(canary, actor=None)

    expected = "house/digits:2" if end == "promote" else "house/digits:1"
    assert served("house/digits", caller).path == expected
    assert served("house/digits:canary", caller).path == expected
    assert not canaries.stop(canary, actor=None)
    assert not canaries.promote(canary, actor=None)
    with pytest.raises(ConflictError):
        canaries.change(canary, Rule(), actor=None)
    assert served("house/digits", caller).path == expected
    actions = AuditEntry.objects.filter(action__startswith="canary.").order_by("pk")
    assert [each.action for each in actions] == ["canary.started", f"canary.{canary.state}"]


def test_only_a_version_that_fits_is_tried(first: ModelVersion, second: ModelVersion) -> None:
    other_form = add_version(first, 3, signature={"inputs": [], "outputs": []})
    draft = ModelVersion.objects.create(model=first.model, number=4, signature=first.signature)

    for version in (first, other_form, draft):
        with pytest.raises(ConflictError):
            start(version)
    start(second)
    third = add_version(first, 5)
    with pytest.raises(ConflictError, match="tried on this model already"):
        start(third)


@pytest.mark.parametrize(
    "rule",
    [
        {"percent": 0},
        {"percent": 101},
        {"max_error_percent": -1},
        {"max_slowdown_percent": 10_001},
        {"min_calls": 0},
    ],
)
def test_a_rule_out_of_bounds_is_refused(second: ModelVersion, rule: dict[str, int]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        start(second, **rule)

    assert refused.value.param == next(iter(rule))
    assert not Canary.objects.exists()


def test_a_withdrawn_canary_gets_nothing(
    first: ModelVersion, second: ModelVersion, caller: Caller
) -> None:
    start(second, percent=100)

    publishing.withdraw(second, actor=None)

    assert served("house/digits", caller).choose("req_1").path == "house/digits:1"


def test_a_canary_that_fails_is_rolled_back_and_its_owner_told(
    first: ModelVersion, second: ModelVersion, organization: Organization, house: Organization
) -> None:
    endpoint, _ = endpoints.create(house, "https://example.com/hook", event_types=["canary.ended"])
    canary = start(second, min_calls=10, max_error_percent=20)
    for _ in range(7):
        calls.succeed(organization, second)
    for failure in ("model_error", "platform_error"):
        calls.fail(organization, second, failure)
    # Says nothing about the version.
    calls.fail(organization, second, "worker_lost")
    assert watching.watch() == 0, "nine calls are too few"
    calls.succeed(organization, second)
    assert watching.watch() == 0, "two of ten are not more than twenty percent"

    calls.fail(organization, second, "prediction_timeout")

    assert watching.watch() == 1
    assert watching.watch() == 0
    canary.refresh_from_db()
    assert (canary.state, canary.cause) == (State.ROLLED_BACK, "errors")
    assert (canary.measured["calls"], canary.measured["errors"]) == (11, 3)
    entry = AuditEntry.objects.get(action="canary.rolled_back")
    assert (entry.actor, entry.reason, entry.organization) == (None, "errors", house)
    mail = OutgoingMail.objects.get()
    assert (mail.user.email, mail.template) == (
        "publisher@example.com",
        "inference/email/canary_rolled_back",
    )
    delivery = endpoint.deliveries.get()
    assert (delivery.type, delivery.event_id) == ("canary.ended", f"evt_canary_{canary.pk}")


def test_a_canary_that_is_slow_is_rolled_back(
    first: ModelVersion, second: ModelVersion, organization: Organization
) -> None:
    canary = start(second, min_calls=5, max_slowdown_percent=50)
    for _ in range(5):
        run(organization, first, run_us=1000)
        run(organization, second, run_us=1500)
    assert watching.watch() == 0, "half as long again is allowed"

    for _ in range(5):
        run(organization, second, run_us=1502)

    assert watching.watch() == 1
    canary.refresh_from_db()
    assert canary.cause == "latency"
    assert (canary.measured["p95_us"], canary.measured["stable_p95_us"]) == (1502, 1000)
    assert "mean_us" not in canary.measured


def test_a_canary_that_is_slow_for_a_few_is_rolled_back_whatever_its_mean(
    first: ModelVersion, second: ModelVersion, organization: Organization
) -> None:
    canary = start(second, min_calls=20, max_slowdown_percent=100)
    for number in range(20):
        run(organization, first, run_us=2000)
        # The slowest one of twenty is beyond the percentile.
        run(organization, second, run_us=9000 if number == 7 else 1000)
    assert watching.measure(canary).p95_us == 1000
    assert watching.watch() == 0

    run(organization, second, run_us=9000)

    measured = watching.measure(canary)
    # Of 21 the 20th: both slow ones are beyond what the other 19 took.
    assert (measured.calls, measured.p95_us, measured.stable_p95_us) == (21, 9000, 2000)
    assert watching.watch() == 1


def test_the_percentile_is_the_value_at_its_rank_in_a_few_queries(
    first: ModelVersion,
    second: ModelVersion,
    organization: Organization,
    django_assert_num_queries: Any,
) -> None:
    canary = start(second)
    times: list[int] = []
    for number in range(1, 24):
        # In an order that is not theirs.
        times.append(number * 7919 % 1009)
        run(organization, second, run_us=times[-1])
        with django_assert_num_queries(4):
            found = watching.measure(canary)
        assert found.p95_us == sorted(times)[ceil(0.95 * number) - 1]
    run(organization, first, run_us=5)
    with django_assert_num_queries(5):
        assert watching.measure(canary).stable_p95_us == 5


def test_calls_from_before_the_canary_do_not_count(
    first: ModelVersion, second: ModelVersion, organization: Organization
) -> None:
    for _ in range(10):
        calls.fail(organization, second)

    canary = start(second, min_calls=5)

    assert watching.measure(canary).calls == 0
    assert watching.watch() == 0


def test_aliases_are_set_moved_and_removed(
    first: ModelVersion, second: ModelVersion, caller: Caller
) -> None:
    aliases.set_alias(first.model, "for-2026", first, actor=None)
    assert served("house/digits:for-2026", caller).path == "house/digits:1"

    aliases.set_alias(first.model, "for-2026", second, actor=None)
    assert served("house/digits:for-2026", caller).path == "house/digits:2"

    assert aliases.remove(first.model, "for-2026", actor=None)
    assert not aliases.remove(first.model, "for-2026", actor=None)
    with pytest.raises(ModelNotFoundError):
        served("house/digits:for-2026", caller)


@pytest.mark.parametrize("name", ["", "2", "Upper", "a_b", "a" * 32, "canary", "a-", "stable\n"])
def test_a_name_that_is_no_alias_is_refused(first: ModelVersion, name: str) -> None:
    with pytest.raises(InvalidRequestError):
        aliases.set_alias(first.model, name, first, actor=None)


def test_an_alias_means_versions_on_offer_of_its_own_model_only(
    first: ModelVersion, second: ModelVersion, caller: Caller
) -> None:
    other = add_version(first, 7)
    publishing.withdraw(other, actor=None)
    other.refresh_from_db()
    with pytest.raises(MercatoError):
        aliases.set_alias(first.model, "old", other, actor=None)
    aliases.set_alias(first.model, "next", second, actor=None)

    publishing.withdraw(second, actor=None)

    with pytest.raises(ModelNotFoundError):
        served("house/digits:next", caller)

"""Shadows: which version may be one, when it counts, and that one model has one."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from django.db import IntegrityError

from accounts.errors import ConflictError, InvalidRequestError
from accounts.keys import Caller
from accounts.models import AuditEntry, Organization
from catalog import publishing
from catalog.models import ModelVersion
from inference import versions
from inference.models import Shadow
from inference.traffic import canaries, shadows
from inference.traffic.canaries import Rule
from inference.traffic.copying import Target
from inference.traffic.shadows import Tally
from tests.billing.threads import in_threads
from tests.inference.traffic.conftest import add_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def caller(organization: Organization) -> Caller:
    return Caller(organization.pk, organization.slug)


def put(version: ModelVersion, percent: int | None = None) -> Shadow:
    version.refresh_from_db()
    version.model.refresh_from_db()
    return shadows.put(version, percent, actor=None)


def served(ref: str, caller: Caller) -> versions.Served:
    versions._cache.clear()
    return versions.resolve(ref, caller)


def test_only_a_version_that_fits_and_is_not_current_is_one(
    first: ModelVersion, second: ModelVersion
) -> None:
    other_form = add_version(first, 3, signature={"inputs": [], "outputs": []})
    withdrawn = add_version(first, 4)
    publishing.withdraw(withdrawn, actor=None)

    for version in (first, other_form, withdrawn):
        with pytest.raises(ConflictError):
            put(version)

    assert not Shadow.objects.exists()
    assert not AuditEntry.objects.filter(action__startswith="shadow.").exists()


@pytest.mark.parametrize("kind", ["text", "prompt"])
def test_models_of_text_have_none(first: ModelVersion, second: ModelVersion, kind: str) -> None:
    signature = {**first.signature, "inputs": [first.signature["inputs"][0] | {"kind": kind}]}
    first.model.versions.update(signature=signature)

    with pytest.raises(ConflictError, match="text"):
        put(second)


def test_a_draft_may_be_one_and_its_percentage_is_changed(first: ModelVersion) -> None:
    draft = ModelVersion.objects.create(model=first.model, number=2, signature=first.signature)

    shadow = put(draft)
    assert shadow.percent == 5
    assert put(draft, 100).pk == shadow.pk
    assert put(draft).percent == 100

    assert shadows.stop(shadow, actor=None, reason="enough")
    assert not shadows.stop(shadow, actor=None)
    assert put(draft, 7).pk != shadow.pk
    actions = AuditEntry.objects.filter(action__startswith="shadow.").order_by("pk")
    assert [(each.action, each.reason, each.details["percent"]) for each in actions] == [
        ("shadow.started", "", 5),
        ("shadow.changed", "", 100),
        ("shadow.changed", "", 100),
        ("shadow.stopped", "enough", 100),
        ("shadow.started", "", 7),
    ]
    assert actions[3].details["calls"] == 0


@pytest.mark.parametrize("percent", [0, 101, -1])
def test_a_percentage_out_of_bounds_is_refused(second: ModelVersion, percent: int) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        put(second, percent)

    assert refused.value.param == "percent"
    with pytest.raises(IntegrityError):
        Shadow.objects.create(model=second.model, version=second, percent=percent)


def test_a_model_has_one_at_a_time(first: ModelVersion, second: ModelVersion) -> None:
    third = add_version(first, 3)
    put(second)

    with pytest.raises(ConflictError, match="already"):
        put(third)

    assert shadows.running(first.model) == Shadow.objects.get(version=second)


@pytest.mark.django_db(transaction=True)
def test_of_many_that_start_at_once_one_does(first: ModelVersion, second: ModelVersion) -> None:
    rivals = [second, *(add_version(first, number) for number in (3, 4, 5))]
    waiting = list(rivals)

    def start() -> str:
        try:
            put(waiting.pop())
        except ConflictError:
            return "refused"
        return "started"

    assert sorted(in_threads(4, start)) == ["refused"] * 3 + ["started"]
    assert Shadow.objects.count() == 1
    assert AuditEntry.objects.filter(action="shadow.started").count() == 1


def _withdraw(first: ModelVersion, second: ModelVersion) -> None:
    publishing.withdraw(second, actor=None)


def _make_current(first: ModelVersion, second: ModelVersion) -> None:
    publishing.pin(first.model, second, actor=None)


def _withdraw_all(first: ModelVersion, second: ModelVersion) -> None:
    ModelVersion.objects.filter(pk=second.pk).update(status=ModelVersion.Status.DRAFT)
    publishing.withdraw(first, actor=None)


def _other_form(first: ModelVersion, second: ModelVersion) -> None:
    signature = {**first.signature, "outputs": [first.signature["outputs"][0] | {"shape": [9]}]}
    ModelVersion.objects.filter(pk=first.pk).update(signature=signature)


def _stop(first: ModelVersion, second: ModelVersion) -> None:
    shadows.stop(Shadow.objects.get(), actor=None)


@pytest.mark.parametrize("end", [_withdraw, _make_current, _withdraw_all, _other_form, _stop])
def test_what_no_longer_fits_copies_nothing_and_makes_room(
    first: ModelVersion, second: ModelVersion, end: Any
) -> None:
    shadow = put(second, 50)
    assert shadows.by_id(shadow.pk) == shadows.running(first.model) == shadow

    end(first, second)

    assert shadows.running(first.model) is None
    assert shadows.by_id(shadow.pk) is None
    if end is not _other_form:
        assert not shadows.add(shadow.pk, Tally(calls=1))
        assert Shadow.objects.get().calls == 0
    _assert_makes_room(first, second, shadow)


def _assert_makes_room(first: ModelVersion, second: ModelVersion, shadow: Shadow) -> None:
    """Another version becomes current and what was second has its place taken by a new one."""
    publishing.publish(first, actor=None)
    base = add_version(first, 8)
    publishing.pin(first.model, base, actor=None)
    ModelVersion.objects.filter(pk=second.pk).update(status=ModelVersion.Status.WITHDRAWN)
    assert put(add_version(first, 9)).state == Shadow.State.RUNNING
    shadow.refresh_from_db()
    assert shadow.state == Shadow.State.STOPPED
    assert AuditEntry.objects.filter(action="shadow.stopped").count() == 1


def test_numbers_are_added_and_read(first: ModelVersion, second: ModelVersion) -> None:
    shadow = put(second)
    assert (shadow.agreed_percent, shadow.mean_us, shadow.stable_mean_rows) == (None, None, None)

    for _ in range(2):
        assert shadows.add(shadow.pk, Tally(1500, 500, 999, 2_000_000, 3_000_000, 4000, 9000))
    assert not shadows.add(shadow.pk, Tally())

    shadow.refresh_from_db()
    assert shadows.measured(shadow) == {
        "calls": 3000,
        "failures": 1000,
        "agreed_percent": 66.6,
        "mean_us": 2000,
        "stable_mean_us": 3000,
        "mean_rows": 4,
        "stable_mean_rows": 9,
    }


def test_not_quite_all_is_never_a_hundred(second: ModelVersion) -> None:
    shadow = Shadow(model=second.model, version=second, calls=100_000, agreed=99_999)

    assert shadow.agreed_percent == 99.99


def test_calls_of_the_current_version_know_their_shadow_however_it_was_named(
    first: ModelVersion, second: ModelVersion, caller: Caller
) -> None:
    assert served("house/digits", caller).shadow is None
    shadow = put(second, 30)
    canaries.start(second, Rule(percent=50), actor=None)
    target = Target(shadow.pk, second.pk, 30)

    both = served("house/digits", caller)

    assert both.shadow == served("house/digits:1", caller).shadow == target
    assert both.canary is not None
    assert both.canary.shadow is None
    assert served("house/digits:2", caller).shadow is None
    publishing.withdraw(second, actor=None)
    assert served("house/digits", caller).shadow is None


@pytest.mark.once
@pytest.mark.parametrize("percent", [0, 1, 30, 100])
def test_a_part_of_the_calls_is_copied_whatever_the_canary_takes(percent: int) -> None:
    target = Target(1, 2, percent)
    ids = [f"req_{number}" for number in range(20_000)]

    taken = [target.takes(each) for each in ids]

    assert taken == [target.takes(each) for each in ids]
    assert abs(sum(taken) / len(ids) - percent / 100) < 0.015
    canary = [each for each in ids if crc32(each.encode()) % 100 < 20]
    assert abs(sum(map(target.takes, canary)) / len(canary) - percent / 100) < 0.03

"""What a worker does with copies: runs them between calls, counts, and charges nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from billing.models import Hold, UsageEvent
from catalog import publishing
from catalog.models import Artifact, ModelVersion
from inference import loading
from inference.batch_files import giving_way
from inference.fetching import DamagedArtifactError
from inference.link import predict_link
from inference.models import Shadow
from inference.runtime.signature import TensorSpec
from inference.traffic import comparing, copies, shadows
from inference.traffic.comparing import Comparer, agrees
from inference.traffic.copies import Copies, Copy
from tests import factories
from tests.inference.traffic.conftest import turn_around

pytestmark = pytest.mark.django_db


@pytest.fixture
def shadow(first: ModelVersion, second: ModelVersion) -> Iterator[Shadow]:
    """Runs copies; what earlier versions of the same number left in memory is forgotten."""
    forget(first, second)
    made = shadows.put(ModelVersion.objects.get(pk=second.pk), 100, actor=None)
    copies.forget(made.pk)
    yield made
    copies.forget(made.pk)
    forget(first, second)


def forget(*versions: ModelVersion) -> None:
    loading.signature_of.cache_clear()
    for version in versions:
        loading.sessions.unload(version.pk)
        loading._failures.pop(version.pk, None)


def copy(first: ModelVersion, *digits: int) -> Copies:
    """Return calls as the first version answers them, two rows each."""
    images = np.array([factories.image(each) for each in digits for _ in range(2)], np.float32)
    with loading.using(first.pk) as session:
        outputs = session.run({"image": images})
    calls = [Copy(rows=2, run_us=1000, batch_rows=64) for _ in digits]
    return Copies(calls, {"image": images}, outputs)


def put(shadow: Shadow, *batches: Copies) -> None:
    copies.put(shadow.pk, [copies.pack(one) for one in batches])


def waiting(shadow: Shadow) -> int:
    number: int = predict_link().ask(("ZCARD", copies.key(shadow.pk)))[0]
    return number


def loaded(shadow: Shadow) -> Comparer:
    """Return a comparer of a worker that has the version loaded."""
    loading.session_of(shadow.version_id)
    return Comparer(lambda: False)


def test_copies_of_an_equal_version_agree(first: ModelVersion, shadow: Shadow) -> None:
    put(shadow, copy(first, 1, 2, 3), copy(first, 4))

    assert loaded(shadow).turn(shadow.pk) is False

    shadow.refresh_from_db()
    assert (shadow.calls, shadow.failures, shadow.agreed_percent) == (4, 0, 100)
    assert (shadow.stable_mean_us, shadow.stable_mean_rows) == (1000, 64)
    assert shadow.mean_us is not None
    assert shadow.mean_us > 0
    # Three calls ran with six rows, one with two.
    assert shadow.batch_rows_total == 3 * 6 + 2
    assert waiting(shadow) == 0


def test_copies_of_another_version_do_not(
    first: ModelVersion, second: ModelVersion, shadow: Shadow
) -> None:
    turn_around(second)
    put(shadow, copy(first, 1, 9))

    loaded(shadow).turn(shadow.pk)

    shadow.refresh_from_db()
    assert (shadow.calls, shadow.failures, shadow.agreed_percent) == (2, 0, 0)


def test_a_version_that_cannot_be_loaded_fails_all(
    first: ModelVersion, second: ModelVersion, shadow: Shadow
) -> None:
    Artifact.objects.filter(version=second).update(sha256="0" * 64)
    put(shadow, copy(first, 1, 2))

    with pytest.raises(DamagedArtifactError):
        loading.session_of(second.pk)
    Comparer(lambda: False).turn(shadow.pk)

    shadow.refresh_from_db()
    assert (shadow.calls, shadow.failures, shadow.agreed) == (2, 2, 0)
    assert (shadow.run_us_total, shadow.mean_us) == (0, None)


def test_a_call_that_breaks_the_model_fails_alone(first: ModelVersion, shadow: Shadow) -> None:
    copied = copy(first, 1, 2)
    copied.inputs["image"][0] = np.nan
    put(shadow, copied)

    loaded(shadow).turn(shadow.pk)

    shadow.refresh_from_db()
    assert (shadow.calls, shadow.failures, shadow.agreed) == (2, 1, 1)
    assert shadow.stable_run_us_total == 1000


def test_only_the_shadows_row_is_written_and_nothing_is_charged(
    first: ModelVersion, shadow: Shadow
) -> None:
    put(shadow, *(copy(first, 1) for _ in range(5)))
    comparer = loaded(shadow)

    with CaptureQueriesContext(connection) as queries:
        comparer.turn(shadow.pk)

    written = [each["sql"] for each in queries if not each["sql"].startswith("SELECT")]
    assert len(written) == 1
    assert written[0].startswith('UPDATE "inference_shadow"')
    assert not Hold.objects.exists()
    assert not UsageEvent.objects.exists()


def test_copies_wait_while_a_call_runs(
    first: ModelVersion, shadow: Shadow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "TURN_SECONDS", 0.05)
    put(shadow, copy(first, 1))
    comparer = loaded(shadow)

    with giving_way.live_call():
        assert comparer.turn(shadow.pk) is True
    assert waiting(shadow) == 1

    monkeypatch.undo()
    comparer.turn(shadow.pk)
    shadow.refresh_from_db()
    assert shadow.calls == 1


def test_copies_for_a_withdrawn_version_are_thrown_away(
    first: ModelVersion, second: ModelVersion, shadow: Shadow
) -> None:
    put(shadow, copy(first, 1))
    comparer = loaded(shadow)
    publishing.withdraw(second, actor=None)

    assert comparer.turn(shadow.pk) is False

    shadow.refresh_from_db()
    assert (shadow.calls, waiting(shadow)) == (0, 0)


def test_who_may_not_load_leaves_the_copies_to_others(first: ModelVersion, shadow: Shadow) -> None:
    put(shadow, copy(first, 1))

    assert Comparer(lambda: False).turn(shadow.pk) is False

    assert waiting(shadow) == 1
    assert not loading.is_settled(shadow.version_id)
    assert loading.starting() == {}


@pytest.mark.django_db(transaction=True)
def test_the_thread_loads_runs_what_is_rung_for_and_ends(
    first: ModelVersion, shadow: Shadow, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = threading.Event()
    add = shadows.add

    def noted(*args: Any) -> bool:
        found = add(*args)
        added.set()
        return found

    monkeypatch.setattr(shadows, "add", noted)
    closed = threading.Event()
    comparer = Comparer(lambda: True)
    _close_at_the_end(comparer, closed)
    put(shadow, copy(first, 1))
    comparer.start()

    comparer.ring(2**40)
    comparer.ring(shadow.pk)

    assert added.wait(60)
    comparer.stop()
    assert closed.wait(10)
    loading._loader.submit(connections.close_all).result()
    shadow.refresh_from_db()
    assert (shadow.calls, shadow.agreed) == (1, 1)


def _close_at_the_end(comparer: Comparer, closed: threading.Event) -> None:
    """Close the thread's connection, or the test's database could not be thrown away."""
    loop = comparer._loop

    def run() -> None:
        try:
            loop()
        finally:
            connections.close_all()
            closed.set()

    comparer._thread = threading.Thread(target=run, daemon=True)


def spec(datatype: str = "float32", labels: tuple[str, ...] = ()) -> TensorSpec:
    return TensorSpec("y", datatype, (2,), labels=labels)


@pytest.mark.once
@pytest.mark.parametrize(
    ("output", "given", "ours", "is_same"),
    [
        (spec(labels=("a", "b")), [[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.4, 0.6]], True),
        (spec(labels=("a", "b")), [[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.6, 0.4]], False),
        (spec(), [[1000.0, 0.0]], [[1000.9, 0.00009]], True),
        (spec(), [[1000.0, 0.0]], [[1001.2, 0.0]], False),
        (spec(), [[1000.0, 0.0]], [[1000.0, 0.0002]], False),
        (spec("int64"), [[1000, 2]], [[1000, 2]], True),
        (spec("int64"), [[10_000, 2]], [[10_001, 2]], False),
        (spec(), [[1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]], False),
        (spec(), [[1.0, 2.0]], [[1.0]], False),
    ],
)
def test_when_outputs_agree(output: TensorSpec, given: Any, ours: Any, is_same: bool) -> None:
    theirs, mine = ({"y": np.array(each, output.datatype)} for each in (given, ours))

    assert agrees([output], theirs, mine) is is_same
    assert agrees([output], theirs, {}) is False
    assert agrees([output, TensorSpec("z", "float32", (1,))], theirs, mine) is False

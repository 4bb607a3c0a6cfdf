"""Two predict workers behind one gateway: one dies, one drains, one is cordoned."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from accounts.models import Organization
from billing.models import UsageEvent
from catalog.models import ModelVersion
from inference import fleet, reaping, registry
from inference.connections import PREDICT_DB, redis_client
from inference.models import Worker
from inference.wire import pending_key
from tests import factories
from tests.live import Site

FIRST, SECOND = "predict@test", "predict-2@test"


@pytest.fixture
def secret(organization: Organization) -> str:
    return factories.make_key(organization)[1]


@pytest.fixture
def second(site: Site) -> Iterator[None]:
    """End the second worker, whatever the test has left of it."""
    yield
    site.end("predict-2")
    reaping.reap()


def members() -> dict[str, registry.Member]:
    """Return the living workers by node."""
    found = registry.read(redis_client(PREDICT_DB), "cpu")
    return {each.name.rpartition(":")[0]: each for each in found}


def ran(site: Site, secret: str, version: ModelVersion) -> str:
    """Call a version; returns the node that ran it."""
    before = set(UsageEvent.objects.values_list("pk", flat=True))
    answer = site.predict(secret, factories.body(version))
    assert answer.status_code == 200, answer.text
    return node(UsageEvent.objects.exclude(pk__in=before).get())


def node(event: UsageEvent) -> str:
    return event.worker.rpartition(":")[0]


def start_second(site: Site, **environment: str) -> None:
    """Start the second worker with nothing loaded: what the first has, the first is asked for."""
    site.start_worker("predict-2", MERCATO_PRELOAD_MODELS="0", **environment)
    site.wait_until(lambda: set(members()) == {FIRST, SECOND}, seconds=120)


@pytest.mark.usefixtures("second")
def test_what_waits_for_a_worker_that_is_killed_is_run_by_another(site: Site, secret: str) -> None:
    versions = [factories.make_version() for _ in range(3)]
    assert {ran(site, secret, version) for version in versions} == {FIRST}
    start_second(site)
    before = set(UsageEvent.objects.values_list("pk", flat=True))
    pending = pending_key(members()[FIRST].name)
    site.freeze("predict")

    with ThreadPoolExecutor(3) as pool:
        answers = [
            pool.submit(site.predict, secret, factories.body(version)) for version in versions
        ]
        site.wait_until(lambda: bool(redis_client(PREDICT_DB).llen(pending)), seconds=30)
        site.kill("predict")
        codes = [answer.result().status_code for answer in answers]

    late = UsageEvent.objects.exclude(pk__in=before)
    assert codes == [200, 200, 200]
    assert [node(event) for event in late] == [SECOND] * 3
    site.wait_until(lambda: FIRST not in members(), seconds=30)
    reaping.reap()
    assert not redis_client(PREDICT_DB).exists(pending)


@pytest.mark.usefixtures("second")
def test_a_cordoned_worker_loads_nothing_and_a_drained_one_takes_nothing(
    site: Site, secret: str
) -> None:
    old, new = factories.make_version(), factories.make_version()
    assert ran(site, secret, old) == FIRST
    start_second(site)
    first = Worker.objects.alive().get(node=FIRST)

    fleet.cordon(first, actor=None, reason="test")
    site.wait_until(lambda: members()[FIRST].duty == "cordoned", seconds=30)
    assert ran(site, secret, old) == FIRST
    assert ran(site, secret, new) == SECOND
    fleet.drain(first, actor=None, reason="test")
    site.wait_until(lambda: members()[FIRST].duty == "drained", seconds=60)
    site.wait_until(
        lambda: {ran(site, secret, old) for _ in range(4)} == {SECOND},
        seconds=60,
    )
    fleet.uncordon(first, actor=None, reason="test")
    site.wait_until(lambda: members()[FIRST].duty == "active", seconds=30)

    assert members()[FIRST].loaded == {old.pk}


def first_choice(nodes: dict[str, registry.Member]) -> ModelVersion:
    """Make a version that the first worker would be asked to load."""
    while True:
        version = factories.make_version()
        if registry.ranked(version.pk, list(nodes.values()))[0] == nodes[FIRST]:
            return version


@pytest.mark.usefixtures("second")
def test_what_needs_a_label_runs_only_where_it_is_and_is_refused_when_nobody_has_it(
    site: Site, secret: str
) -> None:
    start_second(site, MERCATO_WORKER_LABELS="slots=16")
    version = first_choice(members())
    assert ran(site, secret, version) == FIRST
    site.wait_until(lambda: version.pk in members()[FIRST].loaded, seconds=30)

    fleet.pin(version, actor=None, reason="test", labels={"slots": "8"})
    site.wait_until(lambda: version.pk not in members()[FIRST].loaded, seconds=30)
    # For some seconds gateways remember that anybody may run it: the first one hands it on.
    assert {ran(site, secret, version) for _ in range(5)} == {SECOND}
    site.wait_until(lambda: version.pk in members()[SECOND].loaded, seconds=30)
    assert {ran(site, secret, version) for _ in range(5)} == {SECOND}

    fleet.unpin(version, actor=None, reason="test")
    site.end("predict-2")

    def refusal() -> str:
        answer = site.predict(secret, factories.body(version))
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        found: str = answer.json()["error"]["code"]
        return found

    before = UsageEvent.objects.count()
    site.wait_until(lambda: refusal() == "no_worker", seconds=60)
    ready = site.client.get(
        f"/v2/models/{version.model.path.replace('/', '.')}/ready",
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "no_worker")
    assert version.pk not in members()[FIRST].loaded
    assert UsageEvent.objects.filter(outcome="succeeded").count() == before

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import redis

from billing.ids import uuid7
from inference.connections import EVENTS_DB, redis_client
from inference.metrics import counting, families, live, tally
from inference.metrics.counting import Batch, CallTimes, Load, Refusal, Worked
from inference.metrics.flushing import GONE_SECONDS, MOST_NAMES, PROCESSES_KEY, Flusher
from inference.metrics.tally import Tally
from inference.metrics.watching import route_of
from tests.inference.watched import counts, exposed

__all__ = ["counts"]
pytestmark = [pytest.mark.once, pytest.mark.usefixtures("counts")]


class Breaking:
    """A connection that breaks before Redis is asked, or before its answer arrives."""

    def __init__(self, script: Any, breaks: list[str]) -> None:
        self._script, self._breaks = script, breaks

    def __call__(self, keys: list[str], args: list[Any]) -> Any:
        when = self._breaks.pop(0) if self._breaks else ""
        if when == "before":
            raise redis.ConnectionError("refused")
        answer = self._script(keys, args)
        if when == "after":
            raise redis.TimeoutError("no answer")
        return answer


def flusher(*breaks: str) -> Flusher:
    made = Flusher("unit")
    made._script = Breaking(made._script, list(breaks))  # type: ignore[assignment]  # stands for it
    return made


def calls(number: int, model: str = "lab/digits") -> None:
    for _ in range(number):
        counting.call(model, 7, "succeeded", 5_000, rows=2)


def test_what_several_processes_counted_is_added_up() -> None:
    one, other = Flusher("unit"), Flusher("unit")
    calls(3)
    assert one.flush()
    calls(4)
    assert other.flush()
    calls(5)
    assert one.flush()

    found = exposed()

    assert (
        found.value("mercato_calls_total", model="lab/digits", kind="sync", outcome="succeeded")
        == 12
    )
    assert found.value("mercato_rows_total", model="lab/digits", kind="sync") == 24
    assert found.value("mercato_processes", kind="unit") == 2
    assert found.value("mercato_call_duration_seconds_count", model="lab/digits", kind="sync") == 12
    spent = found.value("mercato_call_duration_seconds_sum", model="lab/digits", kind="sync")
    assert spent == pytest.approx(0.06)


def test_a_histogram_has_cumulative_buckets_with_bounds_that_belong_to_them() -> None:
    for microseconds in (1_000, 1_001, 2_500, 31_000_000):
        counting.request("GET", "/models", 200, microseconds)
    Flusher("unit").flush()

    found, labels = exposed(), {"method": "GET", "route": "/models", "status": "200"}

    name = "mercato_request_duration_seconds"
    assert found.kinds[name] == "histogram"
    buckets = {
        each["le"]: found.value(f"{name}_bucket", **each) for each in found.labels(f"{name}_bucket")
    }
    assert [buckets[le] for le in ("0.001", "0.0025", "30", "+Inf")] == [1, 3, 3, 4]
    assert found.value(f"{name}_count", **labels) == 4
    assert found.value(f"{name}_sum", **labels) == pytest.approx(31.004501)


@pytest.mark.parametrize("breaks", [["before"], ["after"], ["after", "after", "before", "after"]])
def test_nothing_is_lost_or_counted_twice_when_connections_break(breaks: list[str]) -> None:
    carrier = flusher(*breaks)
    calls(3)
    for _ in breaks:
        assert not carrier.flush()
        calls(1)
    assert carrier.flush()
    assert carrier.flush()

    total = exposed().value(
        "mercato_calls_total", model="lab/digits", kind="sync", outcome="succeeded"
    )
    assert total == 3 + len(breaks)
    assert live.read("all", live.HOUR).total.succeeded == total


_PROCESS = """
import django; django.setup()
from inference.metrics import counting
from inference.metrics.flushing import Flusher
carrier = Flusher("unit")
for _ in range(6):
    counting.call("lab/digits", 7, "succeeded", 5000, rows=1)
carrier.flush()
counting.call("lab/digits", 7, "succeeded", 5000, rows=1)
print(carrier.process, flush=True)
input()
"""


def test_what_a_killed_process_carried_away_stays_and_its_gauges_go() -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "maas_site.settings"}
    with subprocess.Popen(
        [sys.executable, "-c", _PROCESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert exposed().value("mercato_processes", kind="unit") == 1
        process.send_signal(signal.SIGKILL)
    calls(1)
    Flusher("unit").flush()
    # As if its last word was long ago.
    redis_client(EVENTS_DB).zincrby(PROCESSES_KEY, -GONE_SECONDS - 1, name)

    found = exposed()
    assert (
        found.value("mercato_calls_total", model="lab/digits", kind="sync", outcome="succeeded")
        == 7
    )
    assert found.value("mercato_processes", kind="unit") == 1


def test_only_so_many_models_have_series_of_their_own() -> None:
    for number in range(MOST_NAMES + 30):
        calls(1, f"lab/model-{number}")
    carrier = Flusher("unit")
    carrier.flush()
    calls(1, "lab/late")
    carrier.flush()

    found = exposed()
    models = {each["model"] for each in found.labels("mercato_calls_total")}
    assert len(models) == MOST_NAMES + 1
    assert "lab/late" not in models
    other = found.value("mercato_calls_total", model="other", kind="sync", outcome="succeeded")
    assert other == 31
    assert found.sum("mercato_calls_total") == MOST_NAMES + 31


def test_a_place_is_free_again_when_its_model_was_not_called_for_an_hour() -> None:
    for number in range(MOST_NAMES):
        calls(1, f"lab/model-{number}")
    carrier = Flusher("unit")
    carrier.flush()
    redis_client(EVENTS_DB).zincrby("metrics:models", -3601, "lab/model-5")
    calls(1, "lab/late")
    carrier.flush()

    models = {each["model"] for each in exposed().labels("mercato_calls_total")}
    assert "lab/late" in models
    assert "lab/model-5" not in models


def test_no_label_names_an_organization() -> None:
    counting.call("lab/digits", 424242, "succeeded", 5_000, rows=1)
    Flusher("unit").flush()

    assert "424242" not in str(exposed().values)


def test_labels_are_escaped() -> None:
    counting.request("GET", 'a"b\\c\nd', 200, 1)
    Flusher("unit").flush()

    routes = {each["route"] for each in exposed().labels("mercato_request_duration_seconds_count")}
    assert routes == {'a"b\\c\nd'}


def test_gauges_are_added_or_the_largest_counts() -> None:
    for waiting, oldest in ((3, 0.5), (4, 2.5)):
        readings = [
            (families.LANE_WAITING.name, ("lab/digits",), waiting),
            (families.LANE_OLDEST.name, ("lab/digits",), oldest),
        ]
        Flusher("unit", [lambda readings=readings: readings]).flush()  # type: ignore[misc]  # bound now

    found = exposed()
    assert found.value("mercato_lane_waiting", model="lab/digits") == 7
    assert found.value("mercato_lane_oldest_seconds", model="lab/digits") == 2.5


def test_stages_batches_loads_and_workers_are_counted() -> None:
    shared = (300, 400, 500, 600)
    times = CallTimes(100, 200, *shared, 5, b"")
    counting.answer("lab/digits", uuid7(), 2_500, times)
    counting.event(Batch("lab/digits", 5, 9, *shared))
    counting.event(Load("lab/digits", 70_000, is_good=True))
    counting.event(Load("lab/digits", 10, is_good=False))
    counting.event(Worked("predict-1@host:4711", ["succeeded", "model_error"], 9, 500, 600))
    counting.event(Refusal("cap_reached"))
    Flusher("predict").flush()

    found, name = exposed(), "mercato_call_stage_seconds_sum"
    stages = [found.value(name, model="lab/digits", stage=stage) for stage in families.STAGES]
    # What all requests of a batch have in common counts for each of them.
    assert stages == pytest.approx([0.0001, 0.0002, 0.0015, 0.002, 0.0025, 0.003, 0.0004])
    assert found.value("mercato_batch_rows_sum", model="lab/digits") == 9
    assert found.value("mercato_batch_requests_sum", model="lab/digits") == 5
    assert found.value("mercato_model_loads_total", model="lab/digits", result="loaded") == 1
    assert found.value("mercato_model_loads_total", model="lab/digits", result="failed") == 1
    assert found.value("mercato_model_load_seconds_count", model="lab/digits") == 1
    worker = "predict-1@host"
    failed = found.value("mercato_worker_requests_total", worker=worker, outcome="model_error")
    assert failed == 1
    assert found.value("mercato_worker_run_seconds_sum", worker=worker) == pytest.approx(0.0005)
    assert found.value("mercato_errors_total", code="cap_reached") == 1


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/predictions", "/v1/predictions"),
        ("/v1/predictions/0199/cancel", "/v1/predictions/{}/cancel"),
        ("/v1/models/lab/digits:predict", "/v1/models/{}/{}:predict"),
        # Names that look like our words are names all the same.
        ("/v1/models/v2/chat:predict", "/v1/models/{}/{}:predict"),
        ("/v1/models/lab/digits/versions/3:predict", "/v1/models/{}/{}/versions/{}:predict"),
        ("/v2/models/lab.digits/infer", "/v2/models/{}/infer"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/models/lab/digits:" + "x" * 50, "/v1/models/{}/{}"),
        ("/v1" + "/predictions" * 9, "other"),
    ],
)
def test_a_route_has_no_names_in_it(path: str, route: str) -> None:
    assert route_of(path) == route


# Live figures ---------------------------------------------------------------------------------


def test_percentiles_of_all_processes_are_right_to_four_percent() -> None:
    rng = random.Random(4)
    times = [int(rng.lognormvariate(8.5, 1.2)) + 60 for _ in range(4000)]
    one, other = Flusher("unit"), Flusher("unit")
    for place, microseconds in enumerate(times):
        counting.call("lab/digits", 7, "succeeded", microseconds, rows=1)
        if place == 1500:
            one.flush()
    other.flush()

    for span in live.SPANS:
        total = live.read(live.model_series("lab/digits"), span).total
        assert total.succeeded == 4000
        for percent in (50, 95):
            exact = sorted(times)[4000 * percent // 100 - 1]
            assert total.percentile(percent) == pytest.approx(exact, rel=0.04)


def test_success_counts_what_was_run_and_not_what_was_refused() -> None:
    for outcome in ["succeeded"] * 6 + ["model_error", "worker_lost", "cap_reached"]:
        counting.call("lab/digits", 7, outcome, 5_000, rows=1)
    counting.event(Batch("lab/digits", 3, 12, 1, 1, 1, 1))
    Flusher("unit").flush()

    total = live.read(live.model_series("lab/digits"), live.HOUR).total
    assert (total.succeeded, total.failed, total.refused) == (6, 2, 1)
    assert total.success_permyriad == 7500
    assert total.rows_per_batch == 12


def test_a_tenant_sees_its_own_calls_alone() -> None:
    counting.call("lab/digits", 7, "succeeded", 5_000, rows=1)
    counting.call("lab/other", 7, "succeeded", 5_000, rows=1)
    counting.call("lab/digits", 8, "succeeded", 90_000, rows=1)
    Flusher("unit").flush()

    def seen(organization_id: int, path: str = "") -> int:
        name = live.organization_series(organization_id, path)
        return live.read(name, live.HOUR).total.succeeded

    assert (seen(7), seen(7, "lab/digits"), seen(8), seen(9)) == (2, 1, 1, 0)
    assert sorted(live.models_of(7)) == ["lab/digits", "lab/other"]
    assert live.models_of(8) == ["lab/digits"]


def test_minutes_and_hours_without_calls_are_there_and_empty() -> None:
    hour, day = live.read("all", live.HOUR), live.read("all", live.DAY)

    assert len(hour.points) == 60
    assert len(day.points) == 24
    assert hour.points[1][0] - hour.points[0][0] == 60
    assert hour.total.p50_us is None
    assert hour.total.success_permyriad is None


def test_a_minute_is_counted_where_it_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000 // 86_400 * 86_400 + 30
    carrier = Flusher("unit")
    for ago, number in ((24 * 60 + 1, 16), (23 * 60, 8), (60, 4), (59, 2), (0, 1)):
        monkeypatch.setattr(time, "time", lambda ago=ago: now - ago * 60)
        calls(number)
        carrier.flush()

    hour, day = live.read("all", live.HOUR), live.read("all", live.DAY)
    assert [figures.succeeded for _, figures in hour.points] == [2] + [0] * 58 + [1]
    assert day.total.succeeded == 1 + 2 + 4 + 8
    assert day.points[-1][1].succeeded == 1


def test_without_redis_there_are_no_figures_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    away = redis.Redis(host="127.0.0.1", port=1)
    monkeypatch.setattr(live, "redis_client", lambda _: away)

    found = live.read("all", live.HOUR)
    assert not found.is_known
    assert found.total.calls == 0
    assert live.models_of() == []


def test_memory_is_bounded_while_redis_is_away() -> None:
    found = Tally()
    for number in range(tally._MOST_CALLS + 1):
        counting.call("lab/digits", number, "succeeded", 5_000, rows=1)
    found.take()

    assert not found.calls
    assert found.sums[tally.SITE, ""] == {families.DROPPED.name: tally._MOST_CALLS + 1}

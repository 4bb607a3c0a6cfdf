"""What is counted: each family's name, meaning, labels and buckets."""

from __future__ import annotations

from dataclasses import dataclass

# Upper bounds in microseconds; the last bucket has none.
TIMES = tuple(
    int(seconds * 1e6)
    for seconds in (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
)
STAGE_TIMES = tuple(
    int(seconds * 1e6) for seconds in (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
)
LOAD_TIMES = tuple(int(seconds * 1e6) for seconds in (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60))
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric.

    Attributes:
        labels: Names of its labels; those of a model or a worker begin with `model` or `worker`.
        bounds: Upper bounds of a histogram's buckets, as it is counted; empty for a counter.
        scale: By what the counted unit is divided to get the unit in the name.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    bounds: tuple[int, ...] = ()
    scale: int = 1


MICROSECONDS = 1_000_000

REQUESTS = Family(
    "mercato_request_duration_seconds",
    "Time until the answer to a request began, by route.",
    ("method", "route", "status"),
    TIMES,
    MICROSECONDS,
)
ERRORS = Family("mercato_errors_total", "Refused and failed API requests, by code.", ("code",))
CALLS = Family(
    "mercato_calls_total", "Calls of models, by how they ended.", ("model", "kind", "outcome")
)
CALL_SECONDS = Family(
    "mercato_call_duration_seconds",
    "Time of succeeded calls, from the request's arrival to the end of what it asked for.",
    ("model", "kind"),
    TIMES,
    MICROSECONDS,
)
STAGE_SECONDS = Family(
    "mercato_call_stage_seconds",
    "Time of calls in each of their stages.",
    ("model", "stage"),
    STAGE_TIMES,
    MICROSECONDS,
)
ROWS = Family("mercato_rows_total", "Rows that models ran.", ("model", "kind"))
BATCH_ROWS = Family("mercato_batch_rows", "Rows per batch.", ("model",), SIZES)
BATCH_REQUESTS = Family("mercato_batch_requests", "Requests per batch.", ("model",), SIZES)
LOADS = Family("mercato_model_loads_total", "Loads of models.", ("model", "result"))
LOAD_SECONDS = Family(
    "mercato_model_load_seconds",
    "Time to load a model and warm it up.",
    ("model",),
    LOAD_TIMES,
    MICROSECONDS,
)
WORKER_RUN = Family(
    "mercato_worker_run_seconds",
    "Time of a batch in a worker's model.",
    ("worker",),
    TIMES,
    MICROSECONDS,
)
WORKER_CAPTURE = Family(
    "mercato_worker_capture_seconds",
    "Time of the transaction that charges a batch.",
    ("worker",),
    STAGE_TIMES,
    MICROSECONDS,
)
WORKER_ROWS = Family("mercato_worker_rows_total", "Rows that a worker ran.", ("worker",))
WORKER_REQUESTS = Family(
    "mercato_worker_requests_total",
    "Requests that a worker ran, by outcome.",
    ("worker", "outcome"),
)
LIMITED = Family(
    "mercato_limit_requests_total",
    "Requests counted against rate limits: admitted, or refused by a limit of this unit.",
    ("unit", "result"),
)
UNCOUNTED = Family(
    "mercato_limit_uncounted_total",
    "Requests let through uncounted, because the limiter was away.",
    (),
)
WEBHOOKS = Family(
    "mercato_webhook_attempts_total", "Attempts to deliver a webhook, by result.", ("result",)
)
COPIES_DROPPED = Family(
    "mercato_shadow_copies_dropped_total",
    "Batches whose copies for a shadow, or some of them, were dropped, by reason.",
    ("reason",),
)
DROPPED = Family(
    "mercato_metrics_dropped_total", "Observations that were given up to save memory.", ()
)

ALL = (
    *(REQUESTS, ERRORS, CALLS, CALL_SECONDS, STAGE_SECONDS, ROWS, BATCH_ROWS, BATCH_REQUESTS),
    *(LOADS, LOAD_SECONDS, WORKER_RUN, WORKER_CAPTURE, WORKER_ROWS, WORKER_REQUESTS),
    *(LIMITED, UNCOUNTED, WEBHOOKS, COPIES_DROPPED, DROPPED),
)
BY_NAME = {family.name: family for family in ALL}
# What a call is: waited for, a text, a stored row that runs later, a row of a batch file.
SYNC, TEXT, ASYNC, BATCH = "sync", "text", "async", "batch"
STAGES = ("gateway", "lane", "admit", "queue", "run", "capture", "reply")


@dataclass(frozen=True, slots=True)
class Gauge:
    """A number that each process tells as it is now.

    Attributes:
        is_sum: Whether the processes' values are added; else the largest counts.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ()
    is_sum: bool = True


LANE_WAITING = Gauge("mercato_lane_waiting", "Requests that wait in lanes for a batch.", ("model",))
LANE_OLDEST = Gauge(
    "mercato_lane_oldest_seconds",
    "Age of the request that has waited longest in a lane.",
    ("model",),
    is_sum=False,
)
BATCHES_AWAY = Gauge("mercato_batches_away", "Batches that were sent and not answered.")
BATCH_OLDEST = Gauge(
    "mercato_batch_oldest_seconds", "Age of the oldest batch that is away.", is_sum=False
)
PROCESSES = Gauge("mercato_processes", "Processes that count, by kind.", ("kind",))
GAUGES = {
    gauge.name: gauge
    for gauge in (LANE_WAITING, LANE_OLDEST, BATCHES_AWAY, BATCH_OLDEST, PROCESSES)
}

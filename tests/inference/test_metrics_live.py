"""What the processes of a running site count, added up."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.metrics import families, live
from inference.models import CallTrace
from tests import factories
from tests.inference.watched import Exposed, counts
from tests.live import Site

__all__ = ["counts"]
pytestmark = pytest.mark.usefixtures("counts")


def exposed(site: Site) -> Exposed:
    return Exposed(site.client.get("/metrics").text)


def test_all_processes_count_and_the_answer_says_where_its_time_went(site: Site) -> None:
    organization = factories.make_organization()
    _, secret = factories.make_key(organization)
    version = factories.make_version()
    body, model = factories.body(version), version.model.path

    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: site.predict(secret, body), range(40)))
    refused = site.predict(secret, b'{"model": "%s", "input": {}}' % model.encode())
    stranger = site.predict("mk_live_nobody", body)

    assert {answer.status_code for answer in answers} == {200}
    assert (refused.status_code, stranger.status_code) == (400, 401)
    stages = dict(re.findall(r"(\w+);dur=([\d.]+)", answers[0].headers["Server-Timing"]))
    assert list(stages) == list(families.STAGES[:-1])
    assert float(stages["run"]) > 0
    assert "Server-Timing" not in refused.headers

    def is_counted() -> bool:
        found = exposed(site)
        return (
            found.value("mercato_calls_total", model=model, kind="sync", outcome="succeeded") == 40
            and found.sum("mercato_worker_requests_total", outcome="succeeded") == 40
            and found.value("mercato_errors_total", code="missing_input") == 1
        )

    site.wait_until(is_counted, seconds=60)
    found = exposed(site)
    route = {"method": "POST", "route": "/v1/predictions"}
    name = "mercato_request_duration_seconds_count"
    assert [found.value(name, **route, status=each) for each in ("200", "400", "401")] == [40, 1, 1]
    assert found.value("mercato_processes", kind="gateway") == 2
    assert found.value("mercato_processes", kind="predict") == 1
    assert found.value("mercato_batch_requests_sum", model=model) == 40
    assert found.value("mercato_model_loads_total", model=model, result="loaded") == 1
    for stage in families.STAGES:
        assert found.value("mercato_call_stage_seconds_count", model=model, stage=stage) == 40
    total = sum(
        found.value("mercato_call_stage_seconds_sum", model=model, stage=stage)
        for stage in families.STAGES
    )
    requests = found.value("mercato_request_duration_seconds_sum", **route, status="200")
    assert total == pytest.approx(requests, rel=0.001)
    figures = live.read(live.organization_series(organization.pk, model), live.HOUR).total
    assert (figures.succeeded, figures.refused) == (40, 1)
    # Where the time of each went is kept as well, and is what the metrics say.
    # Those of an earlier test may come late.
    traces = CallTrace.objects.filter(pk__in=[each.json()["cost"]["hold"] for each in answers])
    site.wait_until(lambda: traces.count() == 40, seconds=60)
    one = CallTrace.objects.get(pk=answers[0].json()["cost"]["hold"])
    assert one.run_us / 1000 == pytest.approx(float(stages["run"]))
    assert sum(sum(trace.stages) for trace in traces.all()) / 1e6 == pytest.approx(total, rel=0.001)

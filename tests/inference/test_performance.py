"""Live figures on pages and in the API."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from django.test import Client

from accounts.models import Organization
from catalog.models import ModelVersion
from inference import dispatch, queues
from inference.connections import JOBS_DB, PREDICT_DB, redis_client
from inference.metrics import counting, live
from inference.metrics.counting import Batch
from inference.metrics.flushing import Flusher
from inference.routing import Route
from maas_site import performance
from tests import factories
from tests.inference.watched import counts
from training import doorbell

__all__ = ["counts"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("counts")]


def happen(path: str, organization_id: int = 0) -> None:
    """Six calls of 10 ms, two of 80 ms, one failure, one refusal, in two batches."""
    for microseconds in [10_000] * 6 + [80_000] * 2:
        counting.call(path, organization_id, "succeeded", microseconds, rows=1)
    counting.call(path, organization_id, "worker_lost", 5_000)
    counting.call(path, organization_id, "cap_reached", 100)
    for _ in range(2):
        counting.event(Batch(path, 4, 6, 1, 1, 1, 1))
    Flusher("gateway").flush()


@pytest.fixture
def version(organization: Organization) -> ModelVersion:
    return factories.make_version()


def stats(client: Client, secret: str, path: str, query: str = "") -> tuple[int, dict[str, object]]:
    response = client.get(f"/v1/models/{path}/stats{query}", HTTP_AUTHORIZATION=f"Bearer {secret}")
    return response.status_code, response.json()


def test_the_api_tells_percentiles_and_success(
    client: Client, organization: Organization, version: ModelVersion
) -> None:
    _, secret = factories.make_key(organization)
    path = version.model.path
    happen(path, organization.pk)
    happen(path, organization.pk + 1)

    for span, points in (("hour", 60), ("day", 24)):
        status, body = stats(client, secret, path, f"?span={span}")
        assert status == 200
        total = body["total"]
        assert isinstance(total, dict)
        assert total["p50_ms"] == pytest.approx(10, rel=0.04)
        assert total["p95_ms"] == pytest.approx(80, rel=0.04)
        assert (total["calls"], total["failed"], total["refused"]) == (18, 2, 2)
        assert total["success_rate"] == 0.8889
        assert isinstance(body["points"], list)
        assert len(body["points"]) == points
        assert sum(point["calls"] for point in body["points"]) == 18
    _, own = stats(client, secret, path, "?callers=own")
    assert isinstance(own["total"], dict)
    assert (own["callers"], own["total"]["calls"]) == ("own", 9)


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("?span=week", 400, "span"),
        ("?callers=others", 400, "callers"),
        ("?spam=hour", 400, "spam"),
    ],
)
def test_what_does_not_exist_is_refused(
    client: Client,
    organization: Organization,
    version: ModelVersion,
    query: str,
    status: int,
    param: str,
) -> None:
    _, secret = factories.make_key(organization)

    found, body = stats(client, secret, version.model.path, query)

    assert found == status
    assert isinstance(body["error"], dict)
    assert body["error"]["param"] == param


def test_a_private_model_has_no_figures_for_others(
    client: Client, organization: Organization, version: ModelVersion
) -> None:
    _, secret = factories.make_key(organization)
    version.model.is_public = False
    version.model.save()
    happen(version.model.path)

    status, body = stats(client, secret, version.model.path)
    assert isinstance(body["error"], dict)
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    for page in ("live", "?tab=performance"):
        separator = "/" if page == "live" else ""
        assert client.get(f"/models/{version.model.path}{separator}{page}").status_code == 404


def test_without_redis_the_api_says_so_and_pages_stay(
    client: Client,
    organization: Organization,
    version: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, secret = factories.make_key(organization)
    monkeypatch.setattr(live, "redis_client", lambda _: redis.Redis(host="127.0.0.1", port=1))

    assert stats(client, secret, version.model.path)[0] == 503
    page = client.get(f"/models/{version.model.path}?tab=performance")
    assert "The figures cannot be read at the moment" in page.content.decode()


def test_the_models_page_shows_its_figures_to_everybody(
    client: Client, version: ModelVersion
) -> None:
    happen(version.model.path)

    for address in ("?tab=performance", "?tab=performance&span=day", "?tab=performance&span=x"):
        page = client.get(f"/models/{version.model.path}{address}").content.decode()
        assert "88.88 %" in page
        assert "1 failed" in page
        # The chart's twin: one line of a table.
        (line,) = re.findall(r'<tr><td class="mono">(.*?)</tr>', page)
        assert line.count("ms</td>") == 2
    fragment = client.get(f"/models/{version.model.path}/live?span=day").content.decode()
    assert "88.88 %" in fragment
    assert "<html" not in fragment


def test_a_model_that_nobody_called_says_so(client: Client, version: ModelVersion) -> None:
    page = client.get(f"/models/{version.model.path}?tab=performance").content.decode()

    assert "No calls in the last hour" in page
    assert "data-live-chart" not in page


def test_the_console_shows_an_organization_its_own_calls(client: Client) -> None:
    owner = factories.make_user()
    organization = factories.make_organization(owner=owner)
    version = factories.make_version()
    happen(version.model.path, organization.pk)
    happen("lab/others", organization.pk + 1)
    client.force_login(owner)

    for address in ("/console/performance", "/console/performance/live?span=day"):
        page = client.get(address).content.decode()
        assert f"/models/{version.model.path}?tab=performance" in page
        assert "lab/others" not in page
        assert "88.88 %" in page


def test_strangers_are_asked_to_sign_in(client: Client) -> None:
    for address in ("/console/performance", "/console/performance/live"):
        assert client.get(address).status_code == 302


def test_operators_see_rates_percentiles_batches_and_what_waits(client: Client) -> None:
    happen("lab/digits")
    readings = [("mercato_lane_waiting", ("lab/digits",), 17)]
    readings += [("mercato_lane_oldest_seconds", ("lab/digits",), 75)]
    Flusher("gateway", [lambda: readings]).flush()
    client.force_login(factories.make_user(is_staff=True, is_superuser=True))

    for address in ("/admin/performance", "/admin/performance/live?span=day"):
        page = client.get(address).content.decode()
        assert "lab/digits" in page
        assert "88.88 %" in page
        # Rows per batch.
        assert "6.0" in page
    waiting = {each.name: each for each in performance.waiting()}
    lanes = waiting["Requests in lanes"]
    assert (lanes.depth, lanes.age, lanes.is_long) == (17, "1 min", True)
    assert waiting["predict.cpu"].depth == 0


def test_messages_that_no_worker_has_taken_have_an_age_wherever_they_are_shown(
    client: Client, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the page of what happens, on the front page and on that of the workers."""
    settings.PREDICT_POOL = settings.JOB_POOL = "unheard"
    jobs, predictions = redis_client(JOBS_DB), redis_client(PREDICT_DB)
    monkeypatch.setattr(queues, "time", SimpleNamespace(time=lambda: 1000.0))
    doorbell.ring("unheard")
    dispatch.ring("b1", 7, Route())
    monkeypatch.setattr(queues, "time", SimpleNamespace(time=lambda: 1090.0))
    client.force_login(factories.make_user(is_staff=True, is_superuser=True))

    waiting = {each.name: each for each in performance.waiting()}
    pages = [
        client.get(address).content.decode()
        for address in ("/admin/performance", "/admin/", "/admin/inference/worker/")
    ]
    jobs.delete("job.unheard")
    predictions.delete("predict.unheard")

    for name in ("job.unheard", "predict.unheard"):
        assert (waiting[name].depth, waiting[name].age, waiting[name].is_long) == (1, "1 min", True)
    assert pages[0].count("1 min") == 2
    assert pages[1].count("oldest 90.0 s") == 2
    assert "oldest 90.0 s" in pages[2]


@pytest.mark.parametrize("is_staff", [True, False])
def test_the_operators_page_is_for_those_who_may_see_calls(
    client: Client, *, is_staff: bool
) -> None:
    client.force_login(factories.make_user(is_staff=is_staff))

    for address in ("/admin/performance", "/admin/performance/live"):
        assert client.get(address).status_code == (403 if is_staff else 302)

"""/v1/models/{owner}/{name}/shadow, the pages, and the operators' list."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import AuditEntry, Membership, Organization, User
from catalog import publishing
from catalog.models import ModelVersion
from inference.models import Shadow
from inference.traffic import shadows
from inference.traffic.shadows import Tally
from tests import factories
from tests.inference.traffic.conftest import add_version

pytestmark = pytest.mark.django_db
MODEL = "/v1/models/house/digits"
PATH = f"{MODEL}/traffic"
PAGE = "/console/traffic/digits"


@pytest.fixture
def api(house: Organization) -> Client:
    _, secret = factories.make_key(house)
    return Client(headers={"Authorization": f"Bearer {secret}"})


def put(api: Client, **body: Any) -> Any:
    return api.put(f"{MODEL}/shadow", body, content_type="application/json")


def test_a_shadow_is_started_changed_read_and_stopped(
    api: Client, first: ModelVersion, second: ModelVersion
) -> None:
    started = put(api, version=2).json()
    assert (started["current"], started["canary"]) == (1, None)
    shadow = Shadow.objects.get()
    shadows.add(shadow.pk, Tally(200, 10, 150, 380_000, 190_000, 380, 190))
    assert put(api, version=2, percent=40).status_code == 200

    found = api.get(PATH).json()["shadow"]

    assert found.pop("started_at") == started["shadow"]["started_at"]
    assert found == {
        "id": shadow.pk,
        "object": "shadow",
        "model": "house/digits",
        "version": 2,
        "state": "running",
        "percent": 40,
        "calls": 200,
        "failures": 10,
        "agreed_percent": 75.0,
        "mean_us": 2000,
        "stable_mean_us": 1000,
        "mean_rows": 2,
        "stable_mean_rows": 1,
        "ended_at": None,
    }
    assert api.delete(f"{MODEL}/shadow").status_code == 204
    assert api.delete(f"{MODEL}/shadow").status_code == 204
    assert api.get(PATH).json()["shadow"] is None
    actions = AuditEntry.objects.filter(action__startswith="shadow.").order_by("pk")
    assert [each.action.partition(".")[2] for each in actions] == ["started", "changed", "stopped"]
    assert all(each.actor_label.startswith("key ") for each in actions)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "version"),
        ({"version": "2"}, 400, "version"),
        ({"version": 99}, 404, "version"),
        ({"version": 1}, 409, None),
        ({"version": 2, "percent": 0}, 400, "percent"),
        ({"version": 2, "percent": 101}, 400, "percent"),
        ({"version": 2, "percent": True}, 400, "percent"),
        ({"version": 2, "percent": 5.5}, 400, "percent"),
        ({"version": 2, "min_calls": 5}, 400, "min_calls"),
    ],
)
def test_bad_requests_change_nothing(
    api: Client,
    first: ModelVersion,
    second: ModelVersion,
    body: Any,
    status: int,
    param: str | None,
) -> None:
    refused = put(api, **body)

    assert refused.status_code == status
    assert refused.json()["error"]["param"] == param
    assert not Shadow.objects.exists()


def test_a_second_one_is_refused(api: Client, first: ModelVersion, second: ModelVersion) -> None:
    add_version(first, 3)
    put(api, version=2)

    refused = put(api, version=3)

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")


def test_others_neither_see_nor_change_it(
    first: ModelVersion, second: ModelVersion, organization: Organization, house: Organization
) -> None:
    _, others = factories.make_key(organization)
    stranger = Client(headers={"Authorization": f"Bearer {others}"})
    _, reads = factories.make_key(house, scopes=["read"])
    reader = Client(headers={"Authorization": f"Bearer {reads}"})

    assert put(stranger, version=2).status_code == 404
    assert stranger.delete(f"{MODEL}/shadow").status_code == 404
    assert put(reader, version=2).status_code == 403
    assert reader.delete(f"{MODEL}/shadow").status_code == 403
    assert put(Client(), version=2).status_code == 401
    assert not Shadow.objects.exists()


def test_the_page_starts_shows_and_stops_a_shadow(
    client: Client, publisher: User, first: ModelVersion, second: ModelVersion
) -> None:
    client.force_login(publisher)

    def page(path: str = PAGE) -> str:
        return client.get(path).content.decode()

    assert "No version runs copies of the calls" in page()
    assert client.post(f"{PAGE}/shadow", {"version": 2, "percent": 0}).status_code == 422
    assert client.post(f"{PAGE}/shadow", {"version": 1, "percent": 7}).status_code == 422
    assert client.post(f"{PAGE}/shadow", {"version": 2, "percent": 7})["Location"] == PAGE
    assert "Version 2 runs copies of 7 %" in page()
    assert "Version 2, 7 %" in page("/console/traffic")
    shadows.add(Shadow.objects.get().pk, Tally(30, 1, 20, 58_000, 29_000, 58, 290))
    live = page(f"{PAGE}/shadow/live")
    assert "<html" not in live
    for shown in (
        "66.66 %",
        "20 / 30",
        "2000 µs",
        "rows per batch: 2;",
        "1000 µs, rows per batch: 10",
    ):
        assert shown in live
    publishing.withdraw(second, actor=None)
    assert "It copies nothing" in page(f"{PAGE}/shadow/live")
    assert client.post(f"{PAGE}/shadow/stop")["Location"] == PAGE
    assert "Earlier shadows" in page()
    assert "66.66 %" in page()
    assert "hx-get" not in page(f"{PAGE}/shadow/live")


def test_ids_of_the_page_are_different(
    client: Client, publisher: User, first: ModelVersion, second: ModelVersion
) -> None:
    client.force_login(publisher)

    page = client.get(PAGE).content.decode()

    for name in ("canary", "alias", "shadow"):
        assert page.count(f'id="{name}_version"') == page.count(f'for="{name}_version"') == 1


def test_a_conflict_is_told_on_the_page(
    client: Client, publisher: User, first: ModelVersion, second: ModelVersion
) -> None:
    client.force_login(publisher)
    add_version(first, 3)
    client.post(f"{PAGE}/shadow", {"version": 2, "percent": 7})

    refused = client.post(f"{PAGE}/shadow", {"version": 3, "percent": 7})

    assert refused.status_code == 422
    assert "Another version runs copies" in refused.content.decode()


def test_viewers_look_and_others_find_nothing(
    client: Client, first: ModelVersion, second: ModelVersion, house: Organization
) -> None:
    viewer = factories.make_user()
    Membership.objects.create(organization=house, user=viewer, role=Membership.Role.VIEWER)
    client.force_login(viewer)
    assert client.get(f"{PAGE}/shadow/live").status_code == 200
    assert 'name="percent"' not in client.get(PAGE).content.decode()
    for path in ("shadow", "shadow/stop"):
        assert client.post(f"{PAGE}/{path}").status_code == 403
    stranger = factories.make_user()
    factories.make_organization(owner=stranger)
    client.force_login(stranger)
    assert client.get(f"{PAGE}/shadow/live").status_code == 404
    assert client.post(f"{PAGE}/shadow").status_code == 404


def test_an_operator_stops_a_shadow_for_a_reason(
    admin_client: Client, api: Client, first: ModelVersion, second: ModelVersion
) -> None:
    put(api, version=2)
    shadow = Shadow.objects.get()
    address = f"/admin/inference/shadow/{shadow.pk}/stop/"

    assert "house/digits:2" in admin_client.get("/admin/inference/shadow/").content.decode()
    admin_client.get(address)
    assert Shadow.objects.filter(state="running").exists()
    admin_client.post(
        address, {"reason": "asked", "submission": "0192e4a0-0000-7000-8000-000000000002"}
    )

    assert Shadow.objects.get().state == "stopped"
    assert AuditEntry.objects.get(action="shadow.stopped").reason == "asked"

"""/v1/models/{owner}/{name}/traffic, and the pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import Membership, Organization, User
from catalog.models import ModelVersion
from inference.models import Canary, VersionAlias
from tests import factories

pytestmark = pytest.mark.django_db
PATH = "/v1/models/house/digits"


@pytest.fixture
def api(house: Organization) -> Client:
    _, secret = factories.make_key(house)
    return Client(headers={"Authorization": f"Bearer {secret}"})


def put(api: Client, path: str, **body: Any) -> Any:
    return api.put(f"{PATH}/{path}", body, content_type="application/json")


def test_a_canary_is_started_changed_promoted(
    api: Client, first: ModelVersion, second: ModelVersion
) -> None:
    assert api.get(f"{PATH}/traffic").json() == {
        "object": "traffic",
        "model": "house/digits",
        "current": 1,
        "pinned": True,
        "aliases": {},
        "canary": None,
        "shadow": None,
    }

    started = put(api, "canary", version=2, percent=10).json()["canary"]
    changed = put(api, "canary", version=2, percent=50).json()["canary"]

    assert (started["version"], started["percent"], started["min_calls"]) == (2, 10, 50)
    assert (changed["id"], changed["percent"]) == (started["id"], 50)
    promoted = api.post(f"{PATH}/canary/promote", content_type="application/json").json()
    assert (promoted["current"], promoted["canary"]) == (2, None)
    again = api.post(f"{PATH}/canary/promote", content_type="application/json")
    assert again.status_code == 404
    assert api.delete(f"{PATH}/canary").status_code == 204


def test_aliases_over_the_api(api: Client, first: ModelVersion, second: ModelVersion) -> None:
    assert put(api, "aliases/next", version=2).json()["aliases"] == {"next": 2}
    assert put(api, "aliases/stable", version=2).json()["current"] == 2
    assert api.delete(f"{PATH}/aliases/next").status_code == 204
    assert api.get(f"{PATH}/traffic").json()["aliases"] == {}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("canary", {}, 400),
        ("canary", {"version": "2"}, 400),
        ("canary", {"version": 99}, 404),
        ("canary", {"version": 1}, 409),
        ("canary", {"version": 2, "percent": 101}, 400),
        ("canary", {"version": 2, "percent": True}, 400),
        ("canary", {"version": 2, "share": 5}, 400),
        ("aliases/canary", {"version": 2}, 400),
        ("aliases/UPPER", {"version": 2}, 400),
        ("aliases/next", {"version": None}, 400),
    ],
)
def test_bad_requests_change_nothing(
    api: Client, first: ModelVersion, second: ModelVersion, path: str, body: Any, status: int
) -> None:
    assert put(api, path, **body).status_code == status
    assert not Canary.objects.exists()
    assert not VersionAlias.objects.exists()


def test_others_neither_see_nor_change_it(
    first: ModelVersion, second: ModelVersion, organization: Organization, house: Organization
) -> None:
    _, others = factories.make_key(organization)
    stranger = Client(headers={"Authorization": f"Bearer {others}"})
    _, reads = factories.make_key(house, scopes=["read"])
    reader = Client(headers={"Authorization": f"Bearer {reads}"})

    assert stranger.get(f"{PATH}/traffic").status_code == 404
    assert put(stranger, "canary", version=2).status_code == 404
    assert reader.get(f"{PATH}/traffic").status_code == 200
    assert put(reader, "canary", version=2).status_code == 403
    assert put(reader, "aliases/next", version=2).status_code == 403


def test_the_pages_start_and_end_a_canary_and_set_aliases(
    client: Client, publisher: User, first: ModelVersion, second: ModelVersion
) -> None:
    client.force_login(publisher)
    rule = {"percent": 7, "max_error_percent": 5, "max_slowdown_percent": 100, "min_calls": 50}
    page = "/console/traffic/digits"

    assert client.post(f"{page}/canary", {"version": 1, **rule}).status_code == 422
    assert client.post(f"{page}/canary", {"version": 2, **rule})["Location"] == page
    assert "Version 2 gets 7 %" in client.get(page).content.decode()
    assert 'value="7"' in client.get(page).content.decode()
    assert "Version 2, 7 %" in client.get("/console/traffic").content.decode()
    client.post(f"{page}/alias", {"alias": "next", "version": 2})
    assert "house/digits:next" in client.get(page).content.decode()
    assert client.post(f"{page}/alias", {"alias": "canary", "version": 2}).status_code == 422
    client.post(f"{page}/alias/remove", {"alias": "next"})
    assert not VersionAlias.objects.exists()
    client.post(f"{page}/end", {"promote": "1"})
    assert "Version 2 is current" in client.get(page).content.decode()
    assert "Promoted" in client.get(page).content.decode()


def test_viewers_look_and_others_find_nothing(
    client: Client, first: ModelVersion, second: ModelVersion, house: Organization
) -> None:
    viewer = factories.make_user()
    Membership.objects.create(organization=house, user=viewer, role=Membership.Role.VIEWER)
    client.force_login(viewer)
    assert client.get("/console/traffic/digits").status_code == 200
    for path in ("canary", "end", "alias", "alias/remove"):
        assert client.post(f"/console/traffic/digits/{path}").status_code == 403
    stranger = factories.make_user()
    factories.make_organization(owner=stranger)
    client.force_login(stranger)
    assert client.get("/console/traffic/digits").status_code == 404


def test_an_operator_stops_a_canary_for_a_reason(
    admin_client: Client, api: Client, first: ModelVersion, second: ModelVersion
) -> None:
    put(api, "canary", version=2)
    canary = Canary.objects.get()
    address = f"/admin/inference/canary/{canary.pk}/stop/"

    admin_client.get(address)
    assert Canary.objects.filter(state="running").exists()
    admin_client.post(
        address, {"reason": "asked", "submission": "0192e4a0-0000-7000-8000-000000000001"}
    )

    assert Canary.objects.get().state == "stopped"

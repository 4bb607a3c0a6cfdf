"""The desk of webhooks, in the browser and by the API."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from django.test import Client

from accounts.models import AuditEntry, IdempotentAnswer, Membership, Organization
from inference.models import WebhookDelivery, WebhookEndpoint
from inference.webhooks import deliveries, endpoints, signing
from tests import factories
from tests.inference.receivers import Receiver, status

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:9999/hook"


@pytest.fixture
def organization() -> Organization:
    return factories.make_organization(owner=factories.make_user("boss@example.com"))


@pytest.fixture
def owner(client: Client, organization: Organization) -> Client:
    client.force_login(organization.memberships.get().user)
    return client


class Api:
    """The API with a key."""

    def __init__(self, organization: Organization, scopes: list[str]) -> None:
        _, secret = factories.make_key(organization, scopes=scopes)
        self._headers = {"Authorization": f"Bearer {secret}"}

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        answer = Client().generic(
            method,
            f"/v1/webhooks{path}",
            data=b"" if body is None else orjson.dumps(body),
            content_type="application/json",
            headers=self._headers | headers,
        )
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
def api(organization: Organization) -> Api:
    return Api(organization, ["read", "webhooks"])


# API ---------------------------------------------------------------------------------------


def test_an_endpoint_is_made_read_changed_and_deleted(api: Api) -> None:
    status_, made = api("POST", "", {"url": URL, "events": ["budget.alert"], "description": "ci"})
    assert status_ == 201
    assert made["secret"].startswith("whsec_")
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert api("GET", f"/{made['id']}") == (200, shown)
    assert api("GET", "")[1]["data"] == [shown]

    changed = api("PATCH", f"/{made['id']}", {"active": False, "url": URL + "2"})[1]
    assert (changed["active"], changed["disabled_reason"], changed["url"]) == (
        *(False, "owner", URL + "2"),
    )
    assert changed["events"] == ["budget.alert"]
    assert changed["description"] == "ci"

    assert api("DELETE", f"/{made['id']}") == (204, None)
    assert api("GET", f"/{made['id']}")[0] == 404
    actions = AuditEntry.objects.filter(action__startswith="webhook").values_list("action")
    assert sorted(action for (action,) in actions) == [
        *("webhook.changed", "webhook.created", "webhook.deleted"),
    ]


def test_the_same_idempotency_key_makes_one_endpoint_and_shows_its_secret_again(api: Api) -> None:
    key = {"Idempotency-Key": "first"}

    first = api("POST", "", {"url": URL}, **key)
    again = api("POST", "", {"url": URL}, **key)
    other = api("POST", "", {"url": URL + "2"}, **key)

    assert first == again
    assert WebhookEndpoint.objects.count() == 1
    assert (other[0], other[1]["error"]["code"]) == (422, "idempotency_mismatch")
    # The secret is not in the table either.
    assert first[1]["secret"] not in IdempotentAnswer.objects.get().body


def test_a_request_that_was_refused_is_tried_anew(api: Api) -> None:
    key = {"Idempotency-Key": "first"}
    assert api("POST", "", {"url": "https://10.0.0.1/"}, **key)[0] == 400
    assert api("POST", "", {"url": URL}, **key)[0] == 201


def test_tenants_do_not_share_idempotency_keys(api: Api) -> None:
    other = Api(factories.make_organization(), ["read", "webhooks"])
    key = {"Idempotency-Key": "first"}

    assert api("POST", "", {"url": URL}, **key)[1] != other("POST", "", {"url": URL}, **key)[1]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "invalid_request", "url"),
        ({"url": 7}, "invalid_request", "url"),
        ({"url": "https://192.168.0.1/"}, "invalid_webhook_url", "url"),
        ({"url": URL, "events": ["no.such"]}, "invalid_request", "events"),
        ({"url": URL, "events": "budget.alert"}, "invalid_request", "events"),
        ({"url": URL, "description": "x" * 121}, "invalid_request", "description"),
        ({"url": URL, "secret": "mine"}, "unknown_field", "secret"),
    ],
)
def test_a_wrong_field_is_named(api: Api, body: dict[str, Any], code: str, param: str) -> None:
    status_, said = api("POST", "", body)

    assert (status_, said["error"]["code"], said["error"]["param"]) == (400, code, param)
    assert not WebhookEndpoint.objects.exists()


def test_another_tenants_endpoint_does_not_exist(api: Api) -> None:
    theirs, _ = endpoints.create(factories.make_organization(), URL)
    made = endpoints.ping(theirs)

    for method, path in [
        *(("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/ping"), ("POST", "/rotate")),
        ("GET", "/deliveries"),
        ("POST", f"/deliveries/{made.pk}/redeliver"),
    ]:
        assert api(method, f"/{theirs.pk}{path}", None if method == "GET" else {})[0] == 404
    assert api("GET", "")[1]["data"] == []


def test_a_key_without_the_scope_only_reads(organization: Organization) -> None:
    reader = Api(organization, ["predict", "train", "read", "billing"])
    endpoint, _ = endpoints.create(organization, URL)

    assert reader("GET", f"/{endpoint.pk}")[0] == 200
    assert reader("POST", "", {"url": URL})[0] == 403
    assert reader("POST", f"/{endpoint.pk}/rotate", {})[0] == 403
    assert reader("DELETE", f"/{endpoint.pk}")[0] == 403


def test_a_ping_is_delivered_logged_and_sent_again(api: Api, receiver: Receiver) -> None:
    made = api("POST", "", {"url": receiver.url})[1]
    receiver.answers = [status(500, b"no")]

    status_, ping = api("POST", f"/{made['id']}/ping", {})
    assert (status_, ping["state"], ping["response"]) == (202, "pending", None)
    deliveries.send_due()
    [logged] = api("GET", f"/{made['id']}/deliveries?state=pending")[1]["data"]
    assert (logged["attempts"], logged["failure"]) == (1, "refused")
    assert logged["response"]["status"] == 500
    assert logged["payload"]["type"] == "webhook.ping"

    path = f"/{made['id']}/deliveries/{ping['id']}/redeliver"
    assert api("POST", path, {})[0] == 202
    deliveries.send_due()

    [logged] = api("GET", f"/{made['id']}/deliveries")[1]["data"]
    assert (logged["state"], logged["next_attempt_at"]) == ("delivered", None)
    # Each attempt is kept, also those before it was sent again.
    first, second = logged["log"]
    assert (first["status"], first["failure"], first["excerpt"]) == (500, "refused", "no")
    assert (second["status"], second["failure"]) == (200, None)
    assert first["at"] < second["at"] == logged["attempted_at"]
    assert first["ms"] >= 0
    assert first["secret_ids"] == made["secret_ids"] == [signing.secret_id(made["secret"])]
    assert api("GET", f"/{made['id']}/deliveries?state=lost")[0] == 400


def test_a_new_secret_is_shown_once(api: Api) -> None:
    made = api("POST", "", {"url": URL})[1]

    rotated = api("POST", f"/{made['id']}/rotate", {"overlap_hours": 1})[1]

    assert rotated["secret"] != made["secret"]
    both = [signing.secret_id(each["secret"]) for each in (rotated, made)]
    assert rotated["secret_ids"] == api("GET", f"/{made['id']}")[1]["secret_ids"] == both
    assert api("POST", f"/{made['id']}/rotate", {"overlap_hours": 1000})[0] == 400


# Pages -------------------------------------------------------------------------------------


def test_a_webhook_is_made_tested_and_sent_again_in_the_browser(
    owner: Client, receiver: Receiver
) -> None:
    assert "No webhooks yet" in owner.get("/console/webhooks").content.decode()
    answer = owner.post("/console/webhooks/new", {"url": receiver.url, "events": ["budget.alert"]})
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", answer.content.decode())
    assert secret
    assert "no-store" in answer.headers["Cache-Control"]
    endpoint = WebhookEndpoint.objects.get()
    page = f"/console/webhooks/{endpoint.pk}"
    assert secret[0] not in owner.get(page).content.decode()

    receiver.answers = [status(302, Location="https://elsewhere.example/")]
    shown = owner.post(f"{page}/ping").headers["Location"]
    deliveries.send_due()
    text = owner.get(shown).content.decode()
    for words in [
        "Redirects are not followed",
        "https://elsewhere.example/",
        "webhook.ping",
        "302",
    ]:
        assert words in text
    assert "Nothing was taken since" in owner.get(page).content.decode()

    owner.post(f"{shown}/again")
    deliveries.send_due()
    text = owner.get(shown).content.decode()
    for words in ["Delivered", "https://elsewhere.example/", "302", "200"]:
        assert words in text
    assert text.count(signing.secret_id(secret[0])) == 2
    assert signing.secret_id(secret[0]) in owner.get(page).content.decode()
    assert WebhookDelivery.objects.get().state == "delivered"
    assert "Delivered" in owner.get("/console/webhooks").content.decode()


def test_a_webhook_gets_a_new_secret_is_switched_off_and_deleted(
    owner: Client, organization: Organization
) -> None:
    endpoint, old = endpoints.create(organization, URL)
    page = f"/console/webhooks/{endpoint.pk}"

    shown = owner.post(f"{page}/rotate").content.decode()
    assert "whsec_" in shown
    assert old not in shown
    owner.post(f"{page}/switch", {"active": "0"})
    assert "Off" in owner.get("/console/webhooks").content.decode()
    owner.post(f"{page}/switch", {"active": "1"})
    endpoint.refresh_from_db()
    assert endpoint.is_active
    owner.post(f"{page}/delete")
    assert not WebhookEndpoint.objects.exists()


def test_a_url_into_our_network_is_refused_in_words(owner: Client) -> None:
    answer = owner.post("/console/webhooks/new", {"url": "https://10.0.0.1/"})

    assert answer.status_code == 422
    assert "must begin with https://" in answer.content.decode()
    assert not WebhookEndpoint.objects.exists()


def test_only_an_owner_changes_webhooks(client: Client, organization: Organization) -> None:
    endpoint, _ = endpoints.create(organization, URL)
    made = endpoints.ping(endpoint)
    person = factories.make_user()
    role = Membership.Role.DEVELOPER
    Membership.objects.create(organization=organization, user=person, role=role)
    client.force_login(person)
    page = f"/console/webhooks/{endpoint.pk}"

    for address in ["/console/webhooks", page, f"{page}/deliveries/{made.pk}"]:
        assert client.get(address).status_code == 200
    for address in [
        "/console/webhooks/new",
        *(f"{page}/{deed}" for deed in ("ping", "rotate", "switch", "delete")),
        f"{page}/deliveries/{made.pk}/again",
    ]:
        assert client.post(address).status_code == 403
        assert client.get(address).status_code == 405


def test_another_tenants_webhook_is_not_shown(owner: Client) -> None:
    theirs, _ = endpoints.create(factories.make_organization(), URL)
    made = endpoints.ping(theirs)
    page = f"/console/webhooks/{theirs.pk}"

    for address in [page, f"{page}/deliveries/{made.pk}"]:
        assert owner.get(address).status_code == 404
    for deed in ("ping", "rotate", "switch", "delete", f"deliveries/{made.pk}/again"):
        assert owner.post(f"{page}/{deed}").status_code == 404
    assert WebhookEndpoint.objects.count() == 1

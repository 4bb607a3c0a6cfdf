"""The pages of batch files."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import Membership, Organization, User
from billing.models import Hold
from catalog.models import ModelVersion
from inference.models import BatchFile
from tests import factories
from tests.inference.batch_files.conftest import jsonl, work
from tests.inference.writers import make_writer

pytestmark = pytest.mark.usefixtures("books", "small_chunks")


@pytest.fixture
def owner(db: None) -> User:
    return factories.make_user()


@pytest.fixture
def organization(owner: User) -> Organization:
    return factories.make_organization(owner=owner)


@pytest.fixture
def browser(client: Client, owner: User, organization: Organization) -> Client:
    browser = Client()
    browser.force_login(owner)
    return browser


@pytest.fixture
def client() -> Client:
    return Client()


def send(browser: Client, version: ModelVersion, data: bytes, name: str = "r.jsonl") -> Any:
    form = {
        "file": SimpleUploadedFile(name, data),
        "model": version.model.path,
        "when_refused": "pause",
    }
    return browser.post("/console/batches/new", form)


@pytest.mark.parametrize(
    ("code", "text"),
    [("payload_too_large", "larger than this site takes"), ("overloaded", "send the file again")],
)
def test_the_form_says_why_the_door_sent_a_file_back(browser: Client, code: str, text: str) -> None:
    assert text in browser.get(f"/console/batches/new?refused={code}").content.decode()


def test_a_file_is_uploaded_estimated_confirmed_and_downloaded(
    browser: Client, version: ModelVersion
) -> None:
    assert "No batch files yet" in browser.get("/console/batches").content.decode()
    page = browser.get(f"/console/batches/new?model={version.model.path}").content.decode()
    assert f'<option value="{version.model.path}" selected>' in page

    place = send(browser, version, jsonl(5)).headers["Location"]
    assert "Checking" in browser.get(place).content.decode()
    work()
    page = browser.get(place).content.decode()
    assert "Start for $0.0001" in page
    assert not Hold.objects.exists()

    assert browser.post(f"{place}/start").status_code == 302
    assert 'data-events="' in browser.get(place).content.decode()
    work()

    page = browser.get(f"{place}/live").content.decode()
    assert "data-ended" in page
    assert "Succeeded" in page
    answer: Any = browser.get(f"{place}/results?as=csv")

    async def read() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    assert async_to_sync(read)().count(b"succeeded") == 5
    assert "r.jsonl" in browser.get("/console/batches").content.decode()
    assert browser.post(f"{place}/delete").headers["Location"] == "/console/batches"
    assert not BatchFile.objects.exists()


def test_what_is_wrong_with_the_file_is_said_at_its_field(
    browser: Client, version: ModelVersion
) -> None:
    answer = send(browser, version, b"PK\x03\x04", "r.csv")
    assert answer.status_code == 422
    assert "zip archive" in answer.content.decode()
    assert (
        "larger than"
        in browser.get("/console/batches/new?refused=payload_too_large").content.decode()
    )


def test_rows_that_do_not_fit_are_listed_with_their_lines(
    browser: Client, version: ModelVersion
) -> None:
    place = send(browser, version, jsonl(1) + b"<script>\n").headers["Location"]
    work()

    page = browser.get(place).content.decode()
    assert "Some rows do not fit the model" in page
    assert '<th scope="row" class="right num">2</th>' in page


def test_a_viewer_looks_and_starts_nothing(
    browser: Client, version: ModelVersion, organization: Organization
) -> None:
    place = send(browser, version, jsonl(1)).headers["Location"]
    work()
    viewer = factories.make_user()
    viewer.memberships.all().delete()
    Membership.objects.create(organization=organization, user=viewer, role=Membership.Role.VIEWER)
    looking = Client()
    looking.force_login(viewer)

    assert "Start for" not in looking.get(place).content.decode()
    for path in ("start", "cancel", "delete"):
        assert looking.post(f"{place}/{path}").status_code == 403
    assert looking.get("/console/batches/new").status_code == 403


def test_a_file_of_somebody_else_is_not_there(browser: Client, version: ModelVersion) -> None:
    place = send(browser, version, jsonl(1)).headers["Location"]
    other = factories.make_user()
    factories.make_organization(owner=other)
    stranger = Client()
    stranger.force_login(other)

    for path in ("", "/live", "/events", "/results"):
        assert stranger.get(place + path).status_code == 404


def test_operators_look_at_files_and_change_nothing(version: ModelVersion, browser: Client) -> None:
    place = send(browser, version, jsonl(3)).headers["Location"]
    work()
    operator = factories.make_user(is_staff=True, is_superuser=True)
    console = Client()
    console.force_login(operator)

    page = console.get("/admin/inference/batchfile/").content.decode()
    assert "r.jsonl" in page
    assert "$0.00006" in page
    batch_id = place.rpartition("/")[2]
    assert console.get(f"/admin/inference/batchfile/{batch_id}/change/").status_code == 200
    assert console.post(f"/admin/inference/batchfile/{batch_id}/delete/").status_code == 403


def test_the_models_page_leads_to_it(browser: Client, version: ModelVersion) -> None:
    page = browser.get(f"/models/{version.model.path}").content.decode()

    assert f'href="/console/batches/new?model={version.model.path}"' in page


def test_a_file_of_texts_to_write_says_that_its_estimate_is_the_most(
    browser: Client, db: None
) -> None:
    writer = make_writer()
    model = browser.get(f"/models/{writer.model.path}").content.decode()
    assert f"/console/batches/new?model={writer.model.path}" in model
    data = b'{"input": {"prompt": "Once", "max_tokens": 10}}\n'
    place = send(browser, writer, data).headers["Location"]
    work()

    page = browser.get(place).content.decode()
    assert "Start for at most $0.000001012" in page
    assert "for what was written" in page
    browser.cookies["django_language"] = "zh-hans"
    assert "以最多 $0.000001012 启动" in browser.get(place).content.decode()

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from accounts.models import Organization, User
from billing import invoices
from billing.models import Invoice, Wallet
from catalog.models import ModelVersion
from tests.billing import postpaid_world as world
from tests.billing.postpaid_world import START, Clock
from tests.factories import make_key, make_organization, make_user

pytestmark = pytest.mark.django_db
Page = Callable[..., str]


@pytest.fixture
def organization(clock: Clock, owner: User) -> Organization:
    made = make_organization(owner=owner, slug="acme", credit_nanos=0)
    world.set_line(made, world.LINE)
    return made


@pytest.fixture
def invoice(organization: Organization, clock: Clock, version: ModelVersion) -> Invoice:
    """A January of 1.23456 dollars."""
    world.use(organization, version, START + timedelta(hours=1), rows=61_728)
    world.close_month(clock, organization)
    return Invoice.objects.get()


@pytest.fixture
def key(organization: Organization) -> str:
    return make_key(organization)[1]


def test_without_a_line_the_page_says_how_one_pays(page: Page, organization: Organization) -> None:
    Wallet.objects.update(line_nanos=0)

    text = page("/console/invoices")

    assert "No invoices" in text
    assert "An operator can give it a credit line." in text


def test_the_running_month_shows_what_is_used_of_the_line(
    page: Page, organization: Organization, version: ModelVersion, clock: Clock
) -> None:
    world.use(organization, version, START, rows=100_000)

    text = page("/console/invoices")

    assert "<b>$2.00</b> used on a credit line of $100.00" in text
    assert "$98.00" in text
    assert "2026-02-01" in text
    assert "No invoice yet" in text
    assert "There is no saved card" in text
    assert "No real money moves" in text


def test_invoices_are_listed_with_their_files(invoice: Invoice, page: Page) -> None:
    text = page("/console/invoices")

    assert "INV-2026-000001" in text
    assert "$1.23" in text
    assert "Open" in text
    for address in ("-en.pdf", "-zh.pdf", ".csv"):
        assert f'href="/console/invoices/INV-2026-000001{address}"' in text


def test_an_invoice_shows_its_lines_and_what_is_to_be_paid(
    invoice: Invoice, page: Page, version: ModelVersion
) -> None:
    text = page(f"/console/invoices/{invoice.number}")

    assert version.path in text
    assert "1.23456" in text
    assert "Carried to next month" in text
    assert "To pay" in text
    assert invoice.sha256 in text
    assert f'href="{invoice.hosted_url}"' in text


def test_a_viewer_is_not_asked_to_pay(viewer: Client, invoice: Invoice) -> None:
    text = viewer.get(f"/console/invoices/{invoice.number}").content.decode()

    assert invoice.hosted_url not in text


@pytest.mark.parametrize("ending", ["", "-en.pdf", "-zh.pdf", ".csv"])
def test_another_tenants_invoice_is_not_there(
    client: Client, invoice: Invoice, ending: str
) -> None:
    """Invariant 35: no page shows another tenant's invoice."""
    stranger = make_user("stranger@example.com")
    make_organization(owner=stranger)
    client.force_login(stranger)

    answer = client.get(f"/console/invoices/{invoice.number}{ending}")

    assert answer.status_code == 404


def test_the_pdf_is_the_frozen_statement(client: Client, owner: User, invoice: Invoice) -> None:
    client.force_login(owner)

    first = client.get(f"/console/invoices/{invoice.number}-en.pdf")
    chinese = client.get(f"/console/invoices/{invoice.number}-zh.pdf")

    assert first["Content-Type"] == "application/pdf"
    assert first["Content-Disposition"].endswith('filename="INV-2026-000001-en.pdf"')
    assert first.content.startswith(b"%PDF")
    assert b"/STSong-Light" in chinese.content
    assert client.get(f"/console/invoices/{invoice.number}-fr.pdf").status_code == 404


def test_the_csv_has_every_call_of_the_month(
    async_client: AsyncClient,
    owner: User,
    invoice: Invoice,
    organization: Organization,
    version: ModelVersion,
    clock: Clock,
) -> None:
    world.use(organization, version, clock.now)
    async_client.force_login(owner)

    async def read() -> str:
        answer = await async_client.get(f"/console/invoices/{invoice.number}.csv")
        assert answer.status_code == 200
        parts = [part.decode() async for part in answer]  # type: ignore[attr-defined]  # streams
        return "".join(parts)

    rows = list(csv.reader(io.StringIO(async_to_sync(read)())))

    assert [row[8] for row in rows] == ["cost_usd", "1.23456"]


# The API ------------------------------------------------------------------------------------


def test_the_api_lists_invoices(client: Client, key: str, invoice: Invoice) -> None:
    answer = client.get("/v1/invoices", headers={"Authorization": f"Bearer {key}"})

    assert answer.json()["object"] == "list"
    (found,) = answer.json()["data"]
    assert found["number"] == "INV-2026-000001"
    assert (found["state"], found["month"], found["currency"]) == ("finalised", "2026-01", "usd")
    assert (found["used"], found["subtotal"], found["tax"]) == ("1.23456", "1.23", "0.00")
    assert (found["carried_in"], found["carried_out"]) == ("0", "0.00456")
    assert (found["total"], found["credited"], found["paid_at"]) == ("1.23", "0.00", None)
    assert "statement" not in found


def test_the_api_gives_the_frozen_statement(client: Client, key: str, invoice: Invoice) -> None:
    path = f"/v1/invoices/{invoice.number}"
    found = client.get(path, headers={"Authorization": f"Bearer {key}"}).json()

    assert invoices.digest(found["statement"]) == found["sha256"] == invoice.sha256
    assert found["statement"]["customer"] == {"name": "Acme", "slug": "acme"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_api_gives_the_pdf(client: Client, key: str, invoice: Invoice, language: str) -> None:
    answer = client.get(
        f"/v1/invoices/{invoice.number}.pdf?language={language}",
        headers={"Authorization": f"Bearer {key}", "Accept": "application/pdf"},
    )

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF")


def test_the_api_gives_the_csv(client: Client, key: str, invoice: Invoice) -> None:
    answer = client.get(
        f"/v1/invoices/{invoice.number}.csv",
        headers={"Authorization": f"Bearer {key}", "Accept": "text/csv"},
    )

    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/csv")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("invoices/INV-2026-000001.pdf?language=fr", 400, "invalid_request"),
        ("invoices/INV-2026-000001.pdf?x=1", 400, "unknown_field"),
        ("invoices/INV-2026-000001.csv?x=1", 400, "unknown_field"),
        ("invoices/INV-2026-000001?x=1", 400, "unknown_field"),
        ("invoices?x=1", 400, "unknown_field"),
        ("invoices/INV-2026-000002", 404, "not_found"),
        ("invoices/INV-2026-000002.pdf", 404, "not_found"),
        ("invoices/INV-2026-000002.csv", 404, "not_found"),
    ],
)
def test_the_api_is_strict(
    client: Client, key: str, invoice: Invoice, path: str, status: int, code: str
) -> None:
    answer = client.get(f"/v1/{path}", headers={"Authorization": f"Bearer {key}"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("ending", ["", ".pdf", ".csv"])
def test_the_api_hides_another_tenants_invoice(
    client: Client, invoice: Invoice, ending: str
) -> None:
    """Invariant 35: no key reads another tenant's invoice."""
    secret = make_key(make_organization())[1]

    answer = client.get(
        f"/v1/invoices/{invoice.number}{ending}", headers={"Authorization": f"Bearer {secret}"}
    )

    assert answer.status_code == 404

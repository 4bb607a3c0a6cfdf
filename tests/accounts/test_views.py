from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from accounts import organizations
from accounts.models import User
from billing import budgets
from tests.factories import make_user

pytestmark = pytest.mark.django_db
PASSWORD = "a long sentence to remember"


@pytest.fixture(autouse=True)
def _plenty(settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = False


def sign_up(client: Client, email: str = "ada@example.com") -> Any:
    return client.post("/accounts/signup/", {"email": email, "password1": PASSWORD})


def link_in_the_mail() -> str:
    found = re.search(r"http://[^/]+(/\S+)", str(mail.outbox[-1].body))
    assert found is not None
    return found[1]


def test_a_confirmed_sign_up_ends_in_the_console_with_trial_credit(client: Client) -> None:
    answer = sign_up(client)
    assert answer.headers["Location"] == "/accounts/confirm-email/"
    assert "Check your mail" in client.get("/accounts/confirm-email/").content.decode()

    link = link_in_the_mail()
    assert "Is ada@example.com yours?" in client.get(link).content.decode()
    answer = client.post(link)

    assert answer.headers["Location"] == "/console"
    organization = organizations.of_user(User.objects.get()).get()
    assert budgets.wallet(organization).available == 5_000_000_000
    shown = client.get("/console").content.decode()
    assert "Three steps to your first call" in shown
    assert "$5.00 of credit is yours to try" in shown


def test_nobody_signs_in_before_the_address_is_confirmed(client: Client) -> None:
    sign_up(client)

    answer = client.post(
        "/accounts/login/", {"login": "ada@example.com", "password": PASSWORD}, follow=True
    )

    assert "Check your mail" in answer.content.decode()
    assert client.get("/console").status_code == 302
    assert not organizations.of_user(User.objects.get()).exists()


def test_a_taken_address_is_not_told_to_a_stranger(client: Client) -> None:
    make_user("ada@example.com")

    answer = sign_up(client)

    assert answer.headers["Location"] == "/accounts/confirm-email/"
    assert "You have an account already" in mail.outbox[-1].subject


def test_a_short_password_is_refused_beside_its_field(client: Client) -> None:
    answer = client.post("/accounts/signup/", {"email": "ada@example.com", "password1": "short"})

    assert 'id="id_password1_error"' in answer.content.decode()
    assert not User.objects.exists()


def test_a_wrong_password_is_refused(client: Client) -> None:
    make_user("ada@example.com")

    answer = client.post("/accounts/login/", {"login": "ada@example.com", "password": "wrong"})

    assert 'role="alert"' in answer.content.decode()


def test_a_forgotten_password_is_replaced_by_mail(client: Client) -> None:
    make_user("ada@example.com")

    client.post("/accounts/password/reset/", {"email": "ada@example.com"})
    answer = client.get(link_in_the_mail(), follow=True)
    assert "Choose a new password" in answer.content.decode()
    client.post(answer.redirect_chain[-1][0], {"password1": PASSWORD, "password2": PASSWORD})

    assert User.objects.get().check_password(PASSWORD)


@pytest.mark.parametrize(
    "path", ["login/", "signup/", "password/reset/", "confirm-email/", "password/reset/done/"]
)
@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_every_page_for_visitors_opens(client: Client, path: str, language: str) -> None:
    client.cookies["django_language"] = language

    answer = client.get(f"/accounts/{path}")

    assert answer.status_code == 200
    assert b"<h1" in answer.content


@pytest.mark.parametrize("path", ["email/", "password/change/", "logout/", "inactive/"])
def test_every_page_for_members_opens(client: Client, path: str) -> None:
    client.force_login(make_user())

    answer = client.get(f"/accounts/{path}", follow=True)

    assert answer.status_code == 200
    assert b"<h1" in answer.content


def test_a_dead_link_says_what_to_do(client: Client) -> None:
    assert "This link no longer works" in client.get("/accounts/confirm-email/x/").content.decode()
    reset = client.get("/accounts/password/reset/key/1-x/", follow=True)
    assert "This link no longer works" in reset.content.decode()


class TestOutbox:
    """/dev/mail."""

    @pytest.fixture(autouse=True)
    def _files(self, settings: Any, tmp_path: Path) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
        settings.EMAIL_FILE_PATH = str(tmp_path / "mail")
        settings.IS_LOOPBACK = True
        settings.PUBLIC_URL = "http://localhost:8000"

    @pytest.fixture
    def client(self) -> Client:
        return Client(headers={"host": "localhost"})

    def test_mail_can_be_read_and_its_link_followed(self, client: Client) -> None:
        sign_up(client)

        shown = client.get("/dev/mail").content.decode()

        assert "ada@example.com" in shown
        assert re.search(r'href="http://localhost/accounts/confirm-email/[^"]+"', shown)

    def test_an_empty_outbox_says_so(self, client: Client) -> None:
        assert "No mail yet" in client.get("/dev/mail").content.decode()

    def test_a_message_cannot_bring_its_own_markup(self, client: Client) -> None:
        mail.send_mail("<b>x</b>", "<script>alert(1)</script>", "a@example.com", ["b@example.com"])

        shown = client.get("/dev/mail").content.decode()

        assert "<script>alert" not in shown
        assert "&lt;script&gt;alert(1)" in shown

    def test_there_is_none_on_a_site_that_others_reach(self, client: Client, settings: Any) -> None:
        settings.IS_LOOPBACK = False

        assert client.get("/dev/mail").status_code == 404

    def test_there_is_none_behind_a_proxy_on_the_same_machine(
        self, client: Client, settings: Any
    ) -> None:
        assert client.get("/dev/mail").status_code == 200

        through = {"X-Forwarded-For": "203.0.113.9"}
        assert client.get("/dev/mail", headers=through).status_code == 404
        assert client.get("/dev/mail", headers={"host": "testserver"}).status_code == 404
        settings.PUBLIC_URL = "https://models.example.com"
        assert client.get("/dev/mail").status_code == 404
        assert "/dev/mail" not in client.get("/accounts/confirm-email/").content.decode()

    def test_a_wrong_host_is_told_so(self, client: Client) -> None:
        assert client.get("/dev/mail", headers={"host": "evil.example"}).status_code == 400

    def test_there_is_none_when_mail_is_sent(self, client: Client, settings: Any) -> None:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"

        assert client.get("/dev/mail").status_code == 404

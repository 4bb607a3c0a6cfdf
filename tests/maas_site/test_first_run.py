from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import keys
from accounts.errors import AuthenticationError
from accounts.models import ApiKey, AuditEntry, Organization, User
from billing import budgets
from billing.invariants import violations
from billing.models import LedgerTransaction, ShareVersion
from billing.money import NANOS
from catalog import prices
from catalog.models import PriceVersion
from maas_site import first_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the credentials are written."""
    monkeypatch.setattr(first_run, "FILE", tmp_path / "first-run.txt")
    return tmp_path / "first-run.txt"


def forget_that_it_ended() -> None:
    """Leave the database as a first run leaves it that died before its last step."""
    AuditEntry.objects.filter(action="site.first_run").delete()


def test_a_first_run_makes_what_a_site_starts_with(client: Client, file: Path) -> None:
    made = first_run.seed()

    assert made is not None
    assert client.login(username=made.email, password=made.password)
    assert EmailAddress.objects.get(email=made.email).verified
    demo = Organization.objects.get(slug="demo")
    caller = keys.authenticate(made.api_key)
    assert caller.organization_id == demo.pk
    assert demo.memberships.get().user.is_superuser
    assert budgets.wallet(demo).available == 5 * NANOS
    publisher = Organization.objects.get(slug="mercato")
    assert budgets.wallet(publisher).available == 100 * NANOS
    component = prices.current_sku("training.cpu").components.get()
    assert (component.amount_nanos, component.per_quantity) == (50_000, 1000)
    assert ShareVersion.objects.get().publisher_bps == 8000
    assert file.stat().st_mode & 0o777 == 0o600
    assert made.password in file.read_text(encoding="utf-8")
    assert violations() == []


def test_a_second_run_changes_nothing(file: Path) -> None:
    first_run.seed()
    file.unlink()
    before = User.objects.get().password

    assert first_run.seed() is None

    assert not file.exists()
    assert User.objects.get().password == before
    assert ApiKey.objects.count() == 1
    assert PriceVersion.objects.count() == 1
    assert LedgerTransaction.objects.count() == 2


def test_what_an_operator_removed_does_not_come_back() -> None:
    first_run.seed()
    User.objects.all().delete()

    assert first_run.seed() is None

    assert not User.objects.exists()


def test_a_password_that_was_never_written_down_is_made_again(client: Client) -> None:
    lost = first_run.seed()
    assert lost is not None
    forget_that_it_ended()

    made = first_run.seed()

    assert made is not None
    assert not client.login(username=lost.email, password=lost.password)
    assert client.login(username=made.email, password=made.password)
    assert keys.authenticate(made.api_key)
    with pytest.raises(AuthenticationError):
        keys.authenticate(lost.api_key)
    assert budgets.wallet(Organization.objects.get(slug="demo")).available == 5 * NANOS


@pytest.mark.parametrize("step", ["_training_price", "_open", "write"])
def test_a_run_that_dies_is_repaired_by_the_next(
    monkeypatch: pytest.MonkeyPatch, file: Path, client: Client, step: str
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(first_run, step, die)
        with pytest.raises(KeyboardInterrupt):
            first_run.seed()

    made = first_run.seed()

    assert made is not None
    assert client.login(username=made.email, password=made.password)
    assert made.api_key in file.read_text(encoding="utf-8")
    assert ApiKey.objects.usable().count() == 1
    assert violations() == []


# Commands -----------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    written = io.StringIO()
    call_command(*arguments, stdout=written)
    return written.getvalue()


def test_a_key_is_printed_and_nothing_else(organization: Organization) -> None:
    printed = run("create_key", "--organization", organization.slug, "--name", "ci")

    caller = keys.authenticate(printed.strip())
    assert printed == f"{printed.strip()}\n"
    assert caller.organization_id == organization.pk
    assert caller.scopes == set(keys.DEFAULT_SCOPES)


def test_a_key_gets_the_scopes_it_was_asked_for(organization: Organization) -> None:
    asked = ["--scope", "read", "--scope", "predict"]

    printed = run("create_key", "--organization", organization.slug, "--name", "ci", *asked)

    assert keys.authenticate(printed.strip()).scopes == {"read", "predict"}


@pytest.mark.parametrize(
    ("slug", "name", "said"),
    [("nobody", "ci", "no organization 'nobody'"), ("", " ", "1 to 80"), ("", "x" * 81, "1 to 80")],
)
def test_a_key_that_cannot_be_made_says_why(
    organization: Organization, slug: str, name: str, said: str
) -> None:
    with pytest.raises(CommandError, match=said):
        run("create_key", "--organization", slug or organization.slug, "--name", name)

    assert not ApiKey.objects.exists()


def test_an_unknown_scope_is_refused(organization: Organization) -> None:
    with pytest.raises(CommandError, match="invalid choice"):
        run("create_key", "--organization", organization.slug, "--name", "x", "--scope", "root")


def test_the_seed_answers_in_json_and_asks_for_every_model() -> None:
    answer = json.loads(run("seed", "--json"))

    assert answer["models_missing"] == 8
    assert answer["first_run"]["email"] == "operator@mercato.local"
    assert answer["first_run_file"] == str(first_run.FILE)
    assert json.loads(run("seed", "--json"))["first_run"] is None

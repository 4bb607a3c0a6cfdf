"""What the site says to a key without a secret, and who may import the SDK."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from maas_site import environment

pytestmark = pytest.mark.once
ROOT = Path(__file__).resolve().parents[3]
APPS = ("accounts", "catalog", "billing", "inference", "training", "maas_site")
SECRET = "whsec_0123456789abcdef"


def importers(root: Path, apps: tuple[str, ...]) -> set[str]:
    """Return the files that import the SDK."""
    found = set()
    for app in apps:
        for file in (root / app).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom) and node.level == 0
                    else []
                )
                if any(name.partition(".")[0] == "stripe" for name in names):
                    found.add(str(file.relative_to(root)))
    return found


def test_the_sdk_is_imported_in_one_package_only() -> None:
    found = importers(ROOT, APPS)

    assert found
    assert {name for name in found if not name.startswith("billing/stripe/")} == set()


def test_the_check_sees_imports(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/a.py").write_text("def f():\n    import stripe\n")
    (tmp_path / "app/b.py").write_text("from stripe.params import X\n")
    (tmp_path / "app/c.py").write_text("from billing.stripe import client\n")

    assert importers(tmp_path, ("app",)) == {"app/a.py", "app/b.py"}


def test_usage_is_sent_from_one_place_only() -> None:
    """Regression 20: diggerhq/opencomputer#276: an old path without identifiers was still live."""
    senders = {
        str(file.relative_to(ROOT))
        for app in APPS
        for file in (ROOT / app).rglob("*.py")
        if "meter_events.create" in file.read_text(encoding="utf-8")
    }

    assert senders == {"billing/stripe/invoicing.py"}


def test_a_key_without_a_webhook_secret_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_123")

    with pytest.raises(ImproperlyConfigured, match="STRIPE_WEBHOOK_SECRET is not"):
        environment.stripe_webhook_secrets(environment.stripe_key())


@pytest.mark.parametrize("secret", ["secret", "whsec_", "whsec_short", f"{SECRET},nothing"])
def test_a_secret_that_is_none_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", secret)

    with pytest.raises(ImproperlyConfigured, match="whsec_"):
        environment.stripe_webhook_secrets("sk_test_123")


@pytest.mark.parametrize("key", ["pk_test_123", "whatever", "sk_"])
def test_a_key_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("STRIPE_SECRET_KEY", key)

    with pytest.raises(ImproperlyConfigured, match="STRIPE_SECRET_KEY"):
        environment.stripe_key()


def test_both_can_come_from_files_and_secrets_can_be_two(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("rk_live_123\n")
    (tmp_path / "secrets").write_text(f"{SECRET}, {SECRET}2,\n")
    monkeypatch.setenv("STRIPE_SECRET_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET_FILE", str(tmp_path / "secrets"))

    key = environment.stripe_key()

    assert key == "rk_live_123"
    assert environment.stripe_webhook_secrets(key) == [SECRET, f"{SECRET}2"]


def test_without_a_key_nothing_is_asked_for() -> None:
    assert environment.stripe_key() == ""
    assert environment.stripe_webhook_secrets("") == []

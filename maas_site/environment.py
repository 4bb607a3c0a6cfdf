"""Reads settings from the environment; a bad value stops the start and says why."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

# A socket's address has room for 107 bytes on Linux and 103 elsewhere.
_SOCKET_PATH_MAX = 100
_STRIPE_KEYS = ("sk_test_", "sk_live_", "rk_test_", "rk_live_")
_WEBHOOK_SECRET_MIN = 16
_LABEL = re.compile(r"[a-z][a-z0-9_.-]{0,39}=[A-Za-z0-9_.-]{1,60}")
_AMOUNT = re.compile(r"\d{1,9}(\.\d{1,9})?")


def text(name: str, default: str = "") -> str:
    """Read a setting, or the file that `NAME_FILE` points at."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE: cannot read {path}: {error}") from error
    return os.environ.get(name, default)


def integer(name: str, default: int, *, low: int, high: int) -> int:
    """Read a whole number between `low` and `high`."""
    raw = text(name, str(default))
    if not raw.isdecimal() or not low <= int(raw) <= high:
        raise ImproperlyConfigured(f"{name} must be a whole number {low}..{high}, not {raw!r}.")
    return int(raw)


def boolean(name: str, *, default: bool) -> bool:
    """Read `1`/`0`, `true`/`false`, `yes`/`no`."""
    raw = text(name, "1" if default else "0").lower()
    if raw not in {"1", "true", "yes", "0", "false", "no"}:
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {raw!r}.")
    return raw in {"1", "true", "yes"}


def one_of(name: str, default: str, choices: set[str]) -> str:
    """Read one of some words."""
    raw = text(name, default)
    if raw not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {sorted(choices)}, not {raw!r}.")
    return raw


def nanos(name: str, default: str) -> int:
    """Read an amount of money such as `5.00`; returns nanos (1e-9 of the major unit)."""
    raw = text(name, default)
    if not _AMOUNT.fullmatch(raw):
        raise ImproperlyConfigured(f"{name} must be an amount such as 5.00, not {raw!r}.")
    whole, _, fraction = raw.partition(".")
    return int(whole) * 1_000_000_000 + int(fraction.ljust(9, "0"))


def labels(name: str) -> dict[str, str]:
    """Read `name=value,name=value`."""
    given = [part.strip() for part in text(name).split(",") if part.strip()]
    for part in given:
        if not _LABEL.fullmatch(part):
            raise ImproperlyConfigured(f"{name} must be like zone=a,gpu=1, not {part[:100]!r}.")
    return dict(part.split("=", 1) for part in given)


def stripe_key() -> str:
    """Return Stripe's secret key; empty means that no real money moves."""
    key = text("STRIPE_SECRET_KEY")
    if key and not key.startswith(_STRIPE_KEYS):
        raise ImproperlyConfigured(
            f"STRIPE_SECRET_KEY must begin with one of {', '.join(_STRIPE_KEYS)}."
        )
    return key


def stripe_webhook_secrets(key: str) -> list[str]:
    """Return the secrets that webhooks may be signed with: two while one replaces another.

    A site with a key and no secret would take money and never hear of it, or believe anybody.
    """
    secrets_given = [each.strip() for each in text("STRIPE_WEBHOOK_SECRET").split(",")]
    found = [each for each in secrets_given if each]
    if any(not each.startswith("whsec_") or len(each) < _WEBHOOK_SECRET_MIN for each in found):
        raise ImproperlyConfigured(
            "STRIPE_WEBHOOK_SECRET must be one or more secrets that begin with whsec_, "
            "separated by commas."
        )
    if key and not found:
        raise ImproperlyConfigured(
            "STRIPE_SECRET_KEY is set, but STRIPE_WEBHOOK_SECRET is not: payments would arrive "
            "and never be credited."
        )
    return found


def secret_key(data: Path) -> str:
    """Return the site's secret: from `SECRET_KEY`, or made once in the data folder (0600)."""
    given = text("SECRET_KEY")
    if given:
        return given
    path = data / "secret_key"
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = secrets.token_urlsafe(50)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(made)
    return made


def folder(path: Path) -> Path:
    """Return a folder of the site's own, made if it is not there (0700)."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def valkey_socket(data: Path) -> Path:
    """Return the socket of the data folder's own Valkey: in it, unless the path is too long."""
    path = data / "valkey.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
        return path
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path("/tmp") / f"mercato-{os.getuid()}-{name}" / "valkey.sock"  # noqa: S108  (0700)

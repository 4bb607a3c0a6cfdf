"""API keys: issue, find, revoke."""

from __future__ import annotations

import hashlib
import secrets
import time
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from accounts import audit, limits
from accounts.errors import AuthenticationError
from accounts.limits import Limit
from accounts.models import ApiKey, Organization, User

SCOPES = ("predict", "train", "read", "billing", "webhooks")
# What a key may do unless it is asked for more: not raise its own cap, not send events elsewhere.
DEFAULT_SCOPES = ("predict", "train", "read")
# How long a process believes what it read about a key; a revoked key dies within it.
CACHE_SECONDS = 5.0
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 43  # 62^43 > 2^256
_CHECKSUM_LENGTH = 6
_PREFIXES = ("mk_live_", "mk_test_")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who acts: the organization that pays, through a key or in the browser."""

    organization_id: int
    organization_slug: str
    api_key_id: int | None = None
    user_id: int | None = None
    scopes: frozenset[str] = frozenset(SCOPES)
    # How fast it may call; empty: as fast as it can.
    limits: tuple[Limit, ...] = ()


def issue(
    organization: Organization,
    name: str,
    *,
    scopes: list[str] | None = None,
    created_by: User | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; the secret is returned here and can never be read again."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    secret = f"{_PREFIXES[0]}{body}{_checksum(body)}"
    key = ApiKey.objects.create(
        organization=organization,
        name=name,
        prefix=secret[:12],
        last4=secret[-4:],
        digest=digest(secret),
        scopes=list(DEFAULT_SCOPES) if scopes is None else scopes,
        created_by=created_by,
        expires_at=expires_at,
    )
    audit.record(created_by, "key.issued", key, organization=organization)
    return key, secret


def revoke(key: ApiKey, *, actor: User | None, reason: str = "") -> bool:
    """Revoke a key; False if it was revoked already."""
    changed = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    if changed:
        audit.record(actor, "key.revoked", key, organization=key.organization, reason=reason)
    return bool(changed)


def digest(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(body: str) -> str:
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKSUM_LENGTH):
        value, rest = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[rest] + digits
    return digits


def looks_valid(secret: str) -> bool:
    """Whether the text can be a key at all; keeps guesses away from the database."""
    body = secret[8:-_CHECKSUM_LENGTH]
    return (
        secret.startswith(_PREFIXES)
        and len(secret) == 8 + _SECRET_LENGTH + _CHECKSUM_LENGTH
        and secret.isascii()
        and secrets.compare_digest(_checksum(body), secret[-_CHECKSUM_LENGTH:])
    )


_cache: dict[str, tuple[float, Caller]] = {}


def cached_caller(secret: str) -> Caller | None:
    """Return who a key stands for if this process read it in the last seconds."""
    known = _cache.get(digest(secret))
    return known[1] if known and known[0] > time.monotonic() else None


def authenticate(secret: str) -> Caller:
    """Return who a key stands for.

    Raises:
        AuthenticationError: The key is malformed, unknown, revoked or expired.
    """
    known = cached_caller(secret)
    if known:
        return known
    if not looks_valid(secret):
        raise AuthenticationError("This is not an API key. A key starts with mk_live_ or mk_test_.")
    key = (
        ApiKey.objects.usable().filter(digest=digest(secret)).select_related("organization").first()
    )
    if key is None:
        _cache.pop(digest(secret), None)
        raise AuthenticationError("This API key does not exist, has expired or was revoked.")
    caller = Caller(
        organization_id=key.organization_id,
        organization_slug=key.organization.slug,
        api_key_id=key.pk,
        scopes=frozenset(key.scopes),
        limits=limits.of(key.organization, key),
    )
    _touch(key)
    _remember(key.digest, caller)
    return caller


def _remember(key_digest: str, caller: Caller) -> None:
    now = time.monotonic()
    if len(_cache) >= 10_000:
        for stale in [item for item, (until, _) in _cache.items() if until <= now]:
            del _cache[stale]
    _cache[key_digest] = (now + CACHE_SECONDS, caller)


def _touch(key: ApiKey) -> None:
    """Note the use, once a minute at most: the row must not become hot."""
    now = timezone.now()
    minute_ago = now - timedelta(minutes=1)
    ApiKey.objects.filter(Q(last_used_at=None) | Q(last_used_at__lt=minute_ago), pk=key.pk).update(
        last_used_at=now
    )

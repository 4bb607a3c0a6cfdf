"""API keys: shown once, stored as a hash, found fast, dead when revoked."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts import keys
from accounts.errors import AuthenticationError
from accounts.models import ApiKey, AuditEntry, Organization
from tests import factories


def test_a_key_is_long_random_and_has_a_checksum(organization: Organization) -> None:
    key, secret = factories.make_key(organization)

    assert secret.startswith("mk_live_")
    assert len(secret) == 57
    assert keys.looks_valid(secret)
    assert (key.prefix, key.last4) == (secret[:12], secret[-4:])


def test_no_table_holds_the_secret(organization: Organization) -> None:
    _, secret = factories.make_key(organization)

    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)

    assert secret not in dump.getvalue()
    assert secret[12:-4] not in dump.getvalue()


def test_a_key_stands_for_its_organization(organization: Organization) -> None:
    key, secret = factories.make_key(organization, scopes=["read"])

    caller = keys.authenticate(secret)

    assert (caller.organization_id, caller.api_key_id) == (organization.pk, key.pk)
    assert caller.scopes == {"read"}


def test_a_known_key_is_not_read_again_for_seconds(organization: Organization) -> None:
    _, secret = factories.make_key(organization)
    keys.authenticate(secret)

    with CaptureQueriesContext(connection) as queries:
        keys.authenticate(secret)

    assert len(queries) == 0


def test_a_revoked_key_is_refused(organization: Organization) -> None:
    key, secret = factories.make_key(organization)

    assert keys.revoke(key, actor=None)
    assert not keys.revoke(key, actor=None)

    with pytest.raises(AuthenticationError):
        keys.authenticate(secret)
    assert AuditEntry.objects.filter(action="key.revoked").count() == 1


def test_an_expired_key_is_refused(organization: Organization) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    _, secret = factories.make_key(organization, expires_at=yesterday)

    with pytest.raises(AuthenticationError):
        keys.authenticate(secret)


@given(st.text(max_size=80))
def test_a_guess_is_refused_without_asking_the_database(guess: str) -> None:
    with pytest.raises(AuthenticationError):
        keys.authenticate(f"mk_live_{guess}")


def test_the_use_of_a_key_is_noted_once_a_minute(organization: Organization) -> None:
    key, secret = factories.make_key(organization)
    keys.authenticate(secret)
    first = ApiKey.objects.get(pk=key.pk).last_used_at
    keys._cache.clear()

    keys.authenticate(secret)

    assert first is not None
    assert ApiKey.objects.get(pk=key.pk).last_used_at == first

"""API key → request."""

from __future__ import annotations

from typing import cast

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts import keys
from accounts.errors import AuthenticationError
from accounts.keys import Caller
from accounts.models import Organization


def bearer(header: str) -> str:
    """Return the secret of an Authorization header.

    Raises:
        AuthenticationError: The header is missing or is not `Bearer …`.
    """
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise AuthenticationError("Send your key in the header `Authorization: Bearer mk_live_…`.")
    return secret.strip()


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer mk_live_…` → `request.auth`, a Caller."""

    def authenticate(self, request: Request) -> tuple[None, Caller]:
        """Return the caller; without a key every API path refuses."""
        return None, keys.authenticate(bearer(request.headers.get("Authorization", "")))

    def authenticate_header(self, request: Request) -> str:
        """Make a missing key a 401."""
        return "Bearer"


def caller_of(request: Request) -> Caller:
    """Return who calls; only for views behind ApiKeyAuthentication."""
    return cast(Caller, request.auth)


def key_label(request: Request) -> str:
    """Return how the audit log names the key that calls."""
    return f"key {caller_of(request).api_key_id}"


def organization_of(request: Request) -> Organization:
    """Return the organization that calls."""
    return Organization.objects.get(pk=caller_of(request).organization_id)

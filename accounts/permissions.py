"""What a key may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.errors import PermissionDeniedError
from accounts.keys import Caller

if TYPE_CHECKING:
    # rest_framework.views reads the settings that name this module.
    from rest_framework.views import APIView


def require_scope(caller: Caller, scope: str) -> None:
    """Refuse a key that lacks a scope.

    Raises:
        PermissionDeniedError: Naming the scope.
    """
    if scope not in caller.scopes:
        raise PermissionDeniedError(f"This key lacks the scope `{scope}`.")


class HasScope(BasePermission):
    """Views name `scope`; a view that names none is refused to everybody."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Check the key's scopes."""
        scope = getattr(view, "scope", None)
        if scope is None or not isinstance(request.auth, Caller):
            return False
        require_scope(request.auth, scope)
        return True

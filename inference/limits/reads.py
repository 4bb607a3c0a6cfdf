"""How often a key may ask for what costs nothing, such as lists: generous, the same for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.keys import Caller
from accounts.limits import Limit, Unit
from inference import limits

if TYPE_CHECKING:
    from rest_framework.views import APIView


class ReadThrottle(BaseThrottle):
    """Counts the requests of a key that Django serves; runs have limits of their own."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Let a request through.

        Raises:
            RateLimitedError: Too many; in place of the framework's own refusal.
        """
        caller = request.auth
        if settings.READS_PER_MINUTE and isinstance(caller, Caller) and caller.api_key_id:
            owner = f"reads:{caller.api_key_id}"
            limits.count((Limit(owner, Unit.REQUESTS.value, settings.READS_PER_MINUTE),))
        return True

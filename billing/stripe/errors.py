"""What a call to Stripe can end in, apart from success; the SDK's exceptions are mapped here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import stripe


class StripeCallError(Exception):
    """A call to Stripe did not return an object.

    Attributes:
        message: What Stripe or the network said; not for people who pay.
        code: Stripe's error code, such as `card_declined`; empty if it gave none.
        decline_code: Why the bank said no, such as `insufficient_funds`; empty otherwise.
        status: HTTP status; 0 if there was no answer.
        object_id: The payment intent that the refusal left behind, if any.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        decline_code: str = "",
        status: int = 0,
        object_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.decline_code = decline_code
        self.status = status
        self.object_id = object_id


class RejectedError(StripeCallError):
    """Stripe refused, for good: nothing happened, and the same key gives the same refusal."""

    @property
    def is_duplicate_usage(self) -> bool:
        """Whether a meter event was counted before under its identifier: that is success."""
        return "already exists with identifier" in self.message


class AmbiguousError(StripeCallError):
    """It may have happened or not: a timeout, a reset, a 5xx, a 409. Ask again, same key."""


class KeyReusedError(AmbiguousError):
    """The key was used before with other parameters: what that first call did is not known."""


class RateLimitedError(StripeCallError):
    """Too many calls: nothing happened. Ask again later, same key."""


class MisconfiguredError(StripeCallError):
    """The secret key is wrong or may not do this: nothing happened; an operator must act."""


@contextmanager
def mapped() -> Iterator[None]:
    """Turn the SDK's exceptions into ours, so that nobody else needs to know the SDK.

    Raises:
        RejectedError: A definitive refusal.
        AmbiguousError: The outcome is not known.
        RateLimitedError: Too many calls.
        MisconfiguredError: The key is not accepted.
    """
    import stripe

    try:
        yield
    except stripe.StripeError as error:
        raise _ours(error) from error


def _ours(error: stripe.StripeError) -> StripeCallError:
    intent = getattr(error.error, "payment_intent", None)
    return _kind(error)(
        error.user_message or type(error).__name__,
        code=error.code or getattr(error.error, "code", None) or "",
        decline_code=getattr(error.error, "decline_code", None) or "",
        status=error.http_status or 0,
        object_id=getattr(intent, "id", None) or "",
    )


def _kind(error: stripe.StripeError) -> type[StripeCallError]:
    import stripe

    status = error.http_status or 0
    if isinstance(error, stripe.RateLimitError):
        return RateLimitedError
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return MisconfiguredError
    if isinstance(error, stripe.IdempotencyError):
        return KeyReusedError
    # No status: the connection broke, or the answer was not one of Stripe's.
    is_definitive = 400 <= status < 500 and status not in {408, 409}
    return RejectedError if is_definitive else AmbiguousError

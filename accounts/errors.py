"""What can go wrong, with codes that are public: each is listed in docs/errors.md."""

from __future__ import annotations


class MercatoError(Exception):
    """A refusal that the caller is told: a stable code, an HTTP status, what would help."""

    code = "internal_error"
    status_code = 500
    # Seconds after which trying again makes sense; sent as Retry-After.
    retry_after: int | None = None
    # More headers of the answer, such as what is left of a cap.
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, message: str, *, param: str | None = None) -> None:
        self.message = message
        self.param = param
        super().__init__(message)


class InvalidRequestError(MercatoError):
    """The request is not understood."""

    code = "invalid_request"
    status_code = 400


class InvalidJSONError(InvalidRequestError):
    """The body is not JSON."""

    code = "invalid_json"


class UnknownFieldError(InvalidRequestError):
    """The body has a field that does not exist."""

    code = "unknown_field"


class AuthenticationError(MercatoError):
    """The key is missing, malformed, unknown, revoked or expired."""

    code = "invalid_api_key"
    status_code = 401


class PermissionDeniedError(MercatoError):
    """The key, or the person, may not do this."""

    code = "permission_denied"
    status_code = 403


class NotFoundError(MercatoError):
    """There is no such object, or it belongs to somebody else."""

    code = "not_found"
    status_code = 404


class MethodNotAllowedError(MercatoError):
    """The path exists, but not with this method."""

    code = "method_not_allowed"
    status_code = 405


class ConflictError(MercatoError):
    """The object is not in a state that allows this."""

    code = "conflict"
    status_code = 409


class IdempotencyMismatchError(MercatoError):
    """The Idempotency-Key was used with another request."""

    code = "idempotency_mismatch"
    status_code = 422


class IdempotencyInProgressError(MercatoError):
    """The first request with this Idempotency-Key still runs."""

    code = "idempotency_in_progress"
    status_code = 409
    retry_after = 1


class PayloadTooLargeError(MercatoError):
    """The body is larger than allowed."""

    code = "payload_too_large"
    status_code = 413


class UnsupportedMediaTypeError(MercatoError):
    """The body's content type is not accepted."""

    code = "unsupported_media_type"
    status_code = 415


class OverloadedError(MercatoError):
    """No worker, or too many requests wait already."""

    code = "overloaded"
    status_code = 503
    retry_after = 1


def body_of(error: MercatoError, request_id: str) -> dict[str, dict[str, str | None]]:
    """Return the body of every error answer."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "request_id": request_id,
        }
    }

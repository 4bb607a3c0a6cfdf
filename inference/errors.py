"""What can go wrong with a prediction."""

from __future__ import annotations

from accounts.errors import ConflictError, InvalidRequestError, MercatoError, OverloadedError
from inference.runtime.errors import InputError


class InvalidTypeError(InvalidRequestError):
    """A value is not a number, a list, an object or an image as the signature says."""

    code = "invalid_type"


class InvalidShapeError(InvalidRequestError):
    """A tensor has another shape than the signature's, or is ragged."""

    code = "invalid_shape"


class InvalidImageError(InvalidRequestError):
    """An image cannot be read."""

    code = "invalid_image"


class InvalidNpyError(InvalidRequestError):
    """A body is not an `.npy` file of numbers, or is cut off."""

    code = "invalid_npy"


class InvalidBinaryDataError(InvalidRequestError):
    """Binary data is shorter or longer than shape and datatype say."""

    code = "invalid_binary_data"


class NonFiniteNumberError(InvalidRequestError):
    """A number is NaN or infinite."""

    code = "non_finite_number"


class OutOfRangeError(InvalidRequestError):
    """A number is outside the range of the signature."""

    code = "out_of_range"


class MissingInputError(InvalidRequestError):
    """An input of the signature is missing."""

    code = "missing_input"


class UnknownInputError(InvalidRequestError):
    """The signature has no such input."""

    code = "unknown_input"


class UnknownOutputError(InvalidRequestError):
    """The signature has no such output."""

    code = "unknown_output"


class TooManyRowsError(MercatoError):
    """More rows in one request than allowed."""

    code = "too_many_rows"
    status_code = 413


class RateLimitedError(MercatoError):
    """The key or the organization calls more often than it may, or too much at once."""

    code = "rate_limited"
    status_code = 429


class ModelFailedError(MercatoError):
    """The model failed on this input; the outcome policy says what that costs."""

    code = "model_error"
    status_code = 500


class WorkerLostError(MercatoError):
    """The worker died while it ran this; nothing was charged."""

    code = "worker_lost"
    status_code = 503
    retry_after = 1


class ModelStartingError(MercatoError):
    """The model is being loaded, and the caller will not wait for so long; nothing was charged."""

    code = "model_starting"
    status_code = 503
    retry_after = 1


class NoWorkerError(OverloadedError):
    """No worker that lives can do what the version needs; nothing was charged."""

    code = "no_worker"
    retry_after = 5


class PredictionTimeoutError(MercatoError):
    """No worker answered in time; nothing was charged."""

    code = "prediction_timeout"
    status_code = 504
    retry_after = 1


class QueueFullError(MercatoError):
    """As many predictions of the organization wait as may."""

    code = "queue_full"
    status_code = 429
    retry_after = 30


class NotCancelableError(ConflictError):
    """It has ended, or it is a synchronous prediction, whose caller waits for it."""

    code = "not_cancelable"


class CanceledError(ConflictError):
    """The prediction was canceled: it has no answer that could be given again."""

    code = "canceled"


class ContextLengthError(InvalidRequestError):
    """Prompt and answer together, or a text to embed, are longer than the model can take."""

    code = "context_length_exceeded"


class WrongTaskError(InvalidRequestError):
    """The model is for another task than the path."""

    code = "wrong_task"


class WebhookUrlError(InvalidRequestError):
    """Webhooks cannot be sent to this URL."""

    code = "invalid_webhook_url"


class TooManyWebhooksError(MercatoError):
    """The organization has as many webhook endpoints as it may."""

    code = "too_many_webhooks"
    status_code = 409


_INPUT_ERRORS: dict[str, type[MercatoError]] = {
    kind.code: kind
    for kind in (
        InvalidTypeError,
        InvalidShapeError,
        InvalidImageError,
        InvalidNpyError,
        InvalidBinaryDataError,
        NonFiniteNumberError,
        OutOfRangeError,
        MissingInputError,
        UnknownInputError,
        UnknownOutputError,
        TooManyRowsError,
        ContextLengthError,
        WrongTaskError,
        InvalidRequestError,
    )
}


def from_input_error(error: InputError) -> MercatoError:
    """Return the refusal that tells the caller what is wrong with the input."""
    return _INPUT_ERRORS[error.code](error.message, param=error.param)

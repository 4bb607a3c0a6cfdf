"""What can go wrong with a batch file as a whole."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from accounts.errors import (
    ConflictError,
    InvalidRequestError,
    MercatoError,
    UnsupportedMediaTypeError,
)
from inference.batch_files.records import FileError


class EmptyFileError(InvalidRequestError):
    """There is nothing in the file."""

    code = "empty_file"


class CompressedFileError(UnsupportedMediaTypeError):
    """The file is compressed; it is taken as it is, or not at all."""

    code = "compressed_file"


class FileEncodingError(InvalidRequestError):
    """The file is no text in UTF-8."""

    code = "invalid_encoding"


class BatchFormatError(InvalidRequestError):
    """The format of the file is neither said nor plain from its name."""

    code = "unknown_batch_format"


class BatchStateError(ConflictError):
    """The batch file is not in a state that allows this."""

    code = "batch_not_ready"


class BatchPriceChangedError(ConflictError):
    """The price has risen since the estimate; the new estimate is on the batch file."""

    code = "batch_price_changed"


class BatchLimitError(MercatoError):
    """The organization has as many open batch files as it may."""

    code = "too_many_batches"
    status_code = 409


_FILE_ERRORS: dict[str, type[MercatoError]] = {
    kind.code: kind for kind in (EmptyFileError, CompressedFileError, FileEncodingError)
}


def from_file_error(error: FileError) -> MercatoError:
    """Return the refusal of a file that cannot even be checked."""
    return _FILE_ERRORS[error.code](error.message, param="file")


# Why a file was refused when it was checked, failed, or waits: code → what it means.
FAILURES = {
    "empty_file": _("There is no row in the file."),
    "compressed_file": _("The file is compressed."),
    "invalid_encoding": _("The file, or a line of it, is not UTF-8."),
    "invalid_csv": _("The file, or a record of it, is no CSV."),
    "line_too_long": _("A line is longer than allowed."),
    "too_many_rows": _("The file has more rows than allowed."),
    "duplicate_column": _("Two columns have the same name."),
    "missing_column": _("A column that the model needs is missing."),
    "unknown_column": _("The model has no input of a column's name."),
    "invalid_rows": _(
        "Some rows do not fit the model, and invalid rows are not to be skipped. "
        "Nothing was run or charged."
    ),
    "file_lost": _("The file is not in the data folder any more."),
    "price_changed": _("The price rose while the file was checked."),
    "max_cost_exceeded": _("The estimate is more than the most it may cost."),
    "insufficient_credit": _("The credit does not last for the next rows."),
    "cap_reached": _("A spending limit is reached."),
    "organization_frozen": _("The organization is frozen."),
    "key_revoked": _("The key that started it is not accepted any more."),
    "not_loaded": _("The model cannot be loaded at the moment."),
    "expired": _("It was not started, or not paid for, in time."),
}
# What one row's answer may say besides the codes of a call's input.
ROW_FAILURES = {
    "model_error": "The model failed on this input.",
    "worker_lost": "Workers died while they ran the rows around this one. Nothing was charged.",
}

"""What can be wrong with an input, or with a model."""

from __future__ import annotations


class InputError(ValueError):
    """The caller's input does not fit the signature.

    Attributes:
        code: One of the codes of inference.errors.
        param: Path of the value, such as `input.image`.
    """

    def __init__(self, code: str, message: str, param: str) -> None:
        self.code = code
        self.message = message
        self.param = param
        super().__init__(message)


class ModelError(RuntimeError):
    """The model itself failed on a valid input."""

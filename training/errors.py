"""What can go wrong with a training."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from accounts.errors import ConflictError, InvalidRequestError, MercatoError


class InvalidRecipeError(InvalidRequestError):
    """There is no recipe of this name."""

    code = "invalid_recipe"


class InvalidDataError(InvalidRequestError):
    """The recipe cannot be trained on this data."""

    code = "invalid_data"


class InvalidHyperparameterError(InvalidRequestError):
    """A hyper-parameter is out of bounds."""

    code = "invalid_hyperparameter"


class TrainingTooLongError(InvalidRequestError):
    """The choices would take longer than a training may."""

    code = "training_too_long"


class RecipeUnavailableError(MercatoError):
    """The recipe needs a framework that is not installed on this site."""

    code = "recipe_unavailable"
    status_code = 409


class DataUnavailableError(MercatoError):
    """The data set is not on this site."""

    code = "data_unavailable"
    status_code = 409


class JobLimitError(MercatoError):
    """The organization has as many trainings under way as it may."""

    code = "job_limit"
    status_code = 429
    retry_after = 30


class NotPublishableError(ConflictError):
    """The training has no result to publish, or it is published already."""

    code = "not_publishable"


class InvalidNameError(InvalidRequestError):
    """A model cannot have this name."""

    code = "invalid_name"


# How a training can fail once it runs; stored in the row's `error_code`. Pages translate it.
FAILURES = {
    "recipe_unavailable": _("The recipe needs a framework that is not installed where it ran."),
    "data_unavailable": _("The data set is not on the machine where it ran."),
    "training_diverged": _(
        "The loss became infinite. Try a smaller learning rate or another optimizer."
    ),
    "export_mismatch": _("No exported file answered what the trained model answers."),
    "out_of_memory": _("The training needed more memory than there is."),
    "compute_limit_reached": _("The training reached the reserved compute before it was finished."),
    "hold_expired": _("The money set aside had been given back before the training began."),
    "worker_lost": _("The workers died too often while it ran."),
    "internal_error": _("Something failed that should not; the operator's log says what."),
}
# These are the caller's choices, not the platform's fault: trying again changes nothing.
CALLER_FAILURES = frozenset({"training_diverged"})

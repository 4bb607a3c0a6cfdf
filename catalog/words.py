"""Names of tasks, frameworks and runtimes, in the reader's language."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from catalog.models.models import Framework, Task

TASKS: dict[str, str | Promise] = {
    Task.IMAGE_CLASSIFICATION: _("Image classification"),
    Task.SEQUENCE_CLASSIFICATION: _("Sequence classification"),
    Task.REGRESSION: _("Regression"),
    Task.TEXT_GENERATION: _("Text generation"),
    Task.SENTENCE_EMBEDDING: _("Sentence embedding"),
}
FRAMEWORKS: dict[str, str | Promise] = {
    Framework.TENSORFLOW: "TensorFlow",
    Framework.PYTORCH: "PyTorch",
}
RUNTIMES: dict[str, str | Promise] = {"onnx": "ONNX", "tensorflow": "TensorFlow"}
STATUSES: dict[str, str | Promise] = {
    "draft": _("Draft"),
    "published": _("Published"),
    "withdrawn": _("Withdrawn"),
}
METRICS: dict[str, str | Promise] = {
    "accuracy": _("Accuracy"),
    "accuracy_varied": _("Accuracy on varied images"),
    "loss": _("Loss"),
    "rows": _("Held-out rows"),
    "mean_absolute_error": _("Mean absolute error"),
    "r2": "R²",
    "bits_per_character": _("Bits per character"),
    "parity": _("Largest difference from a second implementation"),
}
# Metrics that are shares of 1.
SHARES = {"accuracy", "accuracy_varied"}
DATA: dict[str, str | Promise] = {
    "mnist": "MNIST",
    "digits": _("scikit-learn digits, scaled to 28 × 28"),
    "line": "y = 3x + 2 + ε",
    "docs": _("Mercato's own documents"),
    "none": _("None: the weights were trained elsewhere"),
}
HYPERPARAMETERS: dict[str, str | Promise] = {
    "optimizer": _("Optimizer"),
    "learning_rate": _("Learning rate"),
    "batch_size": _("Batch size"),
    "epochs": _("Epochs"),
    "seed": _("Seed"),
}
ARTIFACTS: dict[str, str | Promise] = {
    "onnx": "ONNX",
    "saved_model": "SavedModel",
    "keras": "Keras",
    "torch": "PyTorch",
    "tokenizer": _("Tokenizer"),
}

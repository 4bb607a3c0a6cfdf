"""What the console calls rows, fields and choices: the names Django derives, readable, translated.

Each app lists the texts that come of it in its `wording.py`, for translators; a test holds the
lists complete.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.apps import AppConfig
from django.db.models import Field, Model
from django.utils.functional import lazy
from django.utils.html import escape
from django.utils.text import capfirst
from django.utils.translation import get_language, gettext, gettext_lazy

_WORDS = {
    "api": "API",
    "csv": "CSV",
    "gpus": "GPUs",
    "id": "ID",
    "jsonl": "JSONL",
    "keras": "Keras",
    "ok": "OK",
    "onnx": "ONNX",
    "pid": "PID",
    "pytorch": "PyTorch",
    "sha256": "SHA-256",
    "sku": "SKU",
    "stripe": "Stripe",
    "tensorflow": "TensorFlow",
    "url": "URL",
}
_UNITS = {
    "bps": "basis points",
    "bytes": "bytes",
    "minor": "minor units",
    "ms": "ms",
    "nanos": "nanos",
    "us": "µs",
}
# What is better said otherwise, as Django derives it.
_ENGLISH = {
    "Auto": "Automatic",
    "Day": "Per day",
    "Month": "Per month",
    "Open": "Still open",
    "Saved Model": "SavedModel",
    "Sent": "Sent off",
    "auto reload": "automatic top-up",
    "auto reloads": "automatic top-ups",
    "balance watchs": "balance watches",
    "batch rows total": "rows in its batches",
    "card en": "card in English",
    "card zh": "card in Chinese",
    "carry nanos": "carried (nanos)",
    "charge refund run": "refund of a version",
    "charge refund runs": "refunds of a version",
    "compute ms": "compute time (ms)",
    "email": "e-mail",
    "external ref": "external reference",
    "failures": "failed calls",
    "idem key": "idempotency key",
    "invoice seriess": "invoice series",
    "is async": "in the background",
    "last4": "last four characters",
    "line nanos": "credit line (nanos)",
    "livemode": "live mode",
    "lock rank": "level",
    "losses": "workers lost",
    "ml model": "model",
    "ml models": "models",
    "nanos from": "from (nanos)",
    "nanos to": "to (nanos)",
    "outgoing mails": "outgoing mail",
    "params": "parameters",
    "platform nanos": "platform's part (nanos)",
    "publisher bps": "publisher's part (basis points)",
    "publisher nanos": "publisher's part (nanos)",
    "queue us": "queue time (µs)",
    "run us": "run time (µs)",
    "run us total": "total run time (µs)",
    "seq": "number in its bucket",
    "stable batch rows total": "rows in the current version's batches",
    "stable run us total": "total run time of the current version (µs)",
    "stripe op": "operation at Stripe",
    "stripe ops": "operations at Stripe",
    "summary en": "summary in English",
    "summary zh": "summary in Chinese",
    "title en": "title in English",
    "title zh": "title in Chinese",
    "top up": "top-up",
    "top ups": "top-ups",
    "uncapped nanos": "cost without the cap (nanos)",
    "version aliass": "version aliases",
    "webhook deliverys": "webhook deliveries",
}


class Badge(NamedTuple):
    """A value and the text it is shown as: unfold colours it in lists, pages show the text."""

    value: str
    text: str

    def __html__(self) -> str:
        """Return the text, as it is shown on a row's page."""
        return escape(self.text)


def badge(value: str) -> Badge:
    """Return a state with its text in the language of the moment."""
    return Badge(value, _shown(value.replace("_", " ").title()))


def name(config: AppConfig) -> None:
    """Give the rows, fields and choices of an app names in the language of the moment.

    Migrations do not see them: they hold what the models say.
    """
    for model in config.get_models():
        _name_model(model)
        for field in [*model._meta.fields, *model._meta.many_to_many]:
            _name_field(field)


def _name_model(model: type[Model]) -> None:
    options = model._meta
    if isinstance(options.verbose_name, str):
        # The plural first: while it is derived, it follows the singular.
        options.verbose_name_plural = gettext_lazy(_english(str(options.verbose_name_plural)))
        options.verbose_name = gettext_lazy(_english(options.verbose_name))


def _name_field(field: Field[Any, Any]) -> None:
    # Django's own fields, such as a password, come translated.
    if isinstance(field.verbose_name, str):
        field.verbose_name = gettext_lazy(_english(field.verbose_name))
    if field.choices:
        field.choices = [
            (value, _choice(label) if isinstance(label, str) else label)
            for value, label in field.flatchoices
        ]


def _english(derived: str) -> str:
    """Return a derived name as a person would write it."""
    if derived in _ENGLISH:
        return _ENGLISH[derived]
    *words, last = [_WORDS.get(word, word) for word in derived.split(" ")]
    unit = _UNITS.get(last) if words else None
    return f"{' '.join(words)} ({unit})" if unit else " ".join([*words, last])


def _english_choice(derived: str) -> str:
    return _ENGLISH.get(derived) or capfirst(_english(derived.lower()))


def _shown(derived: str) -> str:
    # Without a language Django compares the models with the migrations, which say what is derived.
    return gettext(_english_choice(derived)) if get_language() else derived


_choice = lazy(_shown, str)

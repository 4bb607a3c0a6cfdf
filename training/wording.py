"""Texts for translators: what the console calls the rows of this app; see accounts.naming."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

TEXTS = (
    _("cancel requested at"),
    _("curve"),
    _("data"),
    _("hyperparameters"),
    _("job"),
    _("jobs"),
    _("max seconds"),
    _("progress"),
    _("publish as"),
    _("recipe"),
    _("workers lost"),
)

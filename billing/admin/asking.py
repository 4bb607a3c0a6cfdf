"""Pages of the console on which an operator asks for something new, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.admin import ReadOnlyAdmin, ReasonForm, operator
from accounts.errors import MercatoError

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


class AskAdmin(ReadOnlyAdmin):
    """Rows that a verb makes from a form; a form that is sent twice makes one.

    Attributes:
        ask_form: What is asked; its hidden `submission` names what is made.
        ask_title: The page's title.
        ask_explain: What follows from it.
        ask_done: What the operator is told then.
    """

    ask_form: type[ReasonForm] = ReasonForm
    ask_title: StrOrPromise = ""
    ask_explain: StrOrPromise = ""
    ask_done: StrOrPromise = _("Done.")

    def ask(self, request: HttpRequest, form: dict[str, Any]) -> Model:
        """Make what was asked for.

        Raises:
            MercatoError: The verb refuses; shown on the form.
        """
        raise MercatoError("Nothing can be made here.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let operators with the right add."""
        name = f"{self.opts.app_label}.add_{self.opts.model_name}"
        return operator(request).has_perm(name)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Ask, then do; a refusal is shown on the form."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.ask_form(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                row = self.ask(request, form.cleaned_data)
            except MercatoError as error:
                form.add_error(None, error.message)
            else:
                messages.success(request, str(self.ask_done))
                return HttpResponseRedirect(self.url_of(row))
        listed = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        context = {
            **self.admin_site.each_context(request),
            "title": self.ask_title,
            "explain": self.ask_explain,
            "form": form,
            "row": self.opts.verbose_name,
            "back": reverse(listed),
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/deed.html", context)


def text_field(label: StrOrPromise, help_text: StrOrPromise, **options: Any) -> forms.CharField:
    """Return a field for a name that an operator types, such as a slug."""
    widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"})
    return forms.CharField(label=label, help_text=help_text, widget=widget, **options)


def instant_field(label: StrOrPromise, **options: Any) -> forms.DateTimeField:
    """Return a field for an instant in UTC."""
    widget = UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-01-31 00:00"})
    return forms.DateTimeField(label=label, help_text=_("UTC."), widget=widget, **options)

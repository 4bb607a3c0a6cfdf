"""The operator console: what every page shares, then people, keys and the audit log."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminTextareaWidget

from accounts import audit, keys, naming
from accounts.errors import MercatoError
from accounts.models import ApiKey, AuditEntry, Membership, User

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    RowAdmin = admin.ModelAdmin[Any]
    RowInline = admin.TabularInline[Any, Any]
else:
    from unfold.admin import ModelAdmin as RowAdmin
    from unfold.admin import TabularInline as RowInline

_Method = TypeVar("_Method", bound=Callable[..., Any])


def deed(
    title: StrOrPromise, *, icon: str, permission: str = "operate"
) -> Callable[[_Method], _Method]:
    """Mark a method as a button above a row: it shows a form, and acts only on POST.

    Args:
        permission: Shown where the page's `has_<permission>_permission(request, pk)` says so.
    """

    def mark(method: _Method) -> _Method:
        for name, value in {
            "short_description": title,
            "allowed_permissions": [permission],
            "icon": icon,
            "variant": ActionVariant.DEFAULT,
            "attrs": {},
            "url_path": method.__name__.replace("_", "-"),
        }.items():
            setattr(method, name, value)
        return method

    return mark


def badge(
    title: StrOrPromise, colors: dict[str, str], *, ordering: str | None = None
) -> Callable[[Callable[..., str]], Callable[..., naming.Badge]]:
    """Show a method's values as coloured labels: value → success, warning, danger, info."""

    def mark(method: Callable[..., str]) -> Callable[..., naming.Badge]:
        @wraps(method)
        def shown(*args: Any) -> naming.Badge:
            return naming.badge(method(*args))

        for name, value in {
            "short_description": title,
            # Any state has a colour, though it be none: unfold shows the raw value otherwise.
            "label": defaultdict(str, colors),
            "admin_order_field": ordering,
        }.items():
            setattr(shown, name, value)
        return shown

    return mark


class ReasonForm(forms.Form):
    """Why an operator does something; every deed asks."""

    # One per form shown: what is booked names it, so that a double click books once.
    submission = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text=_("Written to the audit log."),
    )


class ConsoleAdmin(RowAdmin):
    """A page of the console: nothing is deleted, and what is done has a reason."""

    actions = None
    list_per_page = 50
    show_full_result_count = False
    list_filter_submit = True

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: rows that others point at stay."""
        return False

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether a person may press the buttons: the right to change the row."""
        name = f"{self.opts.app_label}.change_{self.opts.model_name}"
        return cast(User, request.user).has_perm(name)

    def perform(
        self,
        request: HttpRequest,
        object_id: str,
        *,
        title: StrOrPromise,
        explain: StrOrPromise,
        do: Callable[[Any, dict[str, Any]], StrOrPromise],
        form_class: type[ReasonForm] = ReasonForm,
    ) -> HttpResponse:
        """Ask for a reason, then act on one row; a refusal is shown on the form.

        Args:
            do: Takes the row and the cleaned form, acts, returns what to tell the operator.
        """
        if not self.has_operate_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        form = form_class(request.POST if request.method == "POST" else None)
        if form.is_valid():
            try:
                told = do(row, form.cleaned_data)
            except MercatoError as error:
                form.add_error(None, error.message)
            else:
                messages.success(request, str(told))
                return HttpResponseRedirect(self.url_of(row))
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "explain": explain,
            "form": form,
            "row": row,
            "back": self.url_of(row),
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/deed.html", context)

    def url_of(self, row: Model) -> str:
        """Return the address of a row's page."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return reverse(name, args=[quote(row.pk)])


class ReadOnlyAdmin(ConsoleAdmin):
    """Rows that only the site's own code writes: money, usage, logs."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: rows are made by what they record."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: what was recorded stays as it was."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Show also what no form could change, such as when the row was made."""
        left_out = self.exclude or ()
        fixed = [
            field.name
            for field in self.opts.concrete_fields
            if not field.editable and field.name not in left_out
        ]
        return [*map(str, self.readonly_fields), *fixed]


class ReadOnlyInline(RowInline):
    """Rows shown on another row's page."""

    extra = 0
    can_delete = False
    show_change_link = True
    hide_title = True
    per_page = 25

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse."""
        return False


def operator(request: HttpRequest) -> User:
    """Return who is signed in to the console."""
    return cast(User, request.user)


class MembershipInline(ReadOnlyInline):
    """The organizations of a person."""

    model = Membership
    fields = ["organization", "role", "created_at"]
    readonly_fields = ["created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Read the organizations in the same query."""
        found: QuerySet[Membership] = super().get_queryset(request)
        return found.select_related("organization").order_by("pk")


@admin.register(User)
class UserAdmin(BaseUserAdmin, ConsoleAdmin):  # type: ignore[type-arg]  # not generic at run time
    """People. Nobody is deleted: an account that must not sign in is made inactive."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ["email", "name", "is_staff", "is_superuser", "is_active", "last_login"]
    list_filter = ["is_staff", "is_superuser", "is_active", "groups"]
    search_fields = ["email", "name"]
    ordering = ["email"]
    date_hierarchy = "date_joined"
    readonly_fields = ["last_login", "date_joined"]
    inlines = [MembershipInline]
    fieldsets = [
        (None, {"fields": ["email", "name", "password"]}),
        (_("Console"), {"fields": ["is_active", "is_staff", "is_superuser", "groups"]}),
        (_("Dates"), {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"fields": ["email", "password1", "password2"]})]
    filter_horizontal = ["groups"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let only superusers change somebody who may enter the console."""
        allowed = super().has_change_permission(request, obj)
        return allowed and (obj is None or not obj.is_staff or operator(request).is_superuser)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Keep the right to give rights to superusers."""
        rights = [] if operator(request).is_superuser else ["is_staff", "is_superuser", "groups"]
        return [*self.readonly_fields, *rights]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and write down which fields changed."""
        super().save_model(request, obj, form, change)
        audit.record(
            operator(request),
            "user.changed" if change else "user.added",
            obj,
            details={"fields": [name for name in form.changed_data if "password" not in name]},
        )

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """Set a password, and write down whose."""
        answer = super().user_change_password(request, id, form_url)
        if request.method == "POST" and answer.status_code == 302:
            user = self.get_object(request, unquote(id))
            if user is not None:
                audit.record(operator(request), "user.password_set", user)
        return answer


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(BaseGroupAdmin, ConsoleAdmin):
    """Sets of rights, such as "support: may look at everything"."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Let only superusers give rights."""
        return operator(request).is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let only superusers give rights."""
        return operator(request).is_superuser

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and write it down."""
        super().save_model(request, obj, form, change)
        audit.record(operator(request), "group.changed" if change else "group.added", obj)


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """Keys. The secret was never stored, so it cannot be shown."""

    list_display = ["name", "shown", "organization", "state", "created_at", "last_used_at"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter), "created_at"]
    list_select_related = ["organization"]
    search_fields = ["name", "prefix", "last4", "organization__slug"]
    date_hierarchy = "created_at"
    exclude = ["digest"]
    actions_detail = ["revoke"]

    @admin.display(description=_("Key"))
    def shown(self, key: ApiKey) -> str:
        """Return the part of the key that may be seen."""
        return f"{key.prefix}…{key.last4}"

    @badge(_("State"), {"usable": "success", "revoked": "danger", "expired": "warning"})
    def state(self, key: ApiKey) -> str:
        """Return whether the key is accepted."""
        if key.revoked_at is not None:
            return "revoked"
        return "usable" if key.is_usable else "expired"

    def has_revoke_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to revoke what is not revoked."""
        row = ApiKey.objects.filter(pk=obj, revoked_at=None)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Revoke"), icon="key_off", permission="revoke")
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Revoke the key, for a reason."""

        def do(key: ApiKey, form: dict[str, Any]) -> StrOrPromise:
            if not keys.revoke(key, actor=operator(request), reason=form["reason"]):
                return _("The key was revoked before.")
            return _("The key is revoked. Every process refuses it within five seconds.")

        return self.perform(
            request,
            object_id,
            title=_("Revoke this key"),
            explain=_("Programs that use it get 401 from now on. This cannot be undone."),
            do=do,
        )


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who did what, and why."""

    list_display = ["at", "actor_label", "action", "object_label", "organization", "reason"]
    list_filter = ["at", "action"]
    list_select_related = ["organization"]
    search_fields = ["actor_label", "action", "object_label", "organization__slug", "reason"]
    date_hierarchy = "at"

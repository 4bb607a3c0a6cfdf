"""What the nightly comparison found, and what an operator does about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, badge, deed, operator
from accounts.models import User
from billing import advice, reconciliation, remedies
from billing.models import Finding, ReconciliationRun
from billing.tasks import reconcile
from billing.templatetags.money import money

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


@admin.register(Finding)
class FindingAdmin(ReadOnlyAdmin):
    """Two books that disagree: open until they agree, or a person has dealt with it."""

    list_display = [
        "id",
        "state_badge",
        "check_name",
        "organization",
        "text",
        "difference",
        "created_at",
    ]
    list_filter = ["state", "check_name", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["subject", "text", "organization__slug"]
    date_hierarchy = "created_at"
    actions_detail = ["correct", "dismiss"]
    fieldsets = [
        (None, {"fields": ["state_badge", "check_name", "subject", "organization", "text"]}),
        (_("What to do"), {"fields": ["advice"]}),
        (_("Amounts"), {"fields": ["expected", "found", "difference"]}),
        (_("Seen"), {"fields": ["run", "created_at", "last_run"]}),
        (_("Closed"), {"fields": ["correction", "closed_by", "closed_reason", "closed_at"]}),
    ]
    readonly_fields = ["state_badge", "advice", "expected", "found", "difference"]

    def has_operate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer a button for what is open."""
        allowed = super().has_operate_permission(request, obj)
        return allowed and (
            obj is None or Finding.objects.filter(pk=obj, state=Finding.State.OPEN).exists()
        )

    def has_correct_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to correct what a click can correct."""
        row = Finding.objects.filter(pk=obj).first()
        allowed = self.has_operate_permission(request)
        return allowed and row is not None and remedies.is_correctable(row)

    @badge(
        _("State"),
        {"open": "danger", "corrected": "success", "dismissed": "info", "gone": "success"},
        ordering="state",
    )
    def state_badge(self, finding: Finding) -> str:
        """Return the state."""
        return finding.state

    @admin.display(description=_("What to do"))
    def advice(self, finding: Finding) -> str:
        """Return what the button does, or what a person must."""
        return str(advice.of(finding.check_name))

    @admin.display(description=_("Should be"))
    def expected(self, finding: Finding) -> str:
        """Return what the side that is believed says."""
        return money(finding.expected_nanos)

    @admin.display(description=_("Is"))
    def found(self, finding: Finding) -> str:
        """Return what the other side says."""
        return money(finding.found_nanos)

    @admin.display(description=_("Difference"))
    def difference(self, finding: Finding) -> str:
        """Return by how much they differ; empty where that is no amount."""
        if finding.expected_nanos is None or finding.found_nanos is None:
            return ""
        return money(finding.found_nanos - finding.expected_nanos)

    @deed(_("Correct"), icon="build", permission="correct")
    def correct(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Book the difference, or make a sum follow its rows."""

        def do(row: Finding, form: dict[str, Any]) -> StrOrPromise:
            done = remedies.correct(row, actor=operator(request), reason=form["reason"])
            if done.correction_id is None:
                return _("Corrected.")
            return _("Booked as transaction %(id)s.") % {"id": done.correction_id}

        return self.perform(
            request,
            object_id,
            title=_("Correct"),
            explain=_(
                "The ledger, usage and Stripe are believed: sums follow their rows, wallets follow "
                "the ledger, and what the ledger and Stripe differ by is booked as a correction."
            ),
            do=do,
        )

    @deed(_("Dismiss"), icon="visibility_off")
    def dismiss(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say that it is all right."""

        def do(row: Finding, form: dict[str, Any]) -> StrOrPromise:
            reconciliation.dismiss(row, actor=operator(request), reason=form["reason"])
            return _("Dismissed. It comes back only if it changes.")

        return self.perform(
            request,
            object_id,
            title=_("Dismiss"),
            explain=_("Nothing is booked. The finding stays closed until one of its sides moves."),
            do=do,
        )


@admin.register(ReconciliationRun)
class ReconciliationRunAdmin(ReadOnlyAdmin):
    """Comparisons of everything with everything: each night, and when somebody asks."""

    list_display = ["id", "started_at", "finished_at", "requested_by", "checks", "open", "error"]
    list_filter = ["started_at"]
    list_select_related = ["requested_by"]
    date_hierarchy = "started_at"
    actions_list = ["run_now"]
    readonly_fields = ["checks", "open"]

    @admin.display(description=_("Checks"))
    def checks(self, run: ReconciliationRun) -> int:
        """Return how many checks were run."""
        return len(run.checked)

    @admin.display(description=_("Found"))
    def open(self, run: ReconciliationRun) -> int:
        """Return how much was found."""
        return sum(run.checked.values())

    def has_run_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those run it who may act on findings."""
        return cast(User, request.user).has_perm("billing.change_finding")

    @deed(_("Compare now"), icon="play_arrow", permission="run")
    def run_now(self, request: HttpRequest) -> HttpResponse:
        """Ask the light worker for a comparison; acts only on POST."""
        if not self.has_run_permission(request):
            raise PermissionDenied
        back = reverse("admin:billing_reconciliationrun_changelist")
        if request.method == "POST":
            reconcile.delay(operator(request).pk)
            messages.success(request, _("It runs. What it finds shows up here within a minute."))
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Compare now"),
            "explain": _("Usage, budgets, wallets, ledger and Stripe are compared. Reads only."),
            "form": [],
            "row": _("everything"),
            "back": back,
            "opts": self.opts,
        }
        return TemplateResponse(request, "admin/deed.html", context)

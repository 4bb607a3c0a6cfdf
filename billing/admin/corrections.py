"""What operators put right: charges given back, and entries by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, Model, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.admin import ReadOnlyAdmin, ReasonForm, badge, deed, operator
from billing import adjustments, charge_refunds
from billing.admin.asking import AskAdmin, instant_field, text_field
from billing.admin.organizations import AmountField
from billing.models import Adjustment, ChargeRefund, ChargeRefundRun, LedgerAccount
from billing.templatetags.money import money
from catalog.models import ModelVersion

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


class RunForm(ReasonForm):
    """Which charges are given back."""

    version = text_field(_("Version"), _("owner/name:number."))
    since = instant_field(_("Runs accepted from"))
    until = instant_field(_("until before"))
    field_order = ["version", "since", "until", "reason"]

    def clean_version(self) -> ModelVersion:
        """Return the version of this name."""
        path, _colon, number = self.cleaned_data["version"].strip().rpartition(":")
        owner, _slash, name = path.partition("/")
        found = ModelVersion.objects.filter(
            model__owner__slug=owner,
            model__name=name,
            number=int(number) if number.isdecimal() and len(number) < 10 else -1,
        ).first()
        if found is None:
            raise ValidationError(_("There is no such version."))
        return found


@admin.register(ChargeRefundRun)
class ChargeRefundRunAdmin(AskAdmin):
    """All charges of one version in a period, given back one by one."""

    list_display = ["created_at", "model_version", "state_badge", "count", "sum", "actor"]
    list_filter = ["state", "created_at"]
    list_select_related = ["model_version__model__owner", "actor"]
    readonly_fields = ["state_badge", "count", "sum"]
    ask_form = RunForm
    ask_title = _("Give all charges of a version back")
    ask_explain = _(
        "Every charge of the version in the period is given back in full, what was given back "
        "before excepted. The publisher's part is taken back, too. It is done in the background."
    )
    ask_done = _("It has begun; this page says how far it is.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ChargeRefundRun]:
        """Sum the refunds in the same query."""
        found: QuerySet[ChargeRefundRun] = super().get_queryset(request)
        return found.annotate(number=Count("refunds"), nanos=Sum("refunds__amount_nanos"))

    def ask(self, request: HttpRequest, form: dict[str, Any]) -> Model:
        """Begin a run."""
        return charge_refunds.start_run(
            form["submission"],
            form["version"],
            form["since"],
            form["until"],
            reason=form["reason"],
            actor=operator(request),
        )

    @badge(_("State"), {"running": "info", "done": "success"}, ordering="state")
    def state_badge(self, run: ChargeRefundRun) -> str:
        """Return whether all are given back."""
        return run.state

    @admin.display(description=_("Charges given back"))
    def count(self, run: Any) -> int:
        """Return how many charges were given back so far."""
        number: int = run.number
        return number

    @admin.display(description=_("Amount"))
    def sum(self, run: Any) -> str:
        """Return how much was given back so far."""
        return money(run.nanos or 0)


@admin.register(ChargeRefund)
class ChargeRefundAdmin(ReadOnlyAdmin):
    """Charges that were given back, in part or in full."""

    list_display = ["created_at", "hold", "number", "amount", "part", "publisher", "actor"]
    list_filter = ["is_from_payable", "created_at"]
    list_select_related = ["hold", "publisher", "actor"]
    search_fields = ["publisher__slug", "hold__organization__slug", "=hold__request_id"]
    ordering = ["-pk"]
    readonly_fields = ["amount", "part"]
    exclude = ["amount_nanos", "publisher_nanos"]

    @admin.display(description=_("Given back"), ordering="amount_nanos")
    def amount(self, refund: ChargeRefund) -> str:
        """Return what the tenant got."""
        return money(refund.amount_nanos)

    @admin.display(description=_("Publisher's part"))
    def part(self, refund: ChargeRefund) -> str:
        """Return what the publisher gave."""
        return money(refund.publisher_nanos)


class AdjustmentForm(ReasonForm):
    """An entry between two accounts."""

    debit = text_field(_("Debit"), _("The code of a ledger account, such as platform:suspense."))
    credit = text_field(_("Credit"), _("Such as tenant:7:credit."))
    amount = AmountField(label=_("Amount"), help_text=_("In US dollars, such as 5.00."))
    field_order = ["debit", "credit", "amount", "reason"]

    def clean_debit(self) -> LedgerAccount:
        """Return the account of this code."""
        return _account(self.cleaned_data["debit"])

    def clean_credit(self) -> LedgerAccount:
        """Return the account of this code."""
        return _account(self.cleaned_data["credit"])


def _account(code: str) -> LedgerAccount:
    found = LedgerAccount.objects.filter(code=code.strip()).first()
    if found is None:
        raise ValidationError(_("There is no such account, or nothing was ever booked on it."))
    return found


@admin.register(Adjustment)
class AdjustmentAdmin(AskAdmin):
    """Corrective entries, and who asked for them."""

    list_display = ["created_at", "debit", "credit", "amount", "state_badge", "proposed_by"]
    list_filter = ["state", "created_at"]
    list_select_related = ["debit", "credit", "proposed_by"]
    search_fields = ["debit__code", "credit__code"]
    readonly_fields = ["amount", "state_badge"]
    exclude = ["amount_nanos"]
    actions_detail = ["approve", "reject"]
    ask_form = AdjustmentForm
    ask_title = _("Add an adjustment")
    ask_explain = _(
        "An entry between two accounts. What moves paid credit or what is owed moves the wallet, "
        "too. If the site wants two people, another operator approves it."
    )
    ask_done = _("The adjustment is written down.")

    def ask(self, request: HttpRequest, form: dict[str, Any]) -> Model:
        """Propose the entry."""
        return adjustments.propose(
            form["submission"],
            form["debit"],
            form["credit"],
            form["amount"],
            reason=form["reason"],
            actor=operator(request),
        )

    @admin.display(description=_("Amount"), ordering="amount_nanos")
    def amount(self, adjustment: Adjustment) -> str:
        """Return what is moved."""
        return money(adjustment.amount_nanos)

    @badge(
        _("State"),
        {"proposed": "warning", "booked": "success", "rejected": "danger"},
        ordering="state",
    )
    def state_badge(self, adjustment: Adjustment) -> str:
        """Return what became of it."""
        return adjustment.state

    def has_decide_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Offer to decide what is not decided."""
        row = Adjustment.objects.filter(pk=obj, state=Adjustment.State.PROPOSED)
        return self.has_operate_permission(request) and row.exists()

    @deed(_("Approve"), icon="check", permission="decide")
    def approve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Book the entry."""

        def do(row: Adjustment, form: dict[str, Any]) -> StrOrPromise:
            adjustments.approve(row, actor=operator(request))
            return _("The entry is booked.")

        return self.perform(
            request,
            object_id,
            title=_("Approve"),
            explain=_("The entry is booked now. It can be taken back by another entry only."),
            do=do,
        )

    @deed(_("Reject"), icon="block", permission="decide")
    def reject(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Decide that the entry is not booked."""

        def do(row: Adjustment, form: dict[str, Any]) -> StrOrPromise:
            adjustments.reject(row, actor=operator(request), reason=form["reason"])
            return _("The entry is rejected.")

        return self.perform(
            request,
            object_id,
            title=_("Reject"),
            explain=_("The entry is not booked."),
            do=do,
        )

"""The console's front page, its menu, and how one signs in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.db.models import Count, Min, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from billing import invariants, reconciliation
from billing.models import Hold, ReconciliationRun, StripeEvent, StripeOp, UsageOrphan, UsageRollup
from billing.stripe import client
from billing.templatetags.money import money
from inference.admin import age
from inference.models import LimiterOutage, Worker
from maas_site import queues
from training.models import Job

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

# Sign-in goes through allauth: by address, with its limits on wrong passwords.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]  # its documented use
admin.site.unregister(EmailAddress)
admin.site.index_title = gettext_lazy("Overview")

# A hold that is open for longer than any call may take is worth a look.
OLD_HOLD = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the front page."""

    title: StrOrPromise
    value: str
    note: str = ""
    tone: str = ""
    href: str = ""


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the front page shows, for those who may see calls (unfold's hook)."""
    if not cast(User, request.user).has_perm("billing.view_hold"):
        return context
    context.update(
        tiles=[
            *(_workers(), _open_holds(), _unsettled(), _today()),
            *(_jobs(), _caps(), _findings(), _stripe(), _limits()),
        ],
        queues=queues.everyone(),
        workers=Worker.objects.alive(),
        failed_jobs=Job.objects.filter(state=Job.State.FAILED)
        .select_related("organization")
        .defer("curve")[:5],
        chart=_chart(),
    )
    return context


def _list(name: str, query: str = "") -> str:
    return reverse(f"admin:{name}_changelist") + query


def _workers() -> Tile:
    kinds = dict(Worker.objects.alive().order_by().values_list("kind").annotate(number=Count("pk")))
    missing = [kind for kind in Worker.Kind.values if not kinds.get(kind)]
    return Tile(
        gettext_lazy("Workers alive"),
        str(sum(kinds.values())),
        _("None of: %(kinds)s") % {"kinds": ", ".join(missing)}
        if missing
        else ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())),
        tone="danger" if missing else "success",
        href=_list("inference_worker"),
    )


def _open_holds() -> Tile:
    found = Hold.objects.filter(state=Hold.State.AUTHORISED).aggregate(
        number=Count("pk"), oldest=Min("accepted_at"), nanos=Coalesce(Sum("reserved_nanos"), 0)
    )
    note, tone = _("Nothing is set aside"), ""
    if found["oldest"] is not None:
        waited = timezone.now() - found["oldest"]
        note = _("%(amount)s set aside, oldest %(age)s") % {
            "amount": money(found["nanos"]),
            "age": age(waited.total_seconds()),
        }
        tone = "warning" if waited > OLD_HOLD else ""
    return Tile(
        gettext_lazy("Open holds"),
        str(found["number"]),
        note,
        tone=tone,
        href=_list("billing_hold", "?state__exact=authorised"),
    )


def _unsettled() -> Tile:
    number = Hold.objects.unsettled().order_by().count()
    late = Hold.objects.unsettled().filter(finished_at__lt=timezone.now() - timedelta(minutes=1))
    is_late = late.exists()
    return Tile(
        gettext_lazy("Not yet settled"),
        str(number),
        _("The settler is late") if is_late else _("Settled within seconds"),
        tone="danger" if is_late else "",
        href=_list("billing_settlement"),
    )


def _today() -> Tile:
    found = _rollups(_midnight()).aggregate(
        calls=Coalesce(Sum("calls"), 0),
        cost=Coalesce(Sum("cost_nanos"), 0),
        publisher=Coalesce(Sum("publisher_nanos"), 0),
    )
    return Tile(
        gettext_lazy("Charged today"),
        money(found["cost"]),
        _("%(calls)s calls, %(publisher)s of it the publishers'")
        % {"calls": found["calls"], "publisher": money(found["publisher"])},
        href=_list("billing_usagerollup"),
    )


def _jobs() -> Tile:
    day_ago = timezone.now() - timedelta(days=1)
    failed = Job.objects.filter(state=Job.State.FAILED, finished_at__gt=day_ago).count()
    running = Job.objects.filter(state__in=[Job.State.QUEUED, *Job.RUNNING]).count()
    return Tile(
        gettext_lazy("Failed trainings"),
        str(failed),
        _("In 24 hours; %(running)s running or queued") % {"running": running},
        tone="danger" if failed else "",
        href=_list("training_job", "?state__exact=failed"),
    )


def _caps() -> Tile:
    """The one invariant that is cheap to prove on every visit."""
    passed = len(invariants.caps_are_kept())
    orphans = UsageOrphan.objects.filter(created_at__gt=timezone.now() - timedelta(days=1)).count()
    return Tile(
        gettext_lazy("Caps"),
        _("passed: %(number)s") % {"number": passed} if passed else _("kept"),
        _("%(orphans)s late reports in 24 hours") % {"orphans": orphans},
        tone="danger" if passed else "success",
        href=_list("billing_budget"),
    )


def _limits() -> Tile:
    """Whether requests were let through because they could not be counted."""
    day_ago = timezone.now() - timedelta(days=1)
    found = LimiterOutage.objects.filter(seen_at__gt=day_ago)
    uncounted = found.aggregate(total=Coalesce(Sum("uncounted"), 0))["total"]
    return Tile(
        gettext_lazy("Limits"),
        _("not counted") if found.filter(ended_at=None).exists() else _("counted"),
        _("%(number)s requests let through uncounted in 24 hours") % {"number": uncounted},
        tone="danger" if uncounted else "success",
        href=_list("inference_limiteroutage"),
    )


def _stripe() -> Tile:
    dead = StripeEvent.objects.filter(state=StripeEvent.State.DEAD).count()
    hour_ago = timezone.now() - timedelta(hours=1)
    unknown = StripeOp.objects.filter(
        state=StripeOp.State.UNKNOWN, first_sent_at__lt=hour_ago
    ).count()
    value = _("No key") if client.is_fake() else _("Test mode")
    note = _("No real money moves")
    if client.is_live():
        value, note = _("Live"), _("Real money moves")
    if dead or unknown:
        note = _("%(dead)s dead webhooks, %(unknown)s operations of unknown outcome") % {
            "dead": dead,
            "unknown": unknown,
        }
    return Tile(
        "Stripe",
        value,
        note,
        tone="danger" if dead or unknown else "",
        href=_list("billing_stripeevent", "?state__exact=dead" if dead else ""),
    )


def _findings() -> Tile:
    """Whether the money adds up, by the last comparison."""
    number = reconciliation.open_findings()
    last = ReconciliationRun.objects.filter(finished_at__isnull=False).first()
    return Tile(
        gettext_lazy("Findings"),
        str(number),
        _("Compared %(age)s ago") % {"age": age((timezone.now() - last.started_at).total_seconds())}
        if last
        else _("Never compared"),
        tone="danger" if number else "success" if last else "warning",
        href=_list("billing_finding", "?state__exact=open"),
    )


def _midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _rollups(since: datetime) -> Any:
    return UsageRollup.objects.filter(hour__gte=since)


def _chart() -> str:
    """Return calls per hour of the last day, in the form the chart component reads."""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [this_hour - timedelta(hours=back) for back in range(23, -1, -1)]
    found = dict(
        _rollups(hours[0]).values_list("hour").annotate(total=Sum("calls")).order_by("hour")
    )
    data = [found.get(hour, 0) for hour in hours]
    return json.dumps(
        {
            "labels": [f"{hour:%H}:00" for hour in hours],
            "datasets": [
                {"data": data, "label": _("Calls"), "backgroundColor": "var(--color-primary-600)"}
            ],
        }
    )


_MENU: list[tuple[StrOrPromise, list[tuple[StrOrPromise, str, str]]]] = [
    (
        gettext_lazy("Tenants"),
        [
            (gettext_lazy("Organizations"), "apartment", "accounts.organization"),
            (gettext_lazy("Users"), "person", "accounts.user"),
            (gettext_lazy("API keys"), "key", "accounts.apikey"),
            (gettext_lazy("Spending limits"), "speed", "billing.spendlimit"),
        ],
    ),
    (
        gettext_lazy("Catalogue"),
        [
            (gettext_lazy("Models"), "category", "catalog.mlmodel"),
            (gettext_lazy("Versions"), "deployed_code", "catalog.modelversion"),
            (gettext_lazy("Canaries"), "alt_route", "inference.canary"),
            (gettext_lazy("Shadows"), "content_copy", "inference.shadow"),
            (gettext_lazy("Aliases"), "label", "inference.versionalias"),
            (gettext_lazy("Prices"), "sell", "catalog.priceversion"),
            (gettext_lazy("Price changes"), "rule", "catalog.pricechange"),
        ],
    ),
    (
        gettext_lazy("Work"),
        [
            (gettext_lazy("Workers"), "memory", "inference.worker"),
            (gettext_lazy("Calls"), "bolt", "billing.hold"),
            (gettext_lazy("Predictions"), "insights", "inference.prediction"),
            (gettext_lazy("Batch files"), "table_rows", "inference.batchfile"),
            (gettext_lazy("Trainings"), "model_training", "training.job"),
            (gettext_lazy("Outages of limits"), "speed", "inference.limiteroutage"),
            (gettext_lazy("Webhooks of tenants"), "send", "inference.webhookdelivery"),
        ],
    ),
    (
        gettext_lazy("Money"),
        [
            (gettext_lazy("Budgets"), "account_balance_wallet", "billing.budget"),
            (gettext_lazy("Usage"), "receipt_long", "billing.usageevent"),
            (gettext_lazy("Usage by hour"), "bar_chart", "billing.usagerollup"),
            (gettext_lazy("Late reports"), "report", "billing.usageorphan"),
            (gettext_lazy("Ledger accounts"), "account_tree", "billing.ledgeraccount"),
            (gettext_lazy("Transactions"), "swap_horiz", "billing.ledgertransaction"),
            (gettext_lazy("Entries"), "format_list_bulleted", "billing.ledgerentry"),
            (gettext_lazy("Settlements"), "done_all", "billing.settlement"),
            (gettext_lazy("Findings"), "rule", "billing.finding"),
            (gettext_lazy("Comparisons"), "compare_arrows", "billing.reconciliationrun"),
            (gettext_lazy("Adjustments"), "balance", "billing.adjustment"),
            (gettext_lazy("Refunds of charges"), "undo", "billing.chargerefund"),
            (gettext_lazy("Refunds of a version"), "history", "billing.chargerefundrun"),
            (gettext_lazy("Webhooks of Stripe"), "webhook", "billing.stripeevent"),
            (gettext_lazy("Operations at Stripe"), "outbound", "billing.stripeop"),
        ],
    ),
    (
        gettext_lazy("Publishers"),
        [
            (gettext_lazy("Shares"), "pie_chart", "billing.shareversion"),
            (gettext_lazy("Earnings"), "savings", "billing.earning"),
            (gettext_lazy("Payout accounts"), "account_balance", "billing.payoutaccount"),
            (gettext_lazy("Payouts"), "payments", "billing.payout"),
        ],
    ),
    (
        gettext_lazy("Payments"),
        [
            (gettext_lazy("Top-ups"), "add_card", "billing.topup"),
            (gettext_lazy("Refunds to cards"), "undo", "billing.creditrefund"),
            (gettext_lazy("Disputes"), "gavel", "billing.dispute"),
            (gettext_lazy("Automatic top-ups"), "autorenew", "billing.autoreload"),
            (gettext_lazy("Promotional credit"), "redeem", "billing.creditgrant"),
            (gettext_lazy("Redeem codes"), "confirmation_number", "billing.redeemcode"),
        ],
    ),
    (
        gettext_lazy("Credit lines"),
        [
            (gettext_lazy("Wallets"), "credit_score", "billing.wallet"),
            (gettext_lazy("Month close"), "event_available", "billing.billingperiod"),
            (gettext_lazy("Invoices"), "request_quote", "billing.invoice"),
            (gettext_lazy("Meter reports"), "speed", "billing.meterreport"),
        ],
    ),
    (
        gettext_lazy("Operators"),
        [
            (gettext_lazy("Groups"), "group", "auth.group"),
            (gettext_lazy("Audit log"), "history_edu", "accounts.auditentry"),
        ],
    ),
]


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the menu: what a person may look at (unfold's hook)."""
    first = [{"title": _("Overview"), "icon": "dashboard", "link": reverse("admin:index")}]
    if cast(User, request.user).has_perm("billing.view_hold"):
        first.append(
            {
                "title": _("Performance"),
                "icon": "monitoring",
                "link": reverse("operator_performance"),
            }
        )
    groups: list[dict[str, Any]] = [{"items": first}]
    for title, entries in _MENU:
        items = [
            {"title": name, "icon": icon, "link": _list(label.replace(".", "_"))}
            for name, icon, label in entries
            if cast(User, request.user).has_perm(label.replace(".", ".view_"))
        ]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups

"""Budgets: every cap with its running window, who is told, and what was told."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_POST

from accounts.sessions import ConsoleRequest, organization_required, owner_required
from billing import alerts, budgets, windows
from billing.budget_forms import BudgetForm, LowBalanceForm, RemoveBudgetForm
from billing.forms import LimitForm
from billing.models import BalanceAlert, BalanceWatch, SpendLimit

HISTORY = 30


@require_GET
@organization_required
def budget_list(request: ConsoleRequest) -> HttpResponse:
    """Show the caps of the organization and of its keys."""
    return render(request, "console/budgets.html", _page(request))


@require_POST
@owner_required
def budget_set(request: ConsoleRequest) -> HttpResponse:
    """Set a cap."""
    form = BudgetForm(request.POST, organization=request.organization)
    if not form.is_valid():
        page = _page(request) | {"form": form}
        return render(request, "console/budgets.html", page, status=422)
    budgets.set_limit(
        request.organization,
        form.cleaned_data["window"],
        form.cleaned_data["amount"],
        unit=form.cleaned_data["unit"],
        api_key=form.cleaned_data["key"],
        actor=request.user,
    )
    messages.success(request, gettext("The budget is set. It applies to the next run."))
    return redirect("budgets")


@require_POST
@owner_required
def budget_remove(request: ConsoleRequest) -> HttpResponse:
    """Remove a cap; a second time changes nothing."""
    form = RemoveBudgetForm(request.POST, organization=request.organization)
    if not form.is_valid():
        messages.error(request, gettext("There is no such budget."))
        return redirect("budgets")
    budgets.set_limit(
        request.organization,
        form.cleaned_data["window"],
        None,
        unit=form.cleaned_data["unit"],
        api_key=form.cleaned_data["key"],
        actor=request.user,
    )
    messages.success(request, gettext("The budget is removed."))
    return redirect("budgets")


@require_POST
@owner_required
def limit_set(request: ConsoleRequest) -> HttpResponse:
    """Set the organization's monthly limit: the short way, with the amount alone."""
    form = LimitForm(request.POST)
    month = SpendLimit.Window.MONTH
    if not form.is_valid():
        data = {"window": month, "unit": "money", "amount": request.POST.get("amount", "")}
        page = _page(request) | {"form": BudgetForm(data, organization=request.organization)}
        return render(request, "console/budgets.html", page, status=422)
    budgets.set_limit(request.organization, month, form.cleaned_data["amount"], actor=request.user)
    messages.success(request, gettext("The budget is set. It applies to the next run."))
    return redirect("budgets")


@require_POST
@owner_required
def low_balance_set(request: ConsoleRequest) -> HttpResponse:
    """Set below which balance the owners are told."""
    form = LowBalanceForm(request.POST)
    if not form.is_valid():
        page = _page(request) | {"low_balance": form}
        return render(request, "console/budgets.html", page, status=422)
    alerts.watch_balance(request.organization, form.cleaned_data["threshold"], actor=request.user)
    messages.success(request, gettext("Saved."))
    return redirect("budgets")


def _page(request: ConsoleRequest) -> dict[str, Any]:
    organization = request.organization
    caps = windows.of(organization)
    watch = BalanceWatch.objects.filter(organization=organization).first()
    return {
        "section": "budgets",
        "caps": [cap for cap in caps if cap.key is None],
        "key_caps": [cap for cap in caps if cap.key is not None],
        "form": BudgetForm(organization=organization, initial={"key": request.GET.get("key")}),
        "low_balance": LowBalanceForm(
            initial={"threshold": watch.threshold_nanos if watch else None}
        ),
        "history": list(alerts.of(organization)[:HISTORY]),
        "low_balances": list(BalanceAlert.objects.filter(organization=organization)[:5]),
        "wallet": budgets.wallet(organization),
    }

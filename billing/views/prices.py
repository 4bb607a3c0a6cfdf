"""Prices of one's own models: what they are, what is announced, and proposing another."""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import MercatoError
from accounts.models import Organization
from accounts.sessions import ConsoleRequest, maker_required, organization_required
from billing import price_changes, price_forms, price_previews
from billing.price_changes import Target
from billing.price_forms import PriceProposalForm
from billing.rating import plan_from
from catalog import prices
from catalog.models import MLModel, PriceChange

_HISTORY = 20


@require_GET
@organization_required
def price_list(request: ConsoleRequest) -> HttpResponse:
    """Show the organization's models with their prices."""
    models = MLModel.objects.filter(owner=request.organization).prefetch_related(
        "prices__components"
    )
    waiting = PriceChange.objects.filter(
        model__owner=request.organization, state=PriceChange.State.PROPOSED
    )
    waits = set(waiting.values_list("model_id", flat=True))
    rows = [
        {
            "model": model,
            "price": prices.newest(model),
            "next": prices.following(model),
            "waits": model.pk in waits,
        }
        for model in models
    ]
    return render(request, "console/prices.html", {"section": "prices", "rows": rows})


@require_GET
@organization_required
def price(request: ConsoleRequest, name: str) -> HttpResponse:
    """Show one model's prices, and the form for another."""
    return render(request, "console/price.html", _page(_model(request.organization, name)))


@require_POST
@maker_required
def price_propose(request: ConsoleRequest, name: str) -> HttpResponse:
    """Propose a price, or only show what last month would have cost by it."""
    model = _model(request.organization, name)
    target = Target(model)
    form = PriceProposalForm(request.POST)
    rows = price_forms.tiers(target, None, request.POST)
    page = _page(model) | {"form": form, "rows": rows}
    # Both, so that every mistake is shown at once.
    if not (form.is_valid() & rows.is_valid()):
        return render(request, "console/price.html", page, status=422)
    minimum, begins = form.cleaned_data["minimum"], form.cleaned_data["effective_on"]
    starts_at = datetime.combine(begins, time.min, tzinfo=UTC) if begins else None
    if "preview" in request.POST:
        plan = plan_from(
            rows.components(), minimum, batch_discount_bps=form.cleaned_data["batch_discount"]
        )
        counted = price_previews.begin(model, "", plan)
        page |= {
            "preview": price_previews.read(counted),
            "effect": price_changes.effect(target, plan, starts_at),
        }
        return render(request, "console/price.html", page)
    try:
        change = price_changes.propose(
            target,
            rows.components(),
            min_charge_nanos=minimum,
            batch_discount_bps=form.cleaned_data["batch_discount"],
            effective_from=starts_at,
            reason=form.cleaned_data["reason"],
            actor=request.user,
        )
    except MercatoError as error:
        form.add_error(None, error.message)
        return render(request, "console/price.html", page, status=422)
    messages.success(request, _told(change))
    return redirect("price", name)


@require_POST
@maker_required
def price_withdraw(request: ConsoleRequest, change_id: int) -> HttpResponse:
    """Take a proposal back; one that is decided stays as it is."""
    mine = PriceChange.objects.filter(model__owner=request.organization).select_related("model")
    change = get_object_or_404(mine, pk=change_id)
    assert change.model is not None
    try:
        price_changes.withdraw(change, actor=request.user)
    except MercatoError:
        messages.error(request, gettext("This price change was decided before."))
    else:
        messages.success(request, gettext("The proposal is withdrawn."))
    return redirect("price", change.model.name)


def _model(organization: Organization, name: str) -> MLModel:
    return get_object_or_404(MLModel.objects.select_related("owner"), owner=organization, name=name)


def _told(change: PriceChange) -> str:
    if change.price_version is None:
        return gettext("The price is proposed. It applies when an operator has approved it.")
    instant = f"{change.price_version.effective_from:%Y-%m-%d %H:%M:%S}"
    return gettext("The price applies from %(instant)s UTC.") % {"instant": instant}


def _page(model: MLModel) -> dict[str, Any]:
    target, current = Target(model), prices.current(model)
    changes = PriceChange.objects.filter(model=model).select_related("price_version")
    kept = {
        "minimum": current.min_charge_nanos if current else 0,
        "batch_discount": Decimal(current.batch_discount_bps if current else 0).scaleb(-2),
    }
    return {
        "section": "prices",
        "model": model,
        "price": current,
        "upcoming": prices.upcoming(model),
        "changes": changes[:_HISTORY],
        "versions": model.prices.prefetch_related("components")[:_HISTORY],
        "form": PriceProposalForm(initial=kept),
        "rows": price_forms.tiers(target, current),
        "preview": None,
    }

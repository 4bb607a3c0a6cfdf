"""Wallet: what is there and what it is made of, and everything that puts credit in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from typing import Any
from uuid import UUID, uuid5

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.dateparse import parse_date
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts.errors import ConflictError, MercatoError
from accounts.sessions import ConsoleRequest, organization_required, owner_required
from billing import (
    budgets,
    customers,
    payment_events,
    promotions,
    refunds,
    reload,
    statements,
    topups,
    wallets,
    windows,
)
from billing.models import TopUp
from billing.staleness import StaleError
from billing.stripe.errors import StripeCallError
from billing.templatetags.money import money
from billing.wallet_forms import RedeemForm, RefundForm, ReloadForm, TopUpForm, presets

_TOP_UPS = 20
_REFUNDS = UUID("0f6fd0f8-9a0a-4d0c-8d7e-3f1a0a8f6a15")


@never_cache
@require_GET
@organization_required
def balance(request: ConsoleRequest) -> HttpResponse:
    """Show the balance by kind, the budgets, what was bought, and the statement."""
    return render(request, "console/wallet.html", _page(request))


def _page(request: ConsoleRequest) -> dict[str, Any]:
    organization = request.organization
    before = _day(request.GET.get("before", ""))
    lines, following = statements.statement(organization, before=before)
    chosen = reload.settings_of(organization)
    grants = promotions.grants_of(organization)
    return {
        "section": "balance",
        "wallet": budgets.wallet(organization),
        "purse": wallets.of(organization),
        "grants": grants,
        "promotional_nanos": sum(grant.remaining_nanos for grant in grants),
        "earned_nanos": statements.earned(organization),
        "caps": windows.of_organization(organization),
        "lines": lines,
        "before": before,
        "following": following,
        "presets": presets(),
        "top_up_form": TopUpForm(),
        "redeem_form": RedeemForm(),
        "reload": chosen,
        "reload_form": ReloadForm.of(chosen),
        "reloaded_nanos": reload.spent_this_month(organization),
        "top_ups": TopUp.objects.filter(organization=organization)[:_TOP_UPS],
        "may_refund": settings.OWNER_REFUNDS and request.may_pay,
    }


def _day(text: str) -> date | None:
    """Read a date of the address; nonsense means the newest page."""
    try:
        return parse_date(text)
    except ValueError:
        return None


def _again(request: ConsoleRequest, **forms: object) -> HttpResponse:
    return render(request, "console/wallet.html", _page(request) | forms, status=422)


def _failed(request: ConsoleRequest) -> HttpResponse:
    messages.error(request, gettext("Stripe does not answer. Nothing was paid. Try again soon."))
    return redirect("balance")


# Buying ---------------------------------------------------------------------------------------


@require_POST
@owner_required
def topup_start(request: ConsoleRequest) -> HttpResponse:
    """Send the person to Stripe's payment page."""
    form = TopUpForm(request.POST)
    if not form.is_valid():
        return _again(request, top_up_form=form)
    try:
        started = topups.start(
            request.organization,
            form.cleaned_data["amount"],
            save_card=form.cleaned_data["save_card"],
            actor=request.user,
            idempotency_key=f"form:{form.cleaned_data['submission']}",
        )
    except MercatoError as error:
        messages.error(request, error.message)
        return redirect("balance")
    return redirect(started.url or "balance")


@never_cache
@require_GET
@organization_required
def topup_done(request: ConsoleRequest) -> HttpResponse:
    """Show what became of a payment; the person comes here from Stripe's page."""
    session = request.GET.get("session", "")
    mine = TopUp.objects.filter(organization=request.organization)
    found = get_object_or_404(mine, checkout_session=session) if session else None
    if found is None:
        return redirect("balance")
    if found.state == TopUp.State.PENDING:
        # If Stripe does not answer, its webhook credits it, or the next look.
        with suppress(StripeCallError, StaleError):
            found = topups.fulfil(session) or found
    page = {"section": "balance", "top_up": found, "wallet": budgets.wallet(request.organization)}
    return render(request, "console/topup.html", page)


@require_GET
@organization_required
def topup_canceled(request: ConsoleRequest) -> HttpResponse:
    """Say that nothing was paid."""
    messages.info(request, gettext("Nothing was paid."))
    return redirect("balance")


@require_POST
@owner_required
def redeem(request: ConsoleRequest) -> HttpResponse:
    """Redeem a code."""
    form = RedeemForm(request.POST)
    if form.is_valid():
        try:
            made = promotions.redeem(
                request.organization, form.cleaned_data["code"], actor=request.user
            )
        except MercatoError as error:
            form.add_error("code", error.message)
        else:
            text = gettext("{amount} of credit is yours.")
            messages.success(request, text.format(amount=money(made.grant.amount_nanos)))
            return redirect("balance")
    return _again(request, redeem_form=form)


# Cards ----------------------------------------------------------------------------------------


def _to_stripe(request: ConsoleRequest, page: Callable[[], str]) -> HttpResponse:
    try:
        return redirect(page())
    except StripeCallError:
        return _failed(request)


@require_POST
@owner_required
def card_save(request: ConsoleRequest) -> HttpResponse:
    """Send the person to Stripe's page on which a card is saved."""
    return _to_stripe(request, lambda: customers.start_saving_card(request.organization))


@require_POST
@owner_required
def portal(request: ConsoleRequest) -> HttpResponse:
    """Send the person to Stripe's page for cards and receipts."""
    return _to_stripe(request, lambda: customers.portal(request.organization))


@never_cache
@require_GET
@owner_required
def card_back(request: ConsoleRequest) -> HttpResponse:
    """Take over the card that was saved or chosen at Stripe; its webhook does the same."""
    session = request.GET.get("session", "")
    try:
        saved = payment_events.saved_card(session) if session else None
        if saved is None:
            customers.refresh(request.organization)
        elif saved.customer == wallets.of(request.organization).stripe_customer:
            customers.remember(saved)
            messages.success(request, gettext("The card is saved."))
    except StripeCallError:
        return redirect("balance")
    return redirect("balance")


@require_POST
@owner_required
def card_remove(request: ConsoleRequest) -> HttpResponse:
    """Remove the saved card."""
    try:
        customers.remove(request.organization, actor=request.user)
    except ConflictError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, gettext("The card is removed."))
    return redirect("balance")


@require_POST
@owner_required
def reload_set(request: ConsoleRequest) -> HttpResponse:
    """Save when credit is bought by itself."""
    form = ReloadForm(request.POST)
    if form.is_valid():
        try:
            reload.configure(request.organization, actor=request.user, **form.cleaned_data)
        except MercatoError as error:
            form.add_error("is_enabled", error.message)
        else:
            messages.success(request, gettext("The settings are saved."))
            return redirect("balance")
    return _again(request, reload_form=form)


# Refunds --------------------------------------------------------------------------------------


@never_cache
@owner_required
def topup_refund(request: ConsoleRequest, top_up_id: UUID) -> HttpResponse:
    """Give unspent credit of a top-up back to its card, where the site lets owners do it."""
    if not settings.OWNER_REFUNDS or request.organization.is_frozen:
        raise PermissionDenied
    mine = TopUp.objects.filter(organization=request.organization)
    top_up = get_object_or_404(mine.select_related("organization"), pk=top_up_id)
    form = RefundForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            refund = refunds.start(
                top_up,
                form.cleaned_data["amount"],
                number=uuid5(_REFUNDS, f"{top_up.pk}:{form.cleaned_data['submission']}"),
                reason=gettext("Refund asked for by its owner"),
                actor=request.user,
            )
        except MercatoError as error:
            form.add_error("amount", error.message)
        else:
            _tell(request, refund.state, money(refund.amount_nanos))
            return redirect("balance")
    page = {
        "section": "balance",
        "top_up": top_up,
        "form": form,
        "refundable_nanos": refunds.refundable(top_up),
    }
    return render(request, "console/topup_refund.html", page, status=422 if form.errors else 200)


def _tell(request: ConsoleRequest, state: str, amount: str) -> None:
    if state == "failed":
        messages.error(request, gettext("Stripe refused. The credit is back in your wallet."))
        return
    text = gettext("{amount} goes back to your card. Banks take some days to show it.")
    messages.success(request, text.format(amount=amount))

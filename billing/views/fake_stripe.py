"""The pages that stand for Stripe's: payment, customer portal, onboarding, invoice.

They exist only on a site without a key. Their addresses cannot be guessed, as at Stripe, and only
people who are signed in may use them. On a site that others can reach nothing can be paid here,
unless the operator wants play money: it would be credit for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from billing import minor
from billing.stripe import client

P = ParamSpec("P")
Page = Callable[Concatenate[HttpRequest, P], HttpResponse]

# Numbers that Stripe publishes for tests, and what they do.
_CARDS = (
    ("4242424242424242", _("4242 4242 4242 4242: pays")),
    ("5555555555554444", _("5555 5555 5555 4444: pays")),
    ("4000000000000002", _("4000 0000 0000 0002: is declined")),
    ("4000000000009995", _("4000 0000 0000 9995: has too little money")),
    ("4000002500003155", _("4000 0025 0000 3155: asks its owner each time")),
)


class CardForm(forms.Form):
    """A card to pay with or to save."""

    card = forms.ChoiceField(
        choices=_CARDS, label=_("Card"), widget=forms.Select(attrs={"class": "select"})
    )


def _fake_only(view: Page[P]) -> Page[P]:
    """Hide a page where Stripe itself is used; let only signed-in people act on it."""

    @never_cache
    @require_http_methods(["GET", "POST"])
    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        if not client.is_fake():
            raise Http404
        if request.method == "POST" and not settings.PLAY_MONEY:
            raise PermissionDenied
        return login_required(view)(request, *args, **kwargs)

    return guarded


def _look(name: str, kind: str) -> dict[str, Any]:
    """Return what the fake holds.

    Raises:
        Http404: Nothing, or something else.
    """
    found = client.fake().people.look(name)
    if found is None or found["object"] != kind:
        raise Http404
    return found


def _nanos(amount: int, currency: str | None) -> int:
    return minor.to_nanos(amount, currency or settings.CURRENCY)


def _render(request: HttpRequest, name: str, page: Mapping[str, Any], status: int) -> HttpResponse:
    context = {"may_pay": settings.PLAY_MONEY, **page}
    return render(request, f"dev/stripe/{name}.html", context, status=status)


@_fake_only
def checkout(request: HttpRequest, session_id: str) -> HttpResponse:
    """Show the payment page, or do what was pressed on it."""
    session = _look(session_id, "checkout.session")
    form, status = CardForm(request.POST or None), 200
    if request.method == "POST":
        answer = _press(request, session, form)
        if answer is not None:
            return answer
        status = 402
        session = _look(session_id, "checkout.session")
    page = {
        "session": session,
        "form": form,
        "total": _nanos(session["amount_total"], session["currency"]),
        "tax": _nanos(session["total_details"]["amount_tax"], session["currency"]),
        "text": session["payment_intent_data"].get("description", ""),
        "is_open": session["status"] == "open",
        "is_waiting": session["status"] == "complete" and session["payment_status"] == "unpaid",
        "is_setup": session["mode"] == "setup",
        "back": session["cancel_url"],
    }
    return _render(request, "checkout", page, status)


def _press(request: HttpRequest, session: dict[str, Any], form: CardForm) -> HttpResponse | None:
    """Do what was pressed; returns nothing if the page must be shown again."""
    from billing.stripe.fake.routes import Refusal

    people, action = client.fake().people, request.POST.get("action", "")
    after = (session["success_url"] or "").replace("{CHECKOUT_SESSION_ID}", session["id"])
    try:
        if action in {"arrive", "fail"}:
            people.settle(session["id"], succeeded=action == "arrive")
        elif action in {"pay", "later"} and form.is_valid():
            people.pay(session["id"], form.cleaned_data["card"], later=action == "later")
        else:
            return None
    except Refusal as refusal:
        messages.error(request, str(refusal))
        return None
    return redirect(after)


@_fake_only
def portal(request: HttpRequest, session_id: str) -> HttpResponse:
    """Show the saved cards of a customer, or change them."""
    from billing.stripe.fake.routes import Refusal

    visit = _look(session_id, "billing_portal.session")
    people, customer = client.fake().people, visit["customer"]
    form = CardForm(request.POST if "add" in request.POST else None)
    if request.method == "POST":
        mine = {card["id"] for card in people.cards(customer)}
        try:
            if form.is_bound and form.is_valid():
                people.save_card(customer, form.cleaned_data["card"])
            elif (card := request.POST.get("remove", "")) in mine:
                people.remove_card(card)
            elif (card := request.POST.get("prefer", "")) in mine:
                people.prefer_card(customer, card)
        except Refusal as refusal:
            messages.error(request, str(refusal))
        return redirect(request.path)
    page = {
        "cards": people.cards(customer),
        "preferred": _look(customer, "customer")["invoice_settings"]["default_payment_method"],
        "form": form,
        "back": visit["return_url"],
    }
    return _render(request, "portal", page, 200)


@_fake_only
def connect(request: HttpRequest, link_id: str) -> HttpResponse:
    """Show what Stripe wants to know of a publisher, or decide about it."""
    link = _look(link_id, "fake.account_link")
    account = _look(link["account"], "account")
    if request.method == "POST":
        receives = request.POST.get("action") == "finish"
        client.fake().people.set_receiving(account["id"], receives=receives)
        return redirect(link["return_url"])
    page = {
        "account": account,
        "receives": account["capabilities"]["transfers"] == "active",
        "back": link["return_url"],
    }
    return _render(request, "connect", page, 200)


@_fake_only
def invoice(request: HttpRequest, invoice_id: str) -> HttpResponse:
    """Show an invoice, or pay it with the saved card."""
    found = _look(invoice_id, "invoice")
    if request.method == "POST" and found["status"] == "open":
        paid = client.fake().people.pay_invoice(invoice_id)
        if paid["status"] != "paid":
            messages.error(request, gettext("The saved card was declined, or there is none."))
        return redirect(request.path)
    lines = [
        {"text": each["description"], "nanos": _nanos(each["amount"], found["currency"])}
        for each in found["lines"]["data"]
    ]
    page = {
        "invoice": found,
        "lines": lines,
        "total": _nanos(found["total"], found["currency"]),
        "is_open": found["status"] == "open",
    }
    return _render(request, "invoice", page, 200)

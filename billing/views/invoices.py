"""Invoices: what was billed, and what the running month has come to."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts.sessions import (
    ConsoleRequest,
    organization_required,
    organization_required_async,
)
from billing import invoice_reports, wallets
from billing.models import Invoice
from billing.stripe import client

PAGE_SIZE = 24


@require_GET
@organization_required
def invoice_list(request: ConsoleRequest) -> HttpResponse:
    """Show the invoices, and the running month."""
    found = Paginator(invoice_reports.of(request.organization), PAGE_SIZE)
    page = {
        "section": "invoices",
        "page": found.get_page(request.GET.get("page")),
        "running": invoice_reports.running(request.organization),
        "has_card": bool(wallets.of(request.organization).payment_method),
        "no_real_money": client.is_fake(),
    }
    return render(request, "console/invoices.html", page)


@require_GET
@organization_required
def invoice(request: ConsoleRequest, number: str) -> HttpResponse:
    """Show one invoice as it was frozen, and what has become of it."""
    found = _find(request, number)
    page: dict[str, Any] = {
        "section": "invoices",
        "invoice": found,
        "statement": found.frozen,
        "languages": invoice_reports.LANGUAGES,
        "is_open": found.state == Invoice.State.FINALISED,
        "no_real_money": client.is_fake(),
    }
    return render(request, "console/invoice.html", page)


@require_GET
@organization_required
def invoice_pdf(request: ConsoleRequest, number: str, language: str) -> HttpResponse:
    """Send an invoice as PDF."""
    known = next((each for each in invoice_reports.LANGUAGES if each == language), None)
    if known is None:
        raise Http404
    return invoice_reports.pdf(_find(request, number), known)


@require_GET
@organization_required_async
async def invoice_csv(request: ConsoleRequest, number: str) -> HttpResponseBase:
    """Send every call of an invoice's month."""
    return invoice_reports.csv(await sync_to_async(_find)(request, number))


def _find(request: ConsoleRequest, number: str) -> Invoice:
    return get_object_or_404(invoice_reports.of(request.organization), number=number)

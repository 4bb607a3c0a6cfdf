"""Receipts: why one call cost what it cost."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from accounts.errors import NotFoundError
from accounts.sessions import ConsoleRequest, organization_required
from billing import receipts


@require_GET
@organization_required
def receipt(request: ConsoleRequest, hold_id: UUID) -> HttpResponse:
    """Explain one charge, and prove it."""
    try:
        found = receipts.of(request.organization, hold_id)
    except NotFoundError as error:
        raise Http404 from error
    page = {
        "section": "usage",
        "receipt": found,
        "call": found.call,
        "usage": found.usage,
        "price": found.hold.price_version,
        "verified": receipts.verify(found),
    }
    return render(request, "console/receipt.html", page)


@require_GET
@organization_required
def receipt_find(request: ConsoleRequest, reference: str) -> HttpResponse:
    """Lead from a request id, or a hold id, to the receipt."""
    try:
        return redirect("receipt", receipts.find(request.organization, reference).pk)
    except NotFoundError as error:
        raise Http404 from error

"""GET /v1/invoices, and one of them as JSON, PDF or CSV."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import paging
from accounts.authentication import organization_of
from accounts.errors import InvalidRequestError, NotFoundError, UnknownFieldError
from billing import currencies, invoice_reports
from billing.models import Invoice
from billing.money import decimal_text


class InvoiceSerializer(serializers.Serializer[object]):
    """An invoice; amounts are decimal strings."""

    object = serializers.CharField()
    number = serializers.CharField()
    state = serializers.ChoiceField(choices=Invoice.State.choices)
    month = serializers.CharField()
    currency = serializers.CharField()
    used = serializers.CharField()
    carried_in = serializers.CharField()
    carried_out = serializers.CharField()
    subtotal = serializers.CharField()
    tax = serializers.CharField()
    total = serializers.CharField()
    credited = serializers.CharField()
    issued_at = serializers.DateTimeField()
    paid_at = serializers.DateTimeField(allow_null=True)
    pay_url = serializers.CharField(allow_null=True)
    sha256 = serializers.CharField()


class InvoiceDetailSerializer(InvoiceSerializer):
    """An invoice with the statement that was frozen with it."""

    statement = serializers.JSONField()


class ListOfInvoices(serializers.Serializer[object]):
    """A page of invoices."""

    object = serializers.CharField()
    data = InvoiceSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class Invoices(APIView):
    """The organization's invoices."""

    scope = "read"

    @extend_schema(
        operation_id="invoices_list",
        responses=ListOfInvoices,
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("cursor", str)],
    )
    def get(self, request: Request) -> Response:
        """List invoices, newest first."""
        found = invoice_reports.of(organization_of(request))
        return Response(paging.page(request, found, as_json))


class InvoiceDetail(APIView):
    """One invoice."""

    scope = "read"

    @extend_schema(operation_id="invoices_retrieve", responses=InvoiceDetailSerializer)
    def get(self, request: Request, number: str) -> Response:
        """Return an invoice with its frozen statement."""
        invoice = _find(request, number)
        return Response({**as_json(invoice), "statement": invoice.frozen})


class AnyFormat(DefaultContentNegotiation):
    """Whatever is accepted: the answer is a file, an error is JSON."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the renderer of errors."""
        return renderers[0], renderers[0].media_type


class InvoicePdf(APIView):
    """One invoice as PDF."""

    scope = "read"
    content_negotiation_class = AnyFormat

    @extend_schema(
        responses={(200, "application/pdf"): OpenApiTypes.BINARY},
        parameters=[OpenApiParameter("language", str, enum=invoice_reports.LANGUAGES)],
    )
    def get(self, request: Request, number: str) -> HttpResponse:
        """Return an invoice as PDF, in English or Chinese."""
        wanted = request.query_params.get("language", "en")
        language = next((each for each in invoice_reports.LANGUAGES if each == wanted), None)
        if language is None:
            raise InvalidRequestError("`language` must be en or zh.", param="language")
        return invoice_reports.pdf(_find(request, number, "language"), language)


class InvoiceCsv(APIView):
    """The calls of one invoice."""

    scope = "read"
    content_negotiation_class = AnyFormat

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, number: str) -> StreamingHttpResponse:
        """Return every call of an invoice's month as CSV."""
        return invoice_reports.csv(_find(request, number))


def _find(request: Request, number: str, *known: str) -> Invoice:
    for name in request.query_params:
        if name not in known:
            raise UnknownFieldError(f"Unknown parameter {name[:64]!r}.", param=name[:64])
    found = invoice_reports.of(organization_of(request)).filter(number=number).first()
    if found is None:
        raise NotFoundError("There is no such invoice.")
    return found


def as_json(invoice: Invoice) -> dict[str, Any]:
    """Return what the API says of an invoice."""
    currency = invoice.currency
    return {
        "object": "invoice",
        "number": invoice.number,
        "state": invoice.state,
        "month": f"{invoice.period.month:%Y-%m}",
        "currency": currency,
        "used": decimal_text(invoice.used_nanos),
        "carried_in": decimal_text(invoice.carried_in_nanos),
        "carried_out": decimal_text(invoice.carried_out_nanos),
        "subtotal": currencies.text(invoice.subtotal_minor, currency),
        "tax": currencies.text(invoice.tax_minor, currency),
        "total": currencies.text(invoice.total_minor, currency),
        "credited": currencies.text(invoice.credited_minor, currency),
        "issued_at": invoice.issued_at,
        "paid_at": invoice.paid_at,
        "pay_url": invoice.hosted_url or None,
        "sha256": invoice.sha256,
    }

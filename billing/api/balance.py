"""GET /v1/balance."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import organization_of
from accounts.models import Organization
from billing import budgets, wallets
from billing.api.budgets import amount
from billing.models import CreditGrant
from billing.money import decimal_text
from billing.serializers import BalanceSerializer


class Balance(APIView):
    """The organization's money."""

    scope = "read"

    @extend_schema(responses=BalanceSerializer)
    def get(self, request: Request) -> Response:
        """Return what is available and what is held, and where it came from."""
        organization = organization_of(request)
        wallet = wallets.of(organization)
        budget = budgets.wallet(organization)
        grants = _grants(organization)
        return Response(
            {
                "object": "balance",
                "currency": budget.currency,
                "available": decimal_text(budget.available),
                "held": decimal_text(budget.held),
                "spent": decimal_text(budget.posted),
                "paid": decimal_text(wallet.paid_nanos),
                "promotional": decimal_text(sum(each["nanos"] for each in grants)),
                "line": decimal_text(wallet.line_nanos),
                "owed": decimal_text(wallet.owed_nanos),
                "grants": [
                    {"amount": decimal_text(each["nanos"]), "expires_at": each["expires_at"]}
                    for each in grants
                ],
                "limits": _limits(organization),
            }
        )


def _grants(organization: Organization) -> list[dict[str, Any]]:
    """Return what is left of promotional credit, in the order in which it is used."""
    found = CreditGrant.objects.filter(organization=organization, remaining_nanos__gt=0)
    return [{"nanos": each.remaining_nanos, "expires_at": each.expires_at} for each in found]


def _limits(organization: Organization) -> list[dict[str, Any]]:
    return [
        {
            "window": limit.window,
            "unit": limit.unit,
            "amount": amount(limit.unit, limit.amount or 0),
            "available": amount(limit.unit, budgets.current(organization, limit).available),
        }
        for limit in budgets.limits(organization)
    ]

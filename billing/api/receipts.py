"""GET /v1/receipts/{id}: why a call cost what it cost, and the proof of it."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import organization_of
from billing import receipts
from billing.api.prices import percent_text
from billing.models import ChargeRefund
from billing.money import decimal_text
from billing.receipts import Line, Receipt


class ReceiptSerializer(serializers.Serializer[object]):
    """A receipt; amounts are decimal strings, what is not known yet is null."""

    id = serializers.CharField()
    object = serializers.CharField()
    state = serializers.ChoiceField(choices=["open", "pending", "settled"])
    why = serializers.CharField()
    model = serializers.CharField(allow_null=True)
    source = serializers.CharField()  # type: ignore[assignment]  # the field, not the property
    request_id = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    outcome = serializers.CharField(allow_null=True)
    currency = serializers.CharField()
    reserved = serializers.CharField()
    charged = serializers.CharField()
    refunded = serializers.CharField()
    price = serializers.JSONField()
    policy = serializers.JSONField()
    share = serializers.JSONField()
    settlement = serializers.JSONField(allow_null=True)
    ledger = serializers.JSONField(allow_null=True)
    proof = serializers.JSONField(allow_null=True)
    verified = serializers.JSONField()
    refunds = serializers.JSONField()


class ReceiptDetail(APIView):
    """One call's receipt."""

    scope = "read"

    @extend_schema(responses=ReceiptSerializer)
    def get(self, request: Request, reference: str) -> Response:
        """Explain one charge: by the hold's id, or by the X-Request-Id of the call."""
        organization = organization_of(request)
        hold = receipts.find(organization, reference)
        return Response(as_json(receipts.of(organization, hold.pk)))


def as_json(receipt: Receipt) -> dict[str, Any]:
    """Return what the API says of a receipt."""
    hold, call, verified = receipt.hold, receipt.call, receipts.verify(receipt)
    return {
        "id": str(hold.pk),
        "object": "receipt",
        "state": receipt.state,
        "why": receipt.why,
        "model": call.model or None,
        "source": call.source,
        "request_id": call.request_id,
        "created_at": hold.accepted_at,
        "finished_at": hold.finished_at,
        "outcome": receipt.outcome or None,
        "currency": hold.currency,
        "reserved": decimal_text(hold.reserved_nanos),
        "charged": decimal_text(receipt.charged_nanos),
        "refunded": decimal_text(receipt.refunded_nanos),
        "price": {
            "version": hold.price_version_id,
            "minimum": decimal_text(receipt.plan.min_charge_nanos),
            "batch_discount": percent_text(receipt.discount_bps),
            "lines": [_line(line) for line in receipt.lines],
            "amount": None if receipt.price_nanos is None else decimal_text(receipt.price_nanos),
        },
        "policy": {
            "percent": receipt.percent if receipt.outcome else None,
            "lines": [
                {"outcome": line.outcome, "percent": line.percent, "text": line.text}
                for line in receipt.policy
            ],
        },
        "share": _share(receipt),
        "settlement": _settlement(receipt),
        "ledger": _ledger(receipt),
        "proof": _proof(receipt),
        "verified": {
            "holds": verified.holds,
            "rated": verified.rated,
            "chained": verified.chained,
            "booked": verified.booked,
            "sealed": verified.sealed,
        },
        "refunds": [_refund(refund) for refund in receipt.refunds],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "dimension": line.dimension,
        "units": line.units,
        "from": line.from_quantity,
        "amount": decimal_text(line.amount_nanos),
        "per": line.per_quantity,
        "subtotal": decimal_text(line.nanos),
    }


def _share(receipt: Receipt) -> dict[str, Any]:
    hold, usage = receipt.hold, receipt.usage
    return {
        "version": hold.share_version_id,
        "publisher_bps": hold.publisher_bps,
        "publisher": decimal_text(usage.publisher_nanos if usage else 0),
        "platform": decimal_text(usage.platform_nanos if usage else 0),
    }


def _settlement(receipt: Receipt) -> dict[str, Any] | None:
    settlement = receipt.settlement
    if settlement is None:
        return None
    return {
        "id": settlement.pk,
        "created_at": settlement.created_at,
        "calls": settlement.hold_count,
        "amount": decimal_text(settlement.captured_nanos),
    }


def _ledger(receipt: Receipt) -> dict[str, Any] | None:
    booked = receipt.transaction
    if booked is None:
        return None
    return {
        "transaction": booked.pk,
        "number": booked.number,
        "posted_at": booked.posted_at,
        "previous_hash": booked.previous_hash,
        "hash": booked.hash,
    }


def _proof(receipt: Receipt) -> dict[str, Any] | None:
    proof = receipt.proof
    if proof is None:
        return None
    return {
        "digest": proof.digest,
        "number": proof.number,
        "of": proof.count,
        "previous_digest": proof.previous,
        "settlement_digest": proof.settlement_digest,
    }


def _refund(refund: ChargeRefund) -> dict[str, Any]:
    return {
        "number": refund.number,
        "amount": decimal_text(refund.amount_nanos),
        "reason": refund.reason,
        "created_at": refund.created_at,
        "transaction": refund.ledger_transaction_id,
        "reverses": refund.ledger_transaction.reversal_of_id,
    }

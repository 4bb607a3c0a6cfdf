"""The fake's bank: charges, fees, and the movements of our balance."""

from __future__ import annotations

from billing.stripe.fake.events import emit
from billing.stripe.fake.routes import Refusal, need, page, route
from billing.stripe.fake.store import Body, World

# A card costs 2.9 % and 30 cents; a lost dispute 15 dollars.
_FEE_PER_MILLE, _FEE_FIXED = 29, 30
DISPUTE_FEE = 1500


def move(world: World, kind: str, amount: int, currency: str, source: str, *, fee: int = 0) -> Body:
    """Book a movement of our balance; money is available after the seconds of `settling`."""
    categories = {"payment": "charge", "payment_refund": "refund", "adjustment": "dispute"}
    return world.add(
        {
            "id": world.new_id("txn"),
            "object": "balance_transaction",
            "type": kind,
            "reporting_category": categories.get(kind, kind),
            "amount": amount,
            "fee": fee,
            "net": amount - fee,
            "currency": currency,
            "source": source,
            "available_on": world.now + (world.fact("settling", 0) if amount > 0 else 0),
            "status": "available",
        },
        label=source,
    )


def available(world: World, currency: str) -> int:
    """Return what may be transferred or given back now, in minor units."""
    return sum(
        each["net"]
        for each in world.newest("balance_transaction")
        if each["currency"] == currency and each["available_on"] <= world.now
    )


def take(world: World, intent: Body, card: Body) -> Body:
    """Take the money of a payment from a card."""
    charge = world.new_id("ch")
    amount = intent["amount"]
    fee = (amount * _FEE_PER_MILLE + 999) // 1000 + _FEE_FIXED
    movement = move(world, "charge", amount, intent["currency"], charge, fee=fee)
    made = world.add(
        {
            "id": charge,
            "object": "charge",
            "status": "succeeded",
            "amount": amount,
            "amount_captured": amount,
            "amount_refunded": 0,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "payment_intent": intent["id"],
            "payment_method": card["id"],
            "paid": True,
            "refunded": False,
            "disputed": False,
            "balance_transaction": movement["id"],
            "metadata": intent["metadata"],
            "description": intent["description"],
        },
        label=intent["id"],
    )
    intent |= {
        "status": "succeeded",
        "amount_received": amount,
        "latest_charge": charge,
        "payment_method": card["id"],
        "last_payment_error": None,
        "next_action": None,
    }
    world.save(intent)
    emit(world, "charge.succeeded", made)
    emit(world, "payment_intent.succeeded", intent)
    return made


@route("GET", "/v1/charges/{charge}", "ChargeRetrieveParams")
def retrieve_charge(world: World, given: Body, charge: str) -> Body:
    """Return a charge."""
    return need(world, charge, "charge")


@route("GET", "/v1/balance", "BalanceRetrieveParams")
def retrieve_balance(world: World, given: Body) -> Body:
    """Return what is available and what is on its way, per currency."""
    sums: dict[tuple[str, str], int] = {}
    for each in world.newest("balance_transaction"):
        state = "available" if each["available_on"] <= world.now else "pending"
        key = (state, each["currency"])
        sums[key] = sums.get(key, 0) + each["net"]

    def of(state: str) -> list[Body]:
        return [
            {"amount": amount, "currency": currency, "source_types": {"card": amount}}
            for (name, currency), amount in sorted(sums.items())
            if name == state
        ]

    return {
        "object": "balance",
        "livemode": False,
        "available": of("available"),
        "pending": of("pending"),
    }


@route("GET", "/v1/balance_transactions", "BalanceTransactionListParams")
def list_balance_transactions(world: World, given: Body) -> Body:
    """List the movements of our balance."""
    found = world.newest("balance_transaction", given.get("source", ""))
    if "type" in given:
        found = [each for each in found if each["type"] == given["type"]]
    return page(found, given, "/v1/balance_transactions")


@route("POST", "/v1/refunds", "RefundCreateParams")
def create_refund(world: World, given: Body) -> Body:
    """Give money back; a refund of a disputed payment is refused."""
    charge = _charge_of(world, given)
    left = charge["amount"] - charge["amount_refunded"]
    amount = given.get("amount", left)
    if charge["disputed"]:
        raise Refusal("This charge has been charged back.", code="charge_disputed")
    if left == 0:
        raise Refusal("The charge has already been refunded.", code="charge_already_refunded")
    if not 0 < amount <= left:
        raise Refusal(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )
    status = "pending" if world.fact("slow_refunds", 0) else "succeeded"
    return give_back(world, charge, amount, given.get("metadata", {}), status)


def give_back(world: World, charge: Body, amount: int, metadata: Body, status: str) -> Body:
    """Book a refund."""
    name = world.new_id("re")
    movement = move(world, "refund", -amount, charge["currency"], name)
    refund = world.add(
        {
            "id": name,
            "object": "refund",
            "status": status,
            "amount": amount,
            "currency": charge["currency"],
            "charge": charge["id"],
            "payment_intent": charge["payment_intent"],
            "balance_transaction": movement["id"],
            "reason": "requested_by_customer",
            "metadata": metadata,
        },
        label=charge["payment_intent"],
    )
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.save(charge)
    emit(world, "refund.created", refund)
    emit(world, "charge.refunded", charge)
    return refund


def _charge_of(world: World, given: Body) -> Body:
    if "charge" in given:
        return need(world, given["charge"], "charge")
    intent = need(world, given.get("payment_intent", ""), "payment_intent")
    if not intent["latest_charge"]:
        raise Refusal("This PaymentIntent does not have a successful charge to refund.")
    return need(world, intent["latest_charge"], "charge")


@route("GET", "/v1/refunds/{refund}", "RefundRetrieveParams")
def retrieve_refund(world: World, given: Body, refund: str) -> Body:
    """Return a refund."""
    return need(world, refund, "refund")


@route("GET", "/v1/refunds", "RefundListParams")
def list_refunds(world: World, given: Body) -> Body:
    """List refunds."""
    return page(world.newest("refund", given.get("payment_intent", "")), given, "/v1/refunds")


@route("GET", "/v1/disputes/{dispute}", "DisputeRetrieveParams")
def retrieve_dispute(world: World, given: Body, dispute: str) -> Body:
    """Return a dispute."""
    return need(world, dispute, "dispute")


@route("GET", "/v1/disputes", "DisputeListParams")
def list_disputes(world: World, given: Body) -> Body:
    """List disputes."""
    return page(world.newest("dispute", given.get("payment_intent", "")), given, "/v1/disputes")


# What banks do on their own ------------------------------------------------------------------


def settle_refund(world: World, refund: Body) -> Body:
    """Let a pending refund reach the card."""
    world.save(refund | {"status": "succeeded"})
    emit(world, "refund.updated", refund | {"status": "succeeded"})
    return refund | {"status": "succeeded"}


def fail_refund(world: World, refund: Body) -> Body:
    """Let the bank send a refund back, once: the money is ours again."""
    if refund["status"] == "failed":
        raise Refusal("This refund has failed already.")
    movement = move(world, "refund_failure", refund["amount"], refund["currency"], refund["id"])
    refund |= {
        "status": "failed",
        "failure_reason": "lost_or_stolen_card",
        "failure_balance_transaction": movement["id"],
    }
    world.save(refund)
    charge = need(world, refund["charge"], "charge")
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    world.save(charge)
    emit(world, "refund.failed", refund)
    emit(world, "refund.updated", refund)
    return refund


def open_dispute(world: World, charge: Body, amount: int) -> Body:
    """Let the bank take a payment back."""
    name = world.new_id("du")
    movement = move(world, "adjustment", -amount, charge["currency"], name, fee=DISPUTE_FEE)
    dispute = world.add(
        {
            "id": name,
            "object": "dispute",
            "status": "needs_response",
            "reason": "fraudulent",
            "amount": amount,
            "currency": charge["currency"],
            "charge": charge["id"],
            "payment_intent": charge["payment_intent"],
            "balance_transactions": [movement],
            "evidence_details": {"due_by": world.now + 7 * 86400},
            "is_charge_refundable": False,
            "metadata": {},
        },
        label=charge["payment_intent"],
    )
    charge["disputed"] = True
    world.save(charge)
    emit(world, "charge.dispute.created", dispute)
    emit(world, "charge.dispute.funds_withdrawn", dispute)
    return dispute


def close_dispute(world: World, dispute: Body, *, won: bool) -> Body:
    """Let the bank decide: won, and the disputed money comes back without the fee."""
    dispute["status"] = "won" if won else "lost"
    if won:
        movement = move(world, "adjustment", dispute["amount"], dispute["currency"], dispute["id"])
        dispute["balance_transactions"].append(movement)
        charge = need(world, dispute["charge"], "charge")
        world.save(charge | {"disputed": False})
        world.save(dispute)
        emit(world, "charge.dispute.funds_reinstated", dispute)
    world.save(dispute)
    emit(world, "charge.dispute.closed", dispute)
    return dispute

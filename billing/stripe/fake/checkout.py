"""The fake's payment page and customer portal."""

from __future__ import annotations

from billing.stripe.fake import invoices, money, payments
from billing.stripe.fake.events import emit
from billing.stripe.fake.routes import Refusal, need, route
from billing.stripe.fake.store import Body, World

_LIFE_SECONDS = 86400
_BPS = 10_000


@route("POST", "/v1/checkout/sessions", "checkout.SessionCreateParams")
def create_session(world: World, given: Body) -> Body:
    """Open a payment page."""
    customer = need(world, given.get("customer", ""), "customer")
    subtotal, currency = _sum(given)
    expires_at = given.get("expires_at", world.now + _LIFE_SECONDS)
    if not 1800 - 60 <= expires_at - world.now <= _LIFE_SECONDS + 60:
        raise Refusal("The `expires_at` timestamp must be 30 minutes to 24 hours from now.")
    taxed = given.get("automatic_tax", {}).get("enabled", False)
    tax = subtotal * world.fact("tax_bps", 0) // _BPS if taxed else 0
    name = world.new_id("cs_test")
    return world.add(
        {
            "id": name,
            "object": "checkout.session",
            "url": f"{world.site}/dev/stripe/checkout/{name}",
            "mode": given["mode"],
            "status": "open",
            "payment_status": "unpaid" if given["mode"] == "payment" else "no_payment_required",
            "currency": currency,
            "amount_subtotal": subtotal,
            "amount_total": subtotal + tax,
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": tax},
            "customer": customer["id"],
            "client_reference_id": given.get("client_reference_id"),
            "payment_intent": None,
            "setup_intent": None,
            "invoice": None,
            "metadata": given.get("metadata", {}),
            "success_url": given.get("success_url"),
            "cancel_url": given.get("cancel_url"),
            "expires_at": expires_at,
            "payment_intent_data": given.get("payment_intent_data", {}),
            "invoice_creation": given.get("invoice_creation"),
        },
        due=expires_at,
    )


def _sum(given: Body) -> tuple[int, str | None]:
    if given.get("mode") == "setup":
        return 0, given.get("currency")
    if given.get("mode") != "payment":
        raise Refusal("The fake opens pages of the modes payment and setup only.")
    items = [(item["price_data"], item.get("quantity", 1)) for item in given["line_items"]]
    if any(price["unit_amount"] * count < 50 for price, count in items):
        raise Refusal("The Checkout Session's total must be at least 50.", code="amount_too_small")
    total = sum(price["unit_amount"] * count for price, count in items)
    return total, items[0][0]["currency"]


@route("GET", "/v1/checkout/sessions/{session}", "checkout.SessionRetrieveParams")
def retrieve_session(world: World, given: Body, session: str) -> Body:
    """Return a visit of the payment page."""
    return need(world, session, "checkout.session")


@route("POST", "/v1/checkout/sessions/{session}/expire", "checkout.SessionExpireParams")
def expire_session(world: World, given: Body, session: str) -> Body:
    """Close a payment page."""
    return expire(world, _open(world, session))


def expire(world: World, session: Body) -> Body:
    """Close a payment page that nobody has used."""
    world.save(session | {"status": "expired", "url": None})
    emit(world, "checkout.session.expired", session | {"status": "expired", "url": None})
    return session | {"status": "expired", "url": None}


def _open(world: World, name: str) -> Body:
    session = need(world, name, "checkout.session")
    if session["status"] != "open":
        raise Refusal("Only Checkout Sessions with a status in ['open'] can be expired.")
    return session


@route("POST", "/v1/billing_portal/sessions", "billing_portal.SessionCreateParams")
def create_portal(world: World, given: Body) -> Body:
    """Open the portal of one customer."""
    customer = need(world, given.get("customer", ""), "customer")
    name = world.new_id("bps")
    return world.add(
        {
            "id": name,
            "object": "billing_portal.session",
            "customer": customer["id"],
            "return_url": given.get("return_url"),
            "url": f"{world.site}/dev/stripe/portal/{name}",
        }
    )


# What people do on the page ------------------------------------------------------------------


def pay_session(world: World, name: str, number: str, *, later: bool = False) -> Body:
    """Type a card and press the button.

    Args:
        world: The state.
        name: The visit.
        number: The card's.
        later: A means of payment that takes days: the visit is complete, the money is not there.

    Raises:
        Refusal: The page is closed, or the bank said no; then the page stays open.
    """
    session = _open(world, name)
    card = payments.new_card(world, number)
    if session["mode"] == "setup":
        return _save_card(world, session, card)
    intent = _intent_of(world, session)
    if later:
        world.save(intent | {"status": "processing", "payment_method": card["id"]})
        session["status"] = "complete"
    else:
        payments.pay(world, intent, card)
        _keep_card(world, session, card)
        session |= {"status": "complete", "payment_status": "paid", "url": None}
        _bill(world, session)
    world.save(session)
    emit(world, "checkout.session.completed", session)
    return session


def _intent_of(world: World, session: Body) -> Body:
    if session["payment_intent"]:
        return need(world, session["payment_intent"], "payment_intent")
    data = session["payment_intent_data"]
    intent = payments.new_intent(
        world,
        {
            "amount": session["amount_total"],
            "currency": session["currency"],
            "customer": session["customer"],
            "metadata": data.get("metadata", {}),
            "description": data.get("description"),
        },
    )
    session["payment_intent"] = intent["id"]
    # Kept also when the bank says no: the next card pays the same payment.
    world.save(session, due=session["expires_at"])
    return intent


def _keep_card(world: World, session: Body, card: Body) -> None:
    if session["payment_intent_data"].get("setup_future_usage") == "off_session":
        payments.keep_card(world, card, session["customer"])


def _bill(world: World, session: Body) -> None:
    if (session["invoice_creation"] or {}).get("enabled"):
        session["invoice"] = invoices.paid_by_checkout(world, session)["id"]


def _save_card(world: World, session: Body, card: Body) -> Body:
    card = payments.keep_card(world, card, session["customer"])
    intent = world.add(
        {
            "id": world.new_id("seti"),
            "object": "setup_intent",
            "status": "succeeded",
            "customer": session["customer"],
            "payment_method": card["id"],
            "metadata": {},
        }
    )
    session |= {"status": "complete", "setup_intent": intent["id"], "url": None}
    world.save(session)
    emit(world, "setup_intent.succeeded", intent)
    emit(world, "checkout.session.completed", session)
    return session


def settle_session(world: World, name: str, *, succeeded: bool) -> Body:
    """Let the money of a slow means of payment arrive, or not."""
    session = need(world, name, "checkout.session")
    intent = need(world, session["payment_intent"], "payment_intent")
    if intent["status"] != "processing":
        raise Refusal("This payment is not on its way.")
    card = need(world, intent["payment_method"], "payment_method")
    if succeeded:
        money.take(world, intent, card)
        _keep_card(world, session, card)
        session |= {"payment_status": "paid", "url": None}
        _bill(world, session)
        world.save(session)
        emit(world, "checkout.session.async_payment_succeeded", session)
        return session
    world.save(intent | {"status": "requires_payment_method"})
    emit(world, "payment_intent.payment_failed", intent | {"status": "requires_payment_method"})
    emit(world, "checkout.session.async_payment_failed", session)
    return session

"""The fake's customers, cards and payments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from billing.stripe.fake.events import emit
from billing.stripe.fake.money import take
from billing.stripe.fake.routes import Refusal, need, page, route
from billing.stripe.fake.store import Body, World

# How a card behaves: it pays, or the bank says no with this code, or asks the person.
PAYS, ASKS = "", "authentication_required"


@dataclass(frozen=True, slots=True)
class TestCard:
    """A number that anybody may type, and what happens then."""

    brand: str
    behaviour: str


# The numbers that Stripe publishes for tests.
CARDS: Mapping[str, TestCard] = {
    "4242424242424242": TestCard("visa", PAYS),
    "5555555555554444": TestCard("mastercard", PAYS),
    "4000000000000002": TestCard("visa", "generic_decline"),
    "4000000000009995": TestCard("visa", "insufficient_funds"),
    "4000000000000069": TestCard("visa", "expired_card"),
    "4000002500003155": TestCard("visa", ASKS),
}
PAYING_CARD = "4242424242424242"


@route("POST", "/v1/customers", "CustomerCreateParams")
def create_customer(world: World, given: Body) -> Body:
    """Make a customer."""
    customer = world.add(
        {
            "id": world.new_id("cus"),
            "object": "customer",
            "email": given.get("email"),
            "name": given.get("name"),
            "metadata": given.get("metadata", {}),
            "invoice_settings": {"default_payment_method": None},
        }
    )
    emit(world, "customer.created", customer)
    return customer


@route("GET", "/v1/customers/{customer}", "CustomerRetrieveParams")
def retrieve_customer(world: World, given: Body, customer: str) -> Body:
    """Return a customer."""
    return need(world, customer, "customer")


@route("POST", "/v1/customers/{customer}", "CustomerUpdateParams")
def update_customer(world: World, given: Body, customer: str) -> Body:
    """Change a customer; a default card must be theirs."""
    found = need(world, customer, "customer")
    settings = given.pop("invoice_settings", {})
    if card := settings.get("default_payment_method"):
        _own_card(world, found["id"], card)
    found["invoice_settings"] |= settings
    found["metadata"] |= given.pop("metadata", {})
    return world.save(found | {k: v for k, v in given.items() if k in found})


@route("GET", "/v1/customers/{customer}/payment_methods", "CustomerPaymentMethodListParams")
def list_cards(world: World, given: Body, customer: str) -> Body:
    """List the saved cards of a customer."""
    need(world, customer, "customer")
    found = cards_of(world, customer)
    return page(found, given, f"/v1/customers/{customer}/payment_methods")


def cards_of(world: World, customer: str) -> list[Body]:
    """Return the saved cards of a customer, newest first."""
    return world.newest("payment_method", keep=lambda each: each["customer"] == customer)


@route("GET", "/v1/payment_methods/{card}", "PaymentMethodRetrieveParams")
def retrieve_card(world: World, given: Body, card: str) -> Body:
    """Return a card."""
    return need(world, card, "payment_method")


@route("POST", "/v1/payment_methods/{card}/detach", "PaymentMethodDetachParams")
def detach_card(world: World, given: Body, card: str) -> Body:
    """Forget a card of a customer, also as the default."""
    found = need(world, card, "payment_method")
    owner = world.find(found["customer"] or "", "customer")
    if owner is None:
        raise Refusal("The payment method you provided is not attached to a customer.")
    if owner["invoice_settings"]["default_payment_method"] == card:
        owner["invoice_settings"]["default_payment_method"] = None
        world.save(owner)
    world.save(found | {"customer": None})
    emit(world, "payment_method.detached", found | {"customer": None})
    return found | {"customer": None}


def new_card(world: World, number: str) -> Body:
    """Return a card that belongs to nobody yet.

    Raises:
        Refusal: Nobody issues this number.
    """
    digits = number.replace(" ", "")
    kind = CARDS.get(digits)
    if kind is None:
        raise Refusal(
            "Your card number is incorrect.",
            code="incorrect_number",
            status=402,
            kind="card_error",
        )
    return world.add(
        {
            "id": world.new_id("pm"),
            "object": "payment_method",
            "type": "card",
            "customer": None,
            "card": {
                "brand": kind.brand,
                "last4": digits[-4:],
                "exp_month": 12,
                "exp_year": 2034,
            },
            "metadata": {},
            "behaviour": kind.behaviour,
        }
    )


def keep_card(world: World, card: Body, customer: str) -> Body:
    """Save a card for a customer; the first one is the default."""
    owner = need(world, customer, "customer")
    card = world.save(card | {"customer": customer})
    if not owner["invoice_settings"]["default_payment_method"]:
        owner["invoice_settings"]["default_payment_method"] = card["id"]
        world.save(owner)
    emit(world, "payment_method.attached", card)
    return card


@route("GET", "/v1/setup_intents/{intent}", "SetupIntentRetrieveParams")
def retrieve_setup_intent(world: World, given: Body, intent: str) -> Body:
    """Return the saving of a card."""
    return need(world, intent, "setup_intent")


def new_intent(world: World, given: Body) -> Body:
    """Make a payment that nobody has paid yet."""
    return world.add(
        {
            "id": world.new_id("pi"),
            "object": "payment_intent",
            "status": "requires_payment_method",
            "amount": given["amount"],
            "amount_received": 0,
            "currency": given["currency"],
            "customer": given.get("customer"),
            "payment_method": None,
            "latest_charge": None,
            "last_payment_error": None,
            "next_action": None,
            "metadata": given.get("metadata", {}),
            "description": given.get("description"),
        }
    )


@route("POST", "/v1/payment_intents", "PaymentIntentCreateParams")
def create_intent(world: World, given: Body) -> Body:
    """Charge a saved card at once: the only kind of payment that the site makes itself."""
    if not (given.get("confirm") and given.get("off_session") and given.get("payment_method")):
        raise Refusal("The fake only charges saved cards at once: confirm and off_session.")
    customer = need(world, given.get("customer", ""), "customer")
    card = _own_card(world, customer["id"], given["payment_method"])
    intent = new_intent(world, given)
    emit(world, "payment_intent.created", intent)
    pay(world, intent, card)
    return intent


def pay(world: World, intent: Body, card: Body) -> Body:
    """Take the money, or let the bank say no.

    Raises:
        Refusal: The bank said no; the payment remains, unpaid.
    """
    behaviour = card["behaviour"]
    if behaviour == PAYS:
        return take(world, intent, card)
    asks = behaviour == ASKS
    code = ASKS if asks else "card_declined"
    message = "This payment needs the person." if asks else "Your card was declined."
    error = {"type": "card_error", "code": code, "message": message, "decline_code": behaviour}
    world.save(intent | {"last_payment_error": error})
    intent["last_payment_error"] = error
    emit(world, "payment_intent.payment_failed", intent)
    raise Refusal(
        message,
        code=code,
        status=402,
        kind="card_error",
        decline_code=behaviour,
        payment_intent=intent,
    )


@route("GET", "/v1/payment_intents/{intent}", "PaymentIntentRetrieveParams")
def retrieve_intent(world: World, given: Body, intent: str) -> Body:
    """Return a payment."""
    return need(world, intent, "payment_intent")


@route("GET", "/v1/payment_intents", "PaymentIntentListParams")
def list_intents(world: World, given: Body) -> Body:
    """List payments."""
    who = given.get("customer")
    found = world.newest("payment_intent", keep=lambda each: who in {None, each["customer"]})
    return page(found, given, "/v1/payment_intents")


def _own_card(world: World, customer: str, card: str) -> Body:
    found = need(world, card, "payment_method")
    if found["customer"] != customer:
        raise Refusal(
            f"The payment method {card} does not belong to the customer {customer}.",
            code="payment_method_customer_mismatch",
        )
    return found

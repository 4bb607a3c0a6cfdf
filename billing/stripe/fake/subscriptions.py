"""The fake's catalogue and subscriptions; each month's turn makes a draft invoice."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from decimal import Decimal

from billing.stripe.fake import invoices
from billing.stripe.fake.events import emit
from billing.stripe.fake.routes import Refusal, need, page, route
from billing.stripe.fake.store import Body, World


@route("POST", "/v1/products", "ProductCreateParams")
def create_product(world: World, given: Body) -> Body:
    """Make a product."""
    return world.add(
        {
            "id": given.get("id") or world.new_id("prod"),
            "object": "product",
            "name": given["name"],
            "metadata": given.get("metadata", {}),
            "active": True,
        }
    )


@route("POST", "/v1/prices", "PriceCreateParams")
def create_price(world: World, given: Body) -> Body:
    """Make a price; a lookup key names one."""
    need(world, given.get("product", ""), "product")
    recurring = given.get("recurring")
    if recurring and recurring.get("usage_type") == "metered":
        need(world, recurring.get("meter", ""), "billing.meter")
    name = given.get("lookup_key")
    if name and world.newest("price", name):
        raise Refusal(
            f"A price already uses the lookup key {name}.", code="resource_already_exists"
        )
    amount = Decimal(given.get("unit_amount_decimal") or given.get("unit_amount") or 0)
    return world.add(
        {
            "id": world.new_id("price"),
            "object": "price",
            "product": given["product"],
            "currency": given["currency"],
            "unit_amount": int(amount) if amount == int(amount) else None,
            "unit_amount_decimal": f"{amount:f}",
            "recurring": recurring and {"meter": None, "interval_count": 1, **recurring},
            "lookup_key": name,
            "active": True,
            "metadata": given.get("metadata", {}),
        },
        label=name or "",
    )


@route("GET", "/v1/prices", "PriceListParams")
def list_prices(world: World, given: Body) -> Body:
    """List prices."""
    names = given.get("lookup_keys")
    found = world.newest("price", keep=lambda each: not names or each["lookup_key"] in names)
    return page(found, given, "/v1/prices")


@route("POST", "/v1/subscriptions", "SubscriptionCreateParams")
def create_subscription(world: World, given: Body) -> Body:
    """Subscribe a customer from now until the anchor, and monthly from then on."""
    customer = need(world, given.get("customer", ""), "customer")
    anchor = given.get("billing_cycle_anchor", next_month(world.now))
    if not world.now < anchor <= next_month(world.now):
        raise Refusal("billing_cycle_anchor must be in the future, at most one period away.")
    name = world.new_id("sub")
    prices = [need(world, each["price"], "price") for each in given["items"]]
    items = [
        {
            "id": world.new_id("si"),
            "object": "subscription_item",
            "subscription": name,
            "price": price,
            "current_period_start": world.now,
            "current_period_end": anchor,
            "created": world.now,
            "metadata": {},
        }
        for price in prices
    ]
    made = world.add(
        {
            "id": name,
            "object": "subscription",
            "status": "active",
            "customer": customer["id"],
            "currency": prices[0]["currency"],
            "items": {"object": "list", "data": items, "has_more": False, "url": "/v1/items"},
            "latest_invoice": None,
            "billing_cycle_anchor": anchor,
            "collection_method": given.get("collection_method", "charge_automatically"),
            "metadata": given.get("metadata", {}),
        },
        label=customer["id"],
        due=anchor,
    )
    emit(world, "customer.subscription.created", made)
    return made


@route("GET", "/v1/subscriptions/{subscription}", "SubscriptionRetrieveParams")
def retrieve_subscription(world: World, given: Body, subscription: str) -> Body:
    """Return a subscription."""
    return need(world, subscription, "subscription")


@route("GET", "/v1/subscriptions", "SubscriptionListParams")
def list_subscriptions(world: World, given: Body) -> Body:
    """List subscriptions."""
    found = world.newest("subscription", given.get("customer", ""))
    state = given.get("status", "active")
    kept = [each for each in found if state in {"all", each["status"]}]
    return page(kept, given, "/v1/subscriptions")


@route("DELETE", "/v1/subscriptions/{subscription}", "SubscriptionCancelParams")
def cancel_subscription(world: World, given: Body, subscription: str) -> Body:
    """End a subscription now, with a last invoice if that is wanted."""
    found = need(world, subscription, "subscription")
    if found["status"] == "canceled":
        raise Refusal("The subscription is canceled already.", code="resource_missing", status=404)
    if given.get("invoice_now"):
        found["latest_invoice"] = invoices.draft(world, found, until=world.now)["id"]
    found |= {"status": "canceled", "canceled_at": world.now}
    world.save(found)
    emit(world, "customer.subscription.deleted", found)
    return found


def turn(world: World, subscription: Body) -> None:
    """End a period: its usage becomes a draft invoice, and the next period begins."""
    end = subscription["items"]["data"][0]["current_period_end"]
    subscription["latest_invoice"] = invoices.draft(world, subscription, until=end)["id"]
    following = next_month(end)
    for item in subscription["items"]["data"]:
        item |= {"current_period_start": end, "current_period_end": following}
    world.save(subscription, due=following)
    emit(world, "customer.subscription.updated", subscription)


def next_month(seconds: int) -> int:
    """Return the same moment of the next month, or its last day."""
    at = datetime.fromtimestamp(seconds, UTC)
    year, month = at.year + at.month // 12, at.month % 12 + 1
    day = min(at.day, calendar.monthrange(year, month)[1])
    return int(at.replace(year=year, month=month, day=day).timestamp())

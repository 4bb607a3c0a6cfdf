"""The fake's meters: what was used, counted once."""

from __future__ import annotations

import re

from billing.stripe.fake.routes import Refusal, need, page, route
from billing.stripe.fake.store import Body, World

_DAY, _MINUTE, _HOUR = 86400, 60, 3600
_OLDEST, _FUTURE = 35 * _DAY, 5 * _MINUTE
# Stripe promises to know an identifier for at least a day: the fake forgets it then, as it may.
_REMEMBERED = _DAY
_IDENTIFIER_MAX = 100
# At most 15 significant digits.
_VALUE = re.compile(r"-?\d{1,15}")


@route("GET", "/v1/billing/meters", "billing.MeterListParams")
def list_meters(world: World, given: Body) -> Body:
    """List meters."""
    state = given.get("status")
    found = world.newest("billing.meter", keep=lambda each: state in {None, each["status"]})
    return page(found, given, "/v1/billing/meters")


@route("POST", "/v1/billing/meters", "billing.MeterCreateParams")
def create_meter(world: World, given: Body) -> Body:
    """Make a meter; there is one per event name."""
    if world.newest("billing.meter", given["event_name"]):
        raise Refusal(
            f"A meter with the event name {given['event_name']} already exists.",
            code="resource_already_exists",
        )
    return world.add(
        {
            "id": world.new_id("mtr"),
            "object": "billing.meter",
            "status": "active",
            "display_name": given["display_name"],
            "event_name": given["event_name"],
            "default_aggregation": given["default_aggregation"],
            "customer_mapping": given["customer_mapping"],
            "value_settings": given["value_settings"],
            "updated": world.now,
        },
        label=given["event_name"],
    )


@route("POST", "/v1/billing/meter_events", "billing.MeterEventCreateParams")
def create_meter_event(world: World, given: Body) -> Body:
    """Count usage, once per identifier."""
    meters = world.newest("billing.meter", given["event_name"])
    if not meters:
        raise Refusal(f"No active meter found for event name {given['event_name']}.")
    payload, identifier = given["payload"], given.get("identifier") or world.new_id("")
    at = given.get("timestamp", world.now)
    need(world, payload.get("stripe_customer_id", ""), "customer")
    if not _VALUE.fullmatch(payload.get("value", "")):
        raise Refusal("The value must be a whole number of at most 15 digits.", param="payload")
    if len(identifier) > _IDENTIFIER_MAX:
        raise Refusal("The identifier must have at most 100 characters.", param="identifier")
    if not world.now - _OLDEST <= at <= world.now + _FUTURE:
        raise Refusal(
            "The timestamp must be within the past 35 days or up to 5 minutes in the future.",
            code="timestamp_too_far_in_past" if at < world.now else "timestamp_in_future",
        )
    known = world.newest("billing.meter_event", identifier)
    if any(each["created"] > world.now - _REMEMBERED for each in known):
        raise Refusal(f"An event already exists with identifier {identifier}.")
    event = {
        "id": world.new_id("mev"),
        "object": "billing.meter_event",
        "event_name": given["event_name"],
        "identifier": identifier,
        "payload": payload,
        "timestamp": at,
        "cancelled": False,
    }
    return world.add(event, label=identifier)


@route("POST", "/v1/billing/meter_event_adjustments", "billing.MeterEventAdjustmentCreateParams")
def create_adjustment(world: World, given: Body) -> Body:
    """Take usage back that was counted in the last day."""
    identifier = given.get("cancel", {}).get("identifier", "")
    known = world.newest("billing.meter_event", identifier) if identifier else []
    if not known:
        raise Refusal(f"No event found with identifier {identifier}.", code="resource_missing")
    if known[0]["created"] <= world.now - _DAY:
        raise Refusal("The event is older than 24 hours and cannot be cancelled.")
    if known[0]["cancelled"]:
        raise Refusal("The event was cancelled already.")
    world.save(known[0] | {"cancelled": True})
    return {
        "object": "billing.meter_event_adjustment",
        "event_name": given["event_name"],
        "type": "cancel",
        "cancel": {"identifier": identifier},
        "status": "complete",
        "livemode": False,
    }


@route("GET", "/v1/billing/meters/{meter}/event_summaries", "billing.MeterEventSummaryListParams")
def list_summaries(world: World, given: Body, meter: str) -> Body:
    """Sum up usage between two times, or per hour or day."""
    event_name = need(world, meter, "billing.meter")["event_name"]
    start, end = given["start_time"], given["end_time"]
    whole = {"hour": _HOUR, "day": _DAY}.get(given.get("value_grouping_window", ""), 0)
    if start % (whole or _MINUTE) or end % (whole or _MINUTE) or end <= start:
        raise Refusal("start_time and end_time must be aligned, and in order.")
    windows = [(at, at + whole) for at in range(start, end, whole)] if whole else [(start, end)]
    found = [
        {
            "id": f"mtrusg_{meter}_{since}_{until}",
            "object": "billing.meter_event_summary",
            "aggregated_value": used(world, event_name, given["customer"], since, until),
            "start_time": since,
            "end_time": until,
            "meter": meter,
            "livemode": False,
            "created": since,
        }
        for since, until in reversed(windows)
    ]
    kept = [each for each in found if each["aggregated_value"] or not whole]
    return page(kept, given, f"/v1/billing/meters/{meter}/event_summaries")


def used(world: World, event_name: str, customer: str, start: int, end: int) -> int:
    """Return what a customer used from `start` until before `end`."""
    return sum(
        int(each["payload"]["value"])
        for each in world.newest("billing.meter_event")
        if each["event_name"] == event_name
        and each["payload"]["stripe_customer_id"] == customer
        and start <= each["timestamp"] < end
        and not each["cancelled"]
    )

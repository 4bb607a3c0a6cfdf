"""The fake's accounts of publishers, and transfers to them."""

from __future__ import annotations

from billing.stripe.fake.events import emit
from billing.stripe.fake.money import available, move
from billing.stripe.fake.routes import ACCOUNT, Refusal, need, page, route
from billing.stripe.fake.store import Body, World

_DUE = ["business_profile.url", "external_account", "individual.verification.document"]
_LINK_SECONDS = 300


@route("POST", "/v1/accounts", "AccountCreateParams")
def create_account(world: World, given: Body) -> Body:
    """Make an account that may not receive anything yet."""
    country = given.get("country", "US")
    account = world.add(
        {
            "id": world.new_id("acct"),
            "object": "account",
            "email": given.get("email"),
            "country": country,
            "default_currency": {"CN": "cny", "DE": "eur", "GB": "gbp"}.get(country, "usd"),
            "charges_enabled": False,
            "payouts_enabled": False,
            "details_submitted": False,
            "capabilities": {"transfers": "inactive"},
            "requirements": {"currently_due": _DUE, "past_due": [], "disabled_reason": None},
            "metadata": given.get("metadata", {}),
        }
    )
    emit(world, "account.updated", account, account=account["id"])
    return account


@route("GET", "/v1/accounts/{account}", "AccountRetrieveParams")
def retrieve_account(world: World, given: Body, account: str) -> Body:
    """Return an account."""
    return need(world, account, "account")


@route("POST", "/v1/account_links", "AccountLinkCreateParams")
def create_link(world: World, given: Body) -> Body:
    """Open the page on which a publisher says who they are."""
    account = need(world, given["account"], "account")
    name = world.new_id("alink")
    world.add(
        {
            "id": name,
            "object": "fake.account_link",
            "account": account["id"],
            "return_url": given.get("return_url"),
            "refresh_url": given.get("refresh_url"),
            "expires_at": world.now + _LINK_SECONDS,
        }
    )
    return {
        "object": "account_link",
        "created": world.now,
        "expires_at": world.now + _LINK_SECONDS,
        "url": f"{world.site}/dev/stripe/connect/{name}",
    }


def set_account(world: World, account: Body, *, receives: bool) -> Body:
    """Let Stripe allow or stop payments to a publisher."""
    missing = [] if receives else ["individual.verification.document"]
    account |= {
        "charges_enabled": receives,
        "payouts_enabled": receives,
        "details_submitted": True,
        "capabilities": {"transfers": "active" if receives else "inactive"},
        "requirements": {
            "currently_due": missing,
            "past_due": missing,
            "disabled_reason": None if receives else "requirements.past_due",
        },
    }
    world.save(account)
    emit(world, "account.updated", account, account=account["id"])
    return account


@route("POST", "/v1/transfers", "TransferCreateParams")
def create_transfer(world: World, given: Body) -> Body:
    """Move money that is available to an account that may receive it."""
    amount, currency = given.get("amount", 0), given["currency"]
    account = need(world, given["destination"], "account")
    if account["capabilities"]["transfers"] != "active":
        raise Refusal(
            "Your destination account needs the transfers capability enabled.",
            code="insufficient_capabilities_for_transfer",
        )
    if amount <= 0:
        raise Refusal("This value must be greater than or equal to 1.", param="amount")
    if amount > available(world, currency):
        raise Refusal(
            "You have insufficient available funds in your Stripe account.",
            code="balance_insufficient",
        )
    name = world.new_id("tr")
    movement = move(world, "transfer", -amount, currency, name)
    transfer = world.add(
        {
            "id": name,
            "object": "transfer",
            "amount": amount,
            "amount_reversed": 0,
            "reversed": False,
            "currency": currency,
            "destination": account["id"],
            "transfer_group": given.get("transfer_group"),
            "balance_transaction": movement["id"],
            "description": given.get("description"),
            "metadata": given.get("metadata", {}),
        },
        label=given.get("transfer_group", ""),
    )
    emit(world, "transfer.created", transfer)
    return transfer


@route("GET", "/v1/transfers/{transfer}", "TransferRetrieveParams")
def retrieve_transfer(world: World, given: Body, transfer: str) -> Body:
    """Return a transfer."""
    return need(world, transfer, "transfer")


@route("GET", "/v1/transfers", "TransferListParams")
def list_transfers(world: World, given: Body) -> Body:
    """List transfers."""
    found = world.newest("transfer", given.get("transfer_group", ""))
    if account := given.get("destination"):
        found = [each for each in found if each["destination"] == account]
    return page(found, given, "/v1/transfers")


@route("POST", "/v1/transfers/{transfer}/reversals", "TransferReversalCreateParams")
def create_reversal(world: World, given: Body, transfer: str) -> Body:
    """Take money back, by at most what is left of the transfer."""
    found = need(world, transfer, "transfer")
    left = found["amount"] - found["amount_reversed"]
    amount = given.get("amount", left)
    if not 0 < amount <= left:
        raise Refusal(
            f"Reversal amount ({amount}) is greater than unreversed amount on transfer ({left})",
            param="amount",
        )
    name = world.new_id("trr")
    movement = move(world, "transfer_refund", amount, found["currency"], name)
    reversal = world.add(
        {
            "id": name,
            "object": "transfer_reversal",
            "transfer": transfer,
            "amount": amount,
            "currency": found["currency"],
            "balance_transaction": movement["id"],
            "metadata": given.get("metadata", {}),
        },
        label=transfer,
    )
    found["amount_reversed"] += amount
    found["reversed"] = found["amount_reversed"] == found["amount"]
    world.save(found)
    emit(world, "transfer.reversed", found)
    return reversal


@route("GET", "/v1/transfers/{transfer}/reversals", "TransferReversalListParams")
def list_reversals(world: World, given: Body, transfer: str) -> Body:
    """List the reversals of a transfer."""
    need(world, transfer, "transfer")
    path = f"/v1/transfers/{transfer}/reversals"
    return page(world.newest("transfer_reversal", transfer), given, path)


def send_to_bank(world: World, account: Body, amount: int, *, failure: str) -> Body:
    """Let Stripe send money from a publisher's account to a bank, which may send it back."""
    status = "failed" if failure else "paid"
    payment = world.add(
        {
            "id": world.new_id("po"),
            "object": "payout",
            "amount": amount,
            "currency": account["default_currency"],
            "status": status,
            "failure_code": "account_closed" if failure else None,
            "failure_message": failure or None,
        },
        label=account["id"],
    )
    emit(world, f"payout.{status}", payment, account=account["id"])
    return payment


@route("GET", "/v1/payouts", "PayoutListParams")
def list_bank_payments(world: World, given: Body) -> Body:
    """List what went from a publisher's account to a bank."""
    account = given.pop(ACCOUNT, "")
    return page(world.newest("payout", need(world, account, "account")["id"]), given, "/v1/payouts")

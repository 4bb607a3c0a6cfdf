"""Why was I charged? What one call used, at which price, by which rule, and where it is booked.

A receipt is read from what is stored and can be proved: `verify` works out again what the charge
must be, the chain of its settlement, and the seal of the transaction that booked it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext

from accounts.errors import NotFoundError
from accounts.models import Organization
from billing import chains, finished, ids, ledger, outcomes, rating
from billing.calls import Call, call_of
from billing.errors import UnratedError
from billing.models import (
    ChargeRefund,
    Hold,
    LedgerEntry,
    LedgerTransaction,
    Settlement,
    UsageEvent,
)
from billing.rating import BATCH, PricePlan

# A request id is looked for among the calls of so many days: it has no index of its own.
REQUEST_DAYS = timedelta(days=31)
_REFERENCE_MAX = 64


@dataclass(frozen=True, slots=True)
class Line:
    """Units of one dimension at one price, in nanos; `nanos` is rounded, the sum is not."""

    dimension: str
    units: int
    amount_nanos: int
    per_quantity: int
    from_quantity: int
    nanos: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """Where a charge stands in the hash chain of its organization's charges.

    Attributes:
        digest: Of the charge itself.
        number: Its place among the charges of its settlement, from 1 on; `count` is how many.
        previous: The digest of the settlement before it; empty for the first.
        settlement_digest: The end of the chain that goes from `previous` through all charges.
    """

    digest: str
    number: int
    count: int
    previous: str
    settlement_digest: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was worked out again; None where there is nothing to compare yet."""

    # Quantities × price version × policy give what was charged, and the shares are of it.
    rated: bool | None
    # The settlement's digest follows from its charges and from the settlement before it.
    chained: bool | None
    # The transaction carries that digest, and charges what the settlement says.
    booked: bool | None
    # The transaction's hash covers what it says, and continues its book.
    sealed: bool | None

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts the receipt."""
        return False not in (self.rated, self.chained, self.booked, self.sealed)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything that explains one charge. Amounts in nanos."""

    hold: Hold
    call: Call
    usage: UsageEvent | None
    plan: PricePlan
    lines: Sequence[Line]
    # Units × price, rounded once, and after the minimum; None until something was used.
    price_nanos: int | None
    is_minimum: bool
    # How the run ended, as the outcome policy calls it; empty while it runs.
    outcome: str
    percent: int
    policy: Sequence[outcomes.Line]
    settlement: Settlement | None
    transaction: LedgerTransaction | None
    proof: Proof | None
    refunds: Sequence[ChargeRefund]

    @property
    def charged_nanos(self) -> int:
        """What was charged, before refunds."""
        return self.hold.captured_nanos or 0

    @property
    def refunded_nanos(self) -> int:
        """What was given back."""
        return sum(refund.amount_nanos for refund in self.refunds)

    @property
    def state(self) -> str:
        """`open` while it runs, `pending` until it is settled, then `settled`."""
        if self.call.is_open:
            return "open"
        return "settled" if self.settlement else "pending"

    @property
    def discount_bps(self) -> int:
        """How much less than a call its lines cost: the row of a file has a discount."""
        return self.hold.price_version.batch_discount_bps if self.hold.source == BATCH else 0

    @property
    def is_ceiling(self) -> bool:
        """Whether less was charged than the price: no more was set aside."""
        return self.usage is not None and self.usage.uncapped_nanos > self.usage.cost_nanos

    @property
    def why(self) -> str:
        """Answer "why was I charged?" in a sentence or two, in the reader's language."""
        return _why(self)


def find(organization: Organization, reference: str) -> Hold:
    """Return the call that a hold id or an X-Request-Id names.

    Raises:
        NotFoundError: The organization made no such call.
    """
    mine = Hold.objects.visible_to(organization)
    try:
        found = mine.filter(pk=UUID(reference)).first()
    except ValueError:
        found = None
    if found is None and 0 < len(reference) <= _REFERENCE_MAX and "\0" not in reference:
        since = ids.floor(timezone.now() - REQUEST_DAYS)
        found = mine.filter(pk__gte=since, request_id=reference).order_by("-pk").first()
    if found is None:
        raise NotFoundError("There is no call with this id.")
    return found


def of(organization: Organization, hold_id: UUID) -> Receipt:
    """Return the receipt of one of an organization's calls.

    Raises:
        NotFoundError: The organization made no such call.
    """
    mine = Hold.objects.visible_to(organization).with_usage().with_price()
    hold = mine.select_related("share_version", "settlement").filter(pk=hold_id).first()
    if hold is None:
        raise NotFoundError("There is no call with this id.")
    usage: UsageEvent | None = getattr(hold, "usage", None)
    plan = rating.for_source(rating.plan_of(hold.price_version), hold.source)
    lines = _lines(plan, _quantities(usage)) if usage else []
    price = _price(plan, usage)
    settlement = hold.settlement
    outcome = _outcome(hold, usage)
    policy = _policy(hold)
    return Receipt(
        hold=hold,
        call=call_of(hold),
        usage=usage,
        plan=plan,
        lines=lines,
        price_nanos=price,
        is_minimum=bool(price) and price == plan.min_charge_nanos,
        outcome=outcome,
        percent=next((line.percent for line in policy if line.outcome == outcome), 0),
        policy=policy,
        settlement=settlement,
        transaction=settlement.ledger_transaction if settlement else None,
        proof=_proof(hold, settlement) if settlement and usage else None,
        refunds=list(hold.refunds.select_related("ledger_transaction").order_by("number")),
    )


def verify(receipt: Receipt) -> Verified:
    """Work out again what the receipt says, from the rows it was made of."""
    settlement, booked = receipt.settlement, receipt.transaction
    return Verified(
        rated=_is_rated(receipt),
        chained=_is_chained(settlement) if settlement else None,
        booked=_is_booked(settlement, booked) if settlement and booked else None,
        sealed=is_sealed(booked) if booked else None,
    )


def is_sealed(booked: LedgerTransaction) -> bool:
    """Whether a transaction says what its hash covers, and stands in its book's chain."""
    book = LedgerTransaction.objects.filter(organization=booked.organization_id)
    number = booked.number or 0
    before = book.filter(number=number - 1).first()
    after = book.filter(number=number + 1).first()
    return (
        booked.is_sealed
        and booked.hash == ledger.digest_of(booked)
        and booked.previous_hash == (before.hash if before else "")
        and (before is not None or number == 1)
        and (after is None or after.previous_hash == booked.hash)
    )


def _is_rated(receipt: Receipt) -> bool | None:
    hold, usage = receipt.hold, receipt.usage
    if usage is None:
        # Nothing was used: nothing may be charged.
        return None if receipt.call.is_open else hold.captured_nanos is None
    if receipt.price_nanos is None:
        return False
    uncapped = rating.share(receipt.price_nanos, receipt.percent)
    publisher = usage.cost_nanos * hold.publisher_bps // 10_000
    return (
        usage.uncapped_nanos == uncapped
        and usage.cost_nanos == hold.captured_nanos == min(uncapped, hold.reserved_nanos)
        and (usage.publisher_nanos, usage.platform_nanos)
        == (publisher, usage.cost_nanos - publisher)
    )


def _is_chained(settlement: Settlement) -> bool:
    charges = finished.of_settlement(settlement.pk)
    return settlement.digest == chains.of_settlement(_before(settlement), charges)


def _is_booked(settlement: Settlement, booked: LedgerTransaction) -> bool:
    taken = LedgerEntry.objects.filter(
        transaction=booked, account__code__startswith=f"tenant:{settlement.organization_id}:"
    ).aggregate(total=Sum("amount_nanos"))["total"]
    return (
        booked.details.get("digest") == settlement.digest
        and (taken or 0) == settlement.captured_nanos
    )


def _before(settlement: Settlement) -> str:
    earlier = Settlement.objects.filter(
        organization=settlement.organization_id, pk__lt=settlement.pk
    ).order_by("-pk")
    return earlier.values_list("digest", flat=True).first() or ""


def _proof(hold: Hold, settlement: Settlement) -> Proof:
    charged = Hold.objects.filter(settlement=settlement, captured_nanos__isnull=False)
    return Proof(
        digest=chains.of_charge(finished.of_hold(hold.pk)),
        number=charged.filter(pk__lte=hold.pk).count(),
        count=charged.count(),
        previous=_before(settlement),
        settlement_digest=settlement.digest,
    )


def _quantities(usage: UsageEvent) -> dict[str, int]:
    """Return what was used; a training is no call, even where its price knew calls."""
    counted = usage.quantities
    if usage.model_version_id is None:
        counted.pop("call", None)
    return counted


def _price(plan: PricePlan, usage: UsageEvent | None) -> int | None:
    if usage is None:
        return None
    try:
        return rating.rate(plan, _quantities(usage))
    except UnratedError:
        return None


def _lines(plan: PricePlan, quantities: dict[str, int]) -> list[Line]:
    """Divide a price into its parts: each tier of each dimension that something was used of."""
    found = []
    for dimension in sorted(plan.components.keys() & quantities.keys()):
        tiers = plan.components[dimension]
        ends = [start for start, _amount, _per in tiers[1:]] + [quantities[dimension]]
        for (start, amount, per), end in zip(tiers, ends, strict=True):
            units = min(end, quantities[dimension]) - start
            if units > 0:
                total = units * amount
                found.append(
                    Line(
                        dimension=dimension,
                        units=units,
                        amount_nanos=amount,
                        per_quantity=per,
                        from_quantity=start,
                        nanos=(2 * total + per) // (2 * per),
                        is_exact=total % per == 0,
                    )
                )
    return found


def _outcome(hold: Hold, usage: UsageEvent | None) -> str:
    """Return how a run ended, in the words of the outcome policy; empty while it runs."""
    if hold.state == Hold.State.AUTHORISED:
        return ""
    if usage is not None:
        return usage.outcome
    if hold.state == Hold.State.EXPIRED:
        return "expired"
    return hold.failure if hold.failure in outcomes.OUTCOMES else "not_started"


def _policy(hold: Hold) -> list[outcomes.Line]:
    version = hold.model_version
    return outcomes.lines(version.outcome_policy if version else outcomes.TRAINING_POLICY)


def _why(receipt: Receipt) -> str:
    if receipt.state == "open":
        return gettext(
            "The run has not ended. What it may cost at most is set aside; the rest comes back."
        )
    meaning = next((each.text for each in receipt.policy if each.outcome == receipt.outcome), "")
    if receipt.usage is None or not receipt.charged_nanos:
        told = gettext("Nothing was charged.")
    elif receipt.is_ceiling:
        told = gettext("Charged at most what was set aside; the rest is the platform's loss.")
    else:
        told = gettext("For this, the model's policy bills %(percent)s %% of the price.") % {
            "percent": receipt.percent
        }
    return f"{meaning} {told}".strip()

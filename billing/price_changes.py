"""Prices that somebody wants: proposed with a preview, approved by another, then added.

A proposal never changes; whoever wants another price withdraws it and proposes anew. It is decided
once, by one compare-and-set update. What is approved becomes an immutable PriceVersion, which
begins late enough for every process to know of it, and for those who must be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.models import Membership, Organization, User
from billing import price_previews
from billing.errors import InvalidPriceError, PriceChangeDecidedError, SecondOperatorError
from billing.models import UsageRollup
from billing.rating import ALL_BPS, PricePlan, is_higher, plan_from, plan_of, plan_of_change
from catalog import prices
from catalog.models import MLModel, ModelVersion, PriceChange, PriceComponent, PriceVersion
from catalog.models.models import TEXT_TASKS
from catalog.prices import Components, Tier, tiers_of

State = PriceChange.State
# Longer than any process remembers a price (inference.versions): so a new one begins at the same
# instant in all of them.
LEAD = timedelta(seconds=10)
# Who used a model within this time is asked to bear its new price, and told.
RECENTLY = timedelta(days=30)
# What every prediction, and every training, counts.
COUNTED = frozenset({"call", "row", "byte"})
# Every run of a model for text counts what it reads, too.
COUNTED_OF_TEXT = COUNTED | {"input_token"}
COUNTED_OF_SKU = frozenset({"compute_ms"})
# As much as fits a 64-bit column with room for what a run may use.
_MAX_NANOS = 10**15
_MAX_UNITS = 10**12


class Target(NamedTuple):
    """What has a price: a model, or something that belongs to no model."""

    model: MLModel | None = None
    sku: str = ""

    @property
    def owner(self) -> Organization | None:
        """Who publishes it; None is the site."""
        return self.model.owner if self.model else None

    @property
    def name(self) -> str:
        """What people call it."""
        return self.model.path if self.model else self.sku


def target_of(change: PriceChange) -> Target:
    """Return what a proposal is about."""
    return Target(change.model, change.sku)


def _counted(target: Target) -> frozenset[str]:
    if target.model is None:
        return COUNTED_OF_SKU
    return COUNTED_OF_TEXT if target.model.task in TEXT_TASKS else COUNTED


def checked(
    target: Target,
    components: Components,
    min_charge_nanos: int = 0,
    batch_discount_bps: int = 0,
) -> dict[str, list[Tier]]:
    """Return a price as tiers per dimension.

    Raises:
        InvalidPriceError: It cannot be the price of the target.
    """
    unknown = components.keys() - set(PriceComponent.Dimension.values)
    if unknown:
        raise InvalidPriceError(f"There is no dimension {min(unknown)!r}.", param="components")
    counted = _counted(target)
    if not components.keys() & counted:
        raise InvalidPriceError(
            f"A price needs one of {', '.join(sorted(counted))}: nothing else is counted in "
            "every run.",
            param="components",
        )
    try:
        found = {name: tiers_of(price) for name, price in components.items()}
    except ValueError as error:
        raise InvalidPriceError(str(error), param="components") from error
    numbers = [n for tiers in found.values() for start, _, per in tiers for n in (start, per)]
    amounts = [min_charge_nanos, *(amount for tiers in found.values() for _, amount, _ in tiers)]
    if min(amounts) < 0 or max(amounts) > _MAX_NANOS or max(numbers) > _MAX_UNITS:
        raise InvalidPriceError(
            "An amount is 0 to 1000000, for at most a trillion units.", param="components"
        )
    if not 0 <= batch_discount_bps <= ALL_BPS or (batch_discount_bps and target.sku):
        raise InvalidPriceError(
            "The discount of batch files is 0 to 100 percent, and only of a model.",
            param="batch_discount",
        )
    return found


def at(target: Target, instant: datetime) -> PriceVersion | None:
    """Return the price that will apply at an instant, as things are now."""
    found = PriceVersion.objects.at(instant).filter(model=target.model, sku=target.sku)
    return found.prefetch_related("components").first()


def users(target: Target, *, since: datetime | None = None) -> list[int]:
    """Return the organizations, other than the owner, that used it within 30 days."""
    used = UsageRollup.objects.filter(hour__gte=(since or timezone.now() - RECENTLY))
    if target.model is None:
        used = used.filter(model_version_id=0)
    else:
        versions = ModelVersion.objects.filter(model=target.model).values("pk")
        used = used.filter(model_version_id__in=versions).exclude(organization=target.model.owner)
    return list(used.order_by().values_list("organization", flat=True).distinct())


class Effect(NamedTuple):
    """What a price would do, as things are now.

    Attributes:
        begins_at: When it would take effect.
        is_increase: Whether anything costs more than it would without it.
        users: The other organizations that used the model lately.
    """

    begins_at: datetime
    is_increase: bool
    users: list[int]

    @property
    def is_announced(self) -> bool:
        """Whether somebody must be told in advance."""
        return self.is_increase and bool(self.users)

    @property
    def needs_second_operator(self) -> bool:
        """Whether the one who proposes it may not be the one who approves it."""
        return settings.PRICE_APPROVAL and self.is_announced


def effect(target: Target, plan: PricePlan, wanted: datetime | None = None) -> Effect:
    """Return what a price would do if it were approved now.

    Args:
        wanted: When it should begin at the earliest; now if empty.
    """
    now = timezone.now()
    soonest = now + LEAD if at(target, now + LEAD) is not None else now
    begins_at = max(wanted or soonest, soonest)
    before = at(target, begins_at)
    is_increase = before is not None and is_higher(plan, plan_of(before))
    others = users(target) if is_increase else []
    if others:
        begins_at = max(begins_at, now + timedelta(days=settings.PRICE_NOTICE_DAYS))
    return Effect(begins_at, is_increase, others)


def effect_of(change: PriceChange) -> Effect:
    """Return what a proposal would do if it were approved now."""
    return effect(target_of(change), plan_of_change(change), change.effective_from)


def before(change: PriceChange) -> PriceVersion | None:
    """Return the price that a change took over from, or would if it were approved now."""
    target = target_of(change)
    if change.price_version is None:
        return at(target, effect_of(change).begins_at)
    just_before = change.price_version.effective_from - timedelta(microseconds=1)
    return at(target, just_before)


def propose(
    target: Target,
    components: Components,
    *,
    min_charge_nanos: int = 0,
    batch_discount_bps: int = 0,
    effective_from: datetime | None = None,
    reason: str = "",
    actor: User | None,
    only_propose: bool = False,
) -> PriceChange:
    """Ask for a price; it is applied at once if nobody has to approve it.

    Args:
        effective_from: When it should begin at the earliest; empty or past: as soon as may be.
        actor: Who asks; None if a key without a maker does.
        only_propose: Let it wait also if nobody has to approve it: to look at the preview first.

    Raises:
        InvalidPriceError: It cannot be a price of the target.
    """
    tiers = checked(target, components, min_charge_nanos, batch_discount_bps)
    if effective_from is not None and effective_from <= timezone.now():
        effective_from = None
    plan = plan_from(tiers, min_charge_nanos, batch_discount_bps=batch_discount_bps)
    preview = price_previews.begin(target.model, target.sku, plan)
    with transaction.atomic():
        change = PriceChange.objects.create(
            model=target.model,
            sku=target.sku,
            components={name: [list(tier) for tier in found] for name, found in tiers.items()},
            min_charge_nanos=min_charge_nanos,
            batch_discount_bps=batch_discount_bps,
            effective_from=effective_from,
            reason=reason[:500],
            preview=preview,
            proposed_by=actor,
        )
        _record(actor, "price.proposed", change, reason)
        _lock(target)
        found = effect(target, plan, effective_from)
        if not only_propose and not found.needs_second_operator:
            _decide(change, State.APPROVED, actor, "")
            _add(change, found, actor)
    change.refresh_from_db()
    return change


def approve(change: PriceChange, *, actor: User, reason: str = "") -> PriceVersion:
    """Make the price that was proposed.

    Raises:
        SecondOperatorError: It needs somebody else than the one who proposed it, or an operator.
        PriceChangeDecidedError: It was decided before.
        InvalidPriceError: Another price begins at the same instant.
    """
    target = target_of(change)
    with transaction.atomic():
        _lock(target)
        found = effect_of(change)
        if not actor.is_staff:
            raise SecondOperatorError("Only an operator approves a price.")
        if found.needs_second_operator and not _is_second(change, actor):
            raise SecondOperatorError(
                "This price becomes higher for others: somebody else than the one who proposed it "
                "approves it."
            )
        _decide(change, State.APPROVED, actor, reason)
        version = _add(change, found, actor)
        _record(actor, "price.approved", change, reason)
    change.refresh_from_db()
    return version


def _is_second(change: PriceChange, actor: User) -> bool:
    """Whether the actor is not the proposer; an unknown one may be anybody of the publisher."""
    if change.proposed_by_id is not None:
        return change.proposed_by_id != actor.pk
    owner = target_of(change).owner
    return not Membership.objects.filter(user=actor, organization=owner).exists()


def reject(change: PriceChange, *, actor: User, reason: str) -> None:
    """Refuse a price that was proposed.

    Raises:
        PriceChangeDecidedError: It was decided before.
    """
    with transaction.atomic():
        _decide(change, State.REJECTED, actor, reason)
        _record(actor, "price.rejected", change, reason)
    change.refresh_from_db()


def withdraw(change: PriceChange, *, actor: User | None, reason: str = "") -> None:
    """Take a proposal back.

    Raises:
        PriceChangeDecidedError: It was decided before.
    """
    with transaction.atomic():
        _decide(change, State.WITHDRAWN, actor, reason)
        _record(actor, "price.withdrawn", change, reason)
    change.refresh_from_db()


def _lock(target: Target) -> None:
    """Decide about the prices of one thing one after the other: each looks at those before it."""
    if target.model is not None:
        # Not the key: rows that point at the model may be written meanwhile.
        locked = MLModel.objects.select_for_update(no_key=True).filter(pk=target.model.pk)
    else:
        versions = PriceVersion.objects.select_for_update(no_key=True).filter(sku=target.sku)
        locked = versions.order_by("pk")[:1]  # type: ignore[assignment]  # another row, same lock
    list(locked)


def _decide(change: PriceChange, state: str, actor: User | None, reason: str) -> None:
    decided = PriceChange.objects.filter(pk=change.pk, state=State.PROPOSED).update(
        state=state, decided_by=actor, decided_at=timezone.now(), decision_reason=reason[:500]
    )
    if not decided:
        raise PriceChangeDecidedError("This price change was decided before.")


def _add(change: PriceChange, found: Effect, actor: User | None) -> PriceVersion:
    target = target_of(change)
    taken = PriceVersion.objects.filter(
        model=target.model, sku=target.sku, effective_from=found.begins_at
    )
    if taken.exists():
        raise InvalidPriceError(
            "Another price begins at that instant already.", param="effective_from"
        )
    version = prices.add(
        model=target.model,
        sku=target.sku,
        components=change.components,
        min_charge_nanos=change.min_charge_nanos,
        batch_discount_bps=change.batch_discount_bps,
        effective_from=found.begins_at,
        actor=actor,
    )
    PriceChange.objects.filter(pk=change.pk).update(price_version=version)
    return version


def _record(actor: User | None, action: str, change: PriceChange, reason: str) -> None:
    details: Mapping[str, object] = {
        "what": target_of(change).name,
        "components": change.components,
        "minimum": change.min_charge_nanos,
        "batch_discount_bps": change.batch_discount_bps,
    }
    audit.record(
        actor,
        action,
        change,
        organization=target_of(change).owner,
        reason=reason,
        details=dict(details),
    )


def waiting() -> Sequence[PriceChange]:
    """Return the proposals that nobody has decided, oldest first."""
    found = PriceChange.objects.filter(state=State.PROPOSED).order_by("id")
    return list(found.select_related("model__owner", "proposed_by"))

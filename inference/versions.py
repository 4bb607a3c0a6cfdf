"""Which version a request means, and all that serving it needs; remembered for seconds."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db.models import F

from accounts.keys import Caller
from billing import shares
from billing.rating import plan_of
from billing.reports import Terms
from catalog import prices
from catalog.errors import ModelNotFoundError, NoPriceError
from catalog.models import MLModel, ModelVersion
from inference.runtime.signature import Signature

_REF = re.compile(r"([a-z0-9-]{1,39})/([a-z0-9-]{1,64})(?::([1-9]\d{0,8}))?")
CACHE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Served:
    """A version as the gateway needs it."""

    version_id: int
    path: str
    owner_id: int
    is_public: bool
    signature: Signature
    # From which instant on each applies; the first one applies already.
    schedule: tuple[tuple[datetime, Terms], ...]
    share_version_id: int

    @property
    def terms(self) -> Terms:
        """What a run that is accepted now is billed by."""
        return self.terms_at(datetime.now(UTC))

    def terms_at(self, instant: datetime) -> Terms:
        """Return what a run accepted at an instant is billed by."""
        found = self.schedule[0][1]
        for begins_at, terms in self.schedule[1:]:
            if begins_at > instant:
                break
            found = terms
        return found


_cache: dict[str, tuple[float, Served]] = {}


def cached(ref: str, caller: Caller) -> Served | None:
    """Return what this process read about `owner/name[:version]` in the last seconds.

    Raises:
        ModelNotFoundError: It is not for this caller.
    """
    known = _cache.get(ref)
    if known is None or known[0] <= time.monotonic():
        return None
    return _for(caller, known[1], ref)


def resolve(ref: str, caller: Caller) -> Served:
    """Return the version that `owner/name[:version]` means; without a number the current one.

    Raises:
        ModelNotFoundError: There is none, or it is not for this caller.
        NoPriceError: It has no price.
    """
    known = cached(ref, caller)
    if known is not None:
        return known
    served = _load(ref)
    if len(_cache) >= 10_000:
        _cache.clear()
    _cache[ref] = (time.monotonic() + CACHE_SECONDS, served)
    return _for(caller, served, ref)


def _for(caller: Caller, served: Served, ref: str) -> Served:
    if not served.is_public and served.owner_id != caller.organization_id:
        raise _not_found(ref)
    return served


def _load(ref: str) -> Served:
    match = _REF.fullmatch(ref)
    if match is None:
        raise _not_found(ref)
    owner, name, number = match.groups()
    versions = ModelVersion.objects.select_related("model__owner").filter(
        model__owner__slug=owner, model__name=name, status=ModelVersion.Status.PUBLISHED
    )
    if number is None:
        versions = versions.filter(model__current_version=F("pk"))
    else:
        versions = versions.filter(number=int(number))
    version = versions.first()
    if version is None:
        raise _not_found(ref)
    return _served(version.model, version)


def _served(model: MLModel, version: ModelVersion) -> Served:
    scheduled = prices.schedule(model)
    if not scheduled:
        raise NoPriceError(f"{model.path} has no price yet.")
    share = shares.current(model)
    policy: Mapping[str, int] = version.outcome_policy
    schedule = tuple(
        (price.effective_from, Terms(plan_of(price), share.publisher_bps, policy))
        for price in scheduled
    )
    return Served(
        version_id=version.pk,
        path=version.path,
        owner_id=model.owner_id,
        is_public=model.is_public,
        signature=Signature.from_json(version.signature),
        schedule=schedule,
        share_version_id=share.pk,
    )


def _not_found(ref: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"There is no model {ref[:100]!r}. A model is named owner/name or owner/name:version.",
        param="model",
    )

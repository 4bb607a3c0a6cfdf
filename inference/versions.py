"""Which version a request means, and all that serving it needs; remembered for seconds."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zlib import crc32

from accounts.keys import Caller
from billing import shares
from billing.rating import plan_of
from billing.reports import Terms
from catalog import prices
from catalog.errors import ModelNotFoundError, NoPriceError
from catalog.models import MLModel, ModelVersion
from inference import fetching, placing, routing
from inference.runtime.signature import Signature
from inference.traffic import aliases, canaries, shadows
from inference.traffic.copying import Target

_REF = re.compile(r"([a-z0-9-]{1,39})/([a-z0-9-]{1,64})(?::([1-9]\d{0,8}|[a-z][a-z0-9-]{0,30}))?")
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
    # The version that gets a part of the calls to a name without a number, and how many percent.
    canary: Served | None = None
    canary_percent: int = 0
    # What runs copies of its calls; None: nothing does, or this is not the current version.
    shadow: Target | None = None

    def choose(self, request_id: str) -> Served:
        """Return the version that serves one request: the same for the same request id."""
        if self.canary is None or crc32(request_id.encode()) % 100 >= self.canary_percent:
            return self
        return self.canary

    @property
    def model_path(self) -> str:
        """The model without its version: `owner/name`."""
        return self.path.partition(":")[0]

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
    """Return what `owner/name[:version]` means: a number, an alias, or the current version.

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
    owner, name, tag = match.groups()
    model = MLModel.objects.select_related("owner").filter(owner__slug=owner, name=name).first()
    version = aliases.version_of(model, tag or "") if model else None
    if model is None or version is None:
        raise _not_found(ref)
    served = _served(model, version)
    if version.pk == model.current_version_id:
        served = replace(served, shadow=_target(model))
    canary = None if tag else canaries.running(model)
    if canary is None:
        return served
    return replace(served, canary=_served(model, canary.version), canary_percent=canary.percent)


def _target(model: MLModel) -> Target | None:
    """Return where copies of calls to the current version go."""
    shadow = shadows.running(model)
    if shadow is None:
        return None
    _know_labels(shadow.version_id)
    return Target(shadow.pk, shadow.version_id, shadow.percent)


def _know_labels(version_id: int) -> None:
    routing.know(version_id, placing.needed(version_id))


def _served(model: MLModel, version: ModelVersion) -> Served:
    scheduled = prices.schedule(model)
    if not scheduled:
        raise NoPriceError(f"{model.path} has no price yet.")
    share = shares.current(model)
    policy: Mapping[str, int] = version.outcome_policy
    _know_labels(version.pk)
    schedule = tuple(
        (price.effective_from, Terms(plan_of(price), share.publisher_bps, policy))
        for price in scheduled
    )
    return Served(
        version_id=version.pk,
        path=version.path,
        owner_id=model.owner_id,
        is_public=model.is_public,
        signature=Signature.from_json(version.signature, fetching.tokenizer(version)),
        schedule=schedule,
        share_version_id=share.pk,
    )


def _not_found(ref: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"There is no model {ref[:100]!r}. A model is named owner/name, owner/name:version or "
        "owner/name:alias.",
        param="model",
    )

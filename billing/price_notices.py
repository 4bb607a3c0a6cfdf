"""Tells tenants in advance that a model they use becomes dearer: by mail, once each."""

from __future__ import annotations

from django.utils import timezone, translation

from accounts import mail
from accounts.models import Organization
from billing import price_changes
from billing.price_changes import Target
from billing.rating import is_higher, plan_of
from billing.templatetags.money import price_line
from catalog.models import PriceChange, PriceVersion

_LANGUAGES = {"en": "en", "zh_hans": "zh-hans"}


def announce() -> int:
    """Queue the mails about higher prices that are yet to begin; returns how many changes.

    Runs again and again until a price begins, so that who starts to use the model meanwhile is told
    too. The key of a mail lets nobody be told twice.
    """
    coming = PriceChange.objects.filter(
        state=PriceChange.State.APPROVED, price_version__effective_from__gt=timezone.now()
    ).select_related("model__owner", "price_version")
    return sum(_announce(change) for change in coming)


def _announce(change: PriceChange) -> bool:
    version, target = change.price_version, price_changes.target_of(change)
    assert version is not None
    old = price_changes.before(change)
    if old is None or not is_higher(plan_of(version), plan_of(old)):
        return False
    told = price_changes.users(target)
    context = _context(target, old, version, change.reason)
    for organization in Organization.objects.filter(pk__in=told):
        mail.queue(
            f"price_change:{change.pk}:{organization.pk}",
            mail.owners(organization),
            "mail/price_change",
            {**context, "organization": organization.slug},
        )
    if told:
        PriceChange.objects.filter(pk=change.pk, noticed_at=None).update(noticed_at=timezone.now())
    return bool(told)


def _context(
    target: Target, old: PriceVersion, new: PriceVersion, reason: str
) -> dict[str, object]:
    """Return what the mail says; the prices in both languages, for each reader has one."""
    lines: dict[str, object] = {}
    for name, code in _LANGUAGES.items():
        with translation.override(code):
            lines[f"old_{name}"] = price_line(old)
            lines[f"new_{name}"] = price_line(new)
    return {
        "what": target.name,
        "path": f"/models/{target.name}" if target.model else "/console/trainings/new",
        "effective_from": f"{new.effective_from:%Y-%m-%d %H:%M} UTC",
        "reason": reason,
        **lines,
    }

"""Compares usage, ledger and Stripe with one another, and keeps what does not agree.

The checks are those that prove the books (billing.invariants), and those that ask Stripe. The same
trouble is one open finding, however often it is found; one that is not found any more is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import User
from billing import invariants
from billing.checks import lateness, stripe_books, stripe_facts
from billing.checks.trouble import Trouble
from billing.models import Finding, ReconciliationRun
from billing.snapshots import one_snapshot
from billing.stripe.errors import StripeCallError

State = Finding.State


@dataclass(frozen=True, slots=True)
class Result:
    """What one check said."""

    name: str
    troubles: Sequence[Trouble]


def run(requested_by: User | None = None) -> ReconciliationRun:
    """Run every check and write down what it says. May run twice at once.

    Stripe is asked first and outside of any transaction; then the database is read as it was at
    one instant. If Stripe does not answer, its findings stay as they were.

    Args:
        requested_by: Who asked; None for the nightly run.
    """
    made = ReconciliationRun.objects.create(requested_by=requested_by)
    facts, error = None, ""
    try:
        facts = stripe_facts.gather()
    except StripeCallError as failed:
        error = f"Stripe: {failed.message}"[:500]
    with one_snapshot():
        results = list(_results(facts))
    with transaction.atomic():
        for result in results:
            _keep(made, result)
        made.checked = {result.name: len(result.troubles) for result in results}
        made.error, made.finished_at = error, timezone.now()
        made.save()
    return made


def _results(facts: stripe_facts.Facts | None) -> Iterable[Result]:
    for check in invariants.CHECKS:
        yield Result(check.__name__, [_plain(each) for each in check()])
    for late in lateness.CHECKS:
        yield Result(late.__name__, late())
    if facts is not None:
        for asked in stripe_books.STRIPE_CHECKS:
            yield Result(asked.__name__, asked(facts))


def _plain(said: Trouble | str) -> Trouble:
    return said if isinstance(said, Trouble) else Trouble(said[:120], said[:500])


def _keep(made: ReconciliationRun, result: Result) -> None:
    """Write down what a check says: news is a row, what is known is seen again."""
    troubles = {each.subject[:120]: each for each in result.troubles}
    gone = Finding.objects.filter(check_name=result.name, state=State.OPEN)
    gone.exclude(subject__in=list(troubles)).update(
        state=State.GONE, closed_at=timezone.now(), last_run=made
    )
    for subject, trouble in troubles.items():
        said = {
            "text": trouble.text[:500],
            "expected_nanos": trouble.expected,
            "found_nanos": trouble.found,
            "last_run": made,
        }
        known = Finding.objects.filter(check_name=result.name, subject=subject)
        if known.filter(state=State.OPEN).update(**said):
            continue
        last = known.order_by("-pk").first()
        if last is not None and last.state == State.DISMISSED and _is_same(last, trouble):
            known.filter(pk=last.pk).update(last_run=made)
            continue
        Finding.objects.get_or_create(
            check_name=result.name,
            subject=subject,
            state=State.OPEN,
            defaults={**said, "run": made, "organization_id": trouble.organization_id},
        )


def _is_same(finding: Finding, trouble: Trouble) -> bool:
    """Whether a person has looked at exactly this, and said that it is all right."""
    return (finding.expected_nanos, finding.found_nanos, finding.text) == (
        trouble.expected,
        trouble.found,
        trouble.text[:500],
    )


def dismiss(finding: Finding, *, actor: User, reason: str) -> None:
    """Say that a finding is all right; it comes back only if it changes.

    Raises:
        ConflictError: It is not open.
    """
    with transaction.atomic():
        closed = Finding.objects.filter(pk=finding.pk, state=State.OPEN).update(
            state=State.DISMISSED,
            closed_by=actor,
            closed_reason=reason[:500],
            closed_at=timezone.now(),
        )
        if not closed:
            raise ConflictError("The finding is not open any more.")
        audit.record(
            actor,
            "finding.dismissed",
            finding,
            organization=finding.organization,
            reason=reason,
        )


def open_findings() -> int:
    """Return how many findings wait for a person."""
    return Finding.objects.filter(state=State.OPEN).count()

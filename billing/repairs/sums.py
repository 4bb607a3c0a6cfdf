"""Sums that follow their rows: budgets, wallets, hourly sums, meters, what top-ups gave back."""

from __future__ import annotations

from django.db.models import F
from django.utils import timezone

from accounts.errors import ConflictError
from billing import ledger, meters, rollups, triggers
from billing.checks import caps, payments
from billing.checks.wallets import wallets_are_the_ledger, wallets_are_their_budgets
from billing.models import (
    Budget,
    Earning,
    LedgerEntry,
    LedgerTransaction,
    MeterBucket,
    MeterReport,
    Settlement,
    TopUp,
    Wallet,
)
from billing.repairs.case import Case, Repair


def budget(column: str) -> Repair:
    """Let `held` or `posted` of a budget be what its holds say."""

    def repair(case: Case) -> None:
        row = Budget.objects.select_for_update().get(pk=case.key)
        # Once more, under the row's lock: an admission may have come between.
        check = caps.held_is_open_holds if column == "held" else caps.posted_is_captured_holds
        said = {each.subject: each.expected for each in check()}
        if case.finding.subject in said:
            Budget.objects.filter(pk=row.pk).update(**{column: said[case.finding.subject]})

    return repair


def capacity(case: Case) -> None:
    """Let a wallet's budget let be spent what the wallet has."""
    row = Budget.objects.select_for_update().get(pk=case.key)
    for each in wallets_are_their_budgets():
        if each.subject == case.finding.subject:
            more = (each.expected or 0) - (each.found or 0)
            Budget.objects.filter(pk=row.pk).update(capacity=F("capacity") + more)


def wallet(case: Case) -> LedgerTransaction | None:
    """Let the wallet's row say what the ledger says.

    Promotional credit is many rows, and none of them can be blamed: there the ledger follows.
    """
    organization, code = case.organization, case.finding.subject
    if code == ledger.PROMOTIONAL[0].format(organization.pk):
        account = ledger.account(ledger.PROMOTIONAL, organization)
        unexplained = ledger.account(ledger.SUSPENSE)
        return case.book({account: case.missing, unexplained: -case.missing})
    column = "paid_nanos" if code == ledger.CREDIT[0].format(organization.pk) else "owed_nanos"
    said = {each.subject: each.expected for each in wallets_are_the_ledger()}
    Wallet.objects.filter(organization=organization).update(**{column: said[code]})
    return None


def hourly(case: Case) -> None:
    """Make the organization's hourly sums again from usage."""
    rollups.rebuild(case.organization)


def given_back(case: Case) -> None:
    """Let a top-up say what the ledger and its refunds say was given back of it."""
    TopUp.objects.filter(pk=case.key).update(
        clawed_back_nanos=payments.clawed_back().get(case.key, 0),
        refunded_nanos=payments.refunded().get(case.key, 0),
    )


def metered(case: Case) -> None:
    """Let the meters count what settlements charged on credit.

    What is missing counts for the newest hour; what is too much is taken from what is not reported.
    """
    missing = case.missing
    mine = MeterBucket.objects.filter(organization=case.organization)
    if missing > 0 and not mine.exists():
        hour = timezone.now().replace(minute=0, second=0, microsecond=0)
        MeterBucket.objects.create(organization=case.organization, hour=hour)
    for row in mine.select_for_update().order_by("-hour"):
        if missing == 0:
            return
        part = max(missing, row.cut_nanos - row.nanos)
        MeterBucket.objects.filter(pk=row.pk).update(nanos=F("nanos") + part)
        missing -= part
    if missing:
        raise ConflictError(
            "More is reported to Stripe than was charged. Correct the invoice with a credit note."
        )


def cut(case: Case) -> None:
    """Let a meter say that it is reported up to where its last report ends."""
    assert case.trouble is not None
    rows = MeterBucket.objects.filter(pk=case.key, nanos__gte=case.trouble.expected or 0)
    if not rows.update(cut_nanos=case.trouble.expected):
        raise ConflictError("More was reported than the meter counts.")


def report(case: Case) -> None:
    """Let a report that was never sent say what follows from its cut."""
    row = MeterReport.objects.select_for_update().get(pk=case.key)
    right = meters.value(row.nanos_from, row.nanos_to)
    # Who has claimed it may be sending it now.
    if row.attempts or row.first_sent_at is not None or row.value == right:
        raise ConflictError("Stripe knows this report, or its cut does not follow the one before.")
    MeterReport.objects.filter(pk=row.pk).update(value=right)


def earning(case: Case) -> None:
    """Let an earning that is not payable yet be what its settlement has booked for it."""
    publisher, settlement = map(int, case.key.split(":"))
    booked = Settlement.objects.get(pk=settlement).ledger_transaction
    code = ledger.ACCRUED[0].format(publisher)
    entries = LedgerEntry.objects.filter(transaction=booked, account__code=code)
    nanos = -sum(entries.values_list("amount_nanos", flat=True))
    known = Earning.objects.select_for_update().filter(publisher=publisher, settlement=settlement)
    row = known.first()
    if row is None and nanos:
        Earning.objects.create(publisher_id=publisher, settlement_id=settlement, amount_nanos=nanos)
    elif row is None or row.released_at is not None or row.clawed_back_nanos > nanos:
        raise ConflictError("It is payable already: pay or take the difference by hand.")
    elif nanos:
        known.update(amount_nanos=nanos)
    else:
        known.delete()


def guards(case: Case) -> None:
    """Put the triggers back."""
    triggers.install()

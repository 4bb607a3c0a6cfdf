"""A recorded trace of operations: what it books must be the same on every database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.errors import MercatoError
from accounts.models import Organization
from billing import budgets, credit, holds, ledger, settlement, wallets
from billing.models import Budget, LedgerEntry, LedgerTransaction, SpendLimit, UsageRollup, Wallet
from catalog import prices
from tests.billing.calls import fail, reserve, succeed
from tests.factories import make_key, make_organization, make_user, make_version

ROW = 20_000


def play() -> dict[str, Any]:
    """Carry out the trace; returns what the books say, without ids, digests and times."""
    told: list[str] = []

    def attempt(act: Callable[[], object]) -> None:
        try:
            act()
        except MercatoError as error:
            told.append(error.code)
        else:
            told.append("ok")

    operator = make_user("trace@example.com")
    seller = make_organization(slug="seller", credit_nanos=0)
    prepaid = make_organization(slug="prepaid", credit_nanos=10 * ROW)
    postpaid = make_organization(slug="postpaid", credit_nanos=0)
    version = make_version(owner=seller, name="traced", row_nanos=ROW)
    key, _secret = make_key(prepaid)
    wallets.set_line(postpaid, 6 * ROW, actor=operator, reason="trace")
    budgets.set_limit(prepaid, SpendLimit.Window.DAY, 2, unit="calls", api_key=key)

    attempt(lambda: succeed(prepaid, version, rows=3))
    attempt(lambda: fail(prepaid, version))
    settlement.settle()
    attempt(lambda: succeed(prepaid, version, key=key))
    attempt(lambda: succeed(prepaid, version, key=key))
    attempt(lambda: succeed(prepaid, version, key=key))
    attempt(lambda: reserve(prepaid, version, rows=500))
    settlement.settle()
    prices.add(model=version.model, components={"row": [(0, 7, 3), (2, 5, 3)]}, min_charge_nanos=9)
    attempt(lambda: succeed(prepaid, version, rows=1))
    attempt(lambda: succeed(prepaid, version, rows=100))
    attempt(lambda: succeed(postpaid, version, rows=1000))
    prices.add(model=version.model, components={"row": (ROW + 1, 1)})
    attempt(lambda: succeed(postpaid, version, rows=4))
    attempt(lambda: succeed(postpaid, version, rows=4))
    settlement.settle()
    late = timezone.now() - timedelta(days=1)
    credit.grant(prepaid, 77, external_ref="lapses", reason="lapses", expires_at=late)
    wallets.expire_grants()
    given = credit.grant(postpaid, 500, external_ref="twice", reason="given twice")
    credit.grant(postpaid, 500, external_ref="twice", reason="given twice")
    credit.take(postpaid, 500, external_ref="back", reason="a mistake", actor=operator)
    credit.take(prepaid, 20 * ROW, external_ref="all", reason="more than there is")
    attempt(lambda: reserve(prepaid, version))
    owed = wallets.of(postpaid).owed_nanos
    clearing = ledger.account(ledger.CLEARING)
    wallets.settle_owed(postpaid, owed, {clearing: owed}, kind="paid", external_ref="in_1")
    attempt(lambda: holds.void(reserve(postpaid, version).hold_id, "worker_lost"))
    settlement.settle()
    ledger.reverse(given, kind="reversal", actor=operator, reason="shown")
    return _books([seller, prepaid, postpaid], told)


def _books(organizations: list[Organization], told: list[str]) -> dict[str, Any]:
    slugs = {row.pk: row.slug for row in organizations}
    mine = LedgerTransaction.objects.filter(organization__in=organizations).order_by(
        "organization__slug", "number"
    )
    return {
        "told": told,
        "transactions": [_transaction(row, slugs) for row in mine],
        "budgets": sorted(
            [
                *(slugs[row.organization_id], row.lock_rank, row.window, row.unit),
                *(row.capacity, row.posted, row.held),
            ]
            for row in Budget.objects.filter(organization__in=organizations)
        ),
        "wallets": sorted(
            [slugs[row.organization_id], row.paid_nanos, row.line_nanos, row.owed_nanos]
            for row in Wallet.objects.filter(organization__in=organizations)
        ),
        "rollups": sorted(_rollups(organizations, slugs)),
    }


def _transaction(row: LedgerTransaction, slugs: dict[int, str]) -> list[Any]:
    lines = LedgerEntry.objects.filter(transaction=row).select_related("account")
    named = sorted([_named(line.account.code, slugs), line.amount_nanos] for line in lines)
    assert row.organization_id is not None
    return [slugs[row.organization_id], row.number, row.kind, row.reason, named]


def _named(code: str, slugs: dict[int, str]) -> str:
    parts = code.split(":")
    return ":".join(slugs[int(part)] if part.isdecimal() else part for part in parts)


def _rollups(organizations: list[Organization], slugs: dict[int, str]) -> list[list[Any]]:
    """Return the sums over all hours: the trace may pass from one into the next."""
    sums: dict[tuple[str, bool], list[int]] = {}
    for row in UsageRollup.objects.filter(organization__in=organizations):
        total = sums.setdefault((slugs[row.organization_id], bool(row.api_key_id)), [0, 0, 0, 0])
        for place, value in enumerate((row.calls, row.rows, row.cost_nanos, row.publisher_nanos)):
            total[place] += value
    return [[*key, *total] for key, total in sums.items()]

"""Books with a little of everything, and how tests of the comparison spoil them."""

from __future__ import annotations

from django.db import connection

from accounts.models import Organization, User
from billing import reconciliation, settlement, triggers, wallets
from billing.models import Finding
from billing.money import NANOS
from catalog.models import ModelVersion
from tests.billing.calls import fail, reserve, succeed
from tests.factories import make_organization


def fill(organization: Organization, version: ModelVersion, operator: User) -> None:
    """Make charges, failures, a credit line, and runs that are open or not settled."""
    succeed(organization, version, rows=3)
    fail(organization, version)
    on_credit = make_organization(credit_nanos=0, slug="late")
    wallets.set_line(on_credit, NANOS, actor=operator, reason="test")
    succeed(on_credit, version, rows=2)
    settlement.settle()
    succeed(organization, version)
    settlement.settle()
    reserve(organization, version)
    succeed(organization, version)


def corrupt(sql: str) -> None:
    """Do what no code of the site can: change rows that its own triggers guard."""
    with connection.cursor() as cursor:
        triggers.drop(connection, cursor)
        cursor.execute(sql)
        assert cursor.rowcount
    triggers.install()


def found() -> dict[str, set[str]]:
    """Run the comparison; returns check → subjects that are open."""
    made = reconciliation.run()
    assert made.error == ""
    names: dict[str, set[str]] = {}
    for row in Finding.objects.filter(state=Finding.State.OPEN):
        names.setdefault(row.check_name, set()).add(row.subject)
    return names

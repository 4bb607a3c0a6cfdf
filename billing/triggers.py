"""What the database itself refuses, whoever asks: the same rules on SQLite and PostgreSQL.

Installed after every `migrate` (billing.apps): a migration that rebuilds a table on SQLite drops
its triggers, and so none can be lost unseen. `check_invariants` asks whether all are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

# An UPDATE of one of these columns of a sealed transaction is refused; sealing itself is allowed.
_FROZEN = (
    *("kind", "external_ref", "organization_id", "actor_id", "reason", "posted_at"),
    *("reversal_of_id", "details", "is_sealed", "number", "previous_hash", "hash"),
)
_UNBALANCED = """
    SELECT 1 FROM billing_ledgerentry AS entry
    JOIN billing_ledgeraccount AS account ON account.id = entry.account_id
    WHERE entry.transaction_id = NEW.id GROUP BY account.currency HAVING SUM(amount_nanos) <> 0
"""
_LINES = "SELECT COUNT(*) FROM billing_ledgerentry WHERE transaction_id = NEW.id"
_IS_SEALED = "SELECT 1 FROM billing_ledgertransaction WHERE id = NEW.transaction_id AND is_sealed"
_OVER_REFUNDED = """
    SELECT 1 FROM billing_hold AS hold WHERE hold.id = NEW.hold_id
    AND COALESCE(hold.captured_nanos, 0) < NEW.amount_nanos + (
        SELECT COALESCE(SUM(earlier.amount_nanos), 0) FROM billing_chargerefund AS earlier
        WHERE earlier.hold_id = NEW.hold_id)
"""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A rule of one table.

    Attributes:
        event: Such as `UPDATE OF held`.
        when: What the changed row must look like for the rule to apply; OLD and NEW name it.
        only_if: A query; the change is refused if it returns a row. Empty: refused always.
    """

    name: str
    table: str
    event: str
    message: str
    when: str = ""
    only_if: str = ""


def _immutable(table: str, message: str, columns: str = "") -> Iterator[Trigger]:
    changed = f"UPDATE OF {columns}" if columns else "UPDATE"
    yield Trigger(f"{table}_no_update", table, changed, message)
    yield Trigger(f"{table}_no_delete", table, "DELETE", message)


TRIGGERS: tuple[Trigger, ...] = (
    Trigger(
        "billing_budget_cap",
        "billing_budget",
        "UPDATE OF held",
        "a cap would be passed",
        when="NEW.held > OLD.held AND NEW.posted + NEW.held > NEW.capacity",
    ),
    Trigger(
        "billing_hold_ended",
        "billing_hold",
        "UPDATE OF state, captured_nanos, reserved_nanos, price_version_id, share_version_id",
        "a hold that has ended does not change",
        when="OLD.state <> 'authorised'",
    ),
    Trigger("billing_hold_no_delete", "billing_hold", "DELETE", "holds are kept"),
    *_immutable("billing_usageevent", "usage does not change"),
    *_immutable("billing_ledgerentry", "ledger entries do not change"),
    Trigger(
        "billing_ledgerentry_sealed",
        "billing_ledgerentry",
        "INSERT",
        "the transaction is sealed",
        only_if=_IS_SEALED,
    ),
    Trigger(
        "billing_ledgertransaction_sealed",
        "billing_ledgertransaction",
        f"UPDATE OF {', '.join(_FROZEN)}",
        "a sealed transaction does not change",
        when="OLD.is_sealed",
    ),
    Trigger(
        "billing_ledgertransaction_balance",
        "billing_ledgertransaction",
        "UPDATE OF is_sealed",
        "an unbalanced transaction cannot be sealed",
        when="NEW.is_sealed AND NOT OLD.is_sealed",
        only_if=f"SELECT 1 WHERE EXISTS ({_UNBALANCED}) OR ({_LINES}) < 2",
    ),
    Trigger(
        "billing_ledgertransaction_no_delete",
        "billing_ledgertransaction",
        "DELETE",
        "ledger transactions do not change",
    ),
    *_immutable(
        "billing_shareversion",
        "share versions do not change",
        "publisher_bps, publisher_id, model_id, effective_from",
    ),
    *_immutable("billing_chargerefund", "refunds of charges do not change"),
    Trigger(
        "billing_chargerefund_within",
        "billing_chargerefund",
        "INSERT",
        "more would be given back than was charged",
        only_if=_OVER_REFUNDED,
    ),
    *_immutable(
        "catalog_priceversion",
        "price versions do not change",
        "model_id, sku, currency, min_charge_nanos, batch_discount_bps, effective_from",
    ),
    *_immutable("catalog_pricecomponent", "price versions do not change"),
    *_immutable(
        "catalog_pricechange",
        "a proposed price does not change",
        "model_id, sku, min_charge_nanos, batch_discount_bps, components, effective_from, "
        "proposed_by_id, reason",
    ),
    Trigger(
        "catalog_pricechange_decided",
        "catalog_pricechange",
        "UPDATE OF state, decided_by_id",
        "a price change is decided once",
        when="OLD.state <> 'proposed'",
    ),
    Trigger(
        "catalog_modelversion_policy",
        "catalog_modelversion",
        "UPDATE OF outcome_policy",
        "the outcome policy of a version does not change",
        when="NEW.outcome_policy <> OLD.outcome_policy",
    ),
    Trigger(
        "billing_quote_no_update",
        "billing_quote",
        "UPDATE OF organization_id, model_version_id, price_version_id, share_version_id, "
        "quantities, subject, currency, amount_nanos, expires_at",
        "a quote does not change",
    ),
    Trigger(
        "billing_quote_no_delete",
        "billing_quote",
        "DELETE",
        "a quote that was used is kept",
        when="OLD.hold_id IS NOT NULL",
    ),
    Trigger(
        "billing_quote_used",
        "billing_quote",
        "UPDATE OF hold_id",
        "a quote is used once",
        when="OLD.hold_id IS NOT NULL",
    ),
    *_immutable(
        "billing_invoice",
        "an invoice does not change",
        "number, used_nanos, subtotal_minor, tax_minor, total_minor, frozen, sha256",
    ),
)


def install(using: str = "default", **_: Any) -> None:
    """Make every trigger anew; a receiver of `post_migrate`."""
    connection = connections[using]
    with connection.cursor() as cursor:
        for trigger in TRIGGERS:
            for statement in _statements(connection, trigger):
                cursor.execute(statement)
        if connection.vendor == "postgresql":
            for statement in _SEALED_AT_COMMIT:
                cursor.execute(statement)


def drop(connection: BaseDatabaseWrapper, cursor: CursorWrapper) -> None:
    """Remove every trigger: for tests, whose tables are emptied between them."""
    for trigger in TRIGGERS:
        on = f" ON {trigger.table}" if connection.vendor == "postgresql" else ""
        cursor.execute(f"DROP TRIGGER IF EXISTS {trigger.name}{on}")


def missing(using: str = "default") -> list[str]:
    """Return the names of triggers that the database does not have."""
    connection = connections[using]
    known = (
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'"
        if connection.vendor == "postgresql"
        else "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    )
    with connection.cursor() as cursor:
        cursor.execute(known)
        found = {name for (name,) in cursor.fetchall()}
    return [trigger.name for trigger in TRIGGERS if trigger.name not in found]


def _statements(connection: BaseDatabaseWrapper, trigger: Trigger) -> Iterator[str]:
    if connection.vendor == "postgresql":
        return _postgresql(trigger)
    return _sqlite(trigger)


def _sqlite(trigger: Trigger) -> Iterator[str]:
    when = f"WHEN {trigger.when}" if trigger.when else ""
    condition = f" WHERE EXISTS ({trigger.only_if})" if trigger.only_if else ""
    yield f"DROP TRIGGER IF EXISTS {trigger.name}"
    yield (
        f"CREATE TRIGGER {trigger.name} BEFORE {trigger.event} ON {trigger.table} {when} "
        f"BEGIN SELECT RAISE(ABORT, '{trigger.message}'){condition}; END"
    )


def _postgresql(trigger: Trigger) -> Iterator[str]:
    when = f"WHEN ({trigger.when})" if trigger.when else ""
    refuse = f"RAISE EXCEPTION '{trigger.message}' USING ERRCODE = 'integrity_constraint_violation'"
    condition = f"EXISTS ({trigger.only_if})" if trigger.only_if else "TRUE"
    body = f"IF {condition} THEN {refuse}; END IF;"
    row = "OLD" if trigger.event == "DELETE" else "NEW"
    yield (
        f"CREATE OR REPLACE FUNCTION {trigger.name}() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN {body} RETURN {row}; END $$"
    )
    yield f"DROP TRIGGER IF EXISTS {trigger.name} ON {trigger.table}"
    yield (
        f"CREATE TRIGGER {trigger.name} BEFORE {trigger.event} ON {trigger.table} "
        f"FOR EACH ROW {when} EXECUTE FUNCTION {trigger.name}()"
    )


# Only PostgreSQL can look at the end of a transaction; on SQLite check_invariants does.
_SEALED_AT_COMMIT = (
    """
    CREATE OR REPLACE FUNCTION billing_ledgertransaction_at_commit() RETURNS trigger
    LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT 1 FROM billing_ledgertransaction WHERE id = NEW.id AND NOT is_sealed) THEN
            RAISE EXCEPTION 'transaction % was not sealed', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END $$
    """,
    "DROP TRIGGER IF EXISTS billing_ledgertransaction_at_commit ON billing_ledgertransaction",
    """
    CREATE CONSTRAINT TRIGGER billing_ledgertransaction_at_commit
    AFTER INSERT ON billing_ledgertransaction DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION billing_ledgertransaction_at_commit()
    """,
)

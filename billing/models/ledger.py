"""Double-entry books. A sealed transaction is never changed; a correction is a new transaction.

Triggers of both databases hold this (billing.triggers), and each transaction's hash covers the one
before it in the same book (billing.ledger).
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Organization


class LedgerAccount(models.Model):
    """An account of the chart, such as `tenant:7:credit` or `platform:revenue`."""

    class Kind(models.TextChoices):
        ASSET = "asset"
        LIABILITY = "liability"
        INCOME = "income"
        EXPENSE = "expense"

    code = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    currency = models.CharField(max_length=3, default="usd")
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="ledger_accounts"
    )

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.code


class LedgerBook(models.Model):
    """The end of a chain of transactions: one per organization, and one for the platform.

    Its row is locked while a transaction is sealed, so a chain has no gaps and no branches.
    """

    # 0 is the platform's own book.
    organization_id = models.BigIntegerField(primary_key=True)
    length = models.BigIntegerField(default=0)
    head = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"book {self.organization_id}"


class LedgerTransaction(models.Model):
    """Entries that belong together and sum to zero; `(kind, external_ref)` happens once."""

    kind = models.CharField(max_length=24)
    external_ref = models.CharField(max_length=120)
    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="ledger_transactions"
    )
    # Who did it stays in the books for ever.
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    reason = models.CharField(max_length=500, blank=True)
    posted_at = models.DateTimeField(default=timezone.now)
    # What this one takes back, in part or in full: a charge may be given back in pieces.
    reversal_of = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="reversals"
    )
    # What the entries do not say, such as the digest of the charges that a settlement books.
    details = models.JSONField(default=dict)
    is_sealed = models.BooleanField(default=False)
    # Place in the chain of its book, from 1 on.
    number = models.BigIntegerField(null=True, blank=True)
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "external_ref"], name="one_effect_per_ref"),
            models.CheckConstraint(
                condition=Q(is_sealed=False) | Q(number__isnull=False) & ~Q(hash=""),
                name="sealed_has_hash",
            ),
        ]
        indexes = [
            # The statement of an account's owner, newest first.
            models.Index(fields=["organization", "-posted_at"], name="transaction_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.external_ref}"


class LedgerEntry(models.Model):
    """One line of a transaction: debit is positive, credit negative."""

    transaction = models.ForeignKey(LedgerTransaction, models.PROTECT, related_name="entries")
    account = models.ForeignKey(LedgerAccount, models.PROTECT, related_name="entries")
    amount_nanos = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "ledger entries"
        constraints = [models.CheckConstraint(condition=~Q(amount_nanos=0), name="entry_not_zero")]

    def __str__(self) -> str:
        return f"{self.account_id}: {self.amount_nanos}"


class Settlement(models.Model):
    """A batch of finished holds of one organization, booked by one ledger transaction."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="settlements")
    currency = models.CharField(max_length=3)
    hold_count = models.PositiveIntegerField()
    reserved_nanos = models.BigIntegerField()
    captured_nanos = models.BigIntegerField()
    # SHA-256 over its charges, one after the other, beginning with the settlement before it.
    digest = models.CharField(max_length=64, blank=True)
    # Empty when nothing was captured: there is nothing to book.
    ledger_transaction = models.OneToOneField(
        LedgerTransaction, models.PROTECT, null=True, blank=True, related_name="settlement"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"settlement {self.pk}"

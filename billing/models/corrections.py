"""What operators put right by hand: charges given back, and corrective entries."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.models import Organization
from billing.models.holds import Hold
from billing.models.ledger import LedgerAccount, LedgerTransaction
from catalog.models import ModelVersion


class ChargeRefundRun(models.Model):
    """All charges of one model version in a period, given back one by one; may be resumed."""

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"

    id = models.UUIDField(primary_key=True)
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    # Charges of runs that were accepted from `since` until before `until`.
    since = models.DateTimeField()
    until = models.DateTimeField()
    reason = models.CharField(max_length=500)
    actor = models.ForeignKey("accounts.User", models.PROTECT, related_name="+")
    state = models.CharField(max_length=7, choices=State.choices, default=State.RUNNING)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(since__lt=F("until")), name="refund_run_period")
        ]

    def __str__(self) -> str:
        return f"refund run {self.pk}"


class ChargeRefund(models.Model):
    """A part of one charge that was given back. Immutable; all of them are at most the charge."""

    hold = models.ForeignKey(Hold, models.PROTECT, related_name="refunds")
    # 1, 2, …: which refund of this charge it is.
    number = models.PositiveSmallIntegerField()
    # What asked for it, such as a form of the console: the same asker gets it once.
    external_ref = models.CharField(max_length=120, unique=True)
    run = models.ForeignKey(
        ChargeRefundRun, models.PROTECT, null=True, blank=True, related_name="refunds"
    )
    amount_nanos = models.BigIntegerField()
    # The publisher's part of it, and whether it came from what was payable already.
    publisher = models.ForeignKey(
        Organization, models.PROTECT, null=True, blank=True, related_name="+"
    )
    publisher_nanos = models.BigIntegerField(default=0)
    is_from_payable = models.BooleanField(default=False)
    reason = models.CharField(max_length=500)
    actor = models.ForeignKey(
        "accounts.User", models.PROTECT, null=True, blank=True, related_name="+"
    )
    ledger_transaction = models.OneToOneField(
        LedgerTransaction, models.PROTECT, related_name="charge_refund"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["hold", "number"]
        constraints = [
            models.UniqueConstraint(fields=["hold", "number"], name="one_refund_per_number"),
            models.CheckConstraint(
                condition=Q(
                    amount_nanos__gt=0,
                    publisher_nanos__gte=0,
                    publisher_nanos__lte=F("amount_nanos"),
                ),
                name="charge_refund_positive",
            ),
        ]
        indexes = [models.Index(fields=["publisher", "created_at"], name="charge_refund_publisher")]

    def __str__(self) -> str:
        return f"refund {self.number} of {self.hold_id}"


class Adjustment(models.Model):
    """A corrective entry between two accounts, asked for by one operator."""

    class State(models.TextChoices):
        PROPOSED = "proposed"
        BOOKED = "booked"
        REJECTED = "rejected"

    # The form it came from: a double click is one adjustment.
    id = models.UUIDField(primary_key=True)
    debit = models.ForeignKey(LedgerAccount, models.PROTECT, related_name="+")
    credit = models.ForeignKey(LedgerAccount, models.PROTECT, related_name="+")
    amount_nanos = models.BigIntegerField()
    reason = models.CharField(max_length=500)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PROPOSED)
    # The transaction that this one takes back, if it takes one back.
    reversal_of = models.ForeignKey(
        LedgerTransaction, models.PROTECT, null=True, blank=True, related_name="+"
    )
    proposed_by = models.ForeignKey("accounts.User", models.PROTECT, related_name="+")
    decided_by = models.ForeignKey(
        "accounts.User", models.PROTECT, null=True, blank=True, related_name="+"
    )
    ledger_transaction = models.OneToOneField(
        LedgerTransaction, models.PROTECT, null=True, blank=True, related_name="adjustment"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_nanos__gt=0) & ~Q(debit=F("credit")), name="adjustment_moves"
            ),
            models.CheckConstraint(
                condition=Q(state="booked", ledger_transaction__isnull=False)
                | (~Q(state="booked") & Q(ledger_transaction=None)),
                name="adjustment_booked_has_transaction",
            ),
        ]

    def __str__(self) -> str:
        return f"adjustment {self.pk}"

"""What may be spent."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.models import ApiKey, Organization


class Unit(models.TextChoices):
    """What a cap counts."""

    MONEY = "money"
    CALLS = "calls"


class SpendLimit(models.Model):
    """A rule: at most so much per window, for an organization or one of its keys."""

    class Window(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        LIFETIME = "lifetime"

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="limits")
    api_key = models.ForeignKey(
        ApiKey, models.CASCADE, null=True, blank=True, related_name="limits"
    )
    window = models.CharField(max_length=8, choices=Window.choices)
    unit = models.CharField(max_length=5, choices=Unit.choices, default=Unit.MONEY)
    # Nanos or calls. Empty: the owner wants no limit here, not even the site's usual one.
    amount = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            # Two, because SQLite cannot be told that NULLs are equal.
            models.UniqueConstraint(
                fields=["organization", "window", "unit"],
                condition=Q(api_key=None),
                name="one_limit_per_window",
            ),
            models.UniqueConstraint(
                fields=["api_key", "window", "unit"],
                condition=Q(api_key__isnull=False),
                name="one_key_limit_per_window",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="limit_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.unit} per {self.window}"


class Budget(models.Model):
    """One window of one limit, or a wallet: `posted + held` never passes `capacity`.

    All three count nanos, or calls, as `unit` says. Rows are locked in the order (lock_rank, id):
    narrow first, so that the row that everybody shares is held for the shortest time.
    """

    class Rank(models.IntegerChoices):
        KEY = 1
        ORGANIZATION = 2
        WALLET = 3

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="budgets")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="budgets"
    )
    lock_rank = models.PositiveSmallIntegerField(choices=Rank.choices)
    window = models.CharField(max_length=8, choices=SpendLimit.Window.choices)
    # First day of the window, UTC; 1970-01-01 for a lifetime.
    window_start = models.DateField()
    unit = models.CharField(max_length=5, choices=Unit.choices, default=Unit.MONEY)
    currency = models.CharField(max_length=3, default="usd")
    # Used in this window before the row was opened: the limit is `spent_before + capacity`.
    spent_before = models.BigIntegerField(default=0)
    capacity = models.BigIntegerField(default=0)
    posted = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["lock_rank", "id"]
        constraints = [
            # Two, because SQLite cannot be told that NULLs are equal.
            models.UniqueConstraint(
                fields=["organization", "lock_rank", "window", "window_start", "unit", "currency"],
                condition=Q(api_key=None),
                name="one_budget_per_window",
            ),
            models.UniqueConstraint(
                fields=["api_key", "window", "window_start", "unit", "currency"],
                condition=Q(api_key__isnull=False),
                name="one_key_budget_per_window",
            ),
            models.CheckConstraint(condition=Q(posted__gte=0), name="posted_positive"),
            models.CheckConstraint(condition=Q(held__gte=0), name="held_positive"),
        ]

    def __str__(self) -> str:
        return f"budget {self.pk} ({self.get_lock_rank_display()}, {self.window}, {self.unit})"

    @property
    def available(self) -> int:
        """What can still be set aside; below 0 after the cap was lowered."""
        return self.capacity - self.posted - self.held

    @property
    def limit(self) -> int:
        """The cap as its owner set it."""
        return self.spent_before + self.capacity

    @property
    def used(self) -> int:
        """What was spent in this window."""
        return self.spent_before + self.posted


class BudgetSet(models.Model):
    """The budgets one call is counted against. Immutable: says for ever which caps applied."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    # Sorted ids, comma-separated: finds the set again.
    key = models.CharField(max_length=200, unique=True)
    budgets = models.ManyToManyField(Budget, related_name="sets")

    def __str__(self) -> str:
        return self.key


class BudgetAlert(models.Model):
    """A budget has passed a threshold: told once per window and threshold."""

    budget = models.ForeignKey(Budget, models.CASCADE, related_name="alerts")
    percent = models.PositiveSmallIntegerField()
    # What was used when the threshold was passed, in the budget's unit.
    used = models.BigIntegerField()
    # Whether a run was refused: it could have cost more than was left.
    was_refused = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # When its mails and its webhooks became rows of their own, to be sent.
    mailed_at = models.DateTimeField(null=True, blank=True)
    announced_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["budget", "percent"], name="one_alert_per_threshold")
        ]
        indexes = [
            models.Index(fields=["id"], condition=Q(mailed_at=None), name="alert_not_mailed"),
            models.Index(fields=["id"], condition=Q(announced_at=None), name="alert_not_announced"),
        ]

    def __str__(self) -> str:
        return f"{self.budget_id}: {self.percent} %"


class BalanceWatch(models.Model):
    """Below which balance the owners of an organization want to be told."""

    organization = models.OneToOneField(Organization, models.CASCADE, related_name="balance_watch")
    threshold_nanos = models.BigIntegerField()
    # Set while the balance is below: told once, until it has been above again.
    is_low = models.BooleanField(default=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(threshold_nanos__gt=0), name="watch_positive")
        ]

    def __str__(self) -> str:
        return f"{self.organization_id}: below {self.threshold_nanos}"


class BalanceAlert(models.Model):
    """A balance has fallen below what its owner set."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="balance_alerts")
    threshold_nanos = models.BigIntegerField()
    balance_nanos = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    announced_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.organization_id}: {self.balance_nanos}"


# Used by the conditional UPDATE of billing.holds and by tests that look for a passed cap.
WITHIN_CAPACITY = Q(capacity__gte=F("posted") + F("held"))

"""What may be spent."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.models import ApiKey, Organization


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
    amount_nanos = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            # Two, because SQLite cannot be told that NULLs are equal.
            models.UniqueConstraint(
                fields=["organization", "window"],
                condition=Q(api_key=None),
                name="one_limit_per_window",
            ),
            models.UniqueConstraint(
                fields=["api_key", "window"],
                condition=Q(api_key__isnull=False),
                name="one_key_limit_per_window",
            ),
            models.CheckConstraint(condition=Q(amount_nanos__gte=0), name="limit_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos} nanos per {self.window}"


class Budget(models.Model):
    """One window of one limit, or a wallet: `posted + held` never passes `capacity`.

    Rows are locked in the order (lock_rank, id): narrow first, so that the row that everybody
    shares is held for the shortest time.
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
    currency = models.CharField(max_length=3, default="usd")
    capacity_nanos = models.BigIntegerField(default=0)
    posted_nanos = models.BigIntegerField(default=0)
    held_nanos = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["lock_rank", "id"]
        constraints = [
            # Two, because SQLite cannot be told that NULLs are equal.
            models.UniqueConstraint(
                fields=["organization", "lock_rank", "window", "window_start", "currency"],
                condition=Q(api_key=None),
                name="one_budget_per_window",
            ),
            models.UniqueConstraint(
                fields=["api_key", "window", "window_start", "currency"],
                condition=Q(api_key__isnull=False),
                name="one_key_budget_per_window",
            ),
            models.CheckConstraint(condition=Q(posted_nanos__gte=0), name="posted_positive"),
            models.CheckConstraint(condition=Q(held_nanos__gte=0), name="held_positive"),
        ]

    def __str__(self) -> str:
        return f"budget {self.pk} ({self.get_lock_rank_display()}, {self.window})"

    @property
    def available_nanos(self) -> int:
        """What can still be set aside; below 0 after credit was taken back."""
        return self.capacity_nanos - self.posted_nanos - self.held_nanos


class BudgetSet(models.Model):
    """The budgets one call is counted against. Immutable: says for ever which caps applied."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    # Sorted ids, comma-separated: finds the set again.
    key = models.CharField(max_length=200, unique=True)
    budgets = models.ManyToManyField(Budget, related_name="sets")

    def __str__(self) -> str:
        return self.key


# Used by the conditional UPDATE of billing.holds and by tests that look for a passed cap.
WITHIN_CAPACITY = Q(capacity_nanos__gte=F("posted_nanos") + F("held_nanos"))

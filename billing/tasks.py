"""What beat asks of billing; one line each, may run twice."""

from __future__ import annotations

from celery import shared_task

from billing import holds, settlement


@shared_task(name="billing.settle")
def settle() -> None:
    """Book what is finished."""
    settlement.settle()


@shared_task(name="billing.expire_holds")
def expire_holds() -> None:
    """Give back what dead workers held."""
    holds.expire_due()

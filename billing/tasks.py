"""What beat asks of billing; one line each, may run twice."""

from __future__ import annotations

from celery import shared_task

from billing import alerts, charge_refunds, earnings, holds, payouts, price_notices, price_previews, settlement, webhooks


@shared_task(name="billing.settle")
def settle() -> None:
    """Book what is finished."""
    settlement.settle()


@shared_task(name="billing.announce_prices")
def announce_prices() -> None:
    """Tell tenants of prices that become higher, and count what proposals would have cost."""
    price_notices.announce()
    price_previews.continue_waiting()


@shared_task(name="billing.expire_holds")
def expire_holds() -> None:
    """Give back what dead workers held."""
    holds.expire_due()


@shared_task(name="billing.handle_webhooks")
def handle_webhooks() -> None:
    """Let what Stripe told us take effect."""
    webhooks.deliver_fake()
    webhooks.handle_due()


@shared_task(name="billing.backfill_webhooks")
def backfill_webhooks() -> None:
    """Fetch what Stripe wanted to tell us and could not."""
    webhooks.backfill()


@shared_task(name="billing.release_earnings")
def release_earnings() -> None:
    """Make payable what publishers have earned long enough ago."""
    earnings.release_due()


@shared_task(name="billing.resume_refunds")
def resume_refunds() -> None:
    """Go on with giving back the charges of a version."""
    charge_refunds.resume_runs()


@shared_task(name="billing.pay_publishers")
def pay_publishers() -> None:
    """Pay publishers what is due, and find out what became of what was sent."""
    payouts.run()


@shared_task(name="billing.tell_owners")
def tell_owners() -> None:
    """Put mails about budgets and balances into the outbox."""
    alerts.check_balances()
    alerts.mail_due()

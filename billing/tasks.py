"""What beat asks of billing; one line each, may run twice."""

from __future__ import annotations

from celery import shared_task

from accounts.models import User
from billing import (
    alerts,
    charge_refunds,
    earnings,
    holds,
    invoice_payments,
    meter_sender,
    meters,
    payouts,
    periods,
    postpaid,
    price_notices,
    price_previews,
    quotes,
    reconciliation,
    refunds,
    reload,
    settlement,
    topups,
    wallets,
    webhooks,
)


@shared_task(name="billing.settle")
def settle() -> None:
    """Book what is finished, and buy credit where little is left."""
    if settlement.settle() and reload.due().exists():
        reload_credit.delay()


@shared_task(name="billing.reconcile")
def reconcile(user_id: int | None = None) -> None:
    """Compare usage, ledger and Stripe."""
    reconciliation.run(User.objects.filter(pk=user_id or 0).first())


@shared_task(name="billing.announce_prices")
def announce_prices() -> None:
    """Tell tenants of prices that become higher, and count what proposals would have cost."""
    price_notices.announce()
    price_previews.continue_waiting()


@shared_task(name="billing.forget_quotes")
def forget_quotes() -> None:
    """Delete quotes that nobody used."""
    quotes.forget_expired()


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


@shared_task(name="billing.reload_credit")
def reload_credit() -> None:
    """Charge saved cards of those who want that when little is left."""
    reload.run_due()


@shared_task(name="billing.follow_payments")
def follow_payments() -> None:
    """Find out what became of payments and refunds, and let credit lapse whose time is over."""
    refunds.resume()
    topups.reconcile()
    wallets.expire_grants()


@shared_task(name="billing.report_usage")
def report_usage() -> None:
    """Tell Stripe what was used on credit lines."""
    postpaid.enrol_due()
    meters.cut()
    meter_sender.send()


@shared_task(name="billing.close_months")
def close_months() -> None:
    """Go on with the close of every month that is over."""
    periods.close_due()


@shared_task(name="billing.look_at_invoices")
def look_at_invoices() -> None:
    """Ask Stripe about invoices that are not paid."""
    invoice_payments.refresh_open()

"""What happens to invoices, to subscriptions, and to what publishers are paid."""

from __future__ import annotations

from accounts.models import Organization
from billing import connect, credit_notes, meters, months, payouts, periods, settlement, wallets
from billing.models import Invoice, Payout
from billing.stripe import client
from tests.billing import calls, publishing
from tests.billing import postpaid_world as world
from tests.billing.invoice_disputing import charge_of
from tests.billing.postpaid_world import START
from tests.billing.stripe.stage import Moments, Stage
from tests.factories import make_user, make_version

# Invoices -----------------------------------------------------------------------------------


def _month(stage: Stage, *, card: bool) -> tuple[Organization, Invoice]:
    """Use ten dollars on credit and close the month; its webhooks are on the way."""
    tenant = world.make_postpaid(slug="acme", card=card)
    calls.succeed(tenant, make_version(), rows=500_000, at=START)
    settlement.settle()
    stage.fake.post.drop()
    world.report(stage.clock)
    stage.clock.go_to(months.end(months.of(stage.clock.now)))
    for _ in range(3):
        stage.clock.wait(minutes=6)
        world.report(stage.clock)
        periods.close_due(stage.clock.now)
    return tenant, Invoice.objects.get()


def invoice_paid(stage: Stage) -> Moments:
    yield
    _month(stage, card=True)
    yield


def invoice_failed_and_voided(stage: Stage) -> Moments:
    yield
    _tenant, invoice = _month(stage, card=False)
    yield
    client.gateway().void_invoice(invoice.stripe_invoice, key="by hand")
    yield


def invoice_given_up_and_paid_after_all(stage: Stage) -> Moments:
    _tenant, invoice = _month(stage, card=False)
    yield
    name = invoice.stripe_invoice
    stage.tell("invoice.marked_uncollectible", name, status="uncollectible")
    yield
    _pay(stage, invoice)
    yield


def draft_that_cannot_be_made_final(stage: Stage) -> Moments:
    tenant = world.make_postpaid(slug="acme", card=False)
    calls.succeed(tenant, make_version(), rows=500_000, at=START)
    settlement.settle()
    meters.cut(stage.clock.now)
    yield
    stage.clock.go_to(months.end(months.of(stage.clock.now)))
    periods.open_due()
    draft = client.gateway().list_invoices(customer=wallets.of(tenant).stripe_customer)[0]
    yield
    stage.tell("invoice.finalization_failed", draft.id)
    yield


def _pay(stage: Stage, invoice: Invoice) -> str:
    people, customer = stage.fake.people, wallets.of(invoice.organization).stripe_customer
    people.prefer_card(customer, people.save_card(customer)["id"])
    people.pay_invoice(invoice.stripe_invoice)
    return charge_of(invoice)


def _noted(invoice: Invoice, coins: int, reference: str) -> None:
    actor = make_user(f"{reference}@example.com")
    credit_notes.create(invoice, coins, actor=actor, reason="x", reference=reference)


def invoice_corrected_before_it_is_paid(stage: Stage) -> Moments:
    _tenant, invoice = _month(stage, card=False)
    yield
    _noted(invoice, 300, "first")
    yield
    _noted(invoice, 200, "second")
    note = stage.fake.people.all("credit_note")[0]["id"]
    yield
    stage.tell("credit_note.voided", note, status="void")
    yield


def invoice_paid_and_given_back_in_part(stage: Stage) -> Moments:
    _tenant, invoice = _month(stage, card=True)
    yield
    invoice.refresh_from_db()
    _noted(invoice, 400, "first")
    yield


def _invoice_disputed(stage: Stage, *, won: bool) -> Moments:
    _tenant, invoice = _month(stage, card=True)
    yield
    dispute = stage.fake.people.dispute(charge_of(invoice), 400)["id"]
    yield
    stage.fake.people.close_dispute(dispute, won=won)
    yield


def invoice_disputed_and_won(stage: Stage) -> Moments:
    return _invoice_disputed(stage, won=True)


def invoice_disputed_and_lost(stage: Stage) -> Moments:
    return _invoice_disputed(stage, won=False)


def invoice_with_all_that_can_happen(stage: Stage) -> Moments:
    yield
    _tenant, invoice = _month(stage, card=False)
    yield
    _noted(invoice, 100, "first")
    yield
    charge = _pay(stage, invoice)
    yield
    first = stage.fake.people.dispute(charge, 300)["id"]
    yield
    stage.fake.people.close_dispute(first, won=True)
    yield
    stage.fake.people.dispute(charge, 900)
    yield


def subscription_ended(stage: Stage) -> Moments:
    tenant = world.make_postpaid(slug="acme", card=False)
    yield
    name = wallets.of(tenant).stripe_subscription
    stage.tell("customer.subscription.updated", name)
    yield
    client.gateway().cancel_subscription(name, key="by hand")
    yield


# Publishers ---------------------------------------------------------------------------------


def account_opened_and_stopped(stage: Stage) -> Moments:
    seller, _version = publishing.make_seller(calls=0)
    account = connect.start(seller, country="US", actor=make_user()).stripe_account
    yield
    for receives in (True, False):
        stage.fake.people.set_receiving(account, receives=receives)
        yield


def bank_that_refuses_and_then_takes(stage: Stage) -> Moments:
    seller, _version = publishing.make_seller(calls=0)
    account = publishing.onboard(seller).stripe_account
    yield
    stage.fake.people.send_to_bank(account, 500, failure="account_closed")
    yield
    stage.clock.wait(minutes=1)
    stage.fake.people.send_to_bank(account, 500)
    yield


def payout_that_comes_back_in_parts(stage: Stage) -> Moments:
    seller, _version = publishing.make_seller()
    publishing.onboard(seller)
    yield
    payouts.run()
    transfer = Payout.objects.get().stripe_transfer
    yield
    for number, coins in enumerate((100, 250)):
        client.gateway().reverse_transfer(
            transfer, amount=coins, metadata={}, key=f"dashboard:{number}"
        )
        yield
    stage.tell("transfer.updated", transfer)
    yield

"""What happens to top-ups, and to cards."""

from __future__ import annotations

from billing import customers, ids, refunds, reload, topups
from billing.models import TopUp
from billing.money import NANOS
from billing.stripe.fake.routes import Refusal
from tests.billing import prepaid
from tests.billing.stripe.stage import Moments, Stage
from tests.factories import make_organization

DECLINED = "4000000000000002"
TEN = 1000

# Top-ups ------------------------------------------------------------------------------------


def top_up_paid(stage: Stage) -> Moments:
    tenant = make_organization(credit_nanos=0)
    yield
    prepaid.buy(stage.fake, tenant)
    yield


def top_up_paid_with_tax_and_a_card_to_keep(stage: Stage) -> Moments:
    stage.fake.people.set("tax_bps", 2000)
    tenant = make_organization(credit_nanos=0)
    yield
    prepaid.buy(stage.fake, tenant, save_card=True)
    yield


def _paid_later(stage: Stage, *, succeeded: bool) -> Moments:
    top_up = topups.start(make_organization(credit_nanos=0), 10 * NANOS).top_up
    yield
    stage.fake.people.pay(top_up.checkout_session, later=True)
    yield
    stage.fake.people.settle(top_up.checkout_session, succeeded=succeeded)
    yield


def top_up_paid_later(stage: Stage) -> Moments:
    return _paid_later(stage, succeeded=True)


def top_up_that_failed_later(stage: Stage) -> Moments:
    return _paid_later(stage, succeeded=False)


def top_up_expired(stage: Stage) -> Moments:
    top_up = topups.start(make_organization(credit_nanos=0), 10 * NANOS).top_up
    yield
    stage.fake.people.expire(top_up.checkout_session)
    yield


def top_up_declined_then_paid(stage: Stage) -> Moments:
    top_up = topups.start(make_organization(credit_nanos=0), 10 * NANOS).top_up
    yield
    try:
        stage.fake.people.pay(top_up.checkout_session, DECLINED)
    except Refusal:
        yield
    stage.fake.people.pay(top_up.checkout_session)
    yield


def top_up_refunded_in_part_and_in_whole(stage: Stage) -> Moments:
    tenant = make_organization(credit_nanos=0)
    yield
    charge = stage.charge_of(prepaid.buy(stage.fake, tenant))
    yield
    stage.fake.people.refund(charge, 300)
    yield
    stage.fake.people.refund(charge, 700)
    yield


def top_up_refunded_in_whole(stage: Stage) -> Moments:
    top_up = prepaid.bought(stage.fake, make_organization(credit_nanos=0))
    yield
    stage.fake.people.refund(top_up.charge, TEN)
    stage.tell("charge.updated", top_up.charge)
    yield


def _refund_of_the_site(stage: Stage) -> tuple[TopUp, str]:
    stage.fake.people.set("slow_refunds", 1)
    top_up = prepaid.bought(stage.fake, make_organization(credit_nanos=0))
    made = refunds.start(top_up, 4 * NANOS, number=ids.uuid7(), reason="Asked", actor=None)
    return top_up, refunds.send(made).stripe_refund


def refund_of_the_site_that_arrives(stage: Stage) -> Moments:
    _top_up, refund = _refund_of_the_site(stage)
    yield
    stage.fake.people.settle_refund(refund)
    yield


def refund_of_the_site_that_the_bank_sends_back(stage: Stage) -> Moments:
    top_up, refund = _refund_of_the_site(stage)
    yield
    stage.fake.people.fail_refund(refund)
    yield
    stage.fake.people.refund(top_up.charge, 200)
    yield


def _disputed(stage: Stage, amount: int, *, won: bool) -> Moments:
    top_up = prepaid.bought(stage.fake, make_organization(credit_nanos=0))
    yield
    dispute = stage.fake.people.dispute(top_up.charge, amount)["id"]
    yield
    stage.tell("charge.dispute.updated", dispute)
    yield
    stage.fake.people.close_dispute(dispute, won=won)
    yield


def top_up_disputed_and_won(stage: Stage) -> Moments:
    return _disputed(stage, TEN, won=True)


def top_up_disputed_and_lost(stage: Stage) -> Moments:
    return _disputed(stage, TEN, won=False)


def top_up_disputed_in_part_and_lost(stage: Stage) -> Moments:
    return _disputed(stage, 400, won=False)


def top_up_with_all_that_can_happen(stage: Stage) -> Moments:
    tenant = make_organization(credit_nanos=0)
    yield
    charge = stage.charge_of(prepaid.buy(stage.fake, tenant))
    yield
    stage.fake.people.refund(charge, 200)
    yield
    dispute = stage.fake.people.dispute(charge, 500)["id"]
    yield
    stage.fake.people.close_dispute(dispute, won=True)
    yield
    stage.fake.people.refund(charge, 100)
    yield
    stage.fake.people.dispute(charge, 300)
    yield


# Cards, and what is bought with them by itself ----------------------------------------------


def _reloaded(stage: Stage, card: str) -> Moments:
    tenant = make_organization(credit_nanos=NANOS)
    prepaid.save_card(stage.fake, tenant, card)
    prepaid.reload_at(tenant)
    yield
    reload.run_due()
    yield


def auto_reload(stage: Stage) -> Moments:
    return _reloaded(stage, "4242424242424242")


def auto_reload_declined(stage: Stage) -> Moments:
    return _reloaded(stage, "4000000000009995")


def card_saved_preferred_and_removed(stage: Stage) -> Moments:
    tenant = make_organization(credit_nanos=0)
    people, customer = stage.fake.people, customers.ensure(tenant)
    yield
    session = customers.start_saving_card(tenant).rpartition("/")[2]
    people.pay(session)
    yield
    card = people.save_card(customer, "5555555555554444")["id"]
    people.prefer_card(customer, card)
    stage.tell("customer.updated", customer, before={"invoice_settings": {}})
    yield
    people.remove_card(card)
    yield

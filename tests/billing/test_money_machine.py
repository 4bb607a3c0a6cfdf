"""Random histories of money against a model in plain Python; a thousand of them in CI.

Admissions in batches, captures, failures, duplicates, late reports, expiry, settlements, top-ups,
refunds to cards and their failure, disputes opened, won and lost, refunds of charges, grants and
their lapse, credit lines, payments, meters, months that are closed, invoices, publishers' payouts,
limits raised and lowered, price changes, windows that turn, answers of Stripe's that are lost, and
a death of the process at every named point. After each step every budget, the wallet, the
publisher and Stripe say what the model says; at the end of each history the books are proved.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test

from billing import budgets, shares
from tests import factories
from tests.billing import deaths
from tests.billing.money_calls import CAPS
from tests.billing.money_checks import Checked
from tests.billing.money_model import CENT
from tests.billing.money_payments import Payments
from tests.billing.money_script import KILLED, LOST

pytestmark = pytest.mark.django_db
# A thousand over both databases; each pass draws its own. Of both kinds together.
EXAMPLES = 440
BILLED_EXAMPLES = 60
# A test is one transaction, and SQLite goes through all that it has changed so far each time that
# a savepoint in it ends: eight shorter ones take half the time of one.
PARTS = 8
# How often the history is lived in which every act dies at one line.
_LIVES = 3


class Billed(Checked):
    """A customer who uses first and pays later: with fewer rules, each of them is reached often."""

    @initialize(line=st.sampled_from([500 * CENT, 4000 * CENT]))
    def begin_on_a_line(self, line: int) -> None:
        self.begin()
        self.set_line(nanos=line)


def _furnish(machine: type[Checked]) -> None:
    machine.organization = factories.make_organization(credit_nanos=0)
    machine.key, _ = factories.make_key(machine.organization)
    machine.version = factories.make_version(row_nanos=Checked.first_price)
    machine.share = shares.current(machine.version.model)
    machine.actor = factories.make_user()
    for scope, window, unit, amount in CAPS:
        key = machine.key if scope == "key" else None
        budgets.set_limit(machine.organization, window, amount, unit=unit, api_key=key)


def _run(machine: type[Checked], examples: int, steps: int) -> None:
    _furnish(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            # Each part draws its own.
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_histories_agree_with_a_model_in_plain_python(part: int) -> None:
    """Invariant 3, 6, 7, 8, 11, 17, 18: whatever happens, and wherever the process dies."""
    _run(Payments, EXAMPLES // PARTS, 20)


@pytest.mark.timeout(1800)
def test_random_months_are_billed_and_paid_out_as_the_model_says() -> None:
    """Invariant 11, 20, 23, 26, 34: once each, wherever the process dies or an answer is lost."""
    _run(Billed, BILLED_EXAMPLES, 20)


@pytest.mark.parametrize("point", [*deaths.BEFORE_COMMIT, *deaths.AFTER_COMMIT])
def test_one_history_dies_at_every_line(point: str) -> None:
    """Invariant 11: chance may leave a line out; here it is the one at which somebody dies."""
    deaths.died_at.clear()
    _live(_LIVES, point=point)

    assert deaths.died_at[point]


@pytest.mark.parametrize("fault", [LOST, KILLED])
def test_one_history_loses_every_answer(fault: str) -> None:
    """Invariant 23, 34: Stripe has done it, and the site learns of it later."""
    _live(_LIVES, fault=fault)


def _live(times: int, *, point: str | None = None, fault: str = "") -> None:
    """Let the same happen in each life; every act that may die or lose its answer does."""
    _furnish(Payments)
    machine = Payments()
    machine.begin_with_money(number=300, line=4000 * CENT)
    try:
        for life in range(times):
            _live_once(machine, life, point, fault)
            machine.compare()
    finally:
        machine.teardown()


def _live_once(machine: Payments, life: int, point: str | None, fault: str) -> None:
    machine.admit(rows=[2, 3], with_key=True, is_short=True, death=None)
    machine.expire(death=point)
    admitted = machine.use(rows=[5, 3, 9], death=point)
    machine.use(rows=[7 + life, 20, 30], death=None)
    charged = [each for each in admitted.values if machine.known[each].left]
    for hold_id in charged[:1]:
        machine.refund(hold_id=hold_id, nanos=1, twice=True, death=point)
    machine.release(death=point)
    machine.release(death=None)
    # Paid in one month, refused in the next.
    machine.pay_publishers(has=10**9, refuses=bool(life % 2), death=point, fault=fault)
    # At once, while Stripe still knows the key.
    machine.pay_publishers(has=10**9, refuses=False, death=None, fault="")
    machine.report_usage(hours=1, death=point, fault=fault)
    machine.refund_all(death=point)
    machine.end_month(minutes=21, is_told=True, death=point, fault=fault)
    for _ in range(4):
        machine.close_months(is_paid=True, death=point, fault=fault)
    machine.look_at_invoices(is_paid=True, death=point)

"""Every status machine, pair by pair, and what each set of statuses holds: written out a second time by hand."""

from __future__ import annotations

from enum import StrEnum
from itertools import permutations

import pytest

from domain import commission, dispute, dunning, fraud, payment, payout, receipt, refund, setup, subscription
from domain.payment import CAPTURED, CLOSED_WITHOUT_MONEY, OPEN, Advance, PaymentStatus, Transition, advance
from domain.subscription import TRANSITIONS, IllegalTransition, SubscriptionStatus, change

WEAKEST_FIRST = (
    "created", "unknown", "pending", "requires_action", "expired", "canceled", "failed", "paid", "partially_refunded",
    "refunded",
)  # fmt: skip
STILL_OPEN, NO_MONEY, MONEY = WEAKEST_FIRST[:4], WEAKEST_FIRST[4:7], WEAKEST_FIRST[7:]
PAIRS = [(current, observed) for current in WEAKEST_FIRST for observed in WEAKEST_FIRST]


def expected(current: str, observed: str) -> tuple[str, str]:
    """The status to store and what it is called, by the order of strength alone."""
    if current == observed:
        return current, "unchanged"
    if observed == "unknown":
        return ("unknown", "applied") if current in STILL_OPEN else (current, "ignored_backwards")
    if WEAKEST_FIRST.index(observed) < WEAKEST_FIRST.index(current):
        return current, "ignored_backwards"
    return observed, "applied_late" if current in NO_MONEY and observed in MONEY else "applied"


@pytest.mark.parametrize(("current", "observed"), PAIRS)
def test_a_payment_by_all_pairs(current: str, observed: str) -> None:
    status, how = expected(current, observed)
    assert advance(PaymentStatus(current), PaymentStatus(observed)) == Transition(PaymentStatus(status), Advance(how))


@pytest.mark.parametrize(("one", "other"), list(permutations(WEAKEST_FIRST, 2)))
def test_of_two_facts_about_the_money_one_is_the_stronger_in_either_order(one: str, other: str) -> None:
    if "unknown" in (one, other):
        return  # not knowing is no fact
    ends = {advance(PaymentStatus(first), PaymentStatus(then)).status for first, then in ((one, other), (other, one))}
    assert ends == {PaymentStatus(max(one, other, key=WEAKEST_FIRST.index))}


SUBSCRIPTION_MAY = {
    "incomplete": "active cancelled expired",
    "trialing": "active past_due cancelled expired",
    "active": "past_due paused cancelled",
    "past_due": "active cancelled expired",
    "paused": "active cancelled",
    "expired": "active",
    "cancelled": "",
}


@pytest.mark.parametrize("current", SUBSCRIPTION_MAY)
@pytest.mark.parametrize("wanted", SUBSCRIPTION_MAY)
def test_a_subscription_by_all_pairs(current: str, wanted: str) -> None:
    one, other = SubscriptionStatus(current), SubscriptionStatus(wanted)
    if current == wanted or wanted in SUBSCRIPTION_MAY[current].split():
        assert change(one, other) is other
    else:
        with pytest.raises(IllegalTransition, match=f"^{current} does not become {wanted}$"):
            change(one, other)
    assert (other in TRANSITIONS[one]) is (wanted in SUBSCRIPTION_MAY[current].split())


VALUES: dict[type[StrEnum], str] = {
    PaymentStatus: " ".join(WEAKEST_FIRST),
    Advance: "applied unchanged ignored_backwards applied_late",
    payment.SurplusStatus: "proposed refunding refunded refund_failed kept",
    refund.RefundState: "requested pending unknown succeeded failed returned settled_outside",
    dispute.DisputeState: "inquiry needs_response under_review won lost closed",
    SubscriptionStatus: " ".join(SUBSCRIPTION_MAY),
    subscription.InvoiceStatus: "open paid void uncollectible",
    subscription.ChangeKind: "cancel cancel_at_period_end pause resume change_plan change_plan_at_period_end "
    "payment_method",
    dunning.FinalAction: "cancel expire keep",
    dunning.Next: "retry wait_for_method wait_for_payer give_up",
    commission.CommissionStatus: "accrued paid clawed_back rejected",
    commission.CommissionState: "pending payable held in_payout paid clawed_back rejected",
    commission.Review: "pending approved rejected",
    commission.CommissionRefusal: "no_referrer self_referral below_minimum no_rate order_has_commission fraud_guard",
    payout.PayoutStatus: "requested prepared approved closed rejected empty",
    payout.LineStatus: "prepared sent paid failed returned dropped",
    payout.ItemStatus: "reserved sent paid released",
    setup.SetupStatus: "created pending unknown succeeded failed expired",
    setup.MethodStatus: "active detached expired",
    receipt.DocumentKind: "tax_invoice tax_invoice_receipt credit_note receipt",
    receipt.Dealer: "authorized exempt company foreign",
    fraud.Verdict: "accept hold reject",
    fraud.Kind: "referrer email domain card ip ip_range",
}
"""What is stored and answered: a value that changes is a migration and a break of the API."""


@pytest.mark.parametrize("machine", VALUES, ids=lambda machine: machine.__name__)
def test_what_is_stored_keeps_its_names(machine: type[StrEnum]) -> None:
    assert {one.value for one in machine} >= set(VALUES[machine].split())


@pytest.mark.parametrize(
    ("statuses", "held"),
    [
        (OPEN, " ".join(STILL_OPEN)),
        (CLOSED_WITHOUT_MONEY, " ".join(NO_MONEY)),
        (CAPTURED, " ".join(MONEY)),
        (refund.FINAL_REFUND, "succeeded failed returned settled_outside"),
        (refund.CAME_BACK, "returned settled_outside"),
        (dispute.HOLDS_MONEY, "needs_response under_review"),
        (dispute.FINAL_DISPUTE, "won lost closed"),
        (subscription.ENDED, "cancelled expired"),
        (payout.OPEN_PAYOUT, "requested prepared approved"),
        (setup.SETUP_OPEN, "created pending unknown"),
    ],
)
def test_the_sets_that_decide(statuses: frozenset[StrEnum], held: str) -> None:
    assert {one.value for one in statuses} == set(held.split())


def test_a_payment_is_open_or_closed_without_money_or_captured() -> None:
    assert sorted([*OPEN, *CLOSED_WITHOUT_MONEY, *CAPTURED]) == sorted(PaymentStatus)

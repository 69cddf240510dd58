"""Refunds at PayPlus part by part, and refunds whose answer was lost where PayPlus may show none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from providers.base import (
    CheckoutRequest,
    MadeRefund,
    OutcomeUndecided,
    OutcomeUnknown,
    Provider,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.payplus import PayPlusProvider
from providers.payplus.objects import Transaction, transactions_in
from providers.payplus.refunds import line_of, pieces_of, refund_in, refunds_listed
from tests.providers.test_payplus import NOW, a_ref, a_refund, an_account, charge, no, ref_to, refund_line, says

ONLY = ("payplus",)
RequestFor = Callable[..., CheckoutRequest]
ZERO = Money.zero("ILS")


def ils(amount: str) -> Money:
    return Money.parse(amount, "ILS")


class Till:
    """PayPlus with a payment of 100 by a gift card of 30 and a card of 70. `shows`: whether it tells of refunds."""

    def __init__(self, *, shows: bool = True, names: bool = True, flagged: bool = True) -> None:
        self.shows, self.names, self.flagged = shows, names, flagged
        self.parts = {"part-gift": Decimal(30), "part-card": Decimal(70)}
        self.made: list[dict[str, Any]] = []
        self.answers: list[httpx.Response | str] = []
        """What becomes of the next refunds: `made`, `lost` (made without an answer), or another answer alone."""

    def __call__(self, http: httpx.Request) -> httpx.Response:
        path, body = http.url.path.rsplit("/", 1)[-1], json.loads(http.content, parse_float=Decimal)
        shown = [self._line(one) for one in self.made] if self.shows else []
        if path == "ipn":
            parts = [
                charge(transaction_uid="part-gift", amount=30, method="multipass", four_digits=""),
                charge(transaction_uid="part-card", amount=70),
            ]
            return says(charge(amount=100, is_multiple_transaction=self.flagged, related_transactions=parts + shown))
        if path == "View":
            found = [one for one in shown if one["more_info"] == body["more_info"]]
            return (
                says([{"transaction": one, "data": {}} for one in found]) if found else no("can-not-find-transaction")
            )
        return self._refund(body)

    def _refund(self, body: dict[str, Any]) -> httpx.Response:
        planned = self.answers.pop(0) if self.answers else "made"
        if isinstance(planned, httpx.Response):
            return planned
        part, amount = body["transaction_uid"], Decimal(str(body["amount"]))
        if part not in self.parts or amount > self.left(part):
            return no("refund-amount-is-greater-than-transaction-amount")
        self.made.append({"uid": f"r-{len(self.made)}", "of": part, "amount": amount, "line": body.get("more_info")})
        if planned == "lost":
            return httpx.Response(502)
        return says({"transaction": {"uid": self.made[-1]["uid"], "status_code": "000", "amount": float(amount)}})

    def left(self, part: str) -> Decimal:
        return self.parts[part] - sum((one["amount"] for one in self.made if one["of"] == part), Decimal(0))

    def by_hand(self, part: str, amount: str) -> None:
        """The merchant refunds in the dashboard."""
        self.made.append({"uid": f"r-{len(self.made)}", "of": part, "amount": Decimal(amount), "line": None})

    def given(self) -> list[tuple[str, str]]:
        return [(str(one["of"]), f"{one['amount']:.2f}") for one in self.made]

    def _line(self, one: dict[str, Any]) -> dict[str, Any]:
        card = {} if one["of"] == "part-card" else {"method": "multipass", "four_digits": ""}
        return refund_line(float(one["amount"]), one["line"] if self.names else None, one["uid"], **card)


def adapter(till: Callable[[httpx.Request], httpx.Response]) -> PayPlusProvider:
    return PayPlusProvider(an_account(), transport=httpx.MockTransport(till), clock=lambda: NOW)


def wanted(amount: str, before: str = "0", **changes: Any) -> RefundRequest:
    return a_refund(amount, captured=ils("100"), refunded_before=ils(before), **changes)


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("shows", [True, False])
async def test_parts_are_refunded_to_their_own_uid_cards_first(*, shows: bool, flagged: bool) -> None:
    """Refunds went to the parent, which PayPlus does not refund."""
    till = Till(shows=shows, flagged=flagged)
    provider, before = adapter(till), 0
    for amount in ("20", "60", "20"):
        made = await provider.refund(wanted(amount, str(before)))
        assert made.status is RefundStatus.SUCCEEDED
        before += int(amount)
    assert till.given() == [
        ("part-card", "20.00"),
        ("part-card", "50.00"),
        ("part-gift", "10.00"),
        ("part-gift", "20.00"),
    ]
    with pytest.raises(ProviderRejected, match="refund_exceeds_charge"):
        await provider.refund(wanted("0.01", "100"))


async def test_a_refund_over_several_parts_is_one_on_the_list_and_none_before_it_is_whole() -> None:
    till = Till()
    provider, refund = adapter(till), wanted("90")
    made = await provider.refund(refund)
    assert till.given() == [("part-card", "70.00"), ("part-gift", "20.00")]
    seen = await provider.look(a_ref())
    assert seen.refunded == ils("90")
    assert seen.refunds is not None
    [one] = seen.refunds
    assert (one.provider_refund_id, one.amount, one.reference) == (made.provider_refund_id, ils("90"), refund.refund_id)
    del till.made[1]
    seen = await provider.look(a_ref())
    assert (seen.refunded, seen.refunds) == (ils("70"), ())


GONE = httpx.Response(502)


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("answers", [[GONE], ["lost"], ["made", GONE], ["made", "lost"]])
async def test_nothing_goes_back_twice_whichever_answer_is_lost(*, answers: list[Any], names: bool) -> None:
    till, refund = Till(names=names), wanted("90", reason="one session less")
    till.answers = list(answers)
    provider = adapter(till)
    with pytest.raises(OutcomeUnknown):
        await provider.refund(refund)
    before = till.given()
    try:
        found = await provider.look_refund(refund, None) or await provider.refund(refund)
    except OutcomeUndecided:  # nothing is shown, or a part of it without a name
        assert till.given() == before
        assert not before or not names
    else:
        assert found.status is RefundStatus.SUCCEEDED
        assert till.given() == [("part-card", "70.00"), ("part-gift", "20.00")]
        assert names or len(before) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        no("refund-amount-is-greater-than-transaction-amount"),
        says({"transaction": {"uid": "r-9", "status_code": "036"}}),
    ],
)
async def test_a_part_that_is_refused_after_another_had_gone_is_for_a_person(refusal: httpx.Response) -> None:
    till = Till()
    till.answers = ["made", refusal]
    with pytest.raises(OutcomeUndecided, match="refund_partly_made"):
        await adapter(till).refund(wanted("90"))
    assert till.given() == [("part-card", "70.00")]
    first = Till()
    first.answers = [refusal]
    try:
        assert (await adapter(first).refund(wanted("90"))).status is RefundStatus.FAILED
    except ProviderRejected:  # of the first part it is a refusal of the whole
        assert first.given() == []


@pytest.mark.parametrize("status", [429, 401, 403, 503])
async def test_a_refusal_of_the_caller_after_a_part_has_gone_is_no_refusal_of_the_refund(status: int) -> None:
    till = Till(shows=False)
    till.answers = ["made", httpx.Response(status)]
    with pytest.raises(OutcomeUnknown):
        await adapter(till).refund(wanted("90"))


async def test_what_the_merchant_refunded_by_hand_is_taken_from_the_part_that_it_came_from() -> None:
    till = Till()
    till.by_hand("part-gift", "25")
    await adapter(till).refund(wanted("72", "25"))
    assert till.given()[1:] == [("part-card", "70.00"), ("part-gift", "2.00")]


async def test_a_total_without_its_parts_is_not_refunded() -> None:
    asked: list[str] = []

    def answer(http: httpx.Request) -> httpx.Response:
        asked.append(http.url.path.rsplit("/", 1)[-1])
        return says(charge(amount=100, is_multiple_transaction=True)) if asked[-1] == "ipn" else no("can-not-find-x")

    with pytest.raises((ProviderRejected, OutcomeUnknown)):
        await adapter(answer).refund(wanted("10"))
    assert "RefundByTransactionUID" not in asked


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=4), st.data())
def test_refunds_of_parts_add_up_to_the_payment_whatever_their_amounts(parts: list[int], data: st.DataObject) -> None:
    total, gone = sum(parts), 0
    shown = [
        charge(
            transaction_uid=f"p-{place}",
            amount=minor / 100,
            method=data.draw(st.sampled_from(["credit-card", "multipass"])),
        )
        for place, minor in enumerate(parts)
    ]
    given_back = dict.fromkeys((one["transaction_uid"] for one in shown), 0)
    lines: list[dict[str, Any]] = []
    tells = data.draw(st.booleans())
    while gone < total:
        minor = data.draw(st.integers(1, total - gone))
        refund = a_refund(str(Money(minor, "ILS")), refunded_before=Money(gone, "ILS"))
        whole = charge(amount=total / 100, is_multiple_transaction=True, related_transactions=shown + lines)
        found = transactions_in(json.loads(json.dumps(whole), parse_float=Decimal))
        pieces = pieces_of(found, refund)
        assert sum(piece.amount.minor for piece in pieces) == minor
        for piece in pieces:
            given_back[piece.transaction_id] += piece.amount.minor
            if tells:
                line = line_of(refund, piece.number)
                lines.append(refund_line(piece.amount.minor / 100, line, f"r-{len(lines)}"))
        gone += minor
    assert [given_back[one["transaction_uid"]] for one in shown] == parts


# ---- a refund whose answer was lost -------------------------------------------------------------------------------


async def bought(provider: Provider, payer: Any, request: CheckoutRequest) -> tuple[Any, str]:
    opened = await provider.open_checkout(request)
    await payer.pays(opened)
    ref = ref_to(request, opened)
    return ref, (await provider.look(ref)).transaction_id or ""


@pytest.mark.parametrize("hidden", [(), ("hidden-refunds",)])
@pytest.mark.parametrize("split", [(), ("split-payments",)])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_is_looked_up_where_refunds_were_seen_and_else_is_for_a_person(
    provider: Provider, payer: Any, request_for: RequestFor, split: tuple[str, ...], hidden: tuple[str, ...], when: str
) -> None:
    """It was looked for where refunds may never appear, and then made again."""
    await payer.behaves(*split, *hidden)
    impatient = PayPlusProvider(payer.account(timeout_seconds=0.5))
    request, earlier_one = request_for(), request_for()
    ref, capture = await bought(provider, payer, request)
    other_ref, other_capture = await bought(provider, payer, earlier_one)
    refund = RefundRequest(uuid4(), capture, request.amount, ref, request.amount, ZERO)
    await payer.falls_silent(when, on="refund")
    with pytest.raises(OutcomeUnknown):
        await impatient.refund(refund)
    gone = Decimal(await payer.given_back(request.reference))
    if hidden or when == "before":  # nobody has seen a refund of this account
        with pytest.raises(OutcomeUndecided, match="refund_not_shown"):
            await provider.look_refund(refund, None)
    other = RefundRequest(uuid4(), other_capture, earlier_one.amount, other_ref, earlier_one.amount, ZERO)
    made_id = (await provider.refund(other)).provider_refund_id
    assert made_id is not None
    known = MadeRefund(other_capture, made_id)
    proven = replace(refund, earlier=[MadeRefund("none", "none"), known])
    if hidden:
        with pytest.raises(OutcomeUndecided, match="refund_not_shown"):
            await provider.look_refund(proven, None)
        assert Decimal(await payer.given_back(request.reference)) == gone <= request.amount.to_decimal()
    else:
        found = await provider.look_refund(proven, None)
        assert (found is None) is (when == "before" or bool(split))  # of several parts one is still missing
        assert (found or await provider.refund(proven)).status is RefundStatus.SUCCEEDED
        assert (await provider.look(ref)).refunded == request.amount
        assert Decimal(await payer.given_back(request.reference)) == request.amount.to_decimal()
    await impatient.aclose()


async def test_a_refund_that_payplus_has_named_is_never_for_a_person() -> None:
    assert await adapter(Till(shows=False)).look_refund(wanted("10"), "r-0") is None


def test_a_refund_of_several_parts_is_found_when_all_of_it_is_there() -> None:
    refund = wanted("90")
    first = refund_line(70, line_of(refund, 1), "r-1")
    second = refund_line(20, line_of(refund, 2), "r-2")

    def read(*lines: dict[str, Any]) -> list[Transaction]:
        return transactions_in(json.loads(json.dumps(lines), parse_float=Decimal))

    assert refund_in(read(first), refund) is None
    assert refund_in(read(second, first), refund) == ProviderRefund("r-1", RefundStatus.SUCCEEDED)
    assert refunds_listed(read(first), a_ref().reference) == ()
    failed = second | {"status_code": "004", "status": "rejected"}
    assert refund_in(read(first, failed), refund) is None

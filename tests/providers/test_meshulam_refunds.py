"""Refunds at Grow, of which it tells sums: what they decide, what they leave to a person, and its own limits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from providers.base import (
    AccountConfig,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    OpenedCheckout,
    OutcomeUndecided,
    ProviderBusy,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.meshulam import MeshulamProvider
from providers.meshulam.objects import process_of
from providers.meshulam.refunds import earlier_refund
from tests.providers.payers.meshulam import CALLBACK_TOKEN
from tests.providers.payers.meshulam import Payer as SandboxPayer

ONLY = ("meshulam",)

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
CREDENTIALS = {"user_id": "u5a7e3c1", "page_code": "p90f1cc2", "callback_token": CALLBACK_TOKEN}
HOSTED = CheckoutRef(UUID(int=1), "9001", CheckoutMode.HOSTED, NOW, session_secret="ptoken")
SAVED = CheckoutRef(UUID(int=1), "1", CheckoutMode.SAVED, NOW, session_secret="t1")
CAPTURED = 10_000
RequestFor = Callable[..., CheckoutRequest]


def ils(minor: int) -> Money:
    return Money(minor, "ILS")


def wanting(amount: int, before: int = 0, ref: CheckoutRef = HOSTED) -> RefundRequest:
    return RefundRequest(uuid4(), "1", ils(amount), ref, ils(CAPTURED), ils(before))


def listed(*refunds: int, whole: bool = False) -> dict[str, Any]:
    """A process with its charge and its refunds; `whole`: the charge has turned to refunded, with nothing beside it."""
    charge = {"transactionId": "1", "transactionToken": "t1", "statusCode": 3 if whole else 2, "sum": "100.00"}
    credits_ = [
        {"transactionId": str(100 + index), "statusCode": 3, "sum": str(ils(minor)), "refundedTransactionId": "1"}
        for index, minor in enumerate(refunds)
    ]
    return {"transactions": [charge, *credits_]}


def said(refunds: list[int], request: RefundRequest) -> bool | None:
    """Whether an earlier try made it, by the sums; None where they cannot tell."""
    try:
        found = earlier_refund(process_of(listed(*refunds), "9001"), request)
    except OutcomeUndecided:
        return None
    return found is not None


SUMS = st.integers(1, 40)


@given(st.lists(SUMS, max_size=3), st.lists(SUMS, max_size=3), SUMS, st.booleans(), st.randoms())
def test_what_the_sums_say_is_true_or_they_say_that_they_cannot_tell(
    known: list[int],
    by_hand: list[int],
    amount: int,
    made: bool,  # noqa: FBT001
    order: Any,
) -> None:
    """Known refunds, others that were made by hand, and ours, which was made or not; in any order."""
    refunds = [*known, *by_hand, *([amount] if made else [])]
    order.shuffle(refunds)
    answer = said(refunds, wanting(amount, sum(known)))
    if answer is False:
        assert not made, "it would be made twice"
    if answer is True:
        assert made or amount in refunds, "nothing of this amount went back"
    if not by_hand:
        assert answer is made
    if not made and sum(by_hand) < amount:
        assert answer is False
    if made and set(by_hand) <= {amount}:
        assert answer is True


@pytest.mark.parametrize(
    ("refunds", "amount", "before", "answer"),
    [
        ([], 30, 0, False),
        ([30], 30, 0, True),
        ([10], 30, 0, False),  # less than ours: not ours
        ([10, 20], 30, 0, None),  # as much, but in other pieces
        ([40], 30, 0, None),  # more: nobody knows what it was
        ([30, 40], 30, 0, True),
        ([30, 40], 30, 30, None),  # the 30 are the known ones
        ([30, 30, 40], 30, 30, True),
        ([30, 30], 30, 60, False),
        ([20, 30, 50], 30, 50, None),  # the known 50 may be the 20 and the 30
        ([20], 30, 50, None),  # less than is on record
        ([1] * 12, 5, 0, None),
    ],
)
def test_the_sums_case_by_case(refunds: list[int], amount: int, before: int, answer: Any) -> None:
    assert said(refunds, wanting(amount, before)) is answer


def test_a_charge_that_turned_to_refunded_tells_the_whole_sum_alone() -> None:
    process = process_of(listed(whole=True), "9001")
    assert earlier_refund(process, wanting(CAPTURED)) is not None
    assert earlier_refund(process, wanting(3000, CAPTURED - 3000)) is not None
    with pytest.raises(OutcomeUndecided):
        earlier_refund(process, wanting(3000))


# what the adapter makes of them


def grow(answer: Callable[[str], Any], **options: Any) -> MeshulamProvider:
    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=answer(request.url.path.rsplit("/", 1)[-1]))

    config = AccountConfig(account_id=uuid4(), credentials=CREDENTIALS, options=options)
    return MeshulamProvider(config, transport=httpx.MockTransport(respond), clock=lambda: NOW)


def done(data: Any) -> dict[str, Any]:
    return {"status": 1, "err": "", "data": data}


def refused(error_id: int) -> dict[str, Any]:
    return {"status": 0, "err": {"id": error_id, "message": ""}, "data": ""}


async def test_a_part_is_missed_only_where_parts_have_been_seen() -> None:
    state = {"data": listed()}
    provider = grow(lambda _: done(state["data"]))
    assert await provider.look_refund(wanting(CAPTURED), None) is None
    with pytest.raises(OutcomeUndecided) as error:
        await provider.look_refund(wanting(3000), None)
    assert error.value.code == "refund_not_visible"
    assert (
        await grow(lambda _: done(state["data"]), lists_partial_refunds=True).look_refund(wanting(3000), None) is None
    )
    state["data"] = listed(2000)
    assert await provider.look_refund(wanting(3000, 2000), None) is None
    state["data"] = listed()
    assert await provider.look_refund(wanting(3000), None) is None  # it has been seen
    await provider.aclose()


@pytest.mark.parametrize(
    ("status", "amount", "before", "answer"),
    [
        (2, CAPTURED, 0, False),
        (3, CAPTURED, 0, True),
        (3, 3000, CAPTURED - 3000, True),
        (2, 3000, 0, None),
        (2, 3000, CAPTURED - 3000, None),
        (3, 3000, 0, None),
    ],
)
async def test_of_a_saved_cards_charge_only_the_whole_is_told(
    status: int, amount: int, before: int, answer: Any
) -> None:
    data = {"transactionId": "1", "statusCode": status, "sum": "100.00"}
    provider = grow(lambda _: done(data))
    request = wanting(amount, before, SAVED)
    if answer is None:
        with pytest.raises(OutcomeUndecided):
            await provider.look_refund(request, None)
    else:
        assert (await provider.look_refund(request, None) is not None) is answer
    await provider.aclose()


@pytest.mark.parametrize("ref", [HOSTED, SAVED])
@pytest.mark.parametrize(
    ("error_id", "kind", "code"),
    [
        (115, ProviderBusy, "refund_no_balance"),
        (10, ProviderRejected, "refund_failed"),
        (107, ProviderRejected, "refund_failed"),
        (130, ProviderRejected, "same_day_partial_refund"),
        (207, ProviderRejected, "same_day_partial_refund"),
    ],
)
async def test_a_refused_refund_says_whether_it_can_be_made_later(
    ref: CheckoutRef, error_id: int, kind: type[Exception], code: str
) -> None:
    charge = {"transactionId": "1", "transactionToken": "t1", "statusCode": 2, "sum": "100.00"}
    answers = {"getPaymentProcessInfo": done(listed()), "getTransactionInfo": done(charge)}
    provider = grow(lambda name: answers.get(name, refused(error_id)))
    with pytest.raises((ProviderBusy, ProviderRejected)) as error:
        await provider.refund(wanting(3000, ref=ref))
    assert (type(error.value), error.value.code) == (kind, code)
    if isinstance(error.value, ProviderBusy):
        assert error.value.retry_after == timedelta(hours=1)
    await provider.aclose()


async def test_a_refund_that_is_said_to_have_failed_is_looked_for_before_that_is_believed() -> None:
    states = iter([listed(), listed(3000)])
    provider = grow(lambda name: done(next(states)) if name == "getPaymentProcessInfo" else refused(10))
    assert (await provider.refund(wanting(3000))).status is RefundStatus.SUCCEEDED
    await provider.aclose()


async def test_without_balance_a_refund_waits_and_is_made_once_money_has_come(
    provider: MeshulamProvider, payer: SandboxPayer, request_for: RequestFor
) -> None:
    request = request_for()
    opened: OpenedCheckout = await provider.open_checkout(request)
    await payer.pays(opened)
    ref = CheckoutRef(request.reference, opened.session_id, request.mode, NOW, session_secret=opened.session_secret)
    seen = await provider.look(ref)
    assert seen.transaction_id is not None

    async def refund(amount: str, before: str = "0.00") -> ProviderRefund:
        assert seen.transaction_id is not None
        return await provider.refund(
            RefundRequest(
                uuid4(),
                seen.transaction_id,
                Money.parse(amount, "ILS"),
                ref,
                request.amount,
                Money.parse(before, "ILS"),
            )
        )

    await payer.behaves("no_balance")
    with pytest.raises(ProviderBusy):
        await refund("10.00")
    await payer.behaves()
    await refund("10.00")
    await refund("20.00", "10.00")
    with pytest.raises(ProviderRejected) as third:  # Grow makes two by call
        await refund("30.00", "30.00")
    assert third.value.code == "refund_failed"

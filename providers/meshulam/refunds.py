"""Refunds at one account. Grow has no idempotency value and no reference of ours on a refund: it is found by sums."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from weakref import WeakValueDictionary

from domain.money import Money
from providers.base import (
    CheckoutMode,
    OutcomeUndecided,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.meshulam.amounts import to_wire
from providers.meshulam.calls import Calls
from providers.meshulam.charges import SavedCards
from providers.meshulam.error_ids import (
    ALREADY_REFUNDED,
    EXCEEDS_PAYMENT,
    MANUAL_APPROVAL,
    REFUND_FAILED,
    UNKNOWN_TRANSACTION,
)
from providers.meshulam.objects import Process, Transaction, age, refund_of
from providers.meshulam.requests import refund_form

MOST_CREDITS = 10
"""How many refunds of one payment are told apart; Grow makes two by call, a person may make more by hand."""
_LOOK_AGAIN = frozenset({ALREADY_REFUNDED, EXCEEDS_PAYMENT, REFUND_FAILED})
"""Refusals after which another try may just have acted."""
_APPROVAL = "approval-"


class Refunds:
    """Makes refunds and says what became of one. `lists_parts`: Grow's list is known to show refunds of a part."""

    def __init__(self, calls: Calls, cards: SavedCards, *, lists_parts: bool) -> None:
        self._calls = calls
        self._cards = cards
        self._lists_parts = lists_parts
        self._refunding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def make(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all, unless the sums show that an earlier try of this request did.

        Money already paid out to the business needs Grow's approval: PENDING. Raises OutcomeUndecided where the sums
        cannot tell, ProviderRejected `same_day_partial_refund`, ProviderBusy while the business has no balance.
        """
        async with self._refunding.setdefault(request.transaction_id, asyncio.Lock()):
            if request.payment.mode is CheckoutMode.SAVED:
                return await self._whole(request) or await self._refund_charge(request)
            process = await self._process(request)
            return earlier_refund(process, request) or await self._refund(request, process)

    async def look(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund: by its id among the process's entries, else by the sums.

        None only where Grow would show it. Raises OutcomeUndecided where it cannot tell, now or later: for a part of a
        saved card's charge, of which Grow shows only that all went back; for a part while Grow has not been seen to
        list any; and where refunds by hand leave more than one answer.
        """
        if request.payment.mode is CheckoutMode.SAVED:
            return await self._look_at_charge(request)
        process = await self._process(request)
        if any(credit.id == provider_refund_id for credit in process.credits):
            return ProviderRefund(str(provider_refund_id), RefundStatus.SUCCEEDED)
        earlier = earlier_refund(process, request)
        if earlier is not None:
            return earlier
        if provider_refund_id is not None and provider_refund_id.startswith(_APPROVAL):
            return ProviderRefund(provider_refund_id, RefundStatus.PENDING)
        if request.amount != request.captured and not self._lists_parts:
            raise OutcomeUndecided("refund_not_visible", "Grow has not been seen to list refunds of a part")
        return None

    async def _process(self, request: RefundRequest) -> Process:
        process = await self._calls.process(request.payment)
        self._lists_parts = self._lists_parts or any(one.sum < request.captured for one in process.credits)
        return process

    async def _refund(self, request: RefundRequest, process: Process) -> ProviderRefund:
        charge = process.transaction(request.transaction_id)
        if charge is None:
            raise ProviderRejected(UNKNOWN_TRANSACTION, "no such charge in the process")
        form = refund_form(request, charge) | self._calls.of_business
        try:
            data = await self._calls.send("refundTransaction", form, request.payment.method)
            return refund_of(data, mark=self._calls.mark)
        except ProviderRejected as rejected:
            if rejected.code == MANUAL_APPROVAL:
                return ProviderRefund(f"{_APPROVAL}{request.refund_id}", RefundStatus.PENDING)
            if rejected.code not in _LOOK_AGAIN:
                raise
            late = earlier_refund(await self._process(request), request)
            if late is None:
                raise
            return late

    async def _refund_charge(self, request: RefundRequest) -> ProviderRefund:
        charge_id, secret = await self._cards.named(request.payment)
        form = {
            "transactionId": charge_id,
            "transactionToken": secret,
            "refundSum": to_wire(request.amount),
            **self._calls.of_business,
        }
        try:
            return refund_of(await self._calls.send("refundTransaction", form), mark=self._calls.mark)
        except ProviderRejected as rejected:
            if rejected.code == MANUAL_APPROVAL:
                return ProviderRefund(f"{_APPROVAL}{request.refund_id}", RefundStatus.PENDING)
            raise

    async def _look_at_charge(self, request: RefundRequest) -> ProviderRefund | None:
        whole = await self._whole(request)
        if whole is None and request.amount != request.captured:
            raise OutcomeUndecided("refund_not_visible", "Grow shows no parts of a saved card's refund")
        return whole

    async def _whole(self, request: RefundRequest) -> ProviderRefund | None:
        """The refund by which all of a saved card's charge went back."""
        seen = await self._cards.look(request.payment)
        if seen.refunded is None or request.refunded_before + request.amount != request.captured:
            return None
        return ProviderRefund(f"{request.transaction_id}-refunded", RefundStatus.SUCCEEDED)


def earlier_refund(process: Process, request: RefundRequest) -> ProviderRefund | None:
    """The refund that an earlier try of this request made; None: the sums show that there is none.

    Refunds carry no reference of ours. What went back beyond `refunded_before` (the sum of what is known) is ours or
    was made by hand. Nothing beyond, or less than this amount: not ours. As much or more: ours where, whichever of the
    listed refunds are the known ones, one of exactly this amount is left; where no refund is listed by itself, where
    it is exactly as much. A refund of this amount by hand is taken for ours, so that nothing goes back twice. Raises
    OutcomeUndecided `refund_sum_unexplained` for all else.
    """
    beyond = process.refunded - request.refunded_before
    if beyond.minor < 0:
        raise OutcomeUndecided("refund_sum_unexplained", "Grow shows less than is on record")
    if beyond < request.amount:
        return None
    if not process.credits and beyond == request.amount:
        return ProviderRefund(f"{request.transaction_id}-refunded", RefundStatus.SUCCEEDED)
    left = list(_left_over(process.credits, request.refunded_before))
    if not left or not all(any(one.sum == request.amount for one in some) for some in left):
        raise OutcomeUndecided("refund_sum_unexplained", "refunded at the provider and here differ")
    ours = max((one for one in process.credits if one.sum == request.amount), key=age)
    return ProviderRefund(ours.id, RefundStatus.SUCCEEDED)


def _left_over(credits_: Sequence[Transaction], known: Money) -> Iterator[Collection[Transaction]]:
    """What is left of the listed refunds, for each choice of them that makes up what is known; nothing for too many."""
    if len(credits_) > MOST_CREDITS:
        return
    for count in range(len(credits_) + 1):
        for chosen in combinations(range(len(credits_)), count):
            if sum(credits_[index].sum.minor for index in chosen) == known.minor:
                yield [one for index, one in enumerate(credits_) if index not in chosen]

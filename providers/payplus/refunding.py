"""Refunds of one PayPlus account: made once, part by part where there are parts, and looked up after silence."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from providers.base import (
    NothingMoved,
    OutcomeUndecided,
    OutcomeUnknown,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.payplus import client
from providers.payplus.client import PayPlusClient
from providers.payplus.documents import TAKE, document_of, documents_in, documents_query, of_amount
from providers.payplus.objects import REFUND, Transaction
from providers.payplus.options import PayPlusAccount
from providers.payplus.queries import found_in
from providers.payplus.refunds import (
    Piece,
    line_of,
    partly_made,
    partly_visible,
    pieces_of,
    refund_body,
    refund_by_uid,
    refund_in,
    refund_made,
    refund_of_same_sum,
    shows_refund,
)
from providers.payplus.wire import JsonObject


class PayPlusRefunds:
    """The calls; `refunds` has what they mean."""

    def __init__(self, api: PayPlusClient, account: PayPlusAccount) -> None:
        self._api = api
        self._account = account
        self._refunding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def make(self, request: RefundRequest) -> ProviderRefund:
        """Refund part or all of a charge; a repeat with the same refund id refunds once, where PayPlus shows refunds.

        PayPlus has no idempotency key: under a lock for the charge, its refunds are looked through first, and those
        of the account by our refund id. A payment by several ways is refunded part by part, cards first; a repeat
        makes only what is missing. Raises OutcomeUndecided `refund_partly_made` where a part was refused after
        another had gone.
        """
        if request.amount.minor <= 0:
            raise ProviderRejected("amount_not_positive")
        lock = self._refunding.setdefault(request.transaction_id, asyncio.Lock())
        async with lock:
            related = await self._related(request)
            earlier = await self._earlier(request, related)
            if earlier is not None:
                return earlier
            made = partly_made(related, request)
            for piece in pieces_of(related, request):
                made = await self._refund_piece(request, piece, made)
                if made.status is RefundStatus.FAILED:
                    return made
        if made is None:
            raise OutcomeUnknown("unreadable_answer", "nothing is left to refund and nothing was refunded")
        return made

    async def _refund_piece(
        self, request: RefundRequest, piece: Piece, before: ProviderRefund | None
    ) -> ProviderRefund:
        """Refund one part; the answer carries the first part's id. What fails after it says nothing of the whole."""
        body = refund_body(request, piece, initial_invoice=self._account.initial_invoice)
        if before is None:
            return refund_made((await self._api.post(client.REFUND, body)).accepted(), request, piece)
        try:
            made = refund_made((await self._api.post(client.REFUND, body)).accepted(), request, piece)
        except ProviderRejected as error:
            raise OutcomeUndecided("refund_partly_made", f"part {piece.number}: {error.code}") from None
        except NothingMoved as error:  # the first part has moved: this is no refusal of the whole
            raise OutcomeUnknown(error.code, error.detail) from None
        if made.status is RefundStatus.FAILED:
            raise OutcomeUndecided("refund_partly_made", f"part {piece.number}: {made.failure_code}")
        return before

    async def look(self, request: RefundRequest, provider_refund_id: str | None) -> ProviderRefund | None:
        """What became of a refund, by our refund id. None: PayPlus shows refunds, and this one not, or not all of it.

        PayPlus's id is looked for among the charge's refunds only: public reports say that a status query does not
        know refunds by their id, and perhaps shows none at all. So a refund whose answer was lost and that is not
        shown is OutcomeUndecided `refund_not_shown`, until PayPlus has shown a refund of this account.
        """
        related = await self._related(request)
        found = refund_by_uid(related, request, provider_refund_id) or await self._earlier(request, related, old=True)
        if found is not None or provider_refund_id is not None:
            return found
        if partly_visible(related, request):
            raise OutcomeUndecided("refund_partly_made", "refunds without a name explain a part of it")
        if await self._shows_refunds(related, request):
            return None
        return await self._among_documents(related, request)

    async def _among_documents(self, related: list[Transaction], request: RefundRequest) -> ProviderRefund | None:
        """The same by PayPlus's credit documents, where the account says that it issues them; else OutcomeUndecided.

        None: documents of refunds are shown, and none of them is of this amount.
        """
        if not self._account.refund_documents:
            raise OutcomeUndecided("refund_not_shown", "PayPlus has shown no refund of this account yet")
        customer = next((one.customer_uid for one in related if one.uid == request.transaction_id), None)
        own = await self._documents(request, customer)
        named = document_of(own, request.refund_id)
        if named is not None and not any(piece.number for piece in _pieces(related, request)):
            return ProviderRefund(named, RefundStatus.SUCCEEDED)
        if named is not None or of_amount(own, request.amount) or len(own) >= TAKE:
            raise OutcomeUndecided("refund_document_found", "a credit document may be this refund's")
        if not (own or await self._documents(request, None)):
            raise OutcomeUndecided("refund_not_shown", "PayPlus has shown no credit document of this account")
        return None

    async def _documents(self, request: RefundRequest, customer: str | None) -> list[JsonObject]:
        query = documents_query(request, customer)
        return documents_in((await self._api.get(client.DOCUMENTS, query)).accepted())

    async def _related(self, request: RefundRequest) -> list[Transaction]:
        """The charge and everything that hangs on it."""
        body = {"transaction_uid": request.transaction_id, "related_transaction": True}
        return found_in(self._account, await self._api.post(client.IPN, body))

    async def _earlier(
        self, request: RefundRequest, related: list[Transaction], *, old: bool = False
    ) -> ProviderRefund | None:
        """The refund that an earlier try made, by its mark among the charge's or the account's, or by its sum.

        What the search by mark finds is added to `related`. `old`: also as refunds were marked once, by the id alone.
        """
        pieces = [piece.number for piece in _pieces(related, request)]
        marks = [line_of(request, number) for number in pieces] + ([str(request.refund_id)] if old else [])
        for mark in marks:
            if (found := refund_in(related, request)) is not None:
                return found
            viewed = found_in(self._account, await self._api.post(client.VIEW, {"more_info": mark}))
            related += [one for one in viewed if all(one.uid != known.uid for known in related)]
        return refund_in(related, request) or refund_of_same_sum(related, request)

    async def _shows_refunds(self, related: list[Transaction], request: RefundRequest) -> bool:
        """Whether PayPlus shows refunds of this account where ours would be seen: this charge's, or an earlier one."""
        if any(one.type == REFUND for one in related):
            return True
        for earlier in request.earlier:
            body = {"transaction_uid": earlier.transaction_id, "related_transaction": True}
            if shows_refund(
                found_in(self._account, await self._api.post(client.IPN, body)), earlier.provider_refund_id
            ):
                return True
        return False


def _pieces(related: list[Transaction], request: RefundRequest) -> list[Piece]:
    """The parts that a refund may have been made of; itself alone where it cannot be made any more."""
    try:
        return pieces_of(related, request)
    except ProviderRejected:
        return [Piece(request.transaction_id, request.amount)]

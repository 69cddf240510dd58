"""Charges of saved cards at one account, and how each is found again."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from domain.declines import DeclineClass
from domain.payment import PaymentStatus
from providers.base import (
    Charged,
    ChargeRequest,
    CheckoutRef,
    OutcomeUnknown,
    ProviderDeclined,
    ProviderError,
    ProviderPayment,
    ProviderRejected,
)
from providers.meshulam.calls import Calls
from providers.meshulam.error_ids import (
    IDENTIFIER_USED,
    MISSING_FIELD,
    NO_PAYMENT_COUNT,
    NOT_FOUND,
    UNKNOWN_PROCESS,
    UNKNOWN_TRANSACTION,
    UNNAMED,
)
from providers.meshulam.objects import read_transaction
from providers.meshulam.tokens import (
    IDENTIFIERS,
    RUNNING,
    Found,
    charge_form,
    charge_found,
    charge_made,
    identifier,
    payment_of_charge,
    payment_running,
    search_form,
)

NO_SUCH = frozenset({UNKNOWN_PROCESS, UNKNOWN_TRANSACTION, NOT_FOUND})
ONE_PAYMENT = {"paymentNum": "1"}
_UNKNOWN = ProviderPayment(PaymentStatus.UNKNOWN)


class SavedCards:
    """Charges saved cards. `decline_codes` says which error ids beyond the table are declines, and of what kind."""

    def __init__(self, calls: Calls, decline_codes: Mapping[str, str]) -> None:
        self._calls = calls
        self._decline_codes = decline_codes
        self._counts: Mapping[str, str] = {}
        """`paymentNum` for one payment: some accounts refuse it, some insist; the first refusal tells which."""

    async def charge(self, request: ChargeRequest) -> Charged:
        """Charge a saved card once: an identifier that was used is refused, and then the charge is looked for.

        PENDING for a charge that is at work: no other identifier is tried then. Another charge may have the same 31
        bits; the next identifier is tried where it is certain that this one was not used by an earlier request for the
        same reference. Raises ProviderDeclined for a decline, other ProviderErrors for a fault of the request or the
        account, OutcomeUnknown `charge_not_visible` where an earlier request may have used the identifier and nothing
        is listed under it.
        """
        for salt in range(IDENTIFIERS):
            number = identifier(request.reference, salt)
            form = charge_form(request, number) | self._calls.of_business
            answer = await self._ask(form)
            if isinstance(answer, Charged):
                return answer
            if answer.code.startswith(UNNAMED) and not isinstance(answer, ProviderDeclined):
                return await self._charged_after_all(request, answer)
            if isinstance(answer, ProviderDeclined):  # after a final one Grow wants the token deleted
                answer.final = answer.decline_class is DeclineClass.HARD
            if answer.code != IDENTIFIER_USED:
                raise answer
            found = await self._search(number, request.token, request.reference)
            if found.charge is not None:
                return _charged(payment_of_charge(found.charge))
            if found.running:
                return _charged(payment_running(number, request.token))
            if request.asked_before:
                raise OutcomeUnknown("charge_not_visible", "the identifier was used and shows no charge")
        raise ProviderRejected(IDENTIFIER_USED, "every identifier was used by other charges")

    async def look(self, ref: CheckoutRef) -> ProviderPayment:
        """The charge: by its id and token, else by card and identifier. PENDING while it is at work."""
        named, secret = ref.session_id, ref.session_secret
        if named is not None and secret is not None and not named.startswith(RUNNING):
            form = {"transactionId": named, "transactionToken": secret}
            try:
                data = await self._calls.send("getTransactionInfo", form)
            except ProviderRejected as rejected:
                if rejected.code in NO_SUCH:
                    return _UNKNOWN
                raise
            return payment_of_charge(read_transaction({**data, "transactionToken": secret}, self._calls.mark))
        token, numbers = ref.token, _identifiers(ref.reference)
        if named is not None and named.startswith(RUNNING):
            token, numbers = secret, [named.removeprefix(RUNNING)]
        if token is None:
            return _UNKNOWN
        seen = _UNKNOWN
        for number in numbers:
            found = await self._search(number, token, ref.reference)
            if found.charge is not None:
                return payment_of_charge(found.charge)
            if found.running:
                seen = payment_running(number, token)
        return seen

    async def named(self, ref: CheckoutRef) -> tuple[str, str]:
        """Transaction id and token of a paid charge, also of one that was found later by its identifier.

        Raises ProviderRejected `unknown_transaction`.
        """
        named, secret = ref.session_id, ref.session_secret
        if named is None or secret is None or named.startswith(RUNNING):
            seen = await self.look(ref)
            named, secret = seen.session_id, None if seen.captured is None else seen.session_secret
        if named is None or secret is None:
            raise ProviderRejected(UNKNOWN_TRANSACTION, "no transaction id or token on record")
        return named, secret

    async def _ask(self, form: Mapping[str, str]) -> Charged | ProviderError:
        """One charge under one identifier, or why it was refused; asked again where only `paymentNum` was in the way.

        Raises OutcomeUnknown, and ProviderError subclasses other than refusals of the charge.
        """
        try:
            return await self._send(form)
        except (ProviderDeclined, ProviderRejected) as refused:
            if not self._learns(refused):
                return refused
        try:
            return await self._send(form)
        except (ProviderDeclined, ProviderRejected) as refused:
            if refused.code != IDENTIFIER_USED:
                return refused
        # it was used by the request that was refused a moment ago, and that one took nothing: one identifier is spare
        again = {"transactionUniqueIdentifier": identifier(UUID(form["cField1"]), IDENTIFIERS)}
        try:
            return await self._send({**form, **again})
        except (ProviderDeclined, ProviderRejected) as refused:
            return refused

    async def _send(self, form: Mapping[str, str]) -> Charged:
        data = await self._calls.send("createTransactionWithToken", {**form, **self._counts})
        return charge_made(data, mark=self._calls.mark)

    def _learns(self, refused: ProviderError) -> bool:
        """Whether the refusal says that this account wants the number of payments, or does not."""
        insists = refused.code == MISSING_FIELD and "paymentNum" in refused.detail and not self._counts
        refuses = refused.code == NO_PAYMENT_COUNT and bool(self._counts)
        if insists or refuses:
            self._counts = ONE_PAYMENT if insists else {}
        return insists or refuses

    async def _charged_after_all(self, request: ChargeRequest, answer: ProviderError) -> Charged:
        """After an error that is in no table: money that came all the same, by Grow's own list.

        Raises ProviderDeclined where the account calls the error a decline, else ProviderRejected: nothing moved.
        """
        for number in _identifiers(request.reference):
            try:
                found = await self._search(number, request.token, request.reference)
            except ProviderError as error:
                raise OutcomeUnknown(answer.code, answer.detail) from error
            if found.charge is not None:
                return _charged(payment_of_charge(found.charge))
        ours = self._decline_codes.get(answer.code.removeprefix(UNNAMED))
        raise answer if ours is None else ProviderDeclined(ours, answer.detail)

    async def _search(self, number: str, token: str, reference: UUID) -> Found:
        """What is listed under an identifier."""
        form = search_form(number, token) | self._calls.of_business
        try:
            data = await self._calls.send_for_list("getTokenTransactionsByExternalIdentifiers", form)
        except ProviderRejected as rejected:
            if rejected.code in NO_SUCH:
                return Found()
            raise
        return charge_found(data, reference, mark=self._calls.mark)


def _identifiers(reference: UUID) -> list[str]:
    """All under which a charge of this reference may have been asked for, the spare one last."""
    return [identifier(reference, salt) for salt in range(IDENTIFIERS + 1)]


def _charged(seen: ProviderPayment) -> Charged:
    return Charged(str(seen.session_id), seen.status, seen.transaction_id, session_secret=seen.session_secret)

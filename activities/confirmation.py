"""Asking the providers what became of a payment, and recording it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import IntegrityError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.settlement import AMOUNT_UNCONFIRMED, record_surplus, settle
from domain.payment import (
    CAPTURED,
    CLOSED_WITHOUT_MONEY,
    OPEN,
    Confirm,
    Confirmation,
    PaymentStatus,
    RecordStatus,
    attempt_reference,
)
from providers.base import Acknowledges, CheckoutMode, CheckoutRef, Provider, ProviderError, ProviderPayment
from storage import attempts, audit, inbox, payments, receipts, surplus
from storage.attempts import LIVE, SETTLED, Loaded, Way
from storage.inbox import Named
from storage.models import Attempt, Payment, Workspace
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()

TRANSACTION_TAKEN = "transaction_settled_another_payment"
WATCHED_AFTER_EXPIRY = timedelta(hours=24)
"""How long ways that cannot be closed are watched beyond their expiry: networks report late."""
_GONE = (PaymentStatus.EXPIRED, PaymentStatus.CANCELED, PaymentStatus.UNKNOWN)
_WEIGHT = (
    PaymentStatus.REQUIRES_ACTION,
    PaymentStatus.PENDING,
    PaymentStatus.UNKNOWN,
    PaymentStatus.FAILED,
    PaymentStatus.CANCELED,
    PaymentStatus.EXPIRED,
)
"""Of several ways the first of these statuses is the payment's."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at one way found. `named` are the events that asked for it."""

    way: Way
    observed: ProviderPayment
    named: tuple[Named, ...] = ()

    @property
    def money(self) -> bool:
        """Whether money arrived by this way."""
        return self.observed.captured is not None

    @property
    def unconfirmed(self) -> bool:
        """Whether money is said to have arrived, and nobody said how much."""
        return not self.money and self.observed.failure_code == AMOUNT_UNCONFIRMED


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at all ways found. `silent` are those whose providers did not say how they stand.

    `answered` are the inbox rows that this look answers: not those about a silent way.
    """

    seen: list[Seen]
    silent: list[Way]
    answered: tuple[int, ...]


class ConfirmationActivities:
    """The look at the providers: first the calls, then one transaction with everything that follows from them."""

    def __init__(self, database: Database, guard: ProviderGuard, sealer: Sealer, now: Callable[[], datetime]) -> None:
        self._database = database
        self._guard = guard
        self._sealer = sealer
        self._now = now

    @activity.defn
    async def confirm(self, command: Confirm) -> Confirmation:
        """Ask about every way to pay the payment; settle it if money arrived, else record its status.

        Once it is captured its other ways are closed, and money that they still bring is recorded as surplus. Safe to
        repeat: settlement is decided by constraints. The events named in the command are marked handled in the same
        transaction. Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, command.payment_id)
            named = await inbox.named_by(session, command.inbox_ids)
        if loaded is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        with as_application_error():
            looked = await self._look_around(loaded, command, named)
        try:
            confirmation = await self._record(command, looked)
        except IntegrityError:
            confirmation = await self._flag_taken_transaction(command, looked)
        if confirmation.status in CAPTURED and len(loaded.ways) > 1:
            confirmation = await self._close_others(command.payment_id, confirmation, looked.silent)
        elif confirmation.status in CLOSED_WITHOUT_MONEY and self._may_still_be_paid(loaded.payment, looked.seen):
            confirmation = replace(confirmation, others_open=True)
        await self._acknowledge(loaded.payment, looked.seen)
        log.info("payment confirmed", payment_id=str(loaded.payment.id), status=confirmation.status.value)
        return confirmation

    @activity.defn
    async def record_status(self, command: RecordStatus) -> Confirmation:
        """Record a status that the workflow itself concluded (could not open, outcome unknown). Safe to repeat."""
        try:
            async with self._database.transaction() as session:
                locked, workspace = await payments.lock(session, command.payment_id)
                payments.change_status(
                    session,
                    workspace,
                    locked,
                    command.status,
                    at=self._now(),
                    actor="workflow",
                    reason=command.reason,
                )
                return Confirmation(PaymentStatus(locked.status))
        except NoResultFound:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound") from None

    def _may_still_be_paid(self, payment: Payment, seen: list[Seen]) -> bool:
        """Whether a provider that cannot close its checkouts may still report money for this closed payment."""
        if self._now() > payment.expires_at + WATCHED_AFTER_EXPIRY:
            return False
        return any(one.observed.status in OPEN and not self._closes(one.way) for one in seen)

    def _closes(self, way: Way) -> bool:
        method = None if way.attempt is None else way.attempt.method
        return self._guard.provider(way.account).capabilities.closes(method)

    async def _look_around(self, loaded: Loaded, command: Confirm, named: Sequence[Named]) -> Looked:
        """Ask about all ways at once: one provider's silence must not hold up money that came by another.

        Raises the first way's error only when no way has brought money.
        """
        ways = _ways_to_look_at(loaded, named)
        answers = await asyncio.gather(
            *(self._observe(loaded.payment, way, command, named) for way in ways), return_exceptions=True
        )
        seen: list[Seen] = []
        silent: list[Way] = []
        fault: BaseException | None = None
        for way, answer in zip(ways, answers, strict=True):
            if isinstance(answer, BaseException):
                fault = fault or answer
                silent.append(way)
                log.warning("way not seen", payment_id=str(loaded.payment.id), error=type(answer).__name__)
            else:
                about = tuple(one for one in named if _is_about(one, way))
                seen += [Seen(way, observed, about) for observed in answer]
        if fault is not None and not any(one.money for one in seen):
            raise fault
        unanswered = {one.inbox_id for one in named if any(_is_about(one, way) for way in silent)}
        return Looked(seen, silent, tuple(number for number in command.inbox_ids if number not in unanswered))

    async def _observe(
        self, payment: Payment, way: Way, command: Confirm, named: Sequence[Named] = ()
    ) -> list[ProviderPayment]:
        """How one way stands: one answer, or one for each sum that was paid where only callbacks tell.

        The transaction that an event has just named is the one to look at, where the provider can be asked for one.
        """
        provider = self._guard.provider(way.account)
        if not provider.capabilities.status_call:
            return await self._claimed(payment, way)
        ref = self._ref(payment, way.attempt)
        for one in named:
            if one.transaction_id is not None and _is_about(one, way):
                ref = replace(ref, transaction_id=one.transaction_id)
        # a way that was still being opened when the payment was closed is closed as soon as it is seen
        closing = command.close_as is not None or payment.status in CLOSED_WITHOUT_MONEY
        close = closing and provider.capabilities.closes(ref.method)

        async def ask(adapter: Provider) -> ProviderPayment:
            return await (adapter.close_checkout(ref) if close else adapter.look(ref))

        return [await self._guard.call(way.account, way.health, ask)]

    async def _claimed(self, payment: Payment, way: Way) -> list[ProviderPayment]:
        """What verified callbacks say, for a provider that cannot be asked: they are the only source there is.

        One that does not vouch for an amount settles nothing. Another one has to say how much it was: a row of a
        settlement file, which a person may write.
        """
        attempt = way.attempt
        if attempt is None:
            return [ProviderPayment(PaymentStatus.UNKNOWN)]
        async with self._database.transaction() as session:
            events = await inbox.captures_claimed(session, payment.id, attempt.reference)
        paid = [
            ProviderPayment(
                PaymentStatus.PAID,
                session_id=attempt.session_id,
                transaction_id=event.transaction_id or event.event_id,
                captured=money,
                method=attempt.method or payment.method,
            )
            for event in events
            if (money := inbox.claimed(event)) is not None
        ]
        unconfirmed = AMOUNT_UNCONFIRMED if events else None
        return paid or [ProviderPayment(PaymentStatus.UNKNOWN, failure_code=unconfirmed)]

    async def _record(self, command: Confirm, looked: Looked) -> Confirmation:
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, command.payment_id)
            confirmation = await self._apply(session, locked, workspace, looked.seen, command)
            await inbox.mark_handled(session, looked.answered, outcome=_outcome(confirmation))
            return confirmation

    async def _apply(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, seen: list[Seen], command: Confirm
    ) -> Confirmation:
        receipt_id: UUID | None = None
        settled_before = payment.status in CAPTURED
        # money of the right amount settles, whichever way it came by; only then is the rest looked at
        with_money = sorted((one for one in seen if one.money), key=lambda one: one.observed.captured != payment.money)
        if with_money and not settled_before:
            first = with_money.pop(0)
            confirmation = await settle(session, payment, workspace, first.observed, first.way.attempt, at=self._now())
            receipt_id = confirmation.receipt_id
            if confirmation.status not in CAPTURED:
                return confirmation
        for one in with_money:
            await record_surplus(session, payment, workspace, one.observed, one.way.attempt, one.named)
        for one in seen:
            if one.unconfirmed:
                self._flag_unconfirmed(session, payment, workspace, one)
            elif not one.money:
                await self._note(session, payment, workspace, one)
        if payment.status not in CAPTURED and seen and not any(one.unconfirmed for one in seen):
            status, reason = self._combined(seen, command.close_as)
            payments.change_status(session, workspace, payment, status, at=self._now(), actor="provider", reason=reason)
        if settled_before:
            receipt = await receipts.of_payment(session, payment.id)
            receipt_id = None if receipt is None else receipt.id
        beyond = payment.status in CAPTURED and (settled_before or receipt_id is None or bool(with_money))
        return Confirmation(
            PaymentStatus(payment.status),
            receipt_id,
            payment.flag,
            surplus_ids=tuple(await surplus.to_return(session, payment.id)) if beyond else (),
        )

    def _flag_unconfirmed(self, session: AsyncSession, payment: Payment, workspace: Workspace, one: Seen) -> None:
        """Money is there and its amount is not known: visibly unknown, also past the end, and never settled so."""
        if payment.flag is None:
            payments.set_flag(session, payment, AMOUNT_UNCONFIRMED, details={"provider": one.way.account.provider})
        if payment.status in OPEN:
            payments.change_status(
                session,
                workspace,
                payment,
                PaymentStatus.UNKNOWN,
                at=self._now(),
                actor="provider",
                reason=AMOUNT_UNCONFIRMED,
            )

    def _combined(self, seen: list[Seen], close_as: PaymentStatus | None) -> tuple[PaymentStatus, str | None]:
        """Which status of the payment follows from ways that brought no money, and the reason that goes with it.

        A payment is open as long as one of its ways is. A closed checkout takes the status it was closed for; so does
        one that its provider cannot close, and it is watched on. 'Not found' is no answer while a payment may still
        be paid; once it is being closed it means that there is nothing to pay. `pending` after closing is a slow
        method at work.
        """
        statuses = []
        for one in seen:
            status = one.observed.status
            if close_as is not None and (status in _GONE or (status in OPEN and not self._closes(one.way))):
                status = close_as
            statuses.append((_WEIGHT.index(status), one.observed.failure_code))
        weight, reason = min(statuses, key=lambda pair: pair[0])
        status = _WEIGHT[weight]
        return (PaymentStatus.PENDING if status is PaymentStatus.UNKNOWN else status), reason

    async def _note(self, session: AsyncSession, payment: Payment, workspace: Workspace, one: Seen) -> None:
        """Keep how an attempt without money stands; a declined try leaves a trace in the audit log."""
        attempt, code = one.way.attempt, one.observed.failure_code
        if attempt is None:
            return
        status = one.observed.status
        kept = attempt.status if status is PaymentStatus.UNKNOWN else status.value
        news = await attempts.set_status(session, attempt.id, status=kept, error_code=code)
        if news and code:
            audit.record(
                session,
                workspace.id,
                actor="provider",
                action="payment.attempt_failed",
                subject=("payment", payment.id),
                details={"code": code, "provider": attempt.provider},
            )

    async def _flag_taken_transaction(self, command: Confirm, looked: Looked) -> Confirmation:
        """The database refused to settle: the provider's transaction already settled another payment.

        No retry can mend that, so the payment is left visibly unknown for a person. Raises RuntimeError when it was
        another constraint: then the activity is tried again.
        """
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, command.payment_id)
            for one in looked.seen:
                taken = one.observed.transaction_id
                holder = await payments.holder_of_transaction(session, one.way.account.provider, taken)
                if holder is not None and holder != locked.id:
                    break
            else:
                raise RuntimeError("settlement broke a constraint")
            details = {"transaction_id": taken, "held_by": str(holder)}
            payments.set_flag(session, locked, TRANSACTION_TAKEN, details=details)
            payments.change_status(
                session,
                workspace,
                locked,
                PaymentStatus.UNKNOWN,
                at=self._now(),
                actor="provider",
                reason=TRANSACTION_TAKEN,
            )
            confirmation = Confirmation(PaymentStatus(locked.status), None, TRANSACTION_TAKEN)
            await inbox.mark_handled(session, looked.answered, outcome=_outcome(confirmation))
            return confirmation

    async def _close_others(self, payment_id: UUID, confirmation: Confirmation, silent: list[Way]) -> Confirmation:
        """Close what else could still be paid; what cannot be closed is watched until it lapses.

        The `silent` ways were asked a moment ago and are not asked again.
        """
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, payment_id)
        assert loaded is not None  # noqa: S101  (it was there a moment ago)
        closing = Confirm(payment_id, (), PaymentStatus.CANCELED)
        skipped = {way.attempt.id for way in silent if way.attempt is not None}
        live = [way for way in loaded.ways if way.attempt is not None and way.attempt.status in LIVE]
        asked = [way for way in live if way.attempt is not None and way.attempt.id not in skipped]
        answers = await asyncio.gather(
            *(self._observe(loaded.payment, way, closing) for way in asked), return_exceptions=True
        )
        lapsed = self._now() > loaded.payment.expires_at + WATCHED_AFTER_EXPIRY
        others_open = len(live) > len(asked) and not lapsed
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, payment_id)
            for way, answer in zip(asked, answers, strict=True):
                if isinstance(answer, ProviderError):
                    log.warning("way could not be closed", payment_id=str(payment_id), code=answer.code)
                    others_open = others_open or not lapsed
                elif isinstance(answer, BaseException):
                    raise answer
                elif await self._note_closed(session, locked, workspace, way, answer, lapsed=lapsed):
                    others_open = True
            surplus_ids = await surplus.to_return(session, payment_id)
        return replace(confirmation, others_open=others_open, surplus_ids=tuple(surplus_ids))

    async def _note_closed(
        self,
        session: AsyncSession,
        payment: Payment,
        workspace: Workspace,
        way: Way,
        answer: list[ProviderPayment],
        *,
        lapsed: bool,
    ) -> bool:
        """Keep what the closing of a captured payment's other way found. Returns whether it may still be paid."""
        assert way.attempt is not None  # noqa: S101  (live ways have one)
        seen = [Seen(way, observed) for observed in answer]
        for one in seen:
            if one.unconfirmed:
                self._flag_unconfirmed(session, payment, workspace, one)
            elif one.money:
                await record_surplus(session, payment, workspace, one.observed, way.attempt)
        if any(one.money for one in seen):
            return False
        status = PaymentStatus.EXPIRED if lapsed else answer[0].status
        if status not in CLOSED_WITHOUT_MONEY:
            return True
        await attempts.set_status(session, way.attempt.id, status=status.value)
        return False

    async def _acknowledge(self, payment: Payment, seen: list[Seen]) -> None:
        """Tell providers that want it that we know of the money. The money counts without it, so a failure is noted."""
        for one in seen:
            provider = self._guard.provider(one.way.account)
            transaction_id = one.observed.transaction_id
            if not one.money or transaction_id is None or not isinstance(provider, Acknowledges):
                continue
            ref = self._ref(payment, one.way.attempt)
            try:
                await provider.acknowledge(ref, transaction_id)
            except ProviderError as error:
                log.warning("capture not acknowledged", payment_id=str(payment.id), code=error.code)

    def _ref(self, payment: Payment, attempt: Attempt | None) -> CheckoutRef:
        return ref_of(payment, attempt, self._sealer)


def ref_of(payment: Payment, attempt: Attempt | None, sealer: Sealer) -> CheckoutRef:
    """How an attempt is found again at its provider; the first one before it is on record, without an attempt."""
    if attempt is None:
        return CheckoutRef(
            reference=attempt_reference(payment.id, 1),
            session_id=payment.provider_session_id,
            mode=CheckoutMode(payment.checkout_mode),
            created_at=payment.created_at,
            method=payment.method,
            amount=payment.money,
            expires_at=payment.expires_at,
        )
    return CheckoutRef(
        reference=attempt.reference,
        session_id=attempt.session_id,
        mode=CheckoutMode(attempt.checkout_mode),
        created_at=min(payment.created_at, attempt.created_at),
        session_secret=None if attempt.session_secret is None else sealer.open(attempt.session_secret),
        method=attempt.method,
        amount=payment.money,
        expires_at=payment.expires_at,
        transaction_id=attempt.transaction_id,
    )


def _ways_to_look_at(loaded: Loaded, named: Sequence[Named]) -> list[Way]:
    """The ways that may still bring money, and those that events speak of.

    Of a captured payment the former are left to the closing of its other ways. One that has brought its money is
    looked at again only when an event names another transaction: somebody may have paid twice.
    """
    captured = loaded.payment.status in CAPTURED
    live = any(way.attempt is not None and way.attempt.status in LIVE for way in loaded.ways)
    chosen = []
    for way in loaded.ways:
        attempt, about = way.attempt, [one for one in named if _is_about(one, way)]
        if attempt is None:
            wanted = not captured
        elif attempt.status in SETTLED:
            wanted = any(one.transaction_id not in (None, attempt.transaction_id) for one in about)
        else:
            # of an open payment that has no live way left all are asked, so that it ends
            wanted = bool(about) or (not captured and (attempt.status in LIVE or not live))
        chosen += [way] if wanted else []
    return chosen


def _is_about(one: Named, way: Way) -> bool:
    return way.attempt is not None and way.attempt.reference == one.reference


def _outcome(confirmation: Confirmation) -> str:
    return f"{confirmation.status.value} ({confirmation.flag})" if confirmation.flag else confirmation.status.value

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

from activities import billing
from activities.errors import as_application_error
from activities.fraud import FraudGuards
from activities.guard import ProviderGuard
from activities.method_news import MethodNews
from activities.settlement import AMOUNT_UNCONFIRMED, TRANSACTION_TAKEN, record_surplus, settle
from domain.payment import (
    CAPTURED,
    OPEN,
    Confirm,
    Confirmation,
    PaymentStatus,
    RecordStatus,
    attempt_reference,
)
from domain.review import CLOSED_BY_REVIEW
from providers.base import (
    Acknowledges,
    CheckoutMode,
    CheckoutRef,
    OutcomeUnknown,
    Provider,
    ProviderError,
    ProviderPayment,
    SavedMethod,
)
from storage import attempts, audit, inbox, payment_methods, payments, receipts, surplus
from storage.attempts import LIVE, SETTLED, Loaded, Way
from storage.inbox import Named
from storage.models import Attempt, Payment, Workspace
from storage.payment_methods import NewMethod
from storage.sealing import Sealer
from storage.session import Database, is_outage

log = structlog.get_logger()

WATCHED_AFTER_EXPIRY = timedelta(hours=24)
"""How long ways that cannot be closed are watched beyond their expiry: networks report late."""
RECORDING_SECONDS = 2.0
"""What is left of a try for the transaction that records what the looks have found."""
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
    """What a look at one way found. `closing`: the provider was asked to close it first, where it can."""

    way: Way
    observed: ProviderPayment
    closing: bool = False
    named: str | None = None
    claimed: bool = False

    @property
    def money(self) -> bool:
        """Whether money arrived by this way."""
        return self.observed.captured is not None

    @property
    def only_looked_at(self) -> bool:
        """Whether the way may still bring money, and nobody has tried to close it."""
        return not self.closing and not self.money and self.observed.status in OPEN

    @property
    def unconfirmed(self) -> bool:
        """Whether money is said to have arrived, and nobody said how much."""
        return not self.money and self.observed.failure_code == AMOUNT_UNCONFIRMED


@dataclass(frozen=True, slots=True)
class Silent:
    """A way whose provider could not be asked."""

    way: Way
    error: ProviderError


class ConfirmationActivities:
    """The look at the providers: first the calls, then one transaction with everything that follows from them."""

    def __init__(
        self,
        database: Database,
        guard: ProviderGuard,
        sealer: Sealer,
        now: Callable[[], datetime],
        *,
        news: MethodNews | None = None,
    ) -> None:
        self._database = database
        self._guard = guard
        self._sealer = sealer
        self._guards = FraudGuards(sealer)
        self._now = now
        self._news = news

    @activity.defn
    async def confirm(self, command: Confirm) -> Confirmation:
        """Ask about every way to pay the payment; settle it if money arrived, else record its status.

        Once nobody shall pay any more the other ways are closed, and money that they still bring is recorded as
        surplus. A provider that does not answer holds up nobody's money: without any the look fails, with some its
        way is watched on. Safe to repeat: settlement is decided by constraints. The events named in the command are
        marked handled in the same transaction. Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, command.payment_id)
            named = await inbox.named_by(session, command.inbox_ids)
        if loaded is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        closing = command.close_as is not None or loaded.payment.status not in OPEN
        with as_application_error():
            chosen = _ways_to_look_at(loaded, named)
            seen, silent = await self._look_at(loaded.payment, chosen, named, closing=closing)
            if silent and not any(one.money for one in seen):
                raise silent[0].error
        if any(one.money for one in seen):
            await self._guards.make_ready(self._database, loaded.payment)
        confirmation = await self._recorded(replace(command, inbox_ids=_answered(command, named, silent)), seen)
        if confirmation.status not in OPEN:
            confirmation, seen = await self._close_the_rest(loaded, confirmation, seen, silent)
        await self._acknowledge(loaded.payment, seen)
        log.info("payment confirmed", payment_id=str(loaded.payment.id), status=confirmation.status.value)
        return replace(confirmation, subscription_id=loaded.payment.subscription_id)

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

    async def facts(self, loaded: Loaded) -> tuple[list[Seen], list[Silent]]:
        """What every attempt of a payment has brought, as its provider says now; nothing is closed or recorded."""
        return await self._look_at(loaded.payment, loaded.ways, (), closing=False)

    async def _look_at(
        self, payment: Payment, ways: Sequence[Way], named: Sequence[Named], *, closing: bool
    ) -> tuple[list[Seen], list[Silent]]:
        """Ask about some ways, all at once: one that is slow does not keep the others waiting."""
        looks = await asyncio.gather(*(self._look_at_one(payment, way, named, closing=closing) for way in ways))
        seen = [one for look in looks if not isinstance(look, Silent) for one in look]
        return seen, [look for look in looks if isinstance(look, Silent)]

    async def _look_at_one(
        self, payment: Payment, way: Way, named: Sequence[Named], *, closing: bool
    ) -> list[Seen] | Silent:
        try:
            provider = self._guard.provider(way.account)
            if not provider.capabilities.status_call:
                claims = await self._claimed(payment, way)
                return [Seen(way, claim, closing, claimed=True) for claim in claims]
            ref = self._ref(payment, way.attempt)
            told = [one.transaction_id for one in named if one.reference == ref.reference and one.transaction_id]
            ref = replace(ref, transaction_id=told[-1] if told else ref.transaction_id)
            settled = way.attempt is not None and way.attempt.status in SETTLED
            close = closing and not settled and provider.capabilities.closes(ref.method)

            async def ask(adapter: Provider) -> ProviderPayment:
                return await (adapter.close_checkout(ref) if close else adapter.look(ref))

            async with asyncio.timeout(_seconds_for_a_look()):
                observed = await self._guard.call(way.account, way.health, ask)
            return [Seen(way, observed, closing, named=ref.transaction_id)]
        except ProviderError as error:
            return Silent(way, error)
        except TimeoutError:
            return Silent(way, OutcomeUnknown("timeout", f"{way.account.provider} takes too long"))

    async def _claimed(self, payment: Payment, way: Way) -> list[ProviderPayment]:
        """What verified callbacks say, for a provider that cannot be asked: they are the only source there is.

        One that does not vouch for an amount settles nothing. Another one has to say how much it was: a row of a
        settlement file, which a person may write.
        """
        if way.attempt is None:
            return [ProviderPayment(PaymentStatus.UNKNOWN)]
        async with self._database.transaction() as session:
            events = await inbox.captures_claimed(session, payment.id, way.attempt.reference)
        claims = [
            ProviderPayment(
                PaymentStatus.PAID,
                session_id=way.attempt.session_id,
                transaction_id=event.transaction_id or event.event_id,
                captured=money,
                method=way.attempt.method or payment.method,
                captured_at=event.occurred_at,
            )
            for event in events
            if (money := inbox.claimed(event)) is not None
        ]
        unsaid = ProviderPayment(PaymentStatus.UNKNOWN, failure_code=AMOUNT_UNCONFIRMED if events else None)
        return claims or [unsaid]

    async def _recorded(self, command: Confirm, seen: Sequence[Seen]) -> Confirmation:
        try:
            return await self._record(command, seen)
        except IntegrityError:
            return await self._flag_taken_transaction(command, seen)

    async def _close_the_rest(
        self, loaded: Loaded, confirmation: Confirmation, seen: list[Seen], silent: Sequence[Silent]
    ) -> tuple[Confirmation, list[Seen]]:
        """Nobody shall pay any more: close what has only been looked at. What cannot be closed is watched on."""
        still_open = [one.way for one in seen if one.only_looked_at]
        if still_open:
            closed, unanswered = await self._look_at(loaded.payment, still_open, (), closing=True)
            if closed:
                confirmation = await self._recorded(Confirm(loaded.payment.id), closed)
            seen = [one for one in seen if not one.only_looked_at] + closed
            silent = [*silent, *unanswered]
        watched = [one.way for one in seen if self._may_bring_money(confirmation.status, one)]
        watched += [one.way for one in silent]
        if self._now() > loaded.payment.expires_at + WATCHED_AFTER_EXPIRY:
            await self._lapse(watched)
            watched = []
        return replace(confirmation, others_open=bool(watched)), seen

    def _may_bring_money(self, status: PaymentStatus, one: Seen) -> bool:
        """Whether a way of a payment that nobody shall pay any more may do so all the same."""
        if one.money or one.observed.status not in OPEN:
            return False
        if status in CAPTURED or one.observed.status is not PaymentStatus.UNKNOWN:
            return True
        return not self._closes(one.way)  # not found where it could have been closed: there is nothing to pay

    async def _lapse(self, ways: Sequence[Way]) -> None:
        async with self._database.transaction() as session:
            for way in ways:
                if way.attempt is not None:
                    await attempts.set_status(session, way.attempt.id, status=PaymentStatus.EXPIRED.value)

    def _closes(self, way: Way) -> bool:
        method = None if way.attempt is None else way.attempt.method
        return self._guard.provider(way.account).capabilities.closes(method)

    async def _record(self, command: Confirm, seen: Sequence[Seen]) -> Confirmation:
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, command.payment_id)
            if locked.customer_id is not None and any(one.observed.saved_method is not None for one in seen):
                await payment_methods.lock_customer(session, locked.workspace_id, locked.customer_id)
            news = locked.status not in CAPTURED
            confirmation = await self._apply(session, locked, workspace, seen, command)
            for one in seen if news and locked.status in CAPTURED else ():
                await note_shown(session, locked, one.way.attempt, one.observed, at=self._now())
            kept = await self._keep_methods(session, locked, seen)
            await inbox.mark_handled(session, command.inbox_ids, outcome=_outcome(confirmation))
        if kept and self._news is not None and locked.customer_id is not None:
            await self._news.method_changed(locked.workspace_id, locked.customer_id)
        return confirmation

    async def _keep_methods(self, session: AsyncSession, payment: Payment, seen: Sequence[Seen]) -> bool:
        """Store what the payer has let us save while paying. Returns whether that is news.

        Behind a savepoint: whatever is wrong with a method, the money that came with it is settled. Raises only an
        outage: the whole is done again then, and nobody would save the method later.
        """
        news = False
        for one in seen:
            saved = one.observed.saved_method
            if saved is None or not payment.save_method or payment.customer_id is None:
                continue
            await session.flush()  # what the settlement's own rows raise is not ours to catch
            try:
                async with session.begin_nested():
                    kept = await payment_methods.keep(
                        session,
                        self._sealer,
                        one.way.account,
                        payment.customer_id,
                        new_method(saved),
                        make_default=False,
                        at=self._now(),
                        actor="provider",
                    )
                    await billing.method_saved(session, payment, kept.method.id)
            except Exception as error:
                if is_outage(error):
                    raise
                log.warning("method not saved", payment_id=str(payment.id), error=type(error).__name__)
                continue
            news = news or kept.news
        return news

    async def _apply(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, seen: Sequence[Seen], command: Confirm
    ) -> Confirmation:
        receipt_id: UUID | None = None
        beyond = [one for one in seen if one.money]
        if beyond and payment.status not in CAPTURED:
            first = next((one for one in beyond if one.observed.captured == payment.money), beyond[0])
            beyond = [one for one in beyond if one is not first]
            confirmation = await settle(
                session,
                payment,
                workspace,
                first.observed,
                first.way.attempt,
                at=self._now(),
                guards=self._guards,
                clock=self._now,
            )
            receipt_id = confirmation.receipt_id
            if confirmation.status not in CAPTURED:
                return confirmation
        for one in beyond:
            await record_surplus(
                session, payment, workspace, one.observed, one.way.attempt, named=one.named, claimed=one.claimed
            )
        for one in seen:
            if one.unconfirmed:
                self._flag_unconfirmed(session, payment, workspace, one)
            elif not one.money:
                await self._note(session, payment, workspace, one)
        if payment.status not in CAPTURED and seen and not any(one.unconfirmed for one in seen):
            status, reason = self._combined(payment, seen, command.close_as)
            if payment.status in OPEN or status not in OPEN:  # a way that is watched on does not open a closed payment
                payments.change_status(
                    session, workspace, payment, status, at=self._now(), actor="provider", reason=reason
                )
        if receipt_id is None and payment.status in CAPTURED:  # settled by an earlier look
            receipt = await receipts.of_payment(session, payment.id)
            receipt_id = None if receipt is None else receipt.id
        # whoever was told before may have died before the refund began, so this names all that waits for one
        has_surplus = payment.status in CAPTURED and payment.flag is not None
        returned = await surplus.to_return(session, payment.id) if has_surplus else []
        return Confirmation(PaymentStatus(payment.status), receipt_id, payment.flag, surplus_ids=tuple(returned))

    def _flag_unconfirmed(self, session: AsyncSession, payment: Payment, workspace: Workspace, one: Seen) -> None:
        """Money is there and its amount is not known: visibly unknown, also past the end, and never settled so."""
        if payment.status_reason == CLOSED_BY_REVIEW:  # a person has looked at it
            return
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

    def _combined(
        self, payment: Payment, seen: Sequence[Seen], close_as: PaymentStatus | None
    ) -> tuple[PaymentStatus, str | None]:
        """Which status of the payment follows from ways that brought no money, and the reason that goes with it.

        A payment is open as long as one of its ways is. A closed checkout takes the status it was closed for; so does
        one that its provider cannot close, and it is watched on. 'Not found' is no answer while a payment may still
        be paid; once it is being closed it means that there is nothing to pay. `pending` after closing is a slow
        method at work, and so is a charge of a saved method that its provider cannot close.
        """
        statuses = []
        for one in seen:
            status = one.observed.status
            gone = status in _GONE or (status in OPEN and not self._closes(one.way))
            if close_as is not None and gone and not self._is_at_work(payment, one, close_as):
                status = close_as
            statuses.append((_WEIGHT.index(status), one.observed.failure_code))
        weight, reason = min(statuses, key=lambda pair: pair[0])
        status = _WEIGHT[weight]
        return (PaymentStatus.PENDING if status is PaymentStatus.UNKNOWN else status), reason

    def _is_at_work(self, payment: Payment, one: Seen, close_as: PaymentStatus) -> bool:
        """Whether the provider is charging a saved method at this moment: no wish of ours ends that.

        Were it closed, the next attempt would charge a second time. A day after it was asked for a person may close it
        all the same, and a day after its end it has lapsed.
        """
        attempt = one.way.attempt
        if attempt is None or attempt.checkout_mode != CheckoutMode.SAVED:
            return False
        begun = payment.expires_at if close_as is PaymentStatus.EXPIRED else attempt.created_at
        return one.observed.status is PaymentStatus.PENDING and self._now() <= begun + WATCHED_AFTER_EXPIRY

    async def _note(self, session: AsyncSession, payment: Payment, workspace: Workspace, one: Seen) -> None:
        """Keep how an attempt without money stands; a declined try leaves a trace in the audit log."""
        attempt, code = one.way.attempt, one.observed.failure_code
        status = one.observed.status
        if attempt is None or (status is PaymentStatus.UNKNOWN and code is None):
            return
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

    async def _flag_taken_transaction(self, command: Confirm, seen: Sequence[Seen]) -> Confirmation:
        """The database refused to settle: the provider's transaction already settled another payment.

        No retry can mend that, so the payment is left visibly unknown for a person. Raises RuntimeError when it was
        another constraint: then the activity is tried again.
        """
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, command.payment_id)
            for one in seen:
                taken = one.observed.transaction_id
                holder = await payments.holder_of_transaction(session, one.way.account.provider, taken)
                if holder is not None and holder != locked.id:
                    break
            else:
                raise RuntimeError("settlement broke a constraint")
            details = {"transaction_id": taken, "held_by": str(holder)}
            if locked.status_reason != CLOSED_BY_REVIEW:
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
            confirmation = Confirmation(PaymentStatus(locked.status), None, locked.flag)
            await inbox.mark_handled(session, command.inbox_ids, outcome=_outcome(confirmation))
            return confirmation

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


async def note_shown(
    session: AsyncSession, payment: Payment, attempt: Attempt | None, observed: ProviderPayment, *, at: datetime
) -> None:
    """Refunds and disputes that the provider shows already when a capture is posted are followed as after an event.

    Their own events may have come before there was anything here that they could be about, or not at all.
    """
    attempt = attempt or next(iter(await attempts.of_payment(session, payment.id)), None)
    if attempt is None or observed.captured is None:
        return
    went_back = bool(observed.refunds) or (observed.refunded is not None and observed.refunded.minor > 0)
    for kind, shown in (("refund", went_back), ("dispute", observed.disputed is True)):
        if shown:
            await inbox.note_shown(session, payment, attempt, kind=kind, at=at)


def new_method(saved: SavedMethod) -> NewMethod:
    """A provider's method as the storage takes it."""
    return NewMethod(
        token=saved.token,
        kind=saved.kind[:32],
        provider_customer_id=saved.customer,
        brand=None if saved.brand is None else saved.brand[:32],
        last4=saved.last4[-4:] if saved.last4 else None,
        exp_month=saved.exp_month if saved.exp_month in range(1, 13) else None,
        exp_year=saved.exp_year if saved.exp_year in range(2000, 2200) else None,
        fingerprint=saved.fingerprint,
    )


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
    secret = None if attempt.session_secret is None else sealer.open(attempt.session_secret)
    unanswered_charge = attempt.checkout_mode == CheckoutMode.SAVED and attempt.session_id is None
    return CheckoutRef(
        reference=attempt.reference,
        session_id=attempt.session_id,
        mode=CheckoutMode(attempt.checkout_mode),
        created_at=payment.created_at if attempt.number == 1 else attempt.created_at,
        session_secret=None if unanswered_charge else secret,
        method=attempt.method,
        amount=payment.money,
        expires_at=payment.expires_at,
        transaction_id=attempt.transaction_id,
        token=secret if unanswered_charge else None,
    )


def _seconds_for_a_look() -> float | None:
    """How long a provider may take over its requests, so that what the others said is recorded while this try lasts."""
    lasts = activity.info().start_to_close_timeout if activity.in_activity() else None
    return None if lasts is None else max(lasts.total_seconds() - RECORDING_SECONDS, 1.0)


def _ways_to_look_at(loaded: Loaded, named: Sequence[Named]) -> list[Way]:
    """The ways that may still bring money, and those that events speak of.

    One that has brought its money is looked at again only where an event names another transaction of it.
    """
    references = {one.reference for one in named}
    chosen = [
        way for way in loaded.ways if _is_live(way) or (way.attempt is not None and way.attempt.reference in references)
    ]
    if not chosen and loaded.payment.status not in CAPTURED:
        chosen = loaded.ways
    told = {(one.reference, one.transaction_id) for one in named if one.transaction_id is not None}
    return [
        way for way in chosen if way.attempt is None or way.attempt.status not in SETTLED or _brought_more(way, told)
    ]


def _is_live(way: Way) -> bool:
    """Whether money may come; not by a way that was only asked for: its provider has not heard of it."""
    return way.attempt is None or way.attempt.status in LIVE - {PaymentStatus.CREATED}


def _brought_more(way: Way, told: set[tuple[UUID | None, str]]) -> bool:
    assert way.attempt is not None  # noqa: S101  (what the caller looked at)
    return any(
        reference == way.attempt.reference and transaction != way.attempt.transaction_id
        for reference, transaction in told
    )


def _answered(command: Confirm, named: Sequence[Named], silent: Sequence[Silent]) -> tuple[int, ...]:
    """The events that a look has answered: not those about a way whose provider was silent."""
    mute = {one.way.attempt.reference for one in silent if one.way.attempt is not None}
    waiting = {one.inbox_id for one in named if one.reference in mute}
    return tuple(inbox_id for inbox_id in command.inbox_ids if inbox_id not in waiting)


def _outcome(confirmation: Confirmation) -> str:
    return f"{confirmation.status.value} ({confirmation.flag})" if confirmation.flag else confirmation.status.value

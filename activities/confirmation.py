"""Asking the providers what became of a payment, and recording it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from domain.money import Money
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
from storage import attempts, audit, inbox, payments, receipts
from storage.attempts import LIVE, Loaded, Way
from storage.models import Attempt, Payment, Workspace
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()

TRANSACTION_TAKEN = "transaction_settled_another_payment"
WATCHED_AFTER_EXPIRY = timedelta(hours=24)
"""How long ways that cannot be closed are watched beyond their expiry: networks report late."""
SETTLED = frozenset({"paid", "surplus"})
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
    """What a look at one way found."""

    way: Way
    observed: ProviderPayment

    @property
    def money(self) -> bool:
        """Whether money arrived by this way."""
        return self.observed.captured is not None

    @property
    def unconfirmed(self) -> bool:
        """Whether money is said to have arrived, and nobody said how much."""
        return not self.money and self.observed.failure_code == AMOUNT_UNCONFIRMED


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
            seen = [
                Seen(way, await self._observe(loaded.payment, way, command, named))
                for way in _ways_to_look_at(loaded, named)
            ]
        try:
            confirmation = await self._record(command, seen)
        except IntegrityError:
            confirmation = await self._flag_taken_transaction(command, seen)
        if confirmation.status in CAPTURED and len(loaded.ways) > 1:
            confirmation = await self._close_others(command.payment_id, confirmation)
        elif confirmation.status in CLOSED_WITHOUT_MONEY and self._may_still_be_paid(loaded.payment, seen):
            confirmation = replace(confirmation, others_open=True)
        await self._acknowledge(loaded.payment, seen)
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

    async def _observe(
        self, payment: Payment, way: Way, command: Confirm, named: Mapping[UUID, str | None]
    ) -> ProviderPayment:
        provider = self._guard.provider(way.account)
        if not provider.capabilities.status_call:
            return await self._claimed(payment, way)
        ref = self._ref(payment, way.attempt)
        ref = replace(ref, transaction_id=named.get(ref.reference) or ref.transaction_id)
        close = command.close_as is not None and provider.capabilities.closes(ref.method)

        async def ask(adapter: Provider) -> ProviderPayment:
            return await (adapter.close_checkout(ref) if close else adapter.look(ref))

        return await self._guard.call(way.account, way.health, ask)

    async def _claimed(self, payment: Payment, way: Way) -> ProviderPayment:
        """What verified callbacks say, for a provider that cannot be asked: they are the only source there is.

        One that does not vouch for an amount settles nothing. Another one has to say how much it was: a row of a
        settlement file, which a person may write.
        """
        if way.attempt is None:
            return ProviderPayment(PaymentStatus.UNKNOWN)
        async with self._database.transaction() as session:
            event = await inbox.capture_claimed(session, payment.id, way.attempt.reference)
        if event is None:
            return ProviderPayment(PaymentStatus.UNKNOWN)
        if event.claimed_amount is None or event.claimed_currency is None:
            return ProviderPayment(PaymentStatus.UNKNOWN, failure_code=AMOUNT_UNCONFIRMED)
        return ProviderPayment(
            PaymentStatus.PAID,
            session_id=way.attempt.session_id,
            transaction_id=event.transaction_id or event.event_id,
            captured=Money.from_decimal(event.claimed_amount, event.claimed_currency),
            method=way.attempt.method or payment.method,
        )

    async def _record(self, command: Confirm, seen: list[Seen]) -> Confirmation:
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, command.payment_id)
            confirmation = await self._apply(session, locked, workspace, seen, command)
            await inbox.mark_handled(session, command.inbox_ids, outcome=_outcome(confirmation))
            return confirmation

    async def _apply(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, seen: list[Seen], command: Confirm
    ) -> Confirmation:
        surplus_ids: list[UUID] = []
        receipt_id: UUID | None = None
        with_money = [one for one in seen if one.money]
        if with_money and payment.status not in CAPTURED:
            first = with_money.pop(0)
            confirmation = await settle(session, payment, workspace, first.observed, first.way.attempt, at=self._now())
            surplus_ids += confirmation.surplus_ids
            receipt_id = confirmation.receipt_id
            if confirmation.flag is not None and confirmation.status not in CAPTURED:
                return confirmation
        for one in with_money:
            surplus_ids += await record_surplus(session, payment, workspace, one.observed, one.way.attempt)
        for one in seen:
            if one.unconfirmed:
                self._flag_unconfirmed(session, payment, workspace, one)
            elif not one.money:
                await self._note(session, payment, workspace, one)
        if payment.status not in CAPTURED and seen and not any(one.unconfirmed for one in seen):
            status, reason = self._combined(seen, command.close_as)
            payments.change_status(session, workspace, payment, status, at=self._now(), actor="provider", reason=reason)
        if receipt_id is None and payment.status in CAPTURED:  # settled by an earlier look
            receipt = await receipts.of_payment(session, payment.id)
            receipt_id = None if receipt is None else receipt.id
        return Confirmation(
            PaymentStatus(payment.status),
            receipt_id,
            payment.flag,
            surplus_ids=tuple(surplus_ids) if workspace.surplus_policy == "refund" else (),
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

    async def _flag_taken_transaction(self, command: Confirm, seen: list[Seen]) -> Confirmation:
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
            await inbox.mark_handled(session, command.inbox_ids, outcome=_outcome(confirmation))
            return confirmation

    async def _close_others(self, payment_id: UUID, confirmation: Confirmation) -> Confirmation:
        """Close what else could still be paid; what cannot be closed is watched until it lapses."""
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, payment_id)
        assert loaded is not None  # noqa: S101  (it was there a moment ago)
        surplus_ids, others_open = list(confirmation.surplus_ids), False
        for way in loaded.ways:
            if way.attempt is None or way.attempt.status not in LIVE:
                continue
            lapsed = self._now() > loaded.payment.expires_at + WATCHED_AFTER_EXPIRY
            try:
                observed = await self._observe(loaded.payment, way, Confirm(payment_id, (), PaymentStatus.CANCELED), {})
            except ProviderError as error:
                log.warning("way could not be closed", payment_id=str(payment_id), code=error.code)
                others_open = others_open or not lapsed
                continue
            async with self._database.transaction() as session:
                locked, workspace = await payments.lock(session, payment_id)
                one = Seen(way, observed)
                if one.unconfirmed:
                    self._flag_unconfirmed(session, locked, workspace, one)
                if observed.captured is not None:
                    made = await record_surplus(session, locked, workspace, observed, way.attempt)
                    surplus_ids += made if workspace.surplus_policy == "refund" else []
                elif lapsed or observed.status in (
                    PaymentStatus.EXPIRED,
                    PaymentStatus.CANCELED,
                    PaymentStatus.FAILED,
                ):
                    closed = PaymentStatus.EXPIRED if lapsed else observed.status
                    await attempts.set_status(session, way.attempt.id, status=closed.value)
                else:
                    others_open = True
        return replace(confirmation, others_open=others_open, surplus_ids=tuple(surplus_ids))

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


def _ways_to_look_at(loaded: Loaded, named: Mapping[UUID, str | None]) -> list[Way]:
    """The ways that may still bring money, and those that events speak of; never one that has brought its money."""
    captured = loaded.payment.status in CAPTURED
    chosen = []
    for way in loaded.ways:
        attempt = way.attempt
        if attempt is None:
            chosen += [] if captured else [way]
        elif attempt.status not in SETTLED and (
            attempt.status in LIVE or attempt.reference in named or (not captured and len(loaded.ways) == 1)
        ):
            chosen.append(way)
    return chosen


def _outcome(confirmation: Confirmation) -> str:
    return f"{confirmation.status.value} ({confirmation.flag})" if confirmation.flag else confirmation.status.value

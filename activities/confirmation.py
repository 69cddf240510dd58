"""Asking the provider what became of a payment, and recording it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog
from sqlalchemy.exc import IntegrityError, NoResultFound
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import as_application_error
from activities.settlement import settle
from domain.payment import CAPTURED, Confirm, Confirmation, PaymentStatus, RecordStatus
from providers.base import CheckoutMode, CheckoutRef, ProviderPayment
from providers.pool import ProviderPool
from storage import audit, inbox, payments, receipts
from storage.models import Payment, ProviderAccount, Workspace
from storage.session import Database

log = structlog.get_logger()

TRANSACTION_TAKEN = "transaction_settled_another_payment"


class ConfirmationActivities:
    """The look at the provider: first the call, then one transaction with everything that follows from it."""

    def __init__(self, database: Database, pool: ProviderPool, now: Callable[[], datetime]) -> None:
        self._database = database
        self._pool = pool
        self._now = now

    @activity.defn
    async def confirm(self, command: Confirm) -> Confirmation:
        """Ask the provider about the payment; settle it if money arrived, else record its status.

        Safe to repeat: settlement is decided by constraints. The events named in the command are marked handled in
        the same transaction. Raises ApplicationError typed as in providers/base.py.
        """
        async with self._database.transaction() as session:
            found = await payments.with_account(session, command.payment_id)
        if found is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        payment, account = found
        if payment.status in CAPTURED:  # nothing left to learn; later issues of the money have events of their own
            observed = None
        else:
            with as_application_error():
                observed = await self._observe(payment, account, command)
        try:
            confirmation = await self._record(command, observed)
        except IntegrityError:
            confirmation = await self._flag_taken_transaction(command, observed)
        log.info("payment confirmed", payment_id=str(payment.id), status=confirmation.status.value)
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

    async def _record(self, command: Confirm, observed: ProviderPayment | None) -> Confirmation:
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, command.payment_id)
            confirmation = await self._apply(session, locked, workspace, observed, command)
            await inbox.mark_handled(session, command.inbox_ids, outcome=_outcome(confirmation))
            return confirmation

    async def _flag_taken_transaction(self, command: Confirm, observed: ProviderPayment | None) -> Confirmation:
        """The database refused to settle: the provider's transaction already settled another payment.

        No retry can mend that, so the payment is left visibly unknown for a person. Raises RuntimeError when it was
        another constraint: then the activity is tried again.
        """
        taken = None if observed is None else observed.transaction_id
        async with self._database.transaction() as session:
            locked, workspace = await payments.lock(session, command.payment_id)
            holder = await payments.holder_of_transaction(session, locked.provider, taken)
            if holder is None or holder == locked.id:
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

    async def _observe(self, payment: Payment, account: ProviderAccount, command: Confirm) -> ProviderPayment:
        provider, ref = self._pool.of(account), _ref(payment)
        if command.close_as is not None and provider.capabilities.closes_checkout:
            return await provider.close_checkout(ref)
        return await provider.look(ref)

    async def _apply(
        self,
        session: AsyncSession,
        payment: Payment,
        workspace: Workspace,
        observed: ProviderPayment | None,
        command: Confirm,
    ) -> Confirmation:
        if observed is not None and observed.captured is not None:
            return await settle(session, payment, workspace, observed, at=self._now())
        if observed is not None:
            status = _status_without_money(observed.status, command.close_as)
            transition = payments.change_status(
                session, workspace, payment, status, at=self._now(), actor="provider", reason=observed.failure_code
            )
            news = await payments.set_attempt_status(
                session, payment.id, status=transition.status.value, error_code=observed.failure_code
            )
            if news and observed.failure_code:
                audit.record(
                    session,
                    workspace.id,
                    actor="provider",
                    action="payment.attempt_failed",
                    subject=("payment", payment.id),
                    details={"code": observed.failure_code},
                )
        receipt = await receipts.of_payment(session, payment.id) if payment.status in CAPTURED else None
        return Confirmation(PaymentStatus(payment.status), None if receipt is None else receipt.id, payment.flag)


def _status_without_money(observed: PaymentStatus, close_as: PaymentStatus | None) -> PaymentStatus:
    """Which status follows from a look that found no money.

    A closed checkout takes the status it was closed for. 'Not found' is no answer while a payment may still be paid;
    once it is being closed it means that there is nothing to pay. `pending` after closing is a slow method at work.
    """
    gone = (PaymentStatus.EXPIRED, PaymentStatus.CANCELED, PaymentStatus.UNKNOWN)
    if close_as is not None and observed in gone:
        return close_as
    return PaymentStatus.PENDING if observed is PaymentStatus.UNKNOWN else observed


def _ref(payment: Payment) -> CheckoutRef:
    return CheckoutRef(
        reference=payment.id,
        session_id=payment.provider_session_id,
        mode=CheckoutMode(payment.checkout_mode),
        created_at=payment.created_at,
    )


def _outcome(confirmation: Confirmation) -> str:
    return f"{confirmation.status.value} ({confirmation.flag})" if confirmation.flag else confirmation.status.value

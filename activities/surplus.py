"""Giving back money beyond the obligation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.exc import NoResultFound
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.confirmation import ref_of
from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.refund_calls import NEVER, Asked, RefundCalls, with_earlier
from activities.review_state import refresh
from domain.money import Money
from domain.payment import PaymentStatus, ReturnSurplus, SurplusStatus
from domain.review import ReviewReason
from providers.base import (
    NothingMoved,
    OutcomeUndecided,
    ProviderBusy,
    ProviderRefund,
    RefundRequest,
    RefundStatus,
)
from storage import attempts, payments, surplus
from storage.attempts import Way
from storage.models import Attempt, Payment, SurplusCapture
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()

_STATUS = {
    RefundStatus.SUCCEEDED: SurplusStatus.REFUNDED,
    RefundStatus.PENDING: SurplusStatus.REFUNDING,
    RefundStatus.FAILED: SurplusStatus.REFUND_FAILED,
}


class SurplusActivities:
    """Refunds surplus captures at the provider that took them. The refund's id is the surplus's, on every try."""

    def __init__(self, database: Database, guard: ProviderGuard, sealer: Sealer, now: Callable[[], datetime]) -> None:
        self._database = database
        self._guard = guard
        self._sealer = sealer
        self._now = now
        self._calls = RefundCalls(guard, now)

    @activity.defn
    async def return_surplus(self, command: ReturnSurplus) -> SurplusStatus:
        """Refund the money, or ask how its refund stands, and record it. Safe to repeat.

        Only what was decided to go back does. A refusal is final and recorded as `refund_failed`, and so is a request
        of which the provider cannot tell what became; an operator compares, and may start it again. Raises
        ApplicationError typed as in providers/base.py when the outcome is not known or the provider is busy.
        """
        try:
            async with self._database.transaction() as session:
                row, attempt = await surplus.lock(session, command.surplus_id)
                loaded = await attempts.load(session, row.payment_id)
        except NoResultFound:
            raise ApplicationError("no such surplus", "payment_not_found", None, type="PaymentNotFound") from None
        assert loaded is not None  # noqa: S101  (a foreign key)
        if row.status != SurplusStatus.REFUNDING:
            return SurplusStatus(row.status)
        way = next(way for way in loaded.ways if way.attempt is not None and way.attempt.id == attempt.id)
        with as_application_error():
            try:
                refund = await self._ask(way, loaded.payment, row)
            except ProviderBusy:
                raise
            except (NothingMoved, OutcomeUndecided) as error:
                refund = ProviderRefund("", RefundStatus.FAILED, error.code)
        return await self._record(command, row.refund_id, refund)

    async def _ask(self, way: Way, payment: Payment, row: SurplusCapture) -> ProviderRefund:
        asked = Asked(row.provider_refund_id, row.asked_at, row.accepted_at is not None)
        if asked == NEVER and not self._refunds(way):
            return ProviderRefund("", RefundStatus.FAILED, "refund_not_supported")

        async def claim(seen: datetime | None, at: datetime | None) -> bool:
            async with self._database.statement() as session:
                return await surplus.claim(session, row.id, seen=seen, at=at)

        request = await with_earlier(self._database, way, self._request(payment, way.attempt, row), asked)
        return await self._calls.make(way, request, asked, claim)

    def _refunds(self, way: Way) -> bool:
        """Whether the provider can send back what came by this way."""
        sheet = self._guard.provider(way.account).capabilities
        method = sheet.method(None if way.attempt is None else way.attempt.method)
        return sheet.refund and (method is None or method.refundable)

    def _request(self, payment: Payment, attempt: Attempt | None, row: SurplusCapture) -> RefundRequest:
        return RefundRequest(
            refund_id=row.refund_id,
            transaction_id=row.transaction_id,
            amount=row.money,
            payment=ref_of(payment, attempt, self._sealer),
            captured=row.money,
            refunded_before=Money.zero(row.currency),
            reason=row.reason,
        )

    async def _record(self, command: ReturnSurplus, refund_id: UUID, refund: ProviderRefund) -> SurplusStatus:
        status = _STATUS[refund.status]
        async with self._database.transaction() as session:
            found = await surplus.get(session, command.surplus_id)
            assert found is not None  # noqa: S101  (read a moment ago)
            payment, workspace = await payments.lock(session, found.payment_id)
            row, attempt = await surplus.lock(session, command.surplus_id)
            if row.status != SurplusStatus.REFUNDING or row.refund_id != refund_id:  # another try was faster
                return SurplusStatus(row.status)
            if refund.status is RefundStatus.PENDING:
                row.accepted_at = row.accepted_at or self._now()
            surplus.change_status(
                session,
                row,
                attempt,
                status,
                at=self._now(),
                actor="workflow",
                provider_refund_id=refund.provider_refund_id or None,
                failure_code=refund.failure_code,
            )
            if status is SurplusStatus.REFUNDED and row.reason == ReviewReason.ORDER_PAID_TWICE:
                payments.change_status(
                    session,
                    workspace,
                    payment,
                    PaymentStatus.REFUNDED,
                    at=self._now(),
                    actor="workflow",
                    reason=row.reason,
                    details={"refunded_amount": str(row.money), "refunded_total": str(row.money)},
                )
            await refresh(session, payment, workspace, at=self._now(), actor="workflow")
        log.info("surplus", surplus_id=str(row.id), payment_id=str(row.payment_id), status=status.value)
        return status

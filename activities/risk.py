"""Warnings of providers about captured payments: recorded, told, and answered by the workspace's policy once each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.errors import as_application_error
from activities.guard import ProviderGuard
from activities.parking import parked_if_it_fails
from activities.refunds import paid_way
from domain.dispute import DisputeState
from domain.payment import CAPTURED, PaymentStatus
from domain.review import UNBOOKED
from domain.risk import FraudWarningAction, ReconcileRisk, RiskAlertKind, RiskDecision, RiskReconciled
from domain.steps import cut
from providers.base import KnowsRiskAlerts, Provider, ProviderRiskAlert
from storage import attempts, audit, credit, disputes, inbox, outbox, payments, refunds, risk_alerts, subscriptions
from storage.attempts import Loaded, Way
from storage.models import Payment, RiskAlert, Workspace
from storage.session import Database
from storage.surplus import is_whole

log = structlog.get_logger()

REASON = "early fraud warning of the payer's bank"
"""Of a refund that the policy has made; printed on its credit note."""
NO_LONGER_DISPUTED = frozenset({DisputeState.WON, DisputeState.CLOSED})


@dataclass(frozen=True, slots=True)
class Warned:
    """What the provider says about one transaction of a payment."""

    transaction_id: str
    alerts: Sequence[ProviderRiskAlert]
    step: int
    """Minor units that a refund of it must be a multiple of."""


class RiskActivities:
    """Records what providers warn of. The provider's own word decides, asked for anew, whatever the events' order."""

    def __init__(self, database: Database, guard: ProviderGuard, now: Callable[[], datetime]) -> None:
        self._database = database
        self._guard = guard
        self._now = now

    @activity.defn
    async def reconcile_risk(self, command: ReconcileRisk) -> RiskReconciled:
        """Ask the provider what it warns of about the payment, record and tell what is new, and follow the policy.

        Refunds and disputes at the provider are on record before: nothing is refunded that is disputed, or twice. Safe
        to repeat: each alert is decided about when it is first seen, and its refund's id follows from it. Raises
        ApplicationError typed as in providers/base.py.
        """
        async with parked_if_it_fails(self._database, command.inbox_ids):
            return await self._reconcile(command)

    async def _reconcile(self, command: ReconcileRisk) -> RiskReconciled:
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, command.payment_id)
            events = await inbox.named_by(session, command.inbox_ids)
            named = await inbox.names_with(session, command.inbox_ids, "")
        if loaded is None:
            raise ApplicationError("no such payment", "payment_not_found", None, type="PaymentNotFound")
        if not _is_ready(loaded.payment):  # the events stay in the inbox, and come again
            return RiskReconciled()
        seen = []
        for way in _ways_named(loaded, [event.reference for event in events]):
            transaction = _transaction_of(loaded, way)
            if transaction is not None:
                with as_application_error():
                    step = self._guard.provider(way.account).capabilities.step(loaded.payment.currency)
                    alerts = await self._guard.call(way.account, way.health, _asking(transaction, named))
                seen.append(Warned(transaction, alerts, step))
        async with self._database.transaction() as session:
            payment, workspace = await payments.lock(session, command.payment_id)
            if payment.subscription_id is not None:  # its lock comes before the credit's
                await subscriptions.lock(session, payment.subscription_id)
            news = [told for one in seen for told in await self._take(session, payment, workspace, one)]
            for row, what in news:  # after all else: the audit log's lock must come last
                self._tell(session, payment, workspace, row, f"risk_alert.{what}")
            refund_ids = [row.refund_id for row in await risk_alerts.of_payment(session, payment.id)]
            number = sum(len(one.alerts) for one in seen)
            await inbox.mark_handled(session, command.inbox_ids, outcome=f"{number} risk alerts")
        return RiskReconciled(tuple(refund_id for refund_id in refund_ids if refund_id is not None))

    async def _take(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, seen: Warned
    ) -> list[tuple[RiskAlert, str]]:
        """Bring what is on record of a locked payment up to date. Returns what is new, as it is told."""
        news = []
        known = {row.provider_alert_id: row for row in await risk_alerts.of_payment(session, payment.id)}
        for alert in seen.alerts:
            row = known.get(alert.alert_id)
            if row is None:
                row = known[alert.alert_id] = await self._raise(session, payment, workspace, seen, alert)
                news.append((row, "raised"))
            if row.is_open and not alert.is_open:
                row.is_open, row.closed_reason = (
                    False,
                    None if alert.closed_reason is None else alert.closed_reason[:100],
                )
                row.updated_at = self._now()
                news.append((row, "closed"))
            row.actionable = alert.actionable
        return news

    async def _raise(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, seen: Warned, alert: ProviderRiskAlert
    ) -> RiskAlert:
        decision = await self._decision(session, payment, workspace, seen.transaction_id, alert)
        row = RiskAlert(
            id=uuid5(payment.id, f"risk-alert:{alert.alert_id}"),
            workspace_id=workspace.id,
            payment_id=payment.id,
            provider=payment.provider,
            provider_alert_id=alert.alert_id[:255],
            transaction_id=seen.transaction_id[:255],
            kind=alert.kind.value,
            reason=None if alert.reason is None else alert.reason[:100],
            is_open=True,
            actionable=alert.actionable,
            decision=decision.value,
            raised_at=alert.raised_at,
        )
        if decision is RiskDecision.REFUNDED:
            row.refund_id = await _request(session, payment, row, seen.step)
        session.add(row)
        return row

    async def _decision(
        self,
        session: AsyncSession,
        payment: Payment,
        workspace: Workspace,
        transaction_id: str,
        alert: ProviderRiskAlert,
    ) -> RiskDecision:
        """What is done about an alert that is seen for the first time."""
        wanted = workspace.fraud_warning_action == FraudWarningAction.REFUND
        if alert.kind is not RiskAlertKind.EARLY_FRAUD_WARNING or not wanted:
            return RiskDecision.TOLD
        bank = await disputes.of_payment(session, payment.id)
        beyond = transaction_id != payment.provider_transaction_id or await is_whole(session, payment.id)
        hindrances = {
            RiskDecision.NOT_PAID: payment.status not in CAPTURED,
            RiskDecision.OVERPAYMENT: beyond,
            RiskDecision.DISPUTED: any(row.status not in NO_LONGER_DISPUTED for row in bank),
            RiskDecision.NOT_ACTIONABLE: alert.actionable is False,
            RiskDecision.NOTHING_LEFT: (await credit.source_of(session, payment)).refundable.minor <= 0,
        }
        return next((why for why, holds in hindrances.items() if holds), RiskDecision.REFUNDED)

    def _tell(
        self, session: AsyncSession, payment: Payment, workspace: Workspace, row: RiskAlert, notice_type: str
    ) -> None:
        """The audit log and the order service; `notice_type` is also the audit's action."""
        facts: dict[str, Any] = {
            "risk_alert_id": str(row.id),
            "kind": row.kind,
            "reason": row.reason,
            "closed_reason": row.closed_reason,
            "actionable": row.actionable,
            "decision": row.decision,
            "refund_id": None if row.refund_id is None else str(row.refund_id),
        }
        audit.record(
            session,
            workspace.id,
            actor="provider",
            action=notice_type,
            subject=("payment", payment.id),
            details=facts | {"provider_alert_id": row.provider_alert_id, "transaction_id": row.transaction_id},
        )
        data = payments.notice_data(payment, PaymentStatus(payment.status)) | facts
        outbox.add_notice(session, workspace, payment, notice_type=notice_type, at=self._now(), data=data)
        log.info(notice_type, payment_id=str(payment.id), kind=row.kind, decision=row.decision)


async def _request(session: AsyncSession, payment: Payment, row: RiskAlert, step: int) -> UUID:
    """Reserve all that is left and can go back; what is below the provider's step stays, unless it is all there is."""
    left = (await credit.source_of(session, payment)).refundable
    whole = cut(left, step).whole
    values = {
        "id": uuid5(row.id, "refund"),
        "amount": (whole if whole.minor else left).to_decimal(),
        "reason": REASON,
        "origin": "merchant",
    }
    return (await refunds.request(session, payment, values, actor="policy:fraud_warning")).id


def _is_ready(payment: Payment) -> bool:
    """Whether it is known what came of the payment; else its events wait."""
    return payment.status in CAPTURED or payment.flag in UNBOOKED


def _ways_named(loaded: Loaded, references: Sequence[UUID | None]) -> list[Way]:
    """The attempts that some events are about; the one by which the payment was paid where they do not say."""
    named = [way for way in loaded.ways if way.attempt is not None and way.attempt.reference in references]
    return named or [paid_way(loaded)]


def _transaction_of(loaded: Loaded, way: Way) -> str | None:
    own = None if way.attempt is None else way.attempt.transaction_id
    return own or loaded.payment.provider_transaction_id


def _asking(transaction_id: str, named: Sequence[str]) -> Callable[[Provider], Awaitable[list[ProviderRiskAlert]]]:
    async def ask(provider: Provider) -> list[ProviderRiskAlert]:
        if not isinstance(provider, KnowsRiskAlerts):
            return []
        return list(await provider.risk_alerts_of(transaction_id, named))

    return ask

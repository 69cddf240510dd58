"""What `/metrics` counts, from the tables: every replica reads the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from storage.models import (
    OrderNotice,
    Payment,
    ProviderAccount,
    ProviderHealth,
    Refund,
    SurplusCapture,
    WebhookEvent,
    WebhookRejection,
)


class Family(NamedTuple):
    """Numbers of one name: `rows` have the labels' values and then the number. Seconds where the name says so."""

    name: str
    help_text: str
    labels: Sequence[str]
    rows: Sequence[Sequence[Any]]


async def families(session: AsyncSession) -> list[Family]:
    """Everything that is counted."""
    counts = [Family(name, text, labels, (await session.execute(query)).all()) for name, text, labels, query in COUNTS]
    return [*counts, *await _providers(session)]


def _counted(*columns: Any) -> Select[Any]:
    return select(*columns, func.count()).group_by(*columns)


COUNTS: Sequence[tuple[str, str, Sequence[str], Any]] = (
    ("payments", "Payments by status", ("provider", "status"), _counted(Payment.provider, Payment.status)),
    (
        "payments_flagged",
        "Payments that a person must look at",
        ("flag",),
        _counted(Payment.flag).where(Payment.flag.is_not(None)),
    ),
    ("refunds", "Refunds by status", ("provider", "status"), _counted(Refund.provider, Refund.status)),
    (
        "surplus_captures",
        "Money beyond obligations by status",
        ("provider", "status"),
        _counted(SurplusCapture.provider, SurplusCapture.status),
    ),
    (
        "webhook_events",
        "Callbacks by status",
        ("provider", "status"),
        _counted(WebhookEvent.provider, WebhookEvent.status),
    ),
    (
        "webhook_outcomes",
        "Callbacks that were taken in, by what became of them",
        ("provider", "outcome"),
        _counted(WebhookEvent.provider, WebhookEvent.outcome).where(WebhookEvent.outcome.is_not(None)),
    ),
    (
        "webhook_repeats",
        "Deliveries of callbacks that were known already",
        ("provider",),
        select(WebhookEvent.provider, func.sum(WebhookEvent.deliveries - 1)).group_by(WebhookEvent.provider),
    ),
    (
        "webhook_rejections",
        "Callbacks that were refused",
        ("provider", "reason"),
        select(WebhookRejection.provider, WebhookRejection.reason, func.sum(WebhookRejection.count)).group_by(
            WebhookRejection.provider, WebhookRejection.reason
        ),
    ),
    (
        "webhook_oldest_waiting_seconds",
        "Age of the oldest callback without an outcome",
        (),
        select(func.coalesce(func.extract("epoch", func.now() - func.min(WebhookEvent.received_at)), 0)).where(
            WebhookEvent.status.in_(["received", "dispatched"])
        ),
    ),
    ("order_notifications", "Order notifications by status", ("status",), _counted(OrderNotice.status)),
    (
        "order_notification_oldest_waiting_seconds",
        "Age of the oldest notification that was not delivered",
        (),
        select(func.coalesce(func.extract("epoch", func.now() - func.min(OrderNotice.created_at)), 0)).where(
            OrderNotice.status == "waiting"
        ),
    ),
)
"""Name (after `durable_payments_`), help, labels, and a query whose last column is the value."""


async def _providers(session: AsyncSession) -> list[Family]:
    """The circuit breakers: 1 is open."""
    query = select(
        ProviderAccount.provider,
        ProviderAccount.id,
        ProviderHealth.opened_at,
        ProviderHealth.failures,
        ProviderHealth.latency_ms,
    ).join(ProviderHealth, ProviderHealth.provider_account_id == ProviderAccount.id)
    rows = (await session.execute(query)).all()
    circuits = [(provider, str(account), opened_at is not None) for provider, account, opened_at, _, _ in rows]
    failures = [(provider, str(account), number) for provider, account, _, number, _ in rows]
    seconds = [(provider, str(account), ms / 1000) for provider, account, _, _, ms in rows if ms is not None]
    labels = ("provider", "account")
    return [
        Family("provider_circuit_open", "1 while calls to the account's provider fail at once", labels, circuits),
        Family("provider_failures_in_a_row", "Calls that went unanswered since the last answer", labels, failures),
        Family("provider_latency_seconds", "Of the last recorded answer", labels, seconds),
    ]

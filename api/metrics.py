"""`/metrics` in Prometheus' text format, counted from the database at each scrape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Administrator, ServicesDep
from api.problems import Problem
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

router = APIRouter(tags=["health"])


@router.get("/metrics", summary="Metrics", response_class=Response)
async def metrics(caller: Administrator, services: ServicesDep) -> Response:
    """Counts of all workspaces; needs a platform key. Every replica answers the same, so scrape one."""
    if caller.workspace is not None:
        raise Problem("forbidden", "Metrics are of all workspaces: use a platform key.")
    registry = CollectorRegistry()
    async with services.database.transaction() as session:
        for name, text, labels, query in COUNTS:
            _fill(registry, name, text, labels, (await session.execute(query)).all())
        await _providers(session, registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


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


def _fill(
    registry: CollectorRegistry, name: str, text: str, labels: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    gauge = Gauge(f"durable_payments_{name}", text, labels, registry=registry)
    for *values, number in rows:
        (gauge.labels(*values) if labels else gauge).set(float(number))


async def _providers(session: AsyncSession, registry: CollectorRegistry) -> None:
    """The circuit breakers: 1 is open."""
    query = select(
        ProviderAccount.provider,
        ProviderAccount.id,
        ProviderHealth.opened_at,
        ProviderHealth.failures,
        ProviderHealth.latency_ms,
    ).join(ProviderHealth, ProviderHealth.provider_account_id == ProviderAccount.id)
    rows = (await session.execute(query)).all()
    labels = ("provider", "account")
    _fill(
        registry,
        "provider_circuit_open",
        "1 while calls to the account's provider fail at once",
        labels,
        [(provider, str(account), opened_at is not None) for provider, account, opened_at, _, _ in rows],
    )
    _fill(
        registry,
        "provider_failures_in_a_row",
        "Calls that went unanswered since the last answer",
        labels,
        [(provider, str(account), failures) for provider, account, _, failures, _ in rows],
    )
    _fill(
        registry,
        "provider_latency_seconds",
        "Of the last recorded answer",
        labels,
        [(provider, str(account), latency / 1000) for provider, account, _, _, latency in rows if latency is not None],
    )

"""`/metrics` in Prometheus' text format, counted from the database at each scrape."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from api.context import Administrator, ServicesDep
from api.media import TEXT, answers_with
from api.problems import Problem
from storage.metrics import families

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Metrics",
    response_class=Response,
    responses=answers_with("text/plain", TEXT, "Prometheus' text format"),
)
async def metrics(caller: Administrator, services: ServicesDep) -> Response:
    """Counts of all workspaces; needs a platform key. Every replica answers the same, so scrape one."""
    if caller.workspace is not None:
        raise Problem("forbidden", "Metrics are of all workspaces: use a platform key.")
    await services.refused_webhooks.flush()
    async with services.database.transaction() as session:
        counted = await families(session)
    registry = CollectorRegistry()
    for name, help_text, labels, rows in counted:
        gauge = Gauge(f"durable_payments_{name}", help_text, labels, registry=registry)
        for *values, number in rows:
            (gauge.labels(*values) if labels else gauge).set(float(number))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

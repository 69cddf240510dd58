"""The application: routers, problems, logging of requests."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
from fastapi import FastAPI, Request, Response

from api import (
    accounts,
    admin,
    commissions,
    disputes,
    docs,
    health,
    invoices,
    methods,
    metrics,
    pages,
    payment_methods,
    payments,
    payouts,
    plans,
    problems,
    receipts,
    referrers,
    refunds,
    settlement_files,
    subscription_changes,
    subscriptions,
    surplus,
    ways,
    webhooks,
)
from api.context import Services
from api.limits import BodyLimits
from api.openapi import TAGS, describe
from api.stopping import ComeBack

log = structlog.get_logger()

PREFIX = "/api/v1"
V1 = (
    methods,
    ways,
    payments,
    payment_methods,
    plans,
    subscriptions,
    subscription_changes,
    invoices,
    refunds,
    disputes,
    webhooks,
    receipts,
    commissions,
    referrers,
    payouts,
    surplus,
    accounts,
    settlement_files,
    admin,
)
"""In this order: a fixed address such as /payments/methods comes before /payments/{id}."""
_PAYMENT = re.compile(r"/payments/([0-9a-fA-F-]{36})")


def create_app(services: Callable[[], AbstractAsyncContextManager[Services]]) -> FastAPI:
    """The API over services that open with the application and close with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with services() as opened:
            app.state.services = opened
            yield

    app = FastAPI(
        title="durable payments",
        version="1",
        description="Every payment is a durable workflow. Amounts are decimal strings in major units.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
    )
    problems.install(app)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(pages.router)
    for module in V1:
        app.include_router(module.router, prefix=PREFIX)
    describe(app)
    docs.install(app)
    app.add_middleware(BodyLimits, own_limit_below=f"{PREFIX}/webhooks/")
    app.middleware("http")(log_requests)  # outside: it would wrap what is raised inside of it
    app.add_middleware(ComeBack)
    return app


async def log_requests(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """One line a request, with the payment's id where the address names one. Never the query or a header."""
    structlog.contextvars.clear_contextvars()
    named = _PAYMENT.search(request.url.path)
    if named is not None:
        structlog.contextvars.bind_contextvars(payment_id=named.group(1))
    begun = time.perf_counter()
    response = await call_next(request)
    if not request.url.path.endswith("z"):
        milliseconds = round((time.perf_counter() - begun) * 1000, 1)
        path, status = request.url.path, response.status_code
        log.info("request", method=request.method, path=path, status=status, ms=milliseconds)
    return response

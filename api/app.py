"""The application: routers, problems, and what stands before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from api import (
    account_payouts,
    accounts,
    admin,
    commissions,
    customer_credit,
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
    reviews,
    risk_alerts,
    settlement_files,
    subscription_changes,
    subscriptions,
    surplus,
    vat_rates,
    ways,
    webhooks,
)
from api.answers import Answers
from api.context import Services, authenticate
from api.door import Door
from api.openapi import TAGS, describe
from api.stopping import ComeBack

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
    reviews,
    customer_credit,
    disputes,
    risk_alerts,
    webhooks,
    receipts,
    commissions,
    referrers,
    payouts,
    surplus,
    accounts,
    account_payouts,
    settlement_files,
    admin,
    vat_rates,
)
"""In this order: a fixed address such as /payments/methods comes before /payments/{id}."""


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
    app.add_middleware(Door, authenticate=authenticate)
    app.add_middleware(Answers)
    app.add_middleware(ComeBack)
    return app

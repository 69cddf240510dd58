"""The sandbox as one application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI

from sandbox import admin, pages, stripe
from sandbox.faults import FaultPlan
from sandbox.state import Store
from sandbox.stripe_objects import StripeTwin
from sandbox.webhooks import Sender


def create_app(state_file: Path | None = None) -> FastAPI:
    """A sandbox that remembers in `state_file`, or only while it runs."""
    store, faults = Store(state_file), FaultPlan()
    sender = Sender(store, faults, httpx.AsyncClient(limits=httpx.Limits(max_connections=100)))
    twin = StripeTwin(store, sender)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await sender.close()
        await sender.http.aclose()
        store.close()

    app = FastAPI(title="sandbox provider", lifespan=lifespan, docs_url="/docs")

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    app.include_router(stripe.router(stripe.StripeApi(twin, faults)))
    app.include_router(pages.router(twin))
    app.include_router(admin.router(twin, faults))
    return app

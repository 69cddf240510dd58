"""The sandbox as one application: every provider's twin, their pages, and the controls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import httpx
from fastapi import APIRouter, FastAPI

import sandbox
from sandbox import admin, pages, stripe, stripe_signals, stripe_subscriptions
from sandbox.courier import Courier
from sandbox.faults import FaultPlan
from sandbox.state import Store
from sandbox.stripe_methods import StripeVault
from sandbox.stripe_objects import StripeTwin
from sandbox.webhooks import StripeEvents

Twin = Callable[[Store, Courier, FaultPlan], APIRouter]
"""A provider's interface, its checkout pages and its controls as one router."""


def twins() -> Iterator[Twin]:
    """Of every module here that plays a provider: it names its router `TWIN`."""
    for found in iter_modules(sandbox.__path__):
        twin: Twin | None = getattr(import_module(f"sandbox.{found.name}"), "TWIN", None)
        if twin is not None:
            yield twin


def create_app(state_file: Path | None = None) -> FastAPI:
    """A sandbox that remembers in `state_file`, or only while it runs."""
    store, faults = Store(state_file), FaultPlan()
    courier = Courier(store, faults, httpx.AsyncClient(limits=httpx.Limits(max_connections=100)))
    twin = StripeTwin(store, StripeEvents(store, courier))
    vault = StripeVault(twin)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        courier.resume()
        yield
        await courier.close()
        store.close()

    app = FastAPI(title="sandbox provider", lifespan=lifespan, docs_url="/docs")

    @app.get("/healthz")
    async def alive() -> dict[str, str]:
        return {"status": "ok"}

    app.include_router(stripe.router(stripe.StripeApi(twin, faults, vault)))
    app.include_router(pages.router(twin, vault))
    app.include_router(admin.router(twin, vault, courier, faults))
    app.include_router(stripe_subscriptions.router(stripe_subscriptions.StripeBilling(twin)))
    app.include_router(stripe_signals.router(stripe_signals.StripeSignals(twin)))
    for of_another in twins():
        app.include_router(of_another(store, courier, faults))
    return app

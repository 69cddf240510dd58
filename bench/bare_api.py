"""`python -m bench.bare_api`: one FastAPI route that inserts the inbox row and does nothing else.

Served as the API is (same uvicorn settings, same pool). It checks no signature, looks nothing up and tells nobody: the
floor under webhook intake.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import uvicorn
from fastapi import FastAPI, Request, Response
from sqlalchemy import insert

import process
from settings import async_url
from storage.models import WebhookEvent
from storage.session import Database


def create_app(database: Database, account_id: UUID) -> FastAPI:
    """The one route, and the probe that says it is up."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await database.close()

    app = FastAPI(lifespan=lifespan)

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/webhooks")
    async def receive(request: Request) -> Response:
        body = await request.body()
        async with database.transaction() as session:
            await session.execute(insert(WebhookEvent).values(row_of(body, account_id)))
        return Response(status_code=200)

    return app


def row_of(body: bytes, account_id: UUID) -> dict[str, object]:
    """The same row that the API writes for an event about a payment that is paid already."""
    event = json.loads(body)
    thing = event["data"]["object"]
    now = datetime.now(UTC)
    return {
        "provider_account_id": account_id,
        "provider": "stripe",
        "event_id": event["id"],
        "type": event["type"],
        "kind": "captured",
        "payment_id": UUID(thing["client_reference_id"]),
        "claimed_amount": Decimal(thing["amount_total"]) / 100,
        "claimed_currency": thing["currency"].upper(),
        "body": body,
        "next_attempt_at": now + timedelta(seconds=5),
        "occurred_at": datetime.fromtimestamp(event["created"], UTC),
        "status": "handled",
        "outcome": "already paid",
        "handled_at": now,
    }


def main() -> int:
    """Serve until SIGTERM. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.bare_api")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--account-id", type=UUID, required=True)
    chosen = parser.parse_args()
    app = create_app(Database(async_url(os.environ["DATABASE_URL"])), chosen.account_id)
    uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=chosen.port, log_config=None, access_log=False, proxy_headers=False)
    ).run()
    return 0


if __name__ == "__main__":
    process.end(main)

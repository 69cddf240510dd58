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
from datetime import UTC, datetime

import uvicorn
from fastapi import FastAPI, Request, Response
from sqlalchemy import insert, select

import process
from settings import async_url
from storage.models import WebhookEvent
from storage.session import Database


def create_app(database: Database) -> FastAPI:
    """The one route, and the probe that says it is up."""
    like: dict[str, object] = {}

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
        if not like:
            like.update(await a_row(database))
        row = like | {"event_id": json.loads(body)["id"], "body": body, "handled_at": datetime.now(UTC)}
        async with database.transaction() as session:
            await session.execute(insert(WebhookEvent).values(row))
        return Response(status_code=200)

    return app


async def a_row(database: Database) -> dict[str, object]:
    """A row that the API has written for an event about a payment that was paid; each new one is like it."""
    query = select(WebhookEvent.__table__).where(
        WebhookEvent.type == "checkout.session.completed", WebhookEvent.status == "handled"
    )
    async with database.transaction() as session:
        row = (await session.execute(query.limit(1))).mappings().one()
    return {name: value for name, value in row.items() if name != "id" and value is not None}


def main() -> int:
    """Serve until SIGTERM. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare_api", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    chosen = parser.parse_args()
    app = create_app(Database(async_url(os.environ["DATABASE_URL"])))
    uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=chosen.port, log_config=None, access_log=False, proxy_headers=False)
    ).run()
    return 0


if __name__ == "__main__":
    process.end(main)

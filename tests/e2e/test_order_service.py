"""Order services that answer as nobody should: a delivery ends all the same, and costs nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from dispatch.outbox import UNREACHABLE, OutboxRelay, RetryPlan
from storage.models import OrderNotice
from tests.support.service import PATIENCE, Service

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def endless_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def dripping_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Oh no\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def dripping_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx-very-slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def order_service(answer: Answer) -> AsyncIterator[str]:
    """A server that answers every request like this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    server.close()


@pytest.mark.parametrize(
    ("answer", "outcome"), [(endless_body, None), (dripping_body, "answered 500"), (dripping_head, UNREACHABLE)]
)
async def test_an_answer_without_end_is_not_waited_for(service: Service, answer: Answer, outcome: str | None) -> None:
    shop = await service.shop()
    notice = OrderNotice(
        id=uuid4(),
        workspace_id=shop.workspace.id,
        payment_id=uuid4(),
        seq=1,
        type="payment.paid",
        payload={"type": "payment.paid", "timestamp": datetime.now(UTC).isoformat(), "data": {}},
        attempts=0,
        created_at=datetime.now(UTC),
    )
    async with order_service(answer) as url, httpx.AsyncClient() as http:
        shop.workspace.order_webhook_url = url
        relay = OutboxRelay(service.database, service.sealer, http, RetryPlan(), timeout_seconds=2.0)
        assert await asyncio.wait_for(relay._post(notice, shop.workspace), PATIENCE) == outcome
    await shop.aclose()

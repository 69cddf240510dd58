"""How people and their programs ask a service that keeps falling over: again, with the same key, for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import httpx
from sqlalchemy.exc import DBAPIError

from storage.session import is_outage
from tests.support.market import Market

T = TypeVar("T")
PATIENCE = 120.0
"""Seconds; longer than any of our processes stays down."""
AWAY = (httpx.HTTPError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, DBAPIError)
OUTAGES = frozenset({502, 503, 504})
"""What may be answered while something is away. 500 is not among them: that is a fault of ours."""
BUSY = OUTAGES | {429}


class Broken(Exception):
    """An answer that must never be given."""


class NothingDone(Broken):
    """Something was asked for again and again, and never done."""


async def insist(what: Callable[[], Awaitable[T]]) -> T:
    """Try until it is done. Raises NothingDone."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await what()
        except AWAY as error:
            if isinstance(error, DBAPIError) and not is_outage(error):
                raise
            if time.monotonic() > deadline:
                raise NothingDone(f"{type(error).__name__} {error}") from error
            await asyncio.sleep(0.3)


async def ask(market: Market, method: str, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
    """An answer that is not an outage; a repeat carries the same key. Raises Broken."""

    async def asked() -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await market.shop.api.request(method, path, json=body, headers=headers)
        if answer.status_code in BUSY:
            answer.raise_for_status()
        if answer.is_server_error:
            raise Broken(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    return await insist(asked)


async def awaited(check: Callable[[], Awaitable[T]]) -> T | None:
    """The first true value; None when patience has run out."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = await insist(check)
        if found:
            return found
        await asyncio.sleep(0.3)
    return None

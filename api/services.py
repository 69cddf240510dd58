"""Builds, from settings, what stands behind the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

import wiring
from api.context import ApiLimits, Services
from api.door import Addresses
from api.strangers import RefusedWebhooks, Strangers
from dispatch.inbox import InboxDispatcher
from engine.client import connect
from engine.payments import PaymentEngine
from settings import Settings

REDIS_TIMEOUT_SECONDS = 0.25


def _counts(settings: Settings) -> MemoryStorage | RedisStorage:
    """Where requests are counted. A Redis that is away, or hangs, must not hold requests up."""
    if not settings.redis_url:
        return MemoryStorage()
    return RedisStorage(
        f"async+{settings.redis_url}",
        implementation="redispy",
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
    )


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything behind the API, closed again at the end. Temporal may be away at the start."""
    opener, store = wiring.sealer(settings), wiring.database(settings)
    pool = wiring.provider_pool(settings, opener)
    client = await connect(wiring.temporal_target(settings), lazy=True)
    engine = PaymentEngine(client, settings.temporal_task_queue)
    poll = wiring.poll_plan(settings)
    counts = _counts(settings)
    refused = RefusedWebhooks(store)
    services = Services(
        database=store,
        sealer=opener,
        pool=pool,
        engine=engine,
        dispatcher=InboxDispatcher(store, engine, poll),
        limiter=MovingWindowRateLimiter(counts),
        addresses=Addresses(settings.trusted_proxy_list),
        strangers=Strangers(FixedWindowRateLimiter(counts), settings.refusals_per_minute),
        refused_webhooks=refused,
        poll=poll,
        limits=ApiLimits(
            webhook_max_body_bytes=settings.webhook_max_body_bytes,
            rate_limit_per_minute=settings.rate_limit_per_minute,
            webhook_rate_limit_per_minute=settings.webhook_rate_limit_per_minute,
            checkout_wait_seconds=settings.checkout_wait_seconds,
            checkout_expires_seconds=settings.checkout_expires_seconds,
            key_cache_seconds=settings.key_cache_seconds,
            public_base_url=settings.public_base_url.rstrip("/"),
            allow_plain_http_notices=settings.environment != "production",
        ),
    )
    flushing = asyncio.create_task(refused.keep_flushing())
    try:
        yield services
    finally:
        flushing.cancel()
        with suppress(Exception):  # counts of refusals are no reason to fail an orderly end
            await refused.flush()
        await pool.close()
        await store.close()

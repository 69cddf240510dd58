"""Builds what the entry points share, from settings; nothing else reads settings and builds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from api.context import ApiLimits, Services
from dispatch.inbox import InboxDispatcher
from dispatch.outbox import RetryPlan
from domain.payment import PollPlan
from engine.client import TemporalTarget, connect
from engine.payments import PaymentEngine
from providers.pool import ProviderPool
from settings import Settings
from storage.sealing import Sealer
from storage.session import Database


def temporal_target(settings: Settings) -> TemporalTarget:
    """Where Temporal is."""
    return TemporalTarget(
        address=settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
        tls_cert=settings.temporal_tls_cert_path,
        tls_key=settings.temporal_tls_key_path,
        tls_ca=settings.temporal_tls_ca_path,
        codec_keys=settings.temporal_codec_key_list,
    )


def sealer(settings: Settings) -> Sealer:
    """Encryption at rest. Raises SealingError when no key is set."""
    return Sealer(settings.credentials_key_list)


def database(settings: Settings) -> Database:
    """The connection pool."""
    return Database(settings.database_url, pool_size=settings.db_pool_size)


def provider_pool(settings: Settings, opener: Sealer) -> ProviderPool:
    """The adapters of all accounts."""
    return ProviderPool(
        opener.open_mapping,
        timeout_seconds=settings.provider_timeout_seconds,
        webhook_tolerance_seconds=settings.webhook_tolerance_seconds,
        webhook_future_tolerance_seconds=settings.webhook_future_tolerance_seconds,
    )


def poll_plan(settings: Settings) -> PollPlan:
    """When payments ask the provider themselves."""
    return PollPlan(
        first_seconds=settings.poll_first_seconds,
        growth=settings.poll_growth,
        max_seconds=settings.poll_max_seconds,
        jitter=settings.poll_jitter,
    )


def retry_plan(settings: Settings) -> RetryPlan:
    """When order notifications are tried again."""
    return RetryPlan(
        first_seconds=settings.outbox_first_retry_seconds,
        growth=settings.outbox_retry_growth,
        max_seconds=settings.outbox_max_retry_seconds,
        give_up_after_seconds=settings.outbox_give_up_after_seconds,
    )


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything behind the API, closed again at the end. Temporal may be away at the start."""
    opener, store = sealer(settings), database(settings)
    pool = provider_pool(settings, opener)
    client = await connect(temporal_target(settings), lazy=True)
    engine = PaymentEngine(client, settings.temporal_task_queue)
    poll = poll_plan(settings)
    storage = (
        RedisStorage(f"async+{settings.redis_url}", implementation="redispy") if settings.redis_url else MemoryStorage()
    )
    services = Services(
        database=store,
        sealer=opener,
        pool=pool,
        engine=engine,
        dispatcher=InboxDispatcher(store, engine, poll),
        limiter=MovingWindowRateLimiter(storage),
        poll=poll,
        limits=ApiLimits(
            webhook_max_body_bytes=settings.webhook_max_body_bytes,
            rate_limit_per_minute=settings.rate_limit_per_minute,
            checkout_wait_seconds=settings.checkout_wait_seconds,
            checkout_expires_seconds=settings.checkout_expires_seconds,
            key_cache_seconds=settings.key_cache_seconds,
            public_base_url=settings.public_base_url.rstrip("/"),
            allow_plain_http_notices=settings.environment != "production",
        ),
    )
    try:
        yield services
    finally:
        await pool.close()
        await store.close()

"""Builds what the entry points share, from settings. `api/services.py` builds what only the API needs."""

from __future__ import annotations

import inspect
import ipaddress

import asyncpg
import structlog
from sqlalchemy.exc import ArgumentError

from domain.payment import PollPlan
from engine.client import TemporalTarget
from engine.codec import AesGcmCodec, CodecKeyError
from providers import registry
from providers.network import LOOPBACK, Network
from providers.pool import ProviderPool
from settings import Settings
from storage.sealing import Sealer, SealingError
from storage.session import Database

log = structlog.get_logger()

_DRIVER_KNOWS = frozenset(inspect.signature(asyncpg.connect).parameters) | {"prepared_statement_cache_size"}
_FILES = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})
"""Parameters of libpq that the driver reads from libpq's environment variables, and not from an address."""
UNREADABLE_DATABASE_URL = "DATABASE_URL cannot be read; write it as postgresql://user:password@host/name."


def require_usable(settings: Settings) -> None:
    """Refuse to start with what can never work. Raises SystemExit: one line that says what to do, without secrets."""
    try:
        sealer(settings)
        if settings.temporal_codec_key_list:
            AesGcmCodec(settings.temporal_codec_key_list)
        temporal_target(settings).tls()
    except (SealingError, CodecKeyError) as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        raise SystemExit(f"TEMPORAL_TLS_…_PATH: {error.filename} cannot be read ({error.strerror}).") from None
    fault = fault_of_database_url(settings)
    if fault is not None:
        raise SystemExit(fault)
    if (settings.temporal_tls_cert_path is None) != (settings.temporal_tls_key_path is None):
        raise SystemExit("TEMPORAL_TLS_CERT_PATH and TEMPORAL_TLS_KEY_PATH belong together; set both or neither.")
    if settings.environment == "production" and not settings.public_base_url.startswith("https://"):
        log.warning("PUBLIC_BASE_URL is not an https address: payers and providers may not reach it")
    try:
        for networks in (*settings.trusted_proxy_list, *settings.private_network_list):
            ipaddress.ip_network(networks, strict=False)
    except ValueError:
        raise SystemExit(
            "TRUSTED_PROXIES, PRIVATE_NETWORKS: write addresses or networks, such as 10.0.0.0/8, comma separated."
        ) from None
    if settings.redis_url and not settings.redis_url.startswith(("redis://", "rediss://")):
        raise SystemExit("REDIS_URL cannot be read; write it as redis://host:6379/0.")


def fault_of_database_url(settings: Settings) -> str | None:
    """What is wrong with the address of PostgreSQL, in one line without secrets; None when it may do."""
    try:
        unknown = set(database(settings).engine.url.query) - _DRIVER_KNOWS  # connects to nothing yet
    except (ArgumentError, ImportError, ValueError):  # no address at all, another driver's, a port that is no number
        return UNREADABLE_DATABASE_URL
    files = sorted(unknown & _FILES)
    if files:
        variables = ", ".join(f"PG{name.upper()}" for name in files)
        return f"DATABASE_URL: give {', '.join(files)} in the environment instead, as {variables}."
    return f"DATABASE_URL: the driver has no parameter {', '.join(sorted(unknown))}; leave it out." if unknown else None


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
    registry.load_all()
    return ProviderPool(
        opener.open_mapping,
        timeout_seconds=settings.provider_timeout_seconds,
        webhook_tolerance_seconds=settings.webhook_tolerance_seconds,
        webhook_future_tolerance_seconds=settings.webhook_future_tolerance_seconds,
        network=network(settings),
    )


def network(settings: Settings) -> Network:
    """What may be connected to: public addresses, what the operator listed, and this machine in development."""
    own = LOOPBACK if settings.environment == "development" else ()
    return Network([*own, *settings.private_network_list])


def poll_plan(settings: Settings) -> PollPlan:
    """When payments ask the provider themselves."""
    return PollPlan(
        first_seconds=settings.poll_first_seconds,
        growth=settings.poll_growth,
        max_seconds=settings.poll_max_seconds,
        jitter=settings.poll_jitter,
    )

"""What a request needs: the services behind the API, and who is asking."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItemPerMinute
from limits.aio.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncSession

from api.door import Addresses
from api.fields import in_utc
from api.problems import Problem, rate_limited
from api.strangers import SEEN_SECONDS, RefusedWebhooks, Strangers
from dispatch.inbox import InboxDispatcher
from domain.payment import PollPlan
from engine.payments import PaymentEngine
from providers.pool import ProviderPool
from storage import workspaces
from storage.models import Workspace
from storage.sealing import Sealer
from storage.session import Database

log = structlog.get_logger()
Row = TypeVar("Row", bound=Any)


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Bounds of the API; units in the names."""

    webhook_max_body_bytes: int
    rate_limit_per_minute: int
    webhook_rate_limit_per_minute: int
    checkout_wait_seconds: float
    checkout_expires_seconds: int
    key_cache_seconds: float
    public_base_url: str
    allow_plain_http_notices: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key it is. Without a workspace it is the platform's administrator."""

    key_id: UUID
    scopes: frozenset[str]
    workspace: Workspace | None

    @property
    def actor(self) -> str:
        """How the audit log names the caller."""
        return f"api-key:{self.key_id}"


class KeyCache:
    """Remembers good keys for a few seconds, so that a burst of calls does not ask the database each time."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[float, Caller]] = {}

    def get(self, key: str, lifetime_seconds: float) -> Caller | None:
        """A caller seen within the lifetime."""
        known = self._known.get(hashlib.sha256(key.encode()).digest())
        return known[1] if known is not None and time.monotonic() - known[0] < lifetime_seconds else None

    def forget(self) -> None:
        """What was just changed here holds from the next call on; other replicas learn it within the lifetime."""
        self._known.clear()

    def put(self, key: str, caller: Caller) -> None:
        """Remember; the table is emptied when it has grown large."""
        if len(self._known) > 10_000:  # noqa: PLR2004
            self._known.clear()
        self._known[hashlib.sha256(key.encode()).digest()] = (time.monotonic(), caller)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything behind the API; built once by the entry point."""

    database: Database
    sealer: Sealer
    pool: ProviderPool
    engine: PaymentEngine
    dispatcher: InboxDispatcher
    limiter: MovingWindowRateLimiter
    poll: PollPlan
    limits: ApiLimits
    addresses: Addresses
    strangers: Strangers
    refused_webhooks: RefusedWebhooks
    keys: KeyCache = field(default_factory=KeyCache)

    def now(self) -> datetime:
        """The current time, UTC."""
        return datetime.now(UTC)


def services_of(request: Request) -> Services:
    """The services that the entry point put on the application."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


MAX_KEY_LENGTH = 200

BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    bearerFormat="dp_…",
    description="A key of a workspace, or of the platform; `payment-cli api-key create` makes one.",
)


async def authenticate(request: Request) -> None:
    """Put the caller on the request's state, before its body is read.

    Raises Problem unauthenticated or rate_limited.
    """
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.startswith("dp_") or len(key) > MAX_KEY_LENGTH:
        raise Problem(
            "unauthenticated",
            "Send your API key as 'Authorization: Bearer dp_…'; payment-cli api-key create makes one.",
            headers={"www-authenticate": "Bearer"},
        )
    services = services_of(request)
    caller = services.keys.get(key, services.limits.key_cache_seconds)
    if caller is None:
        caller = await _identify(services, key, services.addresses.of(request.scope))
        services.keys.put(key, caller)
    await limit_rate(services, str(caller.key_id), services.limits.rate_limit_per_minute)
    request.state.caller = caller


async def _identify(services: Services, key: str, address: str) -> Caller:
    """Whose key it is. An unknown one is asked for once, and an address that tries many is not listened to."""
    strangers = services.strangers
    if not strangers.bad.has(key, services.limits.key_cache_seconds):
        if not strangers.good.has(key, SEEN_SECONDS):
            await strangers.admit("key", address)
        async with services.database.statement() as session:
            found = await workspaces.authenticate(session, key)
        if found is not None:
            strangers.good.put(key)
            return Caller(found[0].id, frozenset(found[0].scopes), found[1])
        strangers.bad.put(key)
        await strangers.refused("key", address)
    raise Problem(
        "unauthenticated",
        "This API key is unknown or revoked; check that it belongs to this installation.",
        headers={"www-authenticate": "Bearer"},
    )


async def caller_of(
    request: Request,
    _shown: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)] = None,  # for the description
) -> Caller:
    """Who is asking, within the rate limit. Raises Problem unauthenticated or rate_limited."""
    if not hasattr(request.state, "caller"):  # a route outside of the versioned API
        await authenticate(request)
    caller = request.state.caller
    assert isinstance(caller, Caller)  # noqa: S101
    return caller


async def limit_rate(services: Services, who: str, per_minute: int) -> None:
    """Count one request of `who`. Raises Problem rate_limited with Retry-After."""
    item = RateLimitItemPerMinute(per_minute)
    try:
        if await services.limiter.hit(item, who):
            return
        window = await services.limiter.get_window_stats(item, who)
    except RedisError as error:  # the shared counts are a courtesy: their loss must not refuse a payment
        log.warning("rate limits are not counted", error=type(error).__name__)
        return
    raise rate_limited(f"At most {per_minute} requests a minute", window.reset_time)


CallerDep = Annotated[Caller, Depends(caller_of)]


@dataclass(frozen=True, slots=True)
class Member:
    """A caller acting inside a workspace."""

    workspace: Workspace
    actor: str


def member(scope: str) -> Callable[..., Awaitable[Member]]:
    """A dependency: the caller's workspace, if the key has the scope (or `admin`)."""

    async def require(caller: CallerDep) -> Member:
        if scope not in caller.scopes and "admin" not in caller.scopes:
            raise Problem("forbidden", f"This key lacks the scope {scope}.")
        if caller.workspace is None:
            raise Problem("workspace_required", "Use a key of the workspace; this one administers the platform.")
        return Member(caller.workspace, caller.actor)

    return require


async def administrator(caller: CallerDep) -> Caller:
    """A dependency: a key with the scope `admin`, of a workspace or of the platform."""
    if "admin" not in caller.scopes:
        raise Problem("forbidden", "This key lacks the scope admin.")
    return caller


Administrator = Annotated[Caller, Depends(administrator)]


async def acting_workspace(session: AsyncSession, caller: Caller, asked: UUID | None) -> UUID:
    """The workspace to act on: a workspace's key acts on its own only. Raises Problem."""
    if caller.workspace is not None:
        if asked not in (None, caller.workspace.id):
            raise Problem("forbidden", "This key belongs to another workspace.")
        return caller.workspace.id
    if asked is None:
        raise Problem("validation_failed", "workspace_id: name the workspace.")
    if await workspaces.get(session, asked) is None:
        raise Problem("not_found", "There is no such workspace.")
    return asked


def encode_cursor(created_at: datetime, row_id: UUID) -> str:
    """The position of a row, opaque to callers."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()}|{row_id}".encode()).decode()


def cut_page(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """Of one row more than was asked for: the page, and the cursor of the next one if there is a next one."""
    shown = rows[:limit]
    return shown, encode_cursor(shown[-1].created_at, shown[-1].id) if len(rows) > limit else None


def decode_cursor(cursor: str | None) -> tuple[datetime, UUID] | None:
    """The reverse. Raises Problem on anything that we did not make."""
    if cursor is None:
        return None
    try:
        at, _, row_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        parsed = datetime.fromisoformat(at)
        position = in_utc(parsed), UUID(row_id)
    except (ValueError, binascii.Error):
        raise _bad_cursor() from None
    if parsed.tzinfo is None:
        raise _bad_cursor()
    return position


def _bad_cursor() -> Problem:
    return Problem("validation_failed", "cursor: use next_cursor of the page before, as it was given.")

"""What requests that turn out to be nobody's may cost: how many an address may make, and how they are counted."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from datetime import date
from typing import Final

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.strategies import FixedWindowRateLimiter
from redis.exceptions import RedisError

from api.problems import rate_limited
from storage import inbox
from storage.session import Database, is_outage

log = structlog.get_logger()

SEEN_SECONDS: Final = 3600.0
"""So long after it was good, a name is not held to the limits of its address: others there may be strangers."""
MAX_REMEMBERED: Final = 20_000
"""Entries of one memory; a full one begins anew."""
FLUSH_SECONDS: Final = 2.0


class Memory:
    """Digests of names and when they were last put; bounded, in this process alone."""

    def __init__(self) -> None:
        self._at: dict[bytes, float] = {}

    def put(self, name: str) -> None:
        """Remember it from now on."""
        if len(self._at) >= MAX_REMEMBERED:
            self._at.clear()
        self._at[_digest(name)] = time.monotonic()

    def has(self, name: str, seconds: float) -> bool:
        """Whether it was put within the last `seconds`."""
        at = self._at.get(_digest(name))
        return at is not None and time.monotonic() - at < seconds

    def clear(self) -> None:
        """Forget all."""
        self._at.clear()


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest()


class Strangers:
    """Counts refused requests by address and subject; beyond the limit the next are refused unread, for a minute.

    The subject is part of the name, because one address may be many people's: a provider sends the webhooks of all its
    merchants from a few. What was good within the last hour passes whatever its neighbours do.
    """

    def __init__(self, limiter: FixedWindowRateLimiter, per_minute: int) -> None:
        self._limiter = limiter
        self._item = RateLimitItemPerMinute(per_minute)
        self.good = Memory()
        self.bad = Memory()

    async def admit(self, kind: str, address: str) -> None:
        """Raises Problem rate_limited where too much was refused of late."""
        try:
            if await self._limiter.test(self._item, kind, address):
                return
            window = await self._limiter.get_window_stats(self._item, kind, address)
        except RedisError as error:  # the shared counts are a courtesy: their loss must not refuse a payment
            log.warning("refusals are not counted", error=type(error).__name__)
            return
        raise rate_limited("Too many requests from this address were refused", window.reset_time)

    async def refused(self, kind: str, address: str) -> None:
        """Count one."""
        try:
            await self._limiter.hit(self._item, kind, address)
        except RedisError as error:
            log.warning("refusals are not counted", error=type(error).__name__)


class RefusedWebhooks:
    """Counts refused webhooks in memory and adds them to the database every few seconds, one statement for all.

    Names are those of accounts that exist, or `unknown`: nobody can fill memory or table with others.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: Counter[tuple[str, str, str, date]] = Counter()
        self._flushing = asyncio.Lock()

    def add(self, *, account: str, provider: str, reason: str, day: date) -> None:
        """One more."""
        self._counts[(account, provider, reason, day)] += 1

    async def flush(self) -> None:
        """Write down what was counted since; what cannot be written is kept for the next time."""
        async with self._flushing:
            counts, self._counts = self._counts, Counter()
            if not counts:
                return
            try:
                async with self._database.statement() as session:
                    await inbox.count_rejections(session, counts)
            except BaseException:
                self._counts.update(counts)
                raise
        for (account, provider, reason, _), number in counts.items():
            log.warning("webhooks refused", provider=provider, account=account, reason=reason, number=number)

    async def keep_flushing(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except Exception as error:  # an outage of the database ends; counting must go on
                if not is_outage(error):
                    log.error("refused webhooks were not counted", error=type(error).__name__)  # noqa: TRY400

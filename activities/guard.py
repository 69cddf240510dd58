"""Calls to providers: measured, and refused at once while a provider is known to be down."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from providers.base import (
    UNREACHABLE,
    NothingMoved,
    OutcomeUndecided,
    OutcomeUnknown,
    Provider,
    ProviderBusy,
    ProviderError,
    ProviderMisconfigured,
)
from providers.contact import listening
from providers.pool import ProviderPool
from storage import provider_health
from storage.models import ProviderAccount, ProviderHealth
from storage.provider_health import OPENS_AFTER, STAYS_OPEN
from storage.sealing import SealingError
from storage.session import Database

log = structlog.get_logger()

Answer = TypeVar("Answer")
CIRCUIT_OPEN = "circuit_open"
CREDENTIALS_UNREADABLE = "credentials_unreadable"
SUCCESS_IS_NEWS_AFTER = timedelta(seconds=30)
"""A healthy provider's success is written this often, not at every call."""
PROBE_WAITS = timedelta(seconds=5)
"""How soon a caller comes back that found another one probing."""
YOUNG = timedelta(minutes=2)
"""'Not found' is no answer while the last request is younger: the provider may still be at work on it."""


@contextmanager
def looking_back() -> Iterator[None]:
    """Asking what became of an earlier request: a look that is refused (a revoked key) says nothing of it.

    Raises OutcomeUnknown for a refusal. ProviderBusy stays what it is: the look is made again.
    """
    try:
        yield
    except ProviderBusy:
        raise
    except NothingMoved as error:
        raise OutcomeUnknown(error.code, error.detail) from error


class ProviderGuard:
    """The circuit breaker of every account. Its state is in the database, so all processes share it.

    Ten failures in a row open it for five minutes: calls then fail at once with ProviderBusy `circuit_open`, which
    carries the time to come back, so workflows wait without burning attempts. Afterwards one caller probes; its
    success closes the circuit. A failure is silence or no connection; a decline or a refusal is an answer. What an
    adapter says without having heard the provider is neither.
    """

    def __init__(self, database: Database, pool: ProviderPool, now: Callable[[], datetime]) -> None:
        self._database = database
        self._pool = pool
        self._now = now

    def provider(self, account: ProviderAccount) -> Provider:
        """The account's adapter. Raises ProviderMisconfigured, also for credentials that no key of ours opens."""
        try:
            return self._pool.of(account)
        except SealingError:
            raise ProviderMisconfigured(CREDENTIALS_UNREADABLE) from None

    async def call(
        self,
        account: ProviderAccount,
        health: ProviderHealth | None,
        ask: Callable[[Provider], Awaitable[Answer]],
    ) -> Answer:
        """Ask the account's provider. Raises ProviderError subclasses."""
        provider = self.provider(account)
        probing = await self._admit(account, health)
        began = time.monotonic()
        with listening() as line:
            try:
                answer = await ask(provider)
            except ProviderError as error:
                silent = isinstance(error, OutcomeUnknown) and not isinstance(error, OutcomeUndecided)
                if silent or error.code == UNREACHABLE:
                    await self._failed(account, error.code)
                else:
                    await self._answered(account, health, began, heard=line.heard, probing=probing)
                raise
        await self._answered(account, health, began, heard=line.heard, probing=probing)
        return answer

    async def _admit(self, account: ProviderAccount, health: ProviderHealth | None) -> bool:
        """Whether this call is the probe. Raises ProviderBusy `circuit_open`.

        What the caller has read may be old: the row decides.
        """
        if health is None or health.opened_at is None:
            return False
        now = self._now()
        async with self._database.statement() as session:
            probing = await provider_health.claim_probe(session, account.id, now=now)
            opened_at = None if probing else await provider_health.opened_at(session, account.id)
        if probing:
            log.info("circuit probes", account_id=str(account.id), provider=account.provider)
        if opened_at is None:
            return probing
        wait = max(opened_at + STAYS_OPEN - now, PROBE_WAITS)
        raise ProviderBusy(CIRCUIT_OPEN, f"{account.provider} does not answer; asked again later", retry_after=wait)

    async def _answered(
        self, account: ProviderAccount, health: ProviderHealth | None, began: float, *, heard: bool, probing: bool
    ) -> None:
        if not heard:
            if probing:
                async with self._database.statement() as session:
                    await provider_health.release_probe(session, account.id)
            return
        now = self._now()
        is_news = health is None or health.failures or health.opened_at is not None or health.last_success_at is None
        if not is_news and health is not None and health.last_success_at is not None:
            is_news = now - health.last_success_at > SUCCESS_IS_NEWS_AFTER
        if is_news:
            milliseconds = round((time.monotonic() - began) * 1000)
            async with self._database.statement() as session:
                await provider_health.record_success(session, account.id, now=now, latency_ms=milliseconds)

    async def _failed(self, account: ProviderAccount, code: str) -> None:
        async with self._database.statement() as session:
            failures = await provider_health.record_failure(session, account.id, now=self._now(), code=code)
        if failures == OPENS_AFTER:
            log.warning("circuit opened", account_id=str(account.id), provider=account.provider, code=code)

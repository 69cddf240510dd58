"""An endpoint that keeps every callback and says 200."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from providers.base import Callback, EventKind, Provider, ProviderEvent

PATIENCE_SECONDS = 10.0


class Mailbox:
    """The application; what came is in `received`, the last part of its path as the token."""

    def __init__(self) -> None:
        self.received: list[Callback] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.received.append(Callback(headers, body, datetime.now(UTC), scope["path"].rsplit("/", 1)[-1]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def events(self, provider: Provider, count: int = 1) -> list[ProviderEvent]:
        """Wait for so many callbacks; everything that arrived must verify."""
        await self._wait(lambda: len(self.received) >= count)
        return self._opened(provider)

    async def until(self, provider: Provider, kind: EventKind) -> list[ProviderEvent]:
        """Wait for a kind of event; everything that arrived must verify."""
        await self._wait(lambda: any(event.kind is kind for event in self._opened(provider)))
        return self._opened(provider)

    def _opened(self, provider: Provider) -> list[ProviderEvent]:
        return [provider.verify_webhook(callback) for callback in list(self.received)]

    async def _wait(self, arrived: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not arrived():
            assert time.monotonic() < deadline, f"{len(self.received)} callbacks, and not what was waited for"
            await asyncio.sleep(0.02)

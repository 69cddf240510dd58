"""Bounds on what a client may send before anybody knows who it is: the head's size and time, the body's size and time.

The server itself has none: it would collect headers for as long as they come.
"""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 524_288
"""Request line and headers, roughly: a part of the network's read may count twice. Any honest head is a hundredth."""
HEAD_SECONDS: Final = 15.0
"""From a head's first byte to its last."""
MAX_BODY_BYTES: Final = 6_000_000
"""Any request but a callback, which has a setting of its own; the largest is a settlement file."""
KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection stays: longer than proxies usually keep theirs (60 s), because one that we close at the
moment at which a proxy uses it again is a 502 for the caller."""
BODY_SECONDS: Final = 60.0
"""From the first asking for the body to its last byte."""


class BoundedHttp(HttpToolsProtocol):
    """The server's HTTP protocol, closing connections whose head is too long or takes too long."""

    _reading_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Parse what came; while the head is not whole, count it and watch the clock."""
        super().data_received(data)
        if not self._reading_head or self.transport.is_closing():
            self._stop_timer()
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse)

    def on_message_begin(self) -> None:
        """A head begins, the connection's first or a further one."""
        self._reading_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole; until the next one begins, however long the answer takes, there is none to wait for."""
        self._reading_head = False
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._stop_timer()
        super().connection_lost(exc)

    def _refuse(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.send_400_response("The head of the request is too long or too slow.")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class BodyLimits:
    """Middleware: a body beyond the limits is refused while it is read, 413 by size and 400 by time."""

    def __init__(self, app: ASGIApp, *, own_limit_below: str) -> None:
        """Paths that begin with `own_limit_below` count their bytes themselves."""
        self._app = app
        self._own_limit_below = own_limit_below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, its body under watch."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = None if scope["path"].startswith(self._own_limit_below) else MAX_BODY_BYTES
        await self._app(scope, _Watched(receive, limit), send)


class _Watched:
    """A request's messages, until its body is whole."""

    def __init__(self, receive: Receive, limit: int | None) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0
        self._whole = False
        self._until: float | None = None

    async def __call__(self) -> Message:
        """The next message. Raises HTTPException."""
        if self._whole:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"The body did not come within {BODY_SECONDS:g} seconds.") from None
        self._size += len(message.get("body", b""))
        if self._limit is not None and self._size > self._limit:
            raise HTTPException(413, f"A request has at most {self._limit} bytes.", headers={"connection": "close"})
        self._whole = not message.get("more_body", False)
        return message

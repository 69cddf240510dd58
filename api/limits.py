"""Bounds on connections and on how requests come in: their number, the head's size and time, the body's size and time.

The server itself has none: it would collect headers for as long as they come.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import ClassVar, Final

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 524_288
"""Request line and headers, roughly: a part of the network's read may count twice. Any honest head is a hundredth."""
HEAD_SECONDS: Final = 15.0
"""From a head's first byte to its last."""
FIRST_BYTE_SECONDS: Final = 15.0
"""How long a new connection may say nothing."""
LINGER_SECONDS: Final = 5.0
"""How long the rest of a refused body is swallowed: closing at once would take the answer from who still sends."""
MAX_CONNECTIONS: Final = 4000
"""Of one process; further ones are closed as they come."""
MAX_CONNECTIONS_OF_ADDRESS: Final = 400
"""Of one address, unless it is a trusted proxy; an honest client of one machine has some dozens."""
KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection stays: longer than proxies usually keep theirs (60 s), because one that we close at the
moment at which a proxy uses it again is a 502 for the caller."""
BODY_SECONDS: Final = 60.0
"""From the first asking for the body to its last byte."""


class BoundedHttp(HttpToolsProtocol):
    """The server's HTTP protocol, closing connections whose head is too long or takes too long."""

    trusted: ClassVar[Callable[[str], bool]] = staticmethod(lambda _address: False)
    """Whether an address is a proxy of ours, which brings many people's connections."""
    _of_address: ClassVar[Counter[str]] = Counter()
    _counted: str | None = None
    _reading_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _linger: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server has it
        """Count it, and wait for its first byte; one too many is closed."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        crowded = self._of_address[address] >= MAX_CONNECTIONS_OF_ADDRESS and not type(self).trusted(address)
        if crowded or len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._counted = address
        self._of_address[address] += 1
        self._head_timer = self.loop.call_later(FIRST_BYTE_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Parse what came; while the head is not whole, count it and watch the clock."""
        if not self._head_bytes:
            self._stop_timer()  # of the first byte
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

    def on_response_complete(self) -> None:
        """What is answered before its body has come may send the rest, unread, for a moment: it can read the answer."""
        super().on_response_complete()
        cycle = self.cycle
        if cycle.response_complete and cycle.more_body and not self.transport.is_closing():
            self._linger = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def on_message_complete(self) -> None:
        """The body is whole: the connection may be used again."""
        self._stop_lingering()
        super().on_message_complete()

    def _stop_lingering(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._stop_timer()
        self._stop_lingering()
        if self._counted is not None:
            self._of_address[self._counted] -= 1
            if not self._of_address[self._counted]:
                del self._of_address[self._counted]
            self._counted = None
        super().connection_lost(exc)

    def _refuse(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.send_400_response("The head of the request is too long or too slow.")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class Watched:
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
            raise HTTPException(413, f"A request has at most {self._limit} bytes.")
        self._whole = not message.get("more_body", False)
        return message

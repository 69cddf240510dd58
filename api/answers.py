"""What is true of every answer: it is logged in one line, and says how it may be kept."""

from __future__ import annotations

import re
import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import route_of

log = structlog.get_logger()

ASSETS: Final = "/docs/assets"
"""Files of a package that are the same for everybody."""
_PAYMENT: Final = re.compile(r"/api/v1/payments/([0-9a-fA-F-]{36})(?:/|$)")
_NO_STORE: Final = (b"cache-control", b"no-store")
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")


class Answers:
    """ASGI middleware. The log has the route's template, never the address: its writer may be anybody."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on; add headers to its answer and write the line when that begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        structlog.contextvars.clear_contextvars()
        if (named := _PAYMENT.match(path)) is not None:
            structlog.contextvars.bind_contextvars(payment_id=named.group(1))
        begun = time.perf_counter()

        async def answering(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_missing(path, message.get("headers", ()))]
                if not path.endswith("z"):
                    ms = round((time.perf_counter() - begun) * 1000, 1)
                    log.info("request", method=scope["method"], route=route_of(scope), status=message["status"], ms=ms)
            await send(message)

        await self._app(scope, receive, answering)


def _missing(path: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Nothing is kept by caches and nothing guessed by browsers, where the route did not say otherwise."""
    present = {name.lower() for name, _ in headers}
    wanted = (_NO_SNIFFING,) if path.startswith(ASSETS) else (_NO_SNIFFING, _NO_STORE)
    return [header for header in wanted if header[0] not in present]

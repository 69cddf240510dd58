"""The line between one account and the sandbox: it can be cut, and it can be held until it is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response

from tests.support.service import served


class Wire:
    """Passes requests on over real HTTP. `cut`: every request gets a 503.

    `hold` and `hold_back` keep the requests to one path until `let_go`: after they have acted, or before that.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.cut = False
        self.asked = 0
        self.reached = asyncio.Event()
        """Set when a request has come to where the line is held."""
        self._target = target
        self._held_at: str | None = None
        self._held_back = False
        self._method = "POST"
        self.held = 0
        """How many requests have come there."""
        self._let_go = asyncio.Event()

    def hold_back(self, path: str, method: str = "POST") -> None:
        """Keep requests whose path ends so from the sandbox until `let_go`."""
        self.hold(path, method)
        self._held_back = True

    def hold(self, path: str, method: str = "POST") -> None:
        """Let requests whose path ends so act at the sandbox, and keep their answers until `let_go`."""
        self._held_at, self._held_back = path, False
        self._method, self.held = method, 0
        self.reached.clear()
        self._let_go.clear()

    def let_go(self) -> None:
        """Hand the answers over."""
        self._held_at = None
        self._let_go.set()

    async def _wait(self) -> None:
        self.held += 1
        self.reached.set()
        await self._let_go.wait()

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "DELETE"])
        async def pass_on(path: str, request: Request) -> Response:
            self.asked += 1
            if self.cut:
                return Response(status_code=503)
            here = self._held_at is not None and path.endswith(self._held_at) and request.method == self._method
            if here and self._held_back:
                await self._wait()
            headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
            async with httpx.AsyncClient(timeout=30) as client:
                answer = await client.request(
                    request.method,
                    f"{self._target}/{path}",
                    params=request.query_params,
                    content=await request.body(),
                    headers=headers,
                )
            if here and not self._held_back:
                await self._wait()
            return Response(
                answer.content, answer.status_code, media_type=answer.headers.get("content-type", "application/json")
            )

        return app


@asynccontextmanager
async def wired(target: str) -> AsyncIterator[Wire]:
    """A line to the sandbox until the block ends."""
    wire = Wire(target)
    async with served(wire.app()) as url:
        wire.url = url
        yield wire
        wire.let_go()

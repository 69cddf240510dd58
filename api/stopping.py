"""The end of an API process: what is under way is finished; whoever still waits after a while is asked to come back."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems

STOP_SECONDS: Final = 25
"""How long requests are finished: longer than any waits for a workflow, less than docker-compose.yml gives us."""


class ComeBack:
    """Middleware: a request that the server breaks off is answered 503, where it was a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        """Outside everything that could answer."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and remember whether it is being answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def answering(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, answering)
        except asyncio.CancelledError:
            if begun:
                raise
            headers = {"retry-after": "2", "connection": "close"}
            answer = problems.answer("temporarily_unavailable", "Try again in a moment.", headers=headers)
            await answer(scope, receive, send)

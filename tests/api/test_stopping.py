"""An API that is told to stop: callers get an answer that they understand, and the process ends well."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import httpx
import uvicorn

from api.app import create_app
from api.limits import BoundedHttp
from api.services import open_services
from embedded.parts import answers, free_port
from embedded.stack import ROOT
from tests.support.service import Service, eventually


async def test_who_still_waits_when_the_process_ends_is_asked_to_come_back(service: Service) -> None:
    """A request that was broken off got a bare 500, as if there were a fault."""
    app, waiting = create_app(lambda: open_services(service.settings)), asyncio.Event()

    @app.get("/waits")
    async def waits() -> None:
        waiting.set()
        await asyncio.sleep(60)

    port = free_port()
    config = uvicorn.Config(app, port=port, http=BoundedHttp, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    await eventually(lambda: answers(port, "/healthz"))
    async with httpx.AsyncClient() as http:
        asked = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/waits", timeout=20))
        await waiting.wait()
        server.should_exit = True
        answer = await asked
    await serving
    assert (answer.status_code, answer.json()["code"]) == (503, "temporarily_unavailable")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]


async def test_a_process_that_is_told_to_stop_ends_well(service: Service) -> None:
    """It was killed by the signal that it had already obeyed."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "api",
        cwd=ROOT,
        env={**os.environ, **service.stack.env, "API_PORT": str(port)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: answers(port, "/readyz"), seconds=60)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

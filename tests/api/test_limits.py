"""What a stranger may send: bounded heads, bounded bodies, bounded patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import uvicorn

from api import limits
from api.door import MAX_FILE_BYTES, MAX_JSON_BYTES
from api.limits import BoundedHttp
from embedded.parts import free_port
from tests.support.service import Service, Shop

OK = b"HTTP/1.1 200 OK\r\n"


async def app(scope: dict[str, object], receive: object, send: object) -> None:
    """Answers with the length of the body."""
    assert callable(receive)
    assert callable(send)
    size, more = 0, True
    if scope["path"] == "/slow":
        await asyncio.sleep(0.6)
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    """A server with our protocol, as the entry point starts it."""
    number = free_port()
    config = uvicorn.Config(
        app,
        port=number,
        http=BoundedHttp,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield number
    server.should_exit = True
    await task


async def answer(port: int, *parts: bytes) -> bytes:
    """What comes back, up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.close()


async def test_headers_without_end_are_cut_off(port: int) -> None:
    begin = b"GET / HTTP/1.1\r\nhost: x\r\n"
    endless = (b"x: " + b"a" * 60_000 + b"\r\n",) * 40
    for parts in (endless, (b"x: ", *(b"a" * 60_000,) * 40)):  # many headers, and one that never ends
        assert OK not in await answer(port, begin, *parts, b"\r\n\r\n")


async def test_a_head_that_takes_its_time_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    whole = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    for begun in (b"GET / HTTP/1.1\r\nhost: x\r\n", b"G", whole + b"GET /", b"".join((whole, whole, b"G"))):
        assert b"too slow" in await answer(port, begun)


async def test_an_answer_or_a_connection_that_takes_its_time_is_let_be(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    slow = await answer(port, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert (slow.count(OK), b"too slow" in slow) == (2, False)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert OK.strip() in await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(1) == b"0"
    with pytest.raises(TimeoutError):  # the idle connection is told nothing
        await asyncio.wait_for(reader.read(1), 0.5)
    writer.close()


async def test_honest_requests_pass_one_after_the_other_and_with_large_bodies(port: int) -> None:
    many = b"".join(b"x-%d: %s\r\n" % (number, b"a" * 500) for number in range(100))
    get = b"GET / HTTP/1.1\r\nhost: x\r\n" + many + b"\r\n"
    post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\n\r\n" + b"a" * 2_000_000
    last = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    found = await answer(port, get, post, last)
    assert found.count(OK) == 3
    assert b"2000000" in found


async def test_no_route_reads_more_than_its_limit(shop: Shop, service: Service) -> None:
    file = f"/provider-accounts/{shop.account.id}/settlement-file"
    for path, limit in (("/payments", MAX_JSON_BYTES), ("/provider-accounts", MAX_JSON_BYTES), (file, MAX_FILE_BYTES)):
        huge = b'{"amount": "' + b"1" * (limit + 1) + b'"}'
        refused = await shop.api.post(path, content=huge, headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


async def test_a_body_that_takes_its_time_is_not_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(2)
        yield b"}"

    for path in ("/payments", f"/webhooks/stripe/{shop.account.id}"):
        refused = await shop.api.post(path, content=slow())
        assert (refused.status_code, refused.json()["code"]) == (400, "malformed_body")

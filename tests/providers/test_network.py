"""What calls to the outside may reach, and how much may come back, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

import httpcore
import httpx
import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from providers.base import AccountConfig, OutcomeUnknown, ProviderBusy
from providers.http import ProviderHttp
from providers.network import LOOPBACK, MAX_ANSWER_BYTES, Network, is_public, leads_inside
from providers.registry import PROVIDERS, build_provider, load_all
from providers.stripe.transport import NotConnected, StripeTransport

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
HERE = Network(LOOPBACK)
INSIDE = [
    "127.0.0.1", "10.0.0.8", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "192.0.0.8", "192.88.99.1", "198.18.0.1", "240.0.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "::127.0.0.1", "::ffff:10.0.0.8",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:8::1", "2001:0:53aa:64c::", "2001:db8::1",
]  # fmt: skip
OUTSIDE = ["8.8.8.8", "1.1.1.1", "203.0.114.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_inside_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert leads_inside(address)
    assert not Network().allows(ip_address(address))
    assert Network(["0.0.0.0/0", "::/0"]).allows(ip_address(address))


@pytest.mark.parametrize("address", OUTSIDE)
def test_what_is_outside_is(address: str) -> None:
    assert is_public(ip_address(address))
    assert not leads_inside(address)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_dress_is_judged_as_itself(address: Any) -> None:
    number = int(address)
    dressed = [
        ip_address(f"::ffff:{address}"),
        ip_address(int(ip_address("64:ff9b::")) + number),
        ip_address((0x2002 << 112) + (number << 80)),
    ]
    assert [is_public(one) for one in dressed] == [is_public(address)] * 3
    dashed = str(address).replace(".", "-")
    for name in (f"{address}.nip.io", f"a.{address}.nip.io", f"a-{dashed}.sslip.io", f"{dashed}.example."):
        assert leads_inside(name) is not is_public(address)


@pytest.mark.parametrize("name", ["hooks.shop.example", "v1.2.example", "a-1-2-3.example", "1-2-3-400.example"])
def test_a_plain_name_is_not_judged_by_its_looks(name: str) -> None:
    assert not leads_inside(name)


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    """Answers every request like this; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()


async def fine(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names lead to; others as they are."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host in known:
            return [entry for one in known[host] for entry in real(one, port, *args, **kwargs)]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


async def test_a_name_is_judged_by_what_it_leads_to_when_it_is_connected_to(names: dict[str, list[str]]) -> None:
    names["hooks.shop.example"] = ["127.0.0.1"]
    async with server(fine) as port, httpx.AsyncClient(transport=Network().transport()) as guarded:
        for url in (
            f"http://hooks.shop.example:{port}/",
            f"http://127\u30020.0.1:{port}/",
            f"http://127.0.0.1:{port}/",
        ):
            with pytest.raises(httpx.ConnectError, match=r"^unreachable$"):
                await guarded.get(url)
        async with httpx.AsyncClient(transport=HERE.transport()) as allowed:
            assert (await allowed.get(f"http://hooks.shop.example:{port}/")).status_code == 200


async def test_of_several_addresses_the_public_ones_are_tried(names: dict[str, list[str]]) -> None:
    names["mixed.example"] = ["10.255.255.1", "127.0.0.1"]
    async with (
        server(fine) as port,
        httpx.AsyncClient(transport=Network(["127.0.0.0/8"]).transport(), timeout=5) as client,
    ):
        assert (await client.get(f"http://mixed.example:{port}/")).status_code == 200


async def test_a_closed_port_and_an_address_inside_are_told_in_the_same_words(names: dict[str, list[str]]) -> None:
    names["nowhere.example"] = []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        told = set()
        for network, host in ((HERE, "127.0.0.1"), (Network(), "127.0.0.1"), (HERE, "nowhere.example")):
            async with httpx.AsyncClient(transport=network.transport()) as client:
                with pytest.raises(httpx.ConnectError) as failed:
                    await client.get(f"http://{host}:{port}/")
                told.add(str(failed.value))
    assert told == {"unreachable"}


def packed(body: bytes, *codings: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: {', '.join(codings)}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(megabytes)) + packer.flush()


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


BOMB = bomb(400)
TOO_MUCH = {
    "packed twice": packed(gzip.compress(BOMB), "gzip", "gzip"),
    "packed once": packed(BOMB, "gzip"),
    "packed otherwise": packed(b"x", "br"),
    "not packed at all": packed(b"x", "gzip"),
    "without end": endless,
}


@pytest.mark.parametrize("answer", TOO_MUCH.values(), ids=TOO_MUCH.keys())
async def test_an_answer_is_counted_while_it_comes(answer: Answer) -> None:
    async with server(answer) as port:
        ours = ProviderHttp(f"http://127.0.0.1:{port}", timeout_seconds=20, transport=HERE.transport())
        library = StripeTransport(timeout=20, transport=HERE.transport())
        tracemalloc.start()
        with pytest.raises(OutcomeUnknown):
            await ours.call("GET", "/")
        with pytest.raises(stripe.APIConnectionError) as failed:
            await library.request_async("get", f"http://127.0.0.1:{port}/", {})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert not isinstance(failed.value, NotConnected)  # something was sent: its outcome is not known
        assert peak < 8 * MAX_ANSWER_BYTES
        await ours.aclose()
        await library._client_async.aclose()


async def test_one_layer_of_packing_is_unpacked() -> None:
    body = json.dumps({"ok": [1] * 1000}).encode()
    async with server(packed(gzip.compress(body), "gzip")) as port:
        ours = ProviderHttp(f"http://127.0.0.1:{port}", timeout_seconds=5, transport=HERE.transport())
        assert await ours.call("GET", "/") == {"ok": [1] * 1000}
        await ours.aclose()


async def test_every_adapter_is_held_to_the_network_of_its_account() -> None:
    """An adapter that opened a client of its own would reach the machine that it runs on."""
    load_all()
    reached: list[str] = []

    async def seen(writer: asyncio.StreamWriter) -> None:
        reached.append("reached")
        await fine(writer)

    from tests.providers.payers import payer_class

    async with server(seen) as port:
        for name in sorted(PROVIDERS):
            payer = payer_class(name)(f"http://127.0.0.1:{port}")
            known = payer.account()
            config = AccountConfig(uuid4(), known.credentials, known.options, timeout_seconds=3)
            provider = build_provider(name, config)
            with suppress(ProviderBusy, OutcomeUnknown, NotImplementedError):
                await provider.check_account()
            await provider.aclose()
            await payer.http.aclose()
    assert reached == []


def test_the_library_still_has_the_door_that_we_use() -> None:
    transport = httpx.AsyncHTTPTransport()
    assert isinstance(transport._pool, httpcore.AsyncConnectionPool)

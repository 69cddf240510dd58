"""What a call to the outside may reach and bring back, for providers and order services alike.

An address is judged when it is connected to, by what its name leads to at that moment, and the connection goes to the
address that was judged. An answer is counted while it comes, and unpacked with a bound.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cache
from typing import Any, Final, cast
from urllib.request import getproxies

import httpcore
import httpx

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_ANSWER_BYTES: Final = 5_000_000
"""Of one answer's body, unpacked."""
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_NEVER: Final = tuple(
    ipaddress.ip_network(one)
    for one in ("::/96", "64:ff9b:1::/48", "192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "2001::/23")
)
"""Beside what is not global: IPv4-compatible, local NAT64, protocol assignments, 6to4 relays, site-local, Teredo."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_EMBEDDED: Final = re.compile(r"(?:^|[.-])((?:\d{1,3}[.-]){3}\d{1,3})(?=[.-]|$)")


def is_public(address: IPAddress) -> bool:
    """Whether an address is a unicast one of the Internet, also where an IPv6 address only wraps an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    if address.is_multicast or any(address in network for network in _NEVER if network.version == address.version):
        return False
    return address.is_global


def leads_inside(host: str) -> bool:
    """Whether a host name is, or spells out, an address that is not public; a name without one is not judged here.

    Names such as 127.0.0.1.nip.io are those of services that answer with the address in the name.
    """
    named = host.strip("[]").rstrip(".").partition("%")[0]
    try:
        return not is_public(ipaddress.ip_address(named))
    except ValueError:
        pass
    for found in _EMBEDDED.findall(named):
        try:
            if not is_public(ipaddress.ip_address(found.replace("-", "."))):
                return True
        except ValueError:
            continue
    return False


class Network:
    """Which addresses may be connected to: public ones, and those of the `allowed` networks. Raises ValueError."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed: list[IPNetwork] = [ipaddress.ip_network(one, strict=False) for one in allowed]

    def allows(self, address: IPAddress) -> bool:
        """Whether it may be connected to."""
        plain = (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
        return is_public(address) or any(plain in one for one in self._allowed if one.version == plain.version)

    def transport(self, *, limits: httpx.Limits | None = None) -> httpx.AsyncBaseTransport:
        """A transport of its own connections, for one client.

        Where a proxy is set for the process (HTTPS_PROXY and the like), the proxy reaches out and its rules hold.
        """
        limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
        found = getproxies()
        proxy = found.get("https") or found.get("all")
        if proxy is not None:
            return Bounded(httpx.AsyncHTTPTransport(verify=_authorities(), limits=limits, proxy=proxy))
        transport = httpx.AsyncHTTPTransport(verify=_authorities(), limits=limits)
        # the library has no other door for a network backend; its pool is replaced before anything has used it
        transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001
            ssl_context=_authorities(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Judged(self),
        )
        return Bounded(transport)


@cache
def _authorities() -> ssl.SSLContext:
    """The certificate authorities, read once: every account has a client, and reading them takes 20 ms."""
    return httpx.create_ssl_context()


class _Judged(httpcore.AsyncNetworkBackend):
    """Connects to the addresses behind a name that may be connected to, one after the other, and to no other."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (the library's signature)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection. Raises httpcore.ConnectError, in the same words whatever the reason, ConnectTimeout."""
        failure: Exception = httpcore.ConnectError("unreachable")
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._addresses(host, port)
                for address in addresses:
                    try:
                        return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
                    except (httpcore.ConnectError, httpcore.ConnectTimeout):
                        continue
        except TimeoutError:
            failure = httpcore.ConnectTimeout("unreachable")
        raise failure

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return []
        named = dict.fromkeys(str(address[4][0]).partition("%")[0] for address in found)
        return [one for one in named if self._network.allows(ipaddress.ip_address(one))]

    async def sleep(self, seconds: float) -> None:
        """As the library wants it."""
        await asyncio.sleep(seconds)


class Bounded(httpx.AsyncBaseTransport):
    """Asks for answers as they are, unpacks one layer where the other side packs all the same, and counts bytes."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, its body still to be read. Raises httpx.ReadError where it is packed in an unknown way."""
        request.headers["accept-encoding"] = "identity"
        answer = await self._inner.handle_async_request(request)
        packed = answer.headers.get("content-encoding", "identity").strip().lower()
        if packed not in _UNPACKED_BY:
            await answer.aclose()
            raise httpx.ReadError("the answer is packed in a way that was not asked for")
        stream = _Counted(cast("httpx.AsyncByteStream", answer.stream), packed, self._max_bytes)
        framing = ("content-encoding", "content-length") if _UNPACKED_BY[packed] else ()
        headers = [(name, value) for name, value in answer.headers.raw if name.lower().decode("latin-1") not in framing]
        return httpx.Response(answer.status_code, headers=headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        """Release connections."""
        await self._inner.aclose()


_UNPACKED_BY: Final[dict[str, int]] = {"": 0, "identity": 0, "gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS}


class _Counted(httpx.AsyncByteStream):
    """A body, never more than the limit, in memory bounded by it whatever was packed."""

    def __init__(self, inner: httpx.AsyncByteStream, packed: str, max_bytes: int) -> None:
        self._inner = inner
        self._window = _UNPACKED_BY[packed]
        self._left = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        unpacker = zlib.decompressobj(self._window) if self._window else None
        begun = False
        async for part in self._inner:
            begun = begun or bool(part)
            if unpacker is not None:
                try:
                    part = unpacker.decompress(part, self._left + 1)  # noqa: PLW2901  (one part in, one part out)
                except zlib.error:
                    raise httpx.ReadError("the answer cannot be unpacked") from None
            self._left -= len(part)
            if self._left < 0:
                raise httpx.ReadError("the answer is too long")
            if part:
                yield part
        if unpacker is not None and begun and not unpacker.eof:
            raise httpx.ReadError("the answer is cut off")

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._inner.aclose()

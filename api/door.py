"""What is decided about a request before anything of it is read: sizes, who is asking, how much strangers may cost.

In this order, cheapest first: the head's size, the key, then the body, which has a limit by kind of route and is looked
at once before the routes parse it. So a stranger's body is never read, and nobody's is parsed beyond its limit.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.limits import Watched
from api.problems import Problem

MAX_TARGET_BYTES: Final = 8192
"""Path and query of one request."""
MAX_HEADER_BYTES: Final = 32_768
"""Names and values of all headers of one request."""
MAX_JSON_BYTES: Final = 262_144
"""The body of any route that takes JSON; the largest honest one has some twenty kilobytes."""
MAX_FILE_BYTES: Final = 6_000_000
"""The body of a route that takes a file; each has a smaller limit of its own."""
MAX_JSON_DEPTH: Final = 16
MAX_JSON_VALUES: Final = 10_000
"""Brackets, braces and commas: an upper bound of the values that a body holds."""

_FILES: Final = re.compile(r"/api/v1/(?:provider-accounts/[^/]{1,64}/settlement-file|payouts/[^/]{1,64}/results)")
_WEBHOOKS: Final = "/api/v1/webhooks/"
_V1: Final = "/api/v1/"
Authenticate = Callable[[Request], Awaitable[None]]


class Door:
    """ASGI middleware. `authenticate` puts the caller on the request's state, or raises Problem."""

    def __init__(self, app: ASGIApp, *, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            messages = await self._admitted(request, scope, receive)
        except (Problem, HTTPException, SQLAlchemyError, OSError, TimeoutError) as error:
            answer = await problems.answer_to(request, error)
            await answer(scope, receive, send)
            return
        if messages is not None:
            await self._app(scope, messages, send)

    async def _admitted(self, request: Request, scope: Scope, receive: Receive) -> Receive | None:
        """What the route may read; None when the sender has gone. Raises what is answered."""
        _check_head(scope)
        path: str = scope["path"]
        if path.startswith(_WEBHOOKS) and scope["method"] == "POST":
            return Watched(receive, None)  # counted by the route, whose limit is a setting
        if path.startswith(_V1):
            await self._authenticate(request)
        if _FILES.fullmatch(path):
            return Watched(receive, MAX_FILE_BYTES)
        _check_length(request.headers.get("content-length"), MAX_JSON_BYTES)
        body = await _whole(Watched(receive, MAX_JSON_BYTES))
        if body is None:
            return None
        if body:
            check_json(body)
        return _Again(body, receive)


def _check_head(scope: Scope) -> None:
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET_BYTES:
        raise Problem("target_too_long", f"Path and query have at most {MAX_TARGET_BYTES} bytes.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
        raise Problem("headers_too_large", f"All headers have at most {MAX_HEADER_BYTES} bytes.")


def _check_length(declared: str | None, limit: int) -> None:
    """Refuse by what the head says, so that nothing is read of a body that is too large."""
    if declared is not None and declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise Problem("body_too_large", f"A request has at most {limit} bytes.")


async def _whole(receive: Receive) -> bytes | None:
    """The body; None when the sender went away in the middle of it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


class _Again:
    """A request's messages, its body given once more."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """The body, then whatever comes after it."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def check_json(body: bytes) -> None:
    """Refuse what is no JSON, too deep, too full, or says one thing twice. Raises Problem.

    A name that comes twice in one object means different things to different readers (RFC 8259, section 4).
    """
    if sum(body.count(sign) for sign in (b"[", b"{", b",")) > MAX_JSON_VALUES:
        raise Problem("validation_failed", f"body: holds more than {MAX_JSON_VALUES} values.")
    try:
        value = json.loads(body, object_pairs_hook=_unique)
    except RecursionError:
        raise Problem("validation_failed", "body: nested far too deep.") from None
    except ValueError:  # undecodable, no JSON, a number of thousands of digits
        raise Problem("malformed_body", "The body is not valid JSON.") from None
    fields = value.items() if isinstance(value, dict) else [("body", value)]
    for name, inner in fields:
        if _is_deep(inner):
            raise Problem("validation_failed", f"{name[:64]}: nested more than {MAX_JSON_DEPTH} levels deep.")


def _is_deep(value: Any) -> bool:
    level: Sequence[Any] = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem("validation_failed", "body: names a field twice.")
    return found


class Addresses:
    """Where requests come from, as far as it can be trusted."""

    def __init__(self, trusted_proxies: Sequence[str]) -> None:
        """`trusted_proxies`: addresses or networks whose X-Forwarded-For is believed. Raises ValueError."""
        self._trusted = [ipaddress.ip_network(one, strict=False) for one in trusted_proxies]

    def of(self, scope: Scope) -> str:
        """The nearest address that is no proxy of ours; of IPv6 the network that one customer has (/64)."""
        client = scope.get("client")
        address = client[0] if client else ""
        if self._trusted and self.is_trusted(address):
            for hop in reversed(_forwarded_for(scope["headers"])):
                address = hop
                if not self.is_trusted(hop):
                    break
        return _of_one_customer(address)

    def is_trusted(self, text: str) -> bool:
        """Whether an address is a proxy of ours."""
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


MAX_HOPS: Final = 20


def _forwarded_for(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    said = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
    return [hop.strip() for hop in said.rsplit(",", MAX_HOPS)[-MAX_HOPS:] if hop.strip()]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _of_one_customer(text: str) -> str:
    address = _address(text)
    if address is None:
        return "unknown"
    if address.version == 6:  # noqa: PLR2004
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)

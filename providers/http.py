"""One HTTP client for the providers that have no library: every failure is a ProviderError that says what is known."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx

from providers import contact
from providers.base import UNREACHABLE, OutcomeUnknown, ProviderBusy, ProviderMisconfigured, ProviderRejected

MAX_RETRY_AFTER = timedelta(minutes=15)
"""A longer wait than this is not believed: the payer is waiting and the schedule has its own limits."""
MAX_ANSWER_BYTES = 5_000_000
_BASE = re.compile(
    r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~/-]{0,200})?"
)


class ProviderHttp:
    """Sends one request at a time, never twice, within `timeout_seconds` in all. Redirects are not followed.

    Texts of errors hold the status and the path only: bodies and queries may be personal or secret.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Nothing is opened yet. `transport` and `clock` are replaced in tests."""
        self._base_url = base_url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._transport = transport
        self._clock = clock
        self._client: httpx.AsyncClient | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        json_body: Any = None,
        form: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, whatever its status, once it is whole. `json_body` may hold Decimals: they are sent as numbers.

        Raises ProviderBusy when no connection could be made (nothing was sent), OutcomeUnknown on silence and for an
        answer that is too long.
        """
        content = None if json_body is None else dumps(json_body).encode()
        sent = dict(headers or {}) | ({"content-type": "application/json"} if content is not None else {})
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._opened().stream(method, path, headers=sent, params=params, content=content, data=form) as answer,
            ):
                whole = await _whole(answer)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ProviderBusy(UNREACHABLE, type(error).__name__) from None
        except TimeoutError:
            raise OutcomeUnknown("timeout", f"no answer in {self._timeout_seconds:g} s") from None
        except httpx.HTTPError as error:  # whatever broke here, the request may have been sent
            raise OutcomeUnknown("connection", type(error).__name__) from None
        contact.heard()
        return whole

    async def call(self, method: str, path: str, **parts: Any) -> Any:
        """`send`, then `answer_of`."""
        return self.answer_of(await self.send(method, path, **parts), path)

    def answer_of(self, answer: httpx.Response, path: str) -> Any:
        """The JSON of a successful answer, numbers with a fraction as Decimal; every other status as its error.

        Raises ProviderBusy (429, 408 or 409 with Retry-After), ProviderMisconfigured (401, 403), OutcomeUnknown (5xx
        or an unreadable answer), ProviderRejected (any other 4xx, code `http_<status>`).
        """
        status, detail = answer.status_code, f"HTTP {answer.status_code} at {path}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise ProviderBusy("rate_limit", detail, retry_after=self.retry_after(answer))
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise ProviderMisconfigured(f"http_{status}", detail)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            raise OutcomeUnknown(f"http_{status}", detail)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise ProviderRejected(f"http_{status}", detail)
        return self.json_of(answer, path)

    @staticmethod
    def json_of(answer: httpx.Response, path: str) -> Any:
        """The body as JSON, numbers with a fraction as Decimal; None for an empty one. Raises OutcomeUnknown."""
        if not answer.content:
            return None
        try:
            return json.loads(answer.content.decode("utf-8"), parse_float=Decimal)
        except (ValueError, ArithmeticError, RecursionError):
            raise OutcomeUnknown("unreadable_answer", f"not JSON at {path}") from None

    def retry_after(self, answer: httpx.Response) -> timedelta | None:
        """The Retry-After header, as seconds or as an HTTP date, between zero and MAX_RETRY_AFTER."""
        return retry_after(answer.headers.get("retry-after", ""), self._clock())

    async def aclose(self) -> None:
        """Release connections. A later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _opened(self) -> httpx.AsyncClient:
        """The client, made at the first call because its connections belong to the running event loop."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=self._base_url,
                timeout=self._timeout_seconds,
                transport=self._transport,
            )
        return self._client


async def _whole(answer: httpx.Response) -> httpx.Response:
    """The answer with its body, unpacked, as far as it is of a bearable length."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise OutcomeUnknown("unreadable_answer", "too long")
    framing = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in framing]
    return httpx.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)


def base_address(options: Mapping[str, object], name: str) -> str | None:
    """An account's option that says where a provider is reached, without a slash at its end; None where it is not set.

    An origin and perhaps a path: user names, queries and fragments have no place in it, nor has anything that a header
    or a policy could read as more than an address. Raises ProviderMisconfigured `option_invalid`.
    """
    value = options.get(name)
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else ""
    if not _BASE.fullmatch(text):
        raise ProviderMisconfigured("option_invalid", name)
    return text.rstrip("/")


def retry_after(text: str, now: datetime) -> timedelta | None:
    """A Retry-After header, as seconds or as an HTTP date; `now` is UTC. None if unreadable."""
    text = text.strip()
    try:
        wait = timedelta(seconds=int(text)) if re.fullmatch(r"[0-9]{1,9}", text) else _date(text) - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(wait, timedelta(0)), MAX_RETRY_AFTER)


def _date(text: str) -> datetime:
    moment = parsedate_to_datetime(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def dumps(value: Any) -> str:
    """Compact JSON; a Decimal is written as a plain number, digit by digit, never through a float."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(name))}:{dumps(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)

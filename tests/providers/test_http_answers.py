"""What every adapter without a library of its own shares: answers of bounded length, read once."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from providers import http
from providers.base import OutcomeUnknown, ProviderMisconfigured
from providers.http import ProviderHttp, base_address


def talking(answer: httpx.Response) -> ProviderHttp:
    return ProviderHttp("https://pay.example", timeout_seconds=5, transport=httpx.MockTransport(lambda _: answer))


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65_536


@pytest.mark.parametrize("packed", [False, True])
async def test_an_answer_that_does_not_end_is_unknown(packed: bool) -> None:  # noqa: FBT001
    answer = httpx.Response(200, content=endless())
    if packed:
        bomb = gzip.compress(b" " * (http.MAX_ANSWER_BYTES * 4))
        answer = httpx.Response(200, headers={"content-encoding": "gzip"}, content=bomb)
    client = talking(answer)
    with pytest.raises(OutcomeUnknown, match="too long"):
        await client.send("GET", "/personal/123")
    await client.aclose()


async def test_a_packed_answer_is_read_and_keeps_its_headers() -> None:
    headers = [("content-encoding", "gzip"), ("retry-after", "7"), ("content-type", "application/json")]
    client = talking(httpx.Response(429, headers=headers, content=gzip.compress(b'{"ok": 1.10}')))
    answer = await client.send("GET", "/x")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert str(client.json_of(answer, "x")["ok"]) == "1.10"
    await client.aclose()


@pytest.mark.parametrize(
    "value",
    [
        7,
        "",
        "pay.example",
        "ftp://pay.example",
        "https://user:pw@pay.example",
        "https://pay.example?key=1",
        "https://pay.example/#x",
        "https://pay.example/a b",
        "https://pay.example; script-src *",
        "https://pay.example\r\nx: y",
        "https://pay.example/" + "a" * 300,
        "javascript:alert(1)",
    ],
)
def test_an_address_among_the_options_is_one_or_named(value: object) -> None:
    with pytest.raises(ProviderMisconfigured, match="option_invalid: api_base"):
        base_address({"api_base": value}, "api_base")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("https://pay.example", "https://pay.example"),
        (" http://127.0.0.1:8100/wompi/v1/ ", "http://127.0.0.1:8100/wompi/v1"),
        ("https://[::1]:8100", "https://[::1]:8100"),
        (None, None),
    ],
)
def test_a_good_one_ends_without_a_slash(value: object, read: str | None) -> None:
    assert base_address({"api_base": value}, "api_base") == read
    assert base_address({}, "api_base") is None

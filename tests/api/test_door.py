"""What strangers can cost: bodies are not read before the key, nor parsed beyond limits, and floods starve nobody."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
import uvicorn
from sqlalchemy import event, func, select
from structlog.testing import capture_logs

from api import door, limits
from api.app import create_app
from api.door import Addresses, check_json
from api.limits import BoundedHttp
from api.problems import Problem
from api.services import open_services
from embedded.parts import free_port
from logs import _SECRET_VALUES, MAX_TEXT, redact
from storage.models import WebhookRejection
from tests.support.service import Service, Shop, served, settings_for

DEEP = b"[" + b"[]," * 60_000 + b"[]]"


@pytest_asyncio.fixture
async def guarded(service: Service) -> AsyncIterator[str]:
    """The service with a limit of refusals that a test can reach."""
    settings = settings_for(service.stack, refusals_per_minute=20, key_cache_seconds=5.0)
    async with served(create_app(lambda: open_services(settings))) as url:
        yield url


@pytest_asyncio.fixture
async def port(service: Service) -> AsyncIterator[int]:
    """The service as the entry point serves it, connections bounded."""
    number = free_port()
    app = create_app(lambda: open_services(settings_for(service.stack)))
    config = uvicorn.Config(
        app, port=number, http=BoundedHttp, log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield number
    server.should_exit = True
    await task


async def raw(port: int, sent: bytes, *, until: bytes = b"\r\n\r\n") -> bytes:
    """What comes back to exactly these bytes, up to the end of the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        return await asyncio.wait_for(reader.readuntil(until), 10)
    finally:
        writer.close()


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "GET"])
@pytest.mark.parametrize("path", ["payments", "refunds", "no-such-thing", "provider-accounts/x/settlement-file"])
async def test_a_stranger_is_answered_before_the_body_has_come(port: int, method: str, path: str) -> None:
    head = f"{method} /api/v1/{path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    answered = await raw(port, f"{head}content-length: 5000000\r\n\r\n[".encode())
    assert answered.startswith(b"HTTP/1.1 401 ")
    assert b"no-store" in answered
    assert b"nosniff" in answered


async def test_who_sends_on_after_the_answer_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /api/v1/payments HTTP/1.1\r\nhost: x\r\ncontent-length: 5000000\r\n\r\n[")
    assert b"401" in await reader.readuntil(b"\r\n\r\n")
    await asyncio.wait_for(reader.read(), 10)  # ends, though the body never does
    writer.close()


async def test_a_body_that_ends_after_the_answer_leaves_the_connection_open(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /api/v1/payments HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{")
    assert b"401" in await reader.readuntil(b'"}')
    writer.write(b"}")
    await asyncio.sleep(0.5)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    writer.close()


async def test_a_connection_that_says_nothing_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_BYTE_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_one_address_has_so_many_connections_and_gets_them_back(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS_OF_ADDRESS", 5)
    assert BoundedHttp._of_address["127.0.0.1"] == 0
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
    for _, open_one in held:
        open_one.close()
        await open_one.wait_closed()
    while BoundedHttp._of_address["127.0.0.1"]:
        await asyncio.sleep(0.01)
    assert b"200 OK" in await raw(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    monkeypatch.setattr(BoundedHttp, "trusted", staticmethod(lambda address: address == "127.0.0.1"))
    many = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    assert b"200 OK" in await raw(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    for _, open_one in many:
        open_one.close()


@pytest.mark.parametrize("target", ["/" + "a" * 9000, "/api/v1/payments?x=" + "a" * 9000, "/docs?" + "%41" * 3000])
async def test_an_address_has_a_length(port: int, target: str) -> None:
    answered = await raw(port, f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert answered.startswith(b"HTTP/1.1 414 ")


async def test_headers_have_a_size(port: int) -> None:
    answered = await raw(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 40_000 + b"\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (DEEP, 422),
        (b"[" * 200 + b"]" * 200, 422),
        (b"[" * 100_000 + b"]" * 100_000, 422),
        (b'{"amount": "1", "amount": "2"}', 422),
        (b'{"customer": {"id": "a", "id": "b"}}', 422),
        (b'{"amount": ' + b"9" * 5000 + b"}", 400),
        (b"\xff\xfe", 400),
        (b'{"amount": "1"', 400),
    ],
)
async def test_a_body_is_judged_before_it_is_parsed(shop: Shop, body: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    for path in ("/payments", "/refunds", "/provider-accounts", "/subscriptions"):
        answer = await shop.api.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (
            status,
            "validation_failed" if status == 422 else "malformed_body",
        ), (path, answer.text)


async def test_an_answer_names_so_many_faults_and_no_more(shop: Shop) -> None:
    body = {f"field-{number}-{'x' * 400}": 1 for number in range(500)}
    answer = await shop.api.post("/payments", json=body)
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 20
    assert len(answer.content) < 8000


async def test_no_address_is_logged(port: int) -> None:
    secret = secrets.token_hex(8)
    with capture_logs() as lines:
        await raw(port, f"GET /checkout/{secret}?x={secret} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await raw(port, f"GET /{secret} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await raw(port, f"POST /api/v1/webhooks/stripe/{secret}/{secret} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert secret not in str(lines)
    routes = [line["route"] for line in lines if line["event"] == "request"]
    assert routes == ["/checkout/{reference}", "none", "/webhooks/{provider}/{account_id}/{path_token}"]


@pytest.mark.parametrize(
    "unit", ["a", "a.", "a@", "a@a.", "1 ", "1", "dp_live_", "whsec_", "://a", "://a:", "/webhooks/a/", "+", "-"]
)
def test_what_is_logged_is_cut_before_it_is_searched(unit: str) -> None:
    for length in (60_000, 120_000):
        shown = redact(None, "info", {"event": unit * (length // len(unit))})["event"]
        assert len(shown) <= 3 * MAX_TEXT, len(shown)
    assert "+" not in _SECRET_VALUES.pattern.replace("[\\w+/=]", "").replace(
        "[\\w.+-]", ""
    )  # no repeat without a bound
    assert "*" not in _SECRET_VALUES.pattern


def test_half_a_secret_at_the_cut_is_not_shown() -> None:
    for secret in ("dp_live_" + "s" * 40, "4242 4242 4242 4242", "dana.levi@example.com"):
        for before in range(MAX_TEXT - len(secret), MAX_TEXT):
            shown = redact(None, "info", {"event": "." * before + secret + "." * 100})["event"]
            assert secret[:9] not in shown


async def refused_keys(http: httpx.AsyncClient, url: str, number: int) -> list[int]:
    statuses = []
    for _ in range(number):
        key = f"dp_live_{secrets.token_hex(20)}"
        answer = await http.get(f"{url}/api/v1/payments", headers={"authorization": f"Bearer {key}"})
        statuses.append(answer.status_code)
    return statuses


async def test_unknown_keys_cost_a_bounded_number_of_questions(guarded: str, service: Service, shop: Shop) -> None:
    headers = {"authorization": f"Bearer {shop.api_key}"}
    assert (await service.http.get(f"{guarded}/api/v1/payments", headers=headers)).status_code == 200
    statuses = await refused_keys(service.http, guarded, 50)
    assert statuses == [401] * 20 + [429] * 30
    good = await service.http.get(f"{guarded}/api/v1/payments", headers=headers)
    assert good.status_code == 200  # it was good before, whatever its neighbours do
    refused = await service.http.get(f"{guarded}/api/v1/payments", headers={"authorization": "Bearer dp_live_x"})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) <= 60


async def test_one_unknown_key_is_asked_for_once(service: Service) -> None:
    asked: list[str] = []
    settings = settings_for(service.stack, key_cache_seconds=60.0)
    app = create_app(lambda: open_services(settings))
    async with served(app) as url:
        engine = app.state.services.database.engine.sync_engine
        event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
        for _ in range(10):
            answer = await service.http.get(f"{url}/api/v1/payments", headers={"authorization": "Bearer dp_live_none"})
            assert answer.status_code == 401
    assert len([statement for statement in asked if "api_keys" in statement]) == 1


async def test_forged_webhooks_are_counted_in_memory_and_stop_nobody_elses(
    guarded: str, service: Service, shop: Shop
) -> None:
    other = await service.shop()
    hook = f"{guarded}/api/v1/webhooks/stripe/{shop.account.id}"
    forged = {"stripe-signature": "t=1,v1=00"}
    statuses = [(await service.http.post(hook, content=b"{}", headers=forged)).status_code for _ in range(40)]
    assert statuses == [400] * 20 + [429] * 20
    beside = await service.http.post(f"{guarded}/api/v1/webhooks/stripe/{other.account.id}", content=b"{}")
    assert beside.status_code == 400  # judged by itself
    health = await service.http.get(
        f"{guarded}/api/v1/webhooks/health", headers={"authorization": f"Bearer {shop.api_key}"}
    )
    assert sum(health.json()["callbacks"]["refused"].values()) == 20
    async with service.database.transaction() as session:
        rows = await session.scalar(select(func.count()).where(WebhookRejection.account == str(shop.account.id)))
    assert rows == 1
    await other.aclose()


async def test_accounts_that_there_are_not_are_asked_for_a_bounded_number_of_times(
    guarded: str, service: Service, shop: Shop
) -> None:
    own = f"{guarded}/api/v1/webhooks/stripe/{shop.account.id}"
    assert (await service.http.post(own, content=b"{}")).status_code == 400
    statuses = [
        (await service.http.post(f"{guarded}/api/v1/webhooks/stripe/{uuid4()}", content=b"{}")).status_code
        for _ in range(30)
    ]
    assert statuses == [404] * 20 + [429] * 10
    assert (await service.http.post(own, content=b"{}")).status_code == 400  # an account that was found before


async def test_an_accounts_own_flood_of_authentic_events_ends_in_429(service: Service, shop: Shop) -> None:
    settings = settings_for(service.stack, webhook_rate_limit_per_minute=3)
    async with served(create_app(lambda: open_services(settings))) as url:
        answers = []
        for number in range(5):
            body = json.dumps({"id": f"evt_{secrets.token_hex(8)}", "object": "event", "type": f"x.{number}"}).encode()
            answer = await service.http.post(
                f"{url}/api/v1/webhooks/stripe/{shop.account.id}", content=body, headers=signed(shop, body)
            )
            answers.append(answer.status_code)
    assert answers == [200, 200, 200, 429, 429]


def signed(shop: Shop, body: bytes) -> dict[str, str]:
    at = int(time.time())
    digest = hmac.new(shop.hook_secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"stripe-signature": f"t={at},v1={digest}"}


@pytest.mark.parametrize(
    ("client", "said", "trusted", "address"),
    [
        ("203.0.113.5", "1.2.3.4", [], "203.0.113.5"),  # nobody is believed unless it is said
        ("203.0.113.5", "1.2.3.4", ["10.0.0.0/8"], "203.0.113.5"),
        ("10.0.0.9", "1.2.3.4", ["10.0.0.0/8"], "1.2.3.4"),
        ("10.0.0.9", "6.6.6.6, 1.2.3.4, 10.1.1.1", ["10.0.0.0/8"], "1.2.3.4"),  # the first one is what a client wrote
        ("10.0.0.9", "", ["10.0.0.0/8"], "10.0.0.9"),
        ("10.0.0.9", "nonsense", ["10.0.0.0/8"], "unknown"),
        ("::ffff:10.0.0.9", "1.2.3.4", ["10.0.0.9"], "1.2.3.4"),
        ("2001:db8:1:2:3::4", "", [], "2001:db8:1:2::/64"),
    ],
)
def test_who_is_asking(client: str, said: str, trusted: list[str], address: str) -> None:
    headers = [(b"x-forwarded-for", said.encode())] if said else []
    assert Addresses(trusted).of({"client": (client, 1), "headers": headers}) == address


def test_a_body_within_its_limits_is_let_be() -> None:
    value: Any = "x"
    for _ in range(door.MAX_JSON_DEPTH):
        value = [value]
    check_json(json.dumps(value).encode())
    check_json(json.dumps([1] * (door.MAX_JSON_VALUES - 1)).encode())
    with pytest.raises(Problem):
        check_json(json.dumps([value]).encode())
    with pytest.raises(Problem):
        check_json(json.dumps([1] * (door.MAX_JSON_VALUES + 2)).encode())

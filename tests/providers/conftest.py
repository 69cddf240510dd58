"""Fixtures of the provider tests: the sandbox over real HTTP, and a payer for each provider."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
import uvicorn

from domain.money import Money
from providers.base import AccountConfig, CheckoutMode, CheckoutRequest, Payer, Provider
from providers.payu import PayuProvider
from providers.registry import PROVIDERS, build_provider
from providers.stripe import StripeProvider
from providers.stripe.transport import StripeTransport
from sandbox.app import create_app
from tests.providers.payers import CONTRACT, WEBHOOK_SECRET, SandboxPayer, payer_class
from tests.providers.payers.payu import Payer as PayuPayer
from tests.support.mailbox import Mailbox

PAYER = Payer("cust-7", "Dana Levi", "dana@example.com", "0541234567", "CC", "1020304050", "127.0.0.1")
Answer = Callable[[httpx.Request], httpx.Response]


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI application on a free port of the loopback, from a thread of its own. Yields the address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@pytest.fixture
def serve() -> Callable[[Any], contextlib.AbstractContextManager[str]]:
    """Serve an application of the test's own."""
    return served


@pytest.fixture
def mailbox(serve: Callable[[Any], contextlib.AbstractContextManager[str]]) -> Iterator[tuple[Mailbox, str]]:
    """Where callbacks arrive, and its address."""
    box = Mailbox()
    with serve(box) as address:
        yield box, address


@pytest.fixture
def webhook_secret() -> str:
    """The signing secret of the accounts under test."""
    return WEBHOOK_SECRET


@pytest.fixture(scope="session")
def sandbox_address() -> Iterator[str]:
    with served(create_app()) as address:
        yield address


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every provider in turn and in each variant of its sandbox, or those that a module names as its own."""
    if "payer" in metafunc.fixturenames:
        contract = metafunc.config.stash.get(CONTRACT, None)
        names = (
            ([contract[0]] if contract else None)
            or getattr(metafunc.module, "ONLY", None)
            or [
                "+".join(filter(None, (name, variant)))
                for name in sorted(PROVIDERS)
                for variant in ("", *payer_class(name).variants)
            ]
        )
        metafunc.parametrize("payer", names, indirect=True)


@pytest_asyncio.fixture
async def payer(request: pytest.FixtureRequest, sandbox_address: str) -> AsyncIterator[SandboxPayer]:
    """The other side of the provider under test, with an account of its own."""
    name, *variants = request.param.split("+")
    contract = request.config.stash.get(CONTRACT, None)
    one = (contract[1] if contract else payer_class(name))(sandbox_address)
    if variants:
        await one.behaves(*variants)
    yield one
    await one.aclose()


@pytest_asyncio.fixture
async def provider(payer: SandboxPayer) -> AsyncIterator[Provider]:
    """The adapter under test."""
    built = build_provider(payer.name, payer.account())
    yield built
    await built.aclose()


@pytest_asyncio.fixture
async def adapter(payer: PayuPayer) -> AsyncIterator[Callable[..., PayuProvider]]:
    """PayU's adapters of the payer's account with further options."""
    built: list[PayuProvider] = []

    def build(**options: Any) -> PayuProvider:
        built.append(PayuProvider(payer.account_with(**options)))
        return built[-1]

    yield build
    for one in built:
        await one.aclose()


@pytest_asyncio.fixture
async def impatient(payer: SandboxPayer) -> AsyncIterator[Provider]:
    """The same account by an adapter that gives up soon, for the calls that get no answer."""
    built = build_provider(payer.name, payer.account(timeout_seconds=0.5))
    yield built
    await built.aclose()


@pytest_asyncio.fixture
async def misconfigured(payer: SandboxPayer) -> AsyncIterator[Provider]:
    """The adapter with credentials that the provider does not know."""
    built = build_provider(payer.name, payer.wrong_account())
    yield built
    await built.aclose()


@pytest.fixture
def request_for(payer: SandboxPayer) -> Callable[..., CheckoutRequest]:
    """Build a checkout request that the provider takes; every part can be replaced."""

    def build(amount: str = payer.amount, currency: str = payer.currency, **changes: Any) -> CheckoutRequest:
        created_at = changes.pop("created_at", datetime.now(UTC))
        values: dict[str, Any] = {
            "reference": uuid4(),
            "workspace_id": UUID(int=7),
            "order_id": "order-1001",
            "amount": Money.parse(amount, currency),
            "description": "Order 1001",
            "mode": CheckoutMode.HOSTED,
            "created_at": created_at,
            "expires_at": created_at + timedelta(hours=2),
            "success_url": "http://127.0.0.1:9/thanks",
            "cancel_url": "http://127.0.0.1:9/cart",
            "callback_url": "http://127.0.0.1:9/callback",
            "payer": PAYER,
        }
        return CheckoutRequest(**(values | changes))

    return build


@pytest_asyncio.fixture
async def answered_by() -> AsyncIterator[Callable[..., StripeProvider]]:
    """Build a Stripe adapter whose every request is answered by a function, without any network."""
    built: list[StripeProvider] = []

    def build(answer: Answer, *, timeout_seconds: float = 5.0, now: datetime | None = None) -> StripeProvider:
        http_client = StripeTransport(timeout=timeout_seconds)
        http_client._client_async = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        config = AccountConfig(
            account_id=uuid4(),
            credentials={"secret_key": "sk_test_0000", "webhook_secret": WEBHOOK_SECRET},
            timeout_seconds=timeout_seconds,
        )
        provider = StripeProvider(
            config, http_client=http_client, clock=(lambda: now) if now else (lambda: datetime.now(UTC))
        )
        built.append(provider)
        return provider

    yield build
    for provider in built:
        await provider.aclose()

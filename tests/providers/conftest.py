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
from providers.base import AccountConfig, CheckoutMode, CheckoutRequest, OpenedCheckout, Provider
from providers.registry import PROVIDERS, build_provider
from providers.stripe import StripeProvider
from providers.stripe.transport import StripeTransport
from sandbox.app import create_app

WEBHOOK_SECRET = "whsec_test_secret"
SILENCE_SECONDS = 1.5
"""How long the sandbox keeps silent where a test asks for it; the impatient adapter gives up long before."""
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


class StripePayer:
    """The people and powers on the other side of Stripe's wire, through the sandbox."""

    GOOD, DECLINED, CHALLENGED = "4242424242424242", "4000000000000002", "4000000000003220"

    def __init__(self, address: str) -> None:
        self.address = address
        self.key = f"sk_test_{uuid4().hex}"
        self.http = httpx.AsyncClient(base_url=address)

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        return AccountConfig(
            account_id=uuid4(),
            credentials={"secret_key": self.key, "webhook_secret": WEBHOOK_SECRET} | credentials,
            options={"api_base": self.address},
            timeout_seconds=timeout_seconds,
        )

    def wrong_account(self) -> AccountConfig:
        return self.account(secret_key="sk_test_invalid")

    async def pays(self, opened: OpenedCheckout) -> None:
        if opened.url is None:
            assert await self._confirm(opened, card=self.GOOD) == "paid"
        else:
            assert (await self.http.post(opened.url, data={"card": self.GOOD})).status_code == 200

    async def is_declined(self, opened: OpenedCheckout) -> None:
        if opened.url is None:
            assert await self._confirm(opened, card=self.DECLINED) != "paid"
        else:
            assert (await self.http.post(opened.url, data={"card": self.DECLINED})).status_code == 402

    async def is_challenged(self, opened: OpenedCheckout) -> None:
        assert await self._confirm(opened, card=self.CHALLENGED) == "challenge"

    async def passes_challenge(self, opened: OpenedCheckout) -> None:
        assert await self._confirm(opened, card=self.CHALLENGED, approved=True) == "paid"

    async def tries_to_pay(self, opened: OpenedCheckout) -> None:
        if opened.url is None:
            assert await self._confirm(opened, card=self.GOOD) != "paid"
        else:
            assert (await self.http.post(opened.url, data={"card": self.GOOD})).status_code == 410

    async def falls_silent(self, when: str, on: str = "*") -> None:
        """The next call gets no answer: `before` it acts, or `after` it has acted."""
        await self.faults(f"timeout_{when}:{SILENCE_SECONDS}", on)

    async def faults(self, fault: str, on: str = "*") -> None:
        operation = {"*": "*", "refund": "create_refund"}[on]
        answer = await self.http.post("/sandbox/faults", json={"operation": operation, "fault": fault})
        answer.raise_for_status()

    async def checkouts_of(self, payment_id: UUID) -> list[str]:
        """Ids of everything that was opened for this payment."""
        sessions = (await self.http.get("/sandbox/objects", params={"type": "checkout.session"})).json()
        found = [session["id"] for session in sessions if session["client_reference_id"] == str(payment_id)]
        intents = (await self.http.get("/sandbox/objects", params={"type": "payment_intent"})).json()
        return found + [intent["id"] for intent in intents if intent["metadata"].get("payment_id") == str(payment_id)]

    async def sandbox(self, path: str, **body: Any) -> Any:
        answer = await self.http.post(f"/sandbox/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def aclose(self) -> None:
        await self.http.delete("/sandbox/faults")
        await self.http.delete("/sandbox/webhook-endpoints")
        await self.http.aclose()

    async def _confirm(self, opened: OpenedCheckout, **how: Any) -> str:
        return str((await self.sandbox(f"payment_intents/{opened.session_id}/confirm", **how))["outcome"])


PAYERS = {"stripe": StripePayer}


@pytest.fixture
def serve() -> Callable[[Any], contextlib.AbstractContextManager[str]]:
    """Serve an application of the test's own."""
    return served


@pytest.fixture
def webhook_secret() -> str:
    """The signing secret of the accounts under test."""
    return WEBHOOK_SECRET


@pytest.fixture(scope="session")
def sandbox_address() -> Iterator[str]:
    with served(create_app()) as address:
        yield address


@pytest_asyncio.fixture(params=sorted(PROVIDERS))
async def payer(request: pytest.FixtureRequest, sandbox_address: str) -> AsyncIterator[StripePayer]:
    """The other side of the provider under test, with an account of its own."""
    one = PAYERS[request.param](sandbox_address)
    yield one
    await one.aclose()


@pytest.fixture
def provider_name(request: pytest.FixtureRequest, payer: StripePayer) -> str:
    return next(name for name, kind in PAYERS.items() if type(payer) is kind)


@pytest_asyncio.fixture
async def provider(provider_name: str, payer: StripePayer) -> AsyncIterator[Provider]:
    """The adapter under test."""
    built = build_provider(provider_name, payer.account())
    yield built
    await built.aclose()


@pytest_asyncio.fixture
async def impatient(provider_name: str, payer: StripePayer) -> AsyncIterator[Provider]:
    """The same account by an adapter that gives up soon, for the calls that get no answer."""
    built = build_provider(provider_name, payer.account(timeout_seconds=0.5))
    yield built
    await built.aclose()


@pytest_asyncio.fixture
async def misconfigured(provider_name: str, payer: StripePayer) -> AsyncIterator[Provider]:
    """The adapter with credentials that the provider does not know."""
    built = build_provider(provider_name, payer.wrong_account())
    yield built
    await built.aclose()


@pytest.fixture
def request_for() -> Callable[..., CheckoutRequest]:
    """Build a checkout request; every part can be replaced."""

    def build(amount: str = "129.90", currency: str = "ILS", **changes: Any) -> CheckoutRequest:
        created_at = changes.pop("created_at", datetime.now(UTC))
        values: dict[str, Any] = {
            "payment_id": uuid4(),
            "workspace_id": UUID(int=7),
            "order_id": "order-1001",
            "amount": Money.parse(amount, currency),
            "description": "Order 1001",
            "mode": CheckoutMode.HOSTED,
            "created_at": created_at,
            "expires_at": created_at + timedelta(hours=2),
            "success_url": "http://127.0.0.1:9/thanks",
            "cancel_url": "http://127.0.0.1:9/cart",
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

"""The service in this process: API and sandbox over real HTTP, the worker on a real Temporal server."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from cryptography.fernet import Fernet
from fastapi import FastAPI, Request

import wiring
import worker
from api.app import create_app
from embedded.parts import free_port
from embedded.stack import Stack
from settings import Settings
from storage import administration, workspaces
from storage.models import ProviderAccount, Workspace
from storage.sealing import Sealer
from storage.session import Database

CREDENTIALS_KEY = Fernet.generate_key().decode()
NOTICE_SECRET = "whsec_" + base64.b64encode(b"n" * 24).decode()


@asynccontextmanager
async def served(app: FastAPI, port: int | None = None) -> AsyncIterator[str]:
    """An application on a free port of the loopback interface."""
    port = port or free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    )
    task = asyncio.create_task(server._serve())
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def settings_for(stack: Stack, **changes: Any) -> Settings:
    """Settings of a test's service: quick rounds, otherwise the defaults."""
    values: dict[str, Any] = {
        "database_url": stack.database_url,
        "temporal_address": f"127.0.0.1:{stack.ports.temporal}",
        "temporal_task_queue": "tests",
        "credentials_keys": CREDENTIALS_KEY,
        "dispatch_interval_seconds": 0.1,
        "outbox_first_retry_seconds": 0.2,
        "provider_timeout_seconds": 3.0,
        "rate_limit_per_minute": 1_000_000,
        "key_cache_seconds": 0.0,
        "db_pool_size": 20,
    }
    return Settings(_env_file=None, **(values | changes))


@dataclass
class Merchant:
    """The merchant's order service: takes notifications, remembers them, can be told to fail."""

    notices: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    url: str = ""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/hooks/{name}")
        async def take(name: str, request: Request) -> Any:
            from fastapi.responses import Response

            status = self.answers.pop(0) if self.answers else 200
            body = await request.body()
            if status == 200:
                self.bodies.append(body)
                self.headers.append(dict(request.headers))
                self.notices.append(dict(await request.json()) | {"hook": name})
            return Response(status_code=status)

        return app

    def told(self, payment_id: str) -> list[str]:
        return [notice["type"] for notice in self.notices if notice["data"]["payment_id"] == payment_id]


@dataclass
class Service:
    """Everything that runs, and how to reach it."""

    stack: Stack
    settings: Settings
    database: Database
    sealer: Sealer
    sandbox_url: str
    api_url: str
    merchant: Merchant
    http: httpx.AsyncClient

    async def shop(self, **changes: Any) -> Shop:
        """A new workspace with a Stripe account of its own at the sandbox."""
        key, hook_secret = f"sk_test_{secrets.token_hex(8)}", f"whsec_{secrets.token_hex(16)}"
        slug = f"shop-{secrets.token_hex(6)}"
        values: dict[str, Any] = {
            "slug": slug,
            "name": "Shop",
            "currency": "ILS",
            "country": "IL",
            "timezone": "Asia/Jerusalem",
            "language": "en",
            "dealer": "company",
            "legal_name": "Shop Ltd",
            "business_number": "514000009",
            "vat_rate": Decimal("0.18"),
            "commission_rate": Decimal("0.10"),
            "commission_minimum": Decimal("1.00"),
            "order_webhook_url": f"{self.merchant.url}/hooks/{slug}",
            "order_webhook_secret": self.sealer.seal(NOTICE_SECRET),
        }
        async with self.database.transaction() as session:
            workspace = await administration.create_workspace(session, values | changes, actor="test")
            account = await administration.create_account(
                session,
                self.sealer,
                workspace_id=workspace.id,
                provider="stripe",
                name="test",
                credentials={"secret_key": key, "webhook_secret": hook_secret},
                options={"api_base": self.sandbox_url},
                receives_default_webhook=False,
                actor="test",
                hint_of="secret_key",
            )
            made = administration.create_api_key(
                session, workspace_id=workspace.id, name="test", scopes=administration.SCOPES, actor="test"
            )
        client = httpx.AsyncClient(
            base_url=f"{self.api_url}/api/v1", headers={"authorization": f"Bearer {made.key}"}, timeout=30
        )
        shop = Shop(self, workspace, account, made.key, key, hook_secret, client)
        await shop.point_webhooks()
        return shop


@dataclass
class Shop:
    """A workspace and the people around it."""

    service: Service
    workspace: Workspace
    account: ProviderAccount
    api_key: str
    provider_key: str
    hook_secret: str
    api: httpx.AsyncClient

    @property
    def hook_url(self) -> str:
        return f"{self.service.api_url}/api/v1/webhooks/stripe/{self.account.id}"

    async def point_webhooks(self, url: str | None = None) -> None:
        await self.sandbox(
            "POST",
            "/webhook-endpoints",
            {"url": url or self.hook_url, "secret": self.hook_secret, "account_key": self.provider_key},
        )

    async def sandbox(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = await self.service.http.request(method, f"{self.service.sandbox_url}/sandbox{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def order(self, **changes: Any) -> dict[str, Any]:
        return {
            "amount": "129.90",
            "currency": self.workspace.currency,
            "order_id": f"order-{secrets.token_hex(4)}",
            "customer": {"id": "cust-77", "name": "Dana Levi", "email": "dana@example.com"},
            "referrer_id": "partner-5",
        } | changes

    async def pays(self, idempotency_key: str | None = None, **changes: Any) -> dict[str, Any]:
        """Create a payment; the answer must be 201."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        answer = await self.api.post("/payments", json=self.order(**changes), headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def pay(self, payment: dict[str, Any], card: str = "4242424242424242", **extra: Any) -> str:
        """The payer pays at the sandbox."""
        session_id = payment["checkout_url"].rsplit("/", 1)[1]
        paid = await self.sandbox("POST", f"/sessions/{session_id}/pay", {"card": card, **extra})
        return str(paid["outcome"])

    async def read(self, payment_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/payments/{payment_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def until(self, payment_id: str, status: str, seconds: float = 20) -> dict[str, Any]:
        """Wait until the payment has the status."""
        deadline = time.monotonic() + seconds
        payment: dict[str, Any] = {}
        while time.monotonic() < deadline:
            payment = await self.read(payment_id)
            if payment["status"] == status:
                return payment
            await asyncio.sleep(0.05)
        raise AssertionError(f"still {payment.get('status')} after {seconds} s, wanted {status}")

    async def totals(self, payment_id: str) -> dict[str, int]:
        """What the provider's books say about a payment."""
        return dict((await self.sandbox("GET", "/totals")).get(payment_id, {}))

    async def events(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in await self.sandbox("GET", "/objects?type=event") if event["type"] == event_type]


async def eventually(check: Any, seconds: float = 15) -> Any:
    """The first true value of an asynchronous check."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = await check()
        if value:
            return value
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen in time")


async def admin_key(service: Service) -> str:
    """A key of the platform's administrator."""
    async with service.database.transaction() as session:
        return administration.create_api_key(
            session, workspace_id=None, name="platform", scopes=["admin"], actor="test"
        ).key


async def account_of(service: Service, account_id: UUID) -> ProviderAccount:
    async with service.database.transaction() as session:
        account = await workspaces.account(session, account_id)
    assert account is not None
    return account


@asynccontextmanager
async def running_service(stack: Stack, sandbox_url: str) -> AsyncIterator[Service]:
    """API, worker and merchant until the block ends."""
    settings, merchant = settings_for(stack), Merchant()
    database, sealer, stop = wiring.database(settings), wiring.sealer(settings), asyncio.Event()
    async with (
        served(merchant.app()) as merchant_url,
        served(create_app(lambda: wiring.open_services(settings))) as api_url,
        httpx.AsyncClient(timeout=30) as http,
    ):
        merchant.url = merchant_url
        working = asyncio.create_task(worker.serve(settings, stop))
        try:
            yield Service(stack, settings, database, sealer, sandbox_url, api_url, merchant, http)
        finally:
            stop.set()
            await working
            await database.close()

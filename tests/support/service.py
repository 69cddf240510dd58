"""The service in this process: API and sandbox over real HTTP, the worker on a real Temporal server."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping
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
from api.services import open_services
from domain.payment import attempt_reference
from embedded import browser
from embedded.parts import free_port
from embedded.stack import Stack
from providers.base import CashInstructions, FormPost, OpenedCheckout
from providers.registry import required_credentials
from settings import Settings
from storage import administration, attempts, workspaces
from storage.models import Attempt, ProviderAccount, Workspace
from storage.sealing import Sealer
from storage.session import Database
from tests.providers.payers import SandboxPayer, payer_class

COUNTRIES: dict[str, dict[str, Any]] = {
    "ILS": {
        "currency": "ILS",
        "country": "IL",
        "timezone": "Asia/Jerusalem",
        "dealer": "company",
        "business_number": "514000009",
        "vat_rate": Decimal("0.18"),
    },
    "COP": {
        "currency": "COP",
        "country": "CO",
        "timezone": "America/Bogota",
        "dealer": "foreign",
        "business_number": "900.123.456-7",
        "vat_rate": Decimal("0.19"),
    },
}
CUSTOMERS: dict[str, dict[str, Any]] = {
    "ILS": {"id": "cust-77", "name": "Dana Levi", "email": "dana@example.com", "phone": "0541234567"},
    "COP": {
        "id": "cust-77",
        "name": "Laura Gómez",
        "email": "laura@example.com",
        "phone": "3001234567",
        "document_type": "CC",
        "document": "1020304050",
        "ip": "127.0.0.1",
    },
}
CREDENTIALS_KEY = Fernet.generate_key().decode()
PATIENCE = 60.0
"""Seconds for what comes in one or two, and later on a machine that is busy."""
TELLING = 12
"""Characters from which on a credential is nobody else's by chance."""
NOTICE_SECRET = "whsec_" + base64.b64encode(b"n" * 24).decode()


@asynccontextmanager
async def served(app: FastAPI, port: int | None = None) -> AsyncIterator[str]:
    """An application on a free port of the loopback interface."""
    port = port or free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,  # the client drops an idle connection first: both after five seconds was a race
            timeout_graceful_shutdown=2,
        )
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
        "webhook_rate_limit_per_minute": 1_000_000,
        "refusals_per_minute": 1_000_000,
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
    refuses: set[str] = field(default_factory=set)
    """Types that are answered with 500, as often as they come."""
    url: str = ""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/hooks/{name}")
        async def take(name: str, request: Request) -> Any:
            from fastapi.responses import Response

            status = self.answers.pop(0) if self.answers else 200
            body, notice = await request.body(), dict(await request.json())
            if notice["type"] in self.refuses:
                status = 500
            if status == 200:
                self.bodies.append(body)
                self.headers.append(dict(request.headers))
                self.notices.append(notice | {"hook": name})
            return Response(status_code=status)

        return app

    def told(self, payment_id: str) -> list[str]:
        return [notice["type"] for notice in self.notices if notice["data"].get("payment_id") == payment_id]


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

    async def shop(
        self, provider: str = "stripe", *, callbacks: bool = True, saving: bool = False, **changes: Any
    ) -> Shop:
        """A new workspace in the provider's country and currency, with an account of its own at the sandbox.

        Without `callbacks` no address is registered; providers that are told with each request send them all the same.
        With `saving` the account has the options that charging saved methods needs.
        """
        payer = payer_class(provider)(self.sandbox_url)
        slug = f"shop-{secrets.token_hex(6)}"
        values: dict[str, Any] = {
            "slug": slug,
            "name": "Shop",
            "language": "en",
            "legal_name": "Shop Ltd",
            "commission_rate": Decimal("0.10"),
            "commission_minimum": Decimal("1.00"),
            "order_webhook_url": f"{self.merchant.url}/hooks/{slug}",
            "order_webhook_secret": self.sealer.seal(NOTICE_SECRET),
        } | COUNTRIES[payer.currency]
        async with self.database.transaction() as session:
            workspace = await administration.create_workspace(session, values | changes, actor="test")
            made = administration.create_api_key(
                session, workspace_id=workspace.id, name="test", scopes=administration.SCOPES, actor="test"
            )
        client = httpx.AsyncClient(
            base_url=f"{self.api_url}/api/v1", headers={"authorization": f"Bearer {made.key}"}, timeout=30
        )
        options = payer.saving_account().options if saving else None
        till = await self.connect(workspace, payer, callbacks=callbacks, options=options)
        return Shop(self, workspace, till.account, made.key, client, till)

    async def connect(
        self,
        workspace: Workspace,
        payer: SandboxPayer,
        *,
        name: str = "test",
        callbacks: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> Till:
        """A further account of a workspace, with secrets that no other account has; its callbacks come to us."""
        own: dict[str, Any] = {secret: secrets.token_urlsafe(24) for secret in payer.own_secrets}
        config = payer.account(**own)
        async with self.database.transaction() as session:
            account = await administration.create_account(
                session,
                self.sealer,
                workspace_id=workspace.id,
                provider=payer.name,
                name=name,
                credentials=config.credentials,
                options={**config.options, **(options or {})},
                receives_default_webhook=False,
                actor="test",
                hint_of=required_credentials(payer.name)[0],
            )
        till = Till(account, payer, dict(config.credentials), self.api_url)
        if callbacks:
            await payer.callbacks_go_to(till.hook_url, till.credentials)
        return till


@dataclass(frozen=True)
class Till:
    """One account of a workspace and the people on the other side of its provider's wire."""

    account: ProviderAccount
    payer: SandboxPayer
    credentials: dict[str, str]
    api_url: str

    @property
    def hook_url(self) -> str:
        """Where its callbacks come to; some providers add a token of the account's."""
        token = self.credentials.get("callback_token")
        path = f"{self.api_url}/api/v1/webhooks/{self.account.provider}/{self.account.id}"
        return path if token is None else f"{path}/{token}"


@dataclass
class Shop:
    """A workspace and the people around it. `till` is its first account."""

    service: Service
    workspace: Workspace
    account: ProviderAccount
    api_key: str
    api: httpx.AsyncClient
    till: Till

    @property
    def hook_url(self) -> str:
        return self.till.hook_url

    @property
    def provider_key(self) -> str:
        """Stripe's secret key."""
        return self.till.credentials["secret_key"]

    @property
    def hook_secret(self) -> str:
        """What Stripe signs with."""
        return self.till.credentials["webhook_secret"]

    async def aclose(self) -> None:
        await self.api.aclose()
        await self.till.payer.http.aclose()

    async def sandbox(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Use one of the sandbox's controls. Faults meet this shop only: payments of tests before this one go on."""
        if (method, path) == ("POST", "/faults"):
            body = {"only_with": await self._marks()} | (body or {})
        answer = await self.service.http.request(method, f"{self.service.sandbox_url}/sandbox{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def _marks(self) -> list[str]:
        """What only calls of this shop's accounts carry, or callbacks to them."""
        async with self.service.database.transaction() as session:
            accounts = await workspaces.accounts_of(session, self.workspace.id)
        secrets = [text for one in accounts for text in self.service.sealer.open_mapping(one.credentials).values()]
        return [*(str(one.id) for one in accounts), *(text for text in secrets if len(text) >= TELLING)]

    def order(self, **changes: Any) -> dict[str, Any]:
        """A payment as the shop asks for it, with all that any provider wants to know of a payer."""
        payer = self.till.payer
        return {
            "amount": payer.amount,
            "currency": self.workspace.currency,
            "order_id": f"order-{secrets.token_hex(4)}",
            "customer": CUSTOMERS[payer.currency],
            "referrer_id": "partner-5",
        } | changes

    async def pays(self, idempotency_key: str | None = None, **changes: Any) -> dict[str, Any]:
        """Create a payment; the answer must be 201."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        answer = await self.api.post("/payments", json=self.order(**changes), headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def pay(self, payment: dict[str, Any], card: str = "4242424242424242", **extra: Any) -> str:
        """The payer pays at Stripe. Other providers: `till.payer.pays(await shop.checkout(payment))`."""
        session_id = payment["checkout_url"].rsplit("/", 1)[1]
        paid = await self.sandbox("POST", f"/sessions/{session_id}/pay", {"card": card, **extra})
        return str(paid["outcome"])

    async def checkout(self, payment: dict[str, Any], number: int = 1) -> OpenedCheckout:
        """What the payer has in hand: an address, the form of our page, or what to say at the counter."""
        reference = attempt_reference(UUID(payment["id"]), number)
        async with self.service.database.transaction() as session:
            attempt = await attempts.by_reference(session, reference)
        assert attempt is not None
        return await self.shown(attempt)

    async def shown(self, attempt: Attempt) -> OpenedCheckout:
        """What the payer of an attempt has in hand; our own page is read, or its form where nobody serves it."""
        assert attempt.session_id is not None
        url, form, cash = attempt.checkout_url, None, None
        if attempt.form is not None and url is not None and not url.startswith(self.service.api_url):
            url, form = None, FormPost(**json.loads(self.service.sealer.open(attempt.form)))
        elif url is not None and url.startswith(self.service.api_url):
            page = await browser.open_page(self.service.http, url)
            url, form = None, FormPost(page.forms[0].action, page.forms[0].fields) if page.forms else None
        if attempt.instructions is not None and "code" in attempt.instructions:
            cash = CashInstructions(**attempt.instructions)
        return OpenedCheckout(attempt.session_id, url, form=form, cash=cash)

    async def read(self, payment_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/payments/{payment_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def until(self, payment_id: str, status: str, seconds: float = PATIENCE) -> dict[str, Any]:
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


async def eventually(check: Any, seconds: float = PATIENCE) -> Any:
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
    port = free_port()
    settings, merchant = settings_for(stack, public_base_url=f"http://127.0.0.1:{port}"), Merchant()
    database, sealer, stop = wiring.database(settings), wiring.sealer(settings), asyncio.Event()
    async with (
        served(merchant.app()) as merchant_url,
        served(create_app(lambda: open_services(settings)), port) as api_url,
        httpx.AsyncClient(timeout=30) as http,
    ):
        merchant.url = merchant_url
        working = asyncio.create_task(worker.serve(settings, stop))
        try:
            yield Service(stack, settings, database, sealer, sandbox_url, api_url, merchant, http)
        finally:
            stop.set()
            await _stopped(working)
            await database.close()


WORKER_STOPS_SECONDS = 60
"""Four times what the worker gives activities under way."""


async def _stopped(working: asyncio.Task[None]) -> None:
    """Wait for the worker's end, after all verdicts are in.

    The library's worker may wait for ever for the answer to a poll that it gave up. A worker's end is tested where it
    is a process by itself (`tests/crash`, `tests/embedded`) and must come; here it is left behind, and said aloud.
    """
    done, _ = await asyncio.wait({working}, timeout=WORKER_STOPS_SECONDS)
    if done:
        working.result()
        return
    working.cancel()
    await asyncio.wait({working}, timeout=5)
    print(
        f"\nthe worker of the tests did not stop within {WORKER_STOPS_SECONDS} s; it was left behind", file=sys.stderr
    )

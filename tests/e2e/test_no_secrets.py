"""No secret and nothing personal in a log, an error, an address, a workflow's history, the audit log or a notice.

The service runs as `make up` runs it, in processes of its own that log everything they can. Each provider's account has
secrets, and each payer a name, that occur nowhere else; after payments that went well and badly, all that anybody may
read is searched for them.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from sqlalchemy import select

import wiring
from embedded.stack import Ports, Stack
from embedded.stack import service as whole_service
from engine.client import connect
from providers.registry import PROVIDERS, capabilities_of
from storage.models import Attempt, Base, Payment
from tests.support.service import NOTICE_SECRET, Merchant, Service, Shop, eventually, served, settings_for

LOUD = {
    "LOG_LEVEL": "DEBUG",
    "LOG_FORMAT": "json",
    "DISPATCH_INTERVAL_SECONDS": "0.1",
    "PROVIDER_TIMEOUT_SECONDS": "3",
    "RATE_LIMIT_PER_MINUTE": "1000000",
}
PERSON = {"id": "cust-9001", "name": "Zephyrine Quxley", "email": "zephyrine.quxley@hidden-mailbox.com"}
PEOPLE: dict[str, dict[str, Any]] = {
    "ILS": PERSON | {"phone": "0549876123", "tax_id": "516273849"},
    "COP": PERSON
    | {
        "phone": "3109876123",
        "document_type": "CC",
        "document": "79461352",
        "ip": "203.0.113.77",
        "tax_id": "516273849",
    },
}
PERSONAL = ("zephyrine", "quxley", "hidden-mailbox", "9876123", "79461352", "203.0.113.77", "516273849")
"""Parts of the above that survive any spelling of it."""
TREATMENT = "xylosciatica"
"""In the description, which is for the payer, the provider and the shop."""
PUBLIC = {
    "wompi": {"public_key"},  # stands in the address of Wompi's own page
    "payu": {"merchant_id", "account_id"},  # fields of PayU's form
    "payplus": {"payment_page_uid"},  # names a page
    "efecty": {"agreement"},  # said at the counter
    "meshulam": {"user_id"},  # names the business; the sandbox has one for all
}
FURTHER: dict[str, list[dict[str, Any]]] = {
    "stripe": [{"method": "link"}, {"checkout_mode": False}],
    "wompi": [
        {"method": "link"},
        {"method": "nequi"},
        {"method": "pse", "method_fields": {"financial_institution_code": "1"}},
    ],
    "payu": [
        {"method": "efecty"},
        {"method": "pse", "method_fields": {"financial_institution_code": "1007", "user_type": "N"}},
    ],
    "meshulam": [{"method": "bit"}],
    "payplus": [{"method": "bit"}],
    "efecty": [],
}
KEPT_ON_PURPOSE = {
    "payments": {"customer_name", "customer_email", "customer_phone", "customer_document", "customer_tax_id"}
    | {"customer_ip", "description"},
    "receipts": {"document"},  # what was printed
    "webhook_events": {"body"},  # the callback as it came
}


@dataclass
class Wire:
    """Stands between the service and the sandbox, and keeps every address that was asked for."""

    target: str
    asked: list[str] = field(default_factory=list)

    def app(self, http: httpx.AsyncClient) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.api_route("/{path:path}", methods=["GET", "POST", "PATCH", "DELETE"])
        async def forward(request: Request, path: str) -> Response:
            address = request.scope["raw_path"].decode()
            if query := request.scope["query_string"].decode():
                address += f"?{query}"
            self.asked.append(address)
            answer = await http.request(
                request.method,
                f"{self.target}{address}",
                headers={name: value for name, value in request.headers.items() if name != "content-length"},
                content=await request.body(),
            )
            kept = {"content-type", "location", "retry-after"}
            headers = {name: value for name, value in answer.headers.items() if name in kept}
            return Response(answer.content, answer.status_code, headers)

        return app


@dataclass
class Watched:
    """The running service and everything that it lets out."""

    stack: Stack
    service: Service
    wire: Wire

    def logs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(self.stack.state / "logs").iterdir()}

    async def histories(self) -> dict[str, bytes]:
        """All events of all workflows, payloads in clear: no codec is set."""
        client = await connect(wiring.temporal_target(self.service.settings))
        found = {}
        async for one in client.list_workflows():
            handle = client.get_workflow_handle(one.id, run_id=one.run_id)
            found[one.id] = b"".join([event.SerializeToString() async for event in handle.fetch_history_events()])
        return found

    async def tables(self) -> dict[str, bytes]:
        """Every row of every table, without the columns that keep a person's data on purpose."""
        found = {}
        async with self.service.database.transaction() as session:
            for table in Base.metadata.sorted_tables:
                hidden = KEPT_ON_PURPOSE.get(table.name, set())
                columns = [column for column in table.columns if column.name not in hidden]
                rows = (await session.execute(select(*columns))).all()
                found[table.name] = b"\n".join(_bytes(value) for row in rows for value in row)
        return found


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest_asyncio.fixture(scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    state = tmp_path_factory.mktemp("loud")
    for folder in (state, *state.parents):
        if folder.owner() == "root" and folder != Path("/") and folder.stat().st_mode & 0o111 != 0o111:
            folder.chmod(folder.stat().st_mode | 0o111)
    merchant = Merchant()
    async with (
        httpx.AsyncClient(timeout=30) as http,
        served(merchant.app()) as merchant.url,
        whole_service(state, Ports.free(), LOUD) as stack,
    ):
        wire = Wire(stack.sandbox_url)
        async with served(wire.app(http)) as wire_url:
            settings = settings_for(
                stack,
                credentials_keys=stack.env["CREDENTIALS_KEYS"],
                temporal_task_queue="payments",
                public_base_url=stack.api_url,
            )
            database = wiring.database(settings)
            sealer = wiring.sealer(settings)
            running = Service(stack, settings, database, sealer, wire_url, stack.api_url, merchant, http)
            try:
                yield Watched(stack, running, wire)
            finally:
                await database.close()


@dataclass
class Talk:
    """What the API answered to one shop, receipts apart: those are about a person."""

    shop: Shop
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    refusals: list[tuple[str, bytes]] = field(default_factory=list)

    async def remember(self, answer: httpx.Response) -> None:
        await answer.aread()
        if "/receipts/" not in str(answer.request.url):
            kept = self.refusals if answer.is_error else self.answers
            kept.append((f"{answer.request.method} {answer.request.url}", answer.content))

    def order(self, **changes: Any) -> dict[str, Any]:
        person = PEOPLE[self.shop.workspace.currency]
        return self.shop.order(customer=person, description="Xylosciatica treatment", **changes)

    async def ask(self, **changes: Any) -> dict[str, Any]:
        answer = await self.shop.api.post("/payments", json=self.order(**changes))
        return dict(answer.json())

    async def strangers_call(self) -> None:
        """Callbacks that nobody signed, about a person that somebody knows."""
        body = f'{{"email": "{PERSON["email"]}", "name": "{PERSON["name"]}"}}'.encode()
        form = f"email_buyer={PERSON['email']}&data[fullName]={PERSON['name']}&sign=00".encode()
        bad = {"stripe-signature": "t=1,v1=00", "hash": PERSON["name"], "x-efecty-signature": "0" * 64}
        for content in (body, form, b"{", b"\xff", body * 30_000):
            for headers in ({}, bad, {"content-type": "application/x-www-form-urlencoded"}):
                with suppress(httpx.TransportError):  # the connection is closed on what is too large
                    answer = await self.shop.service.http.post(self.shop.hook_url, content=content, headers=headers)
                    assert answer.status_code >= 400
                    self.refusals.append(("callback", answer.content))

    async def callers_err(self) -> None:
        """Each field of a payment wrong, the person's data in all of them."""
        person = PEOPLE[self.shop.workspace.currency]
        wrong: list[dict[str, Any]] = [
            {"amount": PERSON["name"]},
            {"amount": "0"},
            {"currency": "USD"},
            {"customer": person | {"email": "zephyrine quxley"}},
            {"customer": person | {"email": "zephyrine@hidden mailbox"}},
            {"customer": person | {"document_type": "quxley"}},
            {"customer": person | {"ip": "203.0.113.777"}},
            {"customer": PERSON["name"]},
            {"method": "quxley"},
            {"provider": "zephyrine"},
            {"success_url": "zephyrine quxley"},
            {"metadata": {"note": "zephyrine" * 100}},
        ]
        for changes in wrong:
            answer = await self.shop.api.post("/payments", json=self.order() | changes)
            assert answer.status_code >= 400, changes


async def lives(talk: Talk) -> None:
    """Everything that happens to payments: opened in trouble, declined, paid, refunded, cancelled, refused."""
    shop, payer = talk.shop, talk.shop.till.payer
    if payer.opens_by_call:
        await payer.faults("error:500", on="open")
    payment = await talk.ask()
    opened = await shop.checkout(payment)
    if payer.can_be_declined:
        await payer.is_declined(opened)
    with suppress(KeyError):
        await payer.faults("error:500")  # for the next look
    await payer.pays(opened)
    paid = await shop.until(payment["id"], "paid", 60)
    refund = await shop.api.post("/refunds", json={"payment_id": paid["id"]}, timeout=60)
    assert refund.is_success is capabilities_of(payer.name).refund, refund.text
    for changes in FURTHER[payer.name]:
        further = await talk.ask(**changes)
        assert further.get("status") in ("pending", "requires_action"), further
    canceled = await talk.ask()
    assert (await shop.api.post(f"/payments/{canceled['id']}/cancel")).json()["status"] == "canceled"
    for path in ("/payments", f"/payments/{paid['id']}/timeline", f"/payments/{paid['id']}/attempts", "/refunds"):
        assert (await shop.api.get(path)).status_code == 200
    for path in ("/payments/health", "/payments/methods", "/provider-accounts", "/webhooks/health"):
        assert (await shop.api.get(path)).status_code == 200
    account = f"/provider-accounts/{shop.account.id}"
    assert (await shop.api.post(f"{account}/check")).json()["ok"]
    wrong = dict(payer.wrong_account().credentials)
    await shop.api.patch(account, json={"credentials": wrong})
    assert not (await shop.api.post(f"{account}/check")).json()["ok"]
    await talk.ask()


def spellings(secret: str) -> Iterator[bytes]:
    """As it is, and inside something that was written in base64."""
    raw = secret.encode()
    yield raw.lower()
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw + b"\0" * (-(shift + len(raw)) % 3))
        yield whole[4 if shift else 0 : len(whole) - 4 if (shift + len(raw)) % 3 else len(whole)].lower()


def holds(content: bytes, secret: str) -> bool:
    content = content.lower()
    return any(spelling in content for spelling in spellings(secret) if len(spelling) > 5)


def found(where: dict[str, bytes] | list[tuple[str, bytes]], secrets: dict[str, str]) -> list[str]:
    """Places that hold a secret, by the secret's name."""
    places = where.items() if isinstance(where, dict) else where
    return sorted({f"{name} in {place}" for place, text in places for name, it in secrets.items() if holds(text, it)})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("provider", sorted(PROVIDERS))
async def test_nothing_that_is_secret_or_personal_gets_out(watched: Watched, provider: str) -> None:
    shop = await watched.service.shop(provider)
    talk = Talk(shop)
    shop.api.event_hooks["response"].append(talk.remember)
    await talk.callers_err()
    await talk.strangers_call()
    await lives(talk)

    credentials = {name: it for name, it in shop.till.credentials.items() if name not in PUBLIC.get(provider, ())}
    secrets = credentials | {"API key": shop.api_key, "notice secret": NOTICE_SECRET}
    secrets |= {"key of the database": watched.stack.env["CREDENTIALS_KEYS"]}
    async with watched.service.database.transaction() as session:
        attempts = await session.scalars(select(Attempt).where(Attempt.provider_account_id == shop.account.id))
        for attempt in attempts:
            if attempt.session_secret is not None:
                secrets[f"session secret {attempt.id}"] = watched.service.sealer.open(attempt.session_secret)
        mine = Payment.workspace_id == shop.workspace.id
        for sealed in await session.scalars(select(Payment.client_secret).where(mine)):
            if sealed is not None:
                secrets["client secret"] = watched.service.sealer.open(sealed)
    assert len(credentials) > 0
    personal = {word: word for word in PERSONAL}
    hidden = secrets | personal | {"description": TREATMENT}

    async def told() -> bool:
        return any(notice["hook"] == shop.workspace.slug for notice in watched.service.merchant.notices)

    await eventually(told)
    assert found(watched.logs(), hidden) == []
    assert found(await watched.histories(), hidden) == []
    assert found(await watched.tables(), hidden) == []
    assert found([("address", "\n".join(watched.wire.asked).encode())], hidden) == []
    assert found([("notice", body) for body in watched.service.merchant.bodies], hidden) == []
    assert found(talk.refusals, hidden) == []
    told_by_api = {name: it for name, it in secrets.items() if name != "client secret"}  # that is for the shop's page
    assert found(talk.answers, told_by_api | personal) == []
    assert len(talk.refusals) > 12
    await shop.aclose()


async def test_the_search_finds_what_is_there(watched: Watched) -> None:
    """The places are not empty, and a secret is seen in each of its spellings."""
    assert {"api.log", "worker.log"} <= {name for name, text in watched.logs().items() if text}
    assert any(b"order-" in text for text in (await watched.histories()).values())
    tables = await watched.tables()
    assert all(tables[name] for name in ("payments", "attempts", "audit_log", "outbox", "webhook_events"))
    assert watched.wire.asked
    secret = "Zephyrine"
    for text in (b"zephyrine", b'{"n": "ZEPHYRINE"}', *(base64.b64encode(b"x" * n + b"Zephyrine!") for n in range(4))):
        assert holds(text, secret)
    assert not holds(b"zephyr", secret)
    assert replace(watched.wire, asked=[]).asked == []

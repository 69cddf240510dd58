"""Wompi's side of the wire: its interface under /wompi/v1, its pages under /wompi/checkout, controls of its own.

Operations for faults: read_merchant, create_transaction, list_transactions, read_transaction, void, create_link,
read_link, change_link, list_banks.

Keys are accepted by their form (`pub_test_X`, `prv_test_X`, or `prod`), unless they say `invalid`. The four keys of a
merchant share what follows their prefix, and so the sandbox knows the secrets of a merchant it never met:
`test_integrity_X` and `test_events_X`.

Controls, all POST with JSON under /sandbox/wompi:

- `/events-url` {public_key, url}: where this merchant's events go; also taken from /sandbox/webhook-endpoints with
  the public key as `account_key`
- `/pay` {url, outcome, method, card}: a payer without a browser at a page or a link; outcome pay, decline, error, later
- `/transactions/{id}/settle` {status}: what becomes of a pending transaction (PSE at the bank, Nequi in the app)
- `/transactions/{id}/amount` {amount_in_cents, currency}: let Wompi hold something else than was asked for
- `/transactions/{id}/event` {}: send its event again, with a new timestamp
- `/references/{reference}/expire` {}: close the page of a reference; `/links/{id}/expire` {}: the same of a link

Quirks kept: a new transaction is always PENDING; the bank's address appears only after some looks; a reference is
taken once (422), except that a refused payer may try again on the same page; a void answers 201 without a body; a
body is checked before the key; an acceptance token is good once; a refusal of a key repeats the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel

from sandbox.courier import Courier
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.pages import shown_amount
from sandbox.state import Json, Store, new_id

TRANSACTION, LINK, EVENTS_URL, CLOSED, TOKEN = (
    "wompi.transaction",
    "wompi.link",
    "wompi.events_url",
    "wompi.closed",
    "wompi.token",
)
SCHEME = "wompi"
CARDS = {"4242424242424242": "APPROVED", "4111111111111111": "DECLINED"}
PHONES = {"3991111111": "APPROVED", "3992222222": "DECLINED"}
BANKS = {"1": "Banco que aprueba", "2": "Banco que declina", "3": "Banco que simula un error", "9": "Banco lento"}
BANK_OUTCOMES = {"1": "APPROVED", "2": "DECLINED", "3": "ERROR"}
LOOKS_BEFORE_BANK_URL = {"9": 4}
USUAL_LOOKS = 2
OUTCOMES = {"decline": "DECLINED", "error": "ERROR", "later": "PENDING"}
REFUSALS = {"DECLINED": "The payment was declined.", "ERROR": "The bank had an error."}
PHONE_ANSWERS_SECONDS = 0.2
UNFINISHED = ("PENDING",)
TERMS = "https://wompi.test/terms.pdf"
LINK_FIELDS = (
    "name",
    "description",
    "single_use",
    "amount_in_cents",
    "currency",
    "expires_at",
    "redirect_url",
    "sku",
)

_KEY = re.compile(r"(pub|prv)_(test|prod)_([A-Za-z0-9_-]{1,128})")
_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class WompiFault(Exception):
    """An answer that is an error, in Wompi's shape."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(str(status))
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Merchant:
    """Who a key belongs to."""

    suffix: str
    environment: str

    @property
    def owner(self) -> str:
        """The public key."""
        return f"pub_{self.environment}_{self.suffix}"

    @property
    def events_secret(self) -> str:
        """What this merchant's events are signed with."""
        return f"{self.environment}_events_{self.suffix}"

    @property
    def integrity_secret(self) -> str:
        """What this merchant signs its requests with."""
        return f"{self.environment}_integrity_{self.suffix}"


class EventsUrl(BaseModel):
    """Where a merchant's events go."""

    public_key: str
    url: str


class Payment(BaseModel):
    """What a payer without a browser does at a page or link."""

    url: str
    outcome: str = "pay"
    method: str = "CARD"
    card: str = "4242424242424242"


class Settlement(BaseModel):
    """What becomes of a pending transaction."""

    status: str = "APPROVED"


def merchant_of(key: str, kinds: str = "pub prv") -> Merchant | None:
    """Whose key this is; None for what Wompi would not know."""
    match = _KEY.fullmatch(key)
    if match is None or match.group(1) not in kinds.split() or "invalid" in key:
        return None
    return Merchant(match.group(3), match.group(2))


def invalid_input(**messages: str) -> WompiFault:
    """422 with Wompi's messages."""
    shown = {field: [message] for field, message in messages.items()}
    return WompiFault(422, {"error": {"type": "INPUT_VALIDATION_ERROR", "messages": shown}})


def not_found() -> WompiFault:
    """404."""
    return WompiFault(404, {"error": {"type": "NOT_FOUND_ERROR", "reason": "La entidad solicitada no existe"}})


def public(thing: Json) -> Json:
    """Without what only the sandbox knows."""
    return {name: value for name, value in thing.items() if not name.startswith("_")}


def signature_of(reference: str, amount: object, currency: str, expiration: str, merchant: Merchant) -> str:
    """The integrity signature that Wompi expects."""
    text = f"{reference}{amount}{currency}{expiration}{merchant.integrity_secret}"
    return hashlib.sha256(text.encode()).hexdigest()


def now_text() -> str:
    """Now, as Wompi writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class WompiTwin:
    """What Wompi keeps and does."""

    def __init__(self, store: Store, courier: Courier) -> None:
        self.store = store
        self.courier = courier
        self._tasks: set[asyncio.Task[None]] = set()
        courier.schemes[SCHEME] = lambda _, body: {"X-Event-Checksum": json.loads(body)["signature"]["checksum"]}

    def of_reference(self, owner: str, reference: str) -> list[Json]:
        """A merchant's transactions of one reference, newest first."""
        return [one for one in self.store.all(TRANSACTION, owner) if one["reference"] == reference]

    def create(self, merchant: Merchant, values: Json) -> Json:
        """A new transaction, which is always pending."""
        seconds = datetime.now(UTC).timestamp()
        number = int(hashlib.sha256(merchant.owner.encode()).hexdigest()[:6], 16)
        transaction: Json = {
            "id": f"{number}-{int(seconds)}-{new_id('t')[-8:]}",
            "created_at": now_text(),
            "finalized_at": None,
            "status": "PENDING",
            "status_message": None,
            "shipping_address": None,
            "payment_link_id": None,
            "payment_source_id": None,
            "redirect_url": None,
            "customer_email": None,
            "_environment": merchant.environment,
            "_suffix": merchant.suffix,
            "_looks": 0,
            "_link": None,
        } | values
        self.store.put(TRANSACTION, merchant.owner, transaction)
        return transaction

    def settle(self, transaction: Json, status: str) -> Json:
        """Give a transaction its end, and tell the merchant."""
        final = {"status": status, "finalized_at": now_text(), "status_message": None}
        settled = self.keep(transaction | final)
        self.tell(settled)
        return settled

    def keep(self, transaction: Json) -> Json:
        """Keep a transaction's new state."""
        return self.store.put(TRANSACTION, self.store.owner_of(transaction["id"]), transaction)

    def settle_soon(self, transaction: Json, status: str) -> None:
        """The payer answers in the app a moment later."""
        task = asyncio.get_running_loop().create_task(self._settle_later(transaction["id"], status))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_later(self, transaction_id: str, status: str) -> None:
        await asyncio.sleep(PHONE_ANSWERS_SECONDS)
        transaction = self.store.get(TRANSACTION, transaction_id)
        if transaction is not None and transaction["status"] in UNFINISHED:
            self.settle(transaction, status)

    def tell(self, transaction: Json) -> None:
        """Send the event of a transaction to every address that its merchant gave."""
        merchant = Merchant(transaction["_suffix"], transaction["_environment"])
        body = event_of(transaction, merchant)
        event_id = new_id("wompi_event")
        urls = {place["url"] for place in self.store.all(EVENTS_URL, merchant.owner)}
        urls |= {place["url"] for place in self.store.all("webhook_endpoint") if place["account_key"] == merchant.owner}
        for url in sorted(urls):
            self.courier.send(
                owner=merchant.owner,
                event_id=event_id,
                event_type="transaction.updated",
                url=url,
                body=body,
                content_type="application/json",
                scheme=SCHEME,
            )

    def pay(self, merchant: Merchant, way: Json, payment: Payment) -> Json:
        """What a payer does at a page or link; `way` is what the transaction will have of it."""
        method: Json = {"type": payment.method}
        status = OUTCOMES.get(payment.outcome, "APPROVED")
        if payment.method == "CARD":
            number = re.sub(r"\D", "", payment.card)
            method["extra"] = {"brand": "VISA", "last_four": number[-4:], "name": f"VISA-{number[-4:]}"}
            status = CARDS.get(number, "ERROR") if payment.outcome == "pay" else status
        values = way | {"payment_method_type": payment.method, "payment_method": method, "currency": "COP"}
        transaction = self.create(merchant, values)
        return transaction if status in UNFINISHED else self.settle(transaction, status)


def event_of(transaction: Json, merchant: Merchant) -> bytes:
    """A transaction's event, signed with the merchant's events secret. It does not name the payment link."""
    properties = ["transaction.id", "transaction.status", "transaction.amount_in_cents"]
    moment = datetime.now(UTC)
    values = "".join(str(transaction[path.split(".")[1]]) for path in properties)
    signed = f"{values}{int(moment.timestamp())}{merchant.events_secret}"
    event = {
        "event": "transaction.updated",
        "data": {"transaction": public(transaction) | {"payment_link_id": None}},
        "environment": merchant.environment,
        "signature": {"properties": properties, "checksum": hashlib.sha256(signed.encode()).hexdigest().upper()},
        "timestamp": int(moment.timestamp()),
        "sent_at": now_text(),
    }
    return json.dumps(event, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the interface. `kind` of the key is `pub`, `prv` or '' where none was shown."""

    key: str
    merchant: Merchant | None
    body: Json
    query: dict[str, str]
    base: str

    def private(self) -> Merchant:
        """The merchant, by a private key. Raises WompiFault."""
        return self._by("prv")

    def any_key(self) -> Merchant:
        """The merchant, by either key. Raises WompiFault."""
        return self._by("pub prv")

    def _by(self, kinds: str) -> Merchant:
        merchant = merchant_of(self.key, kinds)
        if merchant is None:
            reason = f"La llave proporcionada no corresponde a este ambiente, se recibió: {self.key}"
            raise WompiFault(401, {"error": {"type": "INVALID_ACCESS_TOKEN", "reason": reason}})
        return merchant


Handler = Callable[[Call, str], tuple[int, Json | None]]


class WompiInterface:
    """The interface: one method an operation."""

    def __init__(self, twin: WompiTwin, faults: FaultPlan) -> None:
        self.twin = twin
        self.faults = faults

    def read_merchant(self, _: Call, public_key: str) -> tuple[int, Json | None]:
        """GET /merchants/{public_key}, without a key."""
        merchant = merchant_of(public_key, "pub")
        if merchant is None:
            raise not_found()
        tokens = {
            field: {
                "acceptance_token": self._token(merchant),
                "permalink": "https://wompi.test/terms.pdf",
                "type": kind,
            }
            for field, kind in (
                ("presigned_acceptance", "END_USER_POLICY"),
                ("presigned_personal_data_auth", "PERSONAL_DATA_AUTH"),
            )
        }
        return 200, {"id": 1, "name": "Comercio de prueba", "active": True, "public_key": public_key} | tokens

    def create_transaction(self, call: Call, _: str) -> tuple[int, Json | None]:
        """POST /transactions."""
        body = call.body
        for field in ("acceptance_token", "signature", "customer_email", "reference"):
            if not body.get(field):
                raise invalid_input(**{field: "No está presente"})
        merchant = call.any_key()
        self._spend(str(body["acceptance_token"]), merchant)
        amount, reference = body.get("amount_in_cents"), str(body["reference"])
        if type(amount) is not int or amount <= 0:
            raise invalid_input(amount_in_cents="Debe ser un entero positivo")
        if body.get("currency") != "COP":
            raise invalid_input(currency="No es una divisa soportada")
        expected = signature_of(reference, amount, "COP", str(body.get("expiration_time") or ""), merchant)
        if not hmac.compare_digest(str(body["signature"]).encode(), expected.encode()):
            raise invalid_input(signature="La firma es inválida")
        if self.twin.of_reference(merchant.owner, reference):
            raise invalid_input(reference="La referencia ya ha sido usada")
        method = body.get("payment_method")
        fault = _method_fault(method)
        if not isinstance(method, dict) or fault:
            raise invalid_input(payment_method=fault or "No se especificó método de pago o fuente de pago")
        values = {name: body.get(name) for name in ("reference", "amount_in_cents", "currency", "customer_email")}
        values |= {"payment_method_type": method["type"], "payment_method": method | {"extra": {}}}
        transaction = self.twin.create(merchant, values | {"redirect_url": body.get("redirect_url")})
        if method["type"] == "NEQUI" and method["phone_number"] in PHONES:
            self.twin.settle_soon(transaction, PHONES[method["phone_number"]])
        return 201, public(transaction)

    def list_transactions(self, call: Call, _: str) -> tuple[int, Any]:
        """GET /transactions, by reference, or by day and page."""
        merchant, query = call.private(), call.query
        if "reference" in query:
            return 200, [public(one) for one in self.twin.of_reference(merchant.owner, query["reference"])]
        missing = [name for name in ("from_date", "until_date", "page", "page_size") if not query.get(name)]
        if missing:
            raise invalid_input(**dict.fromkeys(missing, "No está presente"))
        page, size = int(query["page"]), min(int(query["page_size"]), 20)
        first, last = query["from_date"], query["until_date"]
        made = self.twin.store.all(TRANSACTION, merchant.owner)
        found = [one for one in made if first <= one["created_at"][:10] <= last]
        return 200, [public(one) for one in found[(page - 1) * size : page * size]]

    def read_transaction(self, call: Call, transaction_id: str) -> tuple[int, Json | None]:
        """GET /transactions/{id}: any merchant's. The bank's address appears only after some looks."""
        call.any_key()
        transaction = self._transaction(transaction_id)
        method = transaction["payment_method"]
        if method["type"] == "PSE" and "financial_institution_code" in method:
            looks = transaction["_looks"] + 1
            needed = LOOKS_BEFORE_BANK_URL.get(method["financial_institution_code"], USUAL_LOOKS)
            if looks >= needed:
                url = f"{call.base}/wompi/checkout/bank/{transaction_id}"
                method = method | {"extra": {"async_payment_url": url}}
            transaction = self.twin.keep(transaction | {"_looks": looks, "payment_method": method})
        return 200, public(transaction)

    def void(self, call: Call, transaction_id: str) -> tuple[int, Json | None]:
        """POST /transactions/{id}/void: cards only, all of it, answered without a body."""
        merchant, transaction = call.private(), self._transaction(transaction_id)
        if self.twin.store.owner_of(transaction_id) != merchant.owner:
            raise not_found()
        if transaction["payment_method_type"] != "CARD" or transaction["status"] != "APPROVED":
            raise invalid_input(transaction="La transacción no se puede anular")
        if call.body.get("amount_in_cents", transaction["amount_in_cents"]) != transaction["amount_in_cents"]:
            raise invalid_input(amount_in_cents="Este comercio no tiene anulaciones parciales")
        self.twin.settle(transaction, "VOIDED")
        return 201, None

    def create_link(self, call: Call, _: str) -> tuple[int, Json | None]:
        """POST /payment_links."""
        merchant, body = call.private(), call.body
        for field in ("name", "description", "single_use", "collect_shipping"):
            if field not in body:
                raise invalid_input(**{field: "No está presente"})
        if len(str(body.get("sku") or "")) > 36:
            raise invalid_input(sku="Máximo 36 caracteres")
        link: Json = {"id": f"{merchant.environment}_{new_id('l')[2:10]}", "active": True, "created_at": now_text()}
        link |= {field: body.get(field) for field in LINK_FIELDS} | {"merchant_public_key": merchant.owner}
        return 201, self.twin.store.put(LINK, merchant.owner, link)

    def read_link(self, _: Call, link_id: str) -> tuple[int, Json | None]:
        """GET /payment_links/{id}."""
        link = self.twin.store.get(LINK, link_id)
        if link is None:
            raise not_found()
        return 200, link

    def change_link(self, call: Call, link_id: str) -> tuple[int, Json | None]:
        """PATCH /payment_links/{id}: `active` only."""
        merchant = call.private()
        link = self.twin.store.get(LINK, link_id, merchant.owner)
        if link is None:
            raise not_found()
        if set(call.body) != {"active"} or not isinstance(call.body["active"], bool):
            raise invalid_input(active="Es el único campo que se puede cambiar")
        return 200, self.twin.store.put(LINK, merchant.owner, link | call.body)

    def list_banks(self, call: Call, _: str) -> tuple[int, Any]:
        """GET /pse/financial_institutions."""
        call.any_key()
        return 200, [
            {"financial_institution_code": code, "financial_institution_name": name} for code, name in BANKS.items()
        ]

    async def answer(self, request: Request, operation: str, handler: Handler) -> Response:
        """Misbehave if asked to, act, answer."""
        try:
            call = await _call_of(request)
            fault = await self.faults.of(request, operation)
            await before_acting(fault)
            status, data = handler(call, str(request.path_params.get("thing_id", "")))
            await after_acting(fault)
        except WompiFault as error:
            return JSONResponse(error.body, error.status)
        except Trouble as trouble:
            return JSONResponse({"error": {"type": "UNEXPECTED"}}, trouble.status, headers=trouble.headers)
        return Response(status_code=status) if data is None else JSONResponse({"data": data, "meta": {}}, status)

    def _transaction(self, transaction_id: str) -> Json:
        transaction = self.twin.store.get(TRANSACTION, transaction_id)
        if transaction is None:
            raise not_found()
        return transaction

    def _token(self, merchant: Merchant) -> str:
        token: Json = {"id": new_id("eyJhbGciOiJIUzI1NiJ9"), "used": False}
        self.twin.store.put(TOKEN, merchant.owner, token)
        return str(token["id"])

    def _spend(self, token_id: str, merchant: Merchant) -> None:
        token = self.twin.store.get(TOKEN, token_id, merchant.owner)
        if token is None:
            raise invalid_input(acceptance_token="El token de aceptación es inválido")  # noqa: S106  (a message)
        if token["used"]:
            raise invalid_input(acceptance_token="El token de aceptación ya fue usado")  # noqa: S106  (a message)
        self.twin.store.put(TOKEN, merchant.owner, token | {"used": True})


def _method_fault(method: object) -> str | None:
    source = method if isinstance(method, dict) else {}
    if source.get("type") == "NEQUI":
        return None if re.fullmatch(r"3\d{9}", str(source.get("phone_number", ""))) else "phone_number no es válido"
    if source.get("type") == "PSE":
        needed = ("user_type", "user_legal_id_type", "user_legal_id", "financial_institution_code")
        if any(source.get(field) in (None, "") for field in needed):
            return "faltan campos de PSE"
        if source["financial_institution_code"] not in BANKS:
            return "la entidad financiera no existe"
        return None if 0 < len(str(source.get("payment_description", ""))) <= 30 else "payment_description: máximo 30"
    return "No se especificó método de pago o fuente de pago"


async def _call_of(request: Request) -> Call:
    text = await request.body()
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise invalid_input(body="No es JSON")
    key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    return Call(key, merchant_of(key), body, dict(request.query_params), str(request.base_url).rstrip("/"))


ROUTES: tuple[tuple[str, str, str], ...] = (
    ("GET", "/merchants/{thing_id}", "read_merchant"),
    ("POST", "/transactions", "create_transaction"),
    ("GET", "/transactions", "list_transactions"),
    ("GET", "/transactions/{thing_id}", "read_transaction"),
    ("POST", "/transactions/{thing_id}/void", "void"),
    ("POST", "/payment_links", "create_link"),
    ("GET", "/payment_links/{thing_id}", "read_link"),
    ("PATCH", "/payment_links/{thing_id}", "change_link"),
    ("GET", "/pse/financial_institutions", "list_banks"),
)
"""Method, path and operation; the operation's name is also what faults are planned for."""


def router(store: Store, courier: Courier, faults: FaultPlan) -> APIRouter:
    """The interface, the pages and the controls."""
    twin = WompiTwin(store, courier)
    interface = WompiInterface(twin, faults)
    routes = APIRouter()
    for method, path, operation in ROUTES:
        routes.add_api_route(
            f"/wompi/v1{path}", _endpoint(interface, operation), methods=[method], name=f"wompi_{operation}"
        )
    _add_pages(routes, Checkouts(twin))
    _add_controls(routes, twin, Checkouts(twin))
    return routes


def _endpoint(interface: WompiInterface, operation: str) -> Callable[[Request], Awaitable[Response]]:
    handler: Handler = getattr(interface, operation)

    async def endpoint(request: Request) -> Response:
        return await interface.answer(request, operation, handler)

    return endpoint


@dataclass(frozen=True, slots=True)
class Offer:
    """What a page or link asks for, and whether it can still be paid. `way` goes into its transactions."""

    merchant: Merchant
    way: Json
    name: str
    until: datetime | None
    paid: bool
    closed: bool
    fault: str = ""


class Checkouts:
    """Reads the addresses of pages and links."""

    def __init__(self, twin: WompiTwin) -> None:
        self.twin = twin

    def of_page(self, query: str) -> Offer | None:
        """The Web Checkout's offer, from its address alone; None without a known public key."""
        fields = dict(parse_qsl(query, keep_blank_values=True))
        merchant = merchant_of(fields.get("public-key", ""), "pub")
        if merchant is None:
            return None
        reference, amount = fields.get("reference", ""), fields.get("amount-in-cents", "")
        expiration, currency = fields.get("expiration-time", ""), fields.get("currency", "")
        expected = signature_of(reference, amount, currency, expiration, merchant)
        signed = hmac.compare_digest(fields.get("signature:integrity", "").encode(), expected.encode())
        good = signed and currency == "COP" and re.fullmatch(r"[1-9][0-9]*", amount) and reference
        made = self.twin.of_reference(merchant.owner, reference)
        until = _moment(expiration)
        closed = self.twin.store.get(CLOSED, f"{merchant.owner}/{reference}") is not None
        return Offer(
            merchant,
            {
                "reference": reference,
                "amount_in_cents": int(amount) if good else 0,
                "redirect_url": fields.get("redirect-url"),
            },
            f"Reference {reference}",
            until,
            paid=any(one["status"] not in ("DECLINED", "ERROR") for one in made),
            closed=closed or (until is not None and datetime.now(UTC) >= until),
            fault="" if good else "La firma es inválida",
        )

    def of_link(self, link_id: str) -> Offer | None:
        """A payment link's offer; None for a link that does not exist."""
        link = self.twin.store.get(LINK, link_id)
        if link is None:
            return None
        merchant = merchant_of(self.twin.store.owner_of(link_id), "pub")
        if merchant is None:
            return None
        made = [one for one in self.twin.store.all(TRANSACTION, merchant.owner) if one["_link"] == link_id]
        until = _moment(link.get("expires_at") or "")
        reference = f"{link_id}_{int(datetime.now(UTC).timestamp())}_{new_id('r')[2:11]}"
        return Offer(
            merchant,
            {
                "reference": reference,
                "amount_in_cents": link["amount_in_cents"],
                "redirect_url": link.get("redirect_url"),
                "payment_link_id": link_id,
                "_link": link_id,
            },
            str(link["name"]),
            until,
            paid=any(one["status"] == "APPROVED" for one in made),
            closed=not link["active"] or (until is not None and datetime.now(UTC) >= until),
        )

    def pay(self, offer: Offer, payment: Payment) -> Json | None:
        """Pay there; None when it takes no payment any more."""
        if offer.fault or offer.paid or offer.closed:
            return None
        return self.twin.pay(offer.merchant, offer.way, payment)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


def _offer_page(offer: Offer | None, action: str, made: Json | None = None) -> HTMLResponse:
    """A page or link as the payer finds it; `made` is the transaction that the payer just made there."""
    if offer is None:
        return _page("missing.html", 404)
    view: Json = {"name": offer.name, "amount": shown_amount(offer.way["amount_in_cents"], "cop"), "action": action}
    if offer.fault:
        return _page("wompi_checkout.html", 422, error=offer.fault, **view)
    if offer.paid:
        return _page("done.html", paid=True, target=_back(made), **view)
    if offer.closed:
        return _page("done.html", 410, paid=False, target=None, **view)
    error = REFUSALS.get(made["status"], "") if made else ""
    until = None if offer.until is None else f"{offer.until:%Y-%m-%d %H:%M} UTC"
    return _page("wompi_checkout.html", 402 if error else 200, error=error, until=until, **view)


def _back(made: Json | None) -> str | None:
    """Where the payer goes afterwards, with nothing but the transaction's id."""
    return f"{made['redirect_url']}?id={made['id']}" if made and made["redirect_url"] else None


def _add_pages(routes: APIRouter, checkouts: Checkouts) -> None:
    async def submit(request: Request, read: Callable[[], Offer | None]) -> HTMLResponse:
        form, action, offer = await request.form(), str(request.url), read()
        payment = Payment.model_validate({"url": action} | {name: str(value) for name, value in form.items()})
        made = checkouts.pay(offer, payment) if offer is not None else None
        return _offer_page(read(), action, made)

    @routes.get("/wompi/checkout/p/", response_class=HTMLResponse)
    async def show_page(request: Request) -> Response:
        return _offer_page(checkouts.of_page(request.url.query), str(request.url))

    @routes.post("/wompi/checkout/p/", response_class=HTMLResponse)
    async def submit_page(request: Request) -> Response:
        return await submit(request, lambda: checkouts.of_page(request.url.query))

    @routes.get("/wompi/checkout/l/{link_id}", response_class=HTMLResponse)
    async def show_link(request: Request, link_id: str) -> Response:
        return _offer_page(checkouts.of_link(link_id), str(request.url))

    @routes.post("/wompi/checkout/l/{link_id}", response_class=HTMLResponse)
    async def submit_link(request: Request, link_id: str) -> Response:
        return await submit(request, lambda: checkouts.of_link(link_id))

    @routes.get("/wompi/checkout/bank/{transaction_id}", response_class=HTMLResponse)
    async def show_bank(request: Request, transaction_id: str) -> Response:
        return _bank_page(checkouts.twin.store.get(TRANSACTION, transaction_id), str(request.url))

    @routes.post("/wompi/checkout/bank/{transaction_id}", response_class=HTMLResponse)
    async def submit_bank(request: Request, transaction_id: str, approve: Annotated[str, Form()] = "") -> Response:
        transaction = checkouts.twin.store.get(TRANSACTION, transaction_id)
        if transaction is not None and transaction["status"] in UNFINISHED:
            code = str(transaction["payment_method"].get("financial_institution_code", ""))
            by_code = BANK_OUTCOMES.get(code, "APPROVED")
            status = "DECLINED" if approve == "no" else by_code
            transaction = checkouts.twin.settle(transaction, status)
        return _bank_page(transaction, str(request.url))


def _bank_page(transaction: Json | None, action: str) -> HTMLResponse:
    if transaction is None:
        return _page("missing.html", 404)
    amount = shown_amount(transaction["amount_in_cents"], "cop")
    if transaction["status"] in UNFINISHED:
        return _page("challenge.html", action=action, amount=amount, secret="")
    paid = transaction["status"] == "APPROVED"
    name, target = f"Reference {transaction['reference']}", _back(transaction)
    return _page("done.html", 200 if paid else 402, paid=paid, target=target, amount=amount, name=name)


def _add_controls(routes: APIRouter, twin: WompiTwin, checkouts: Checkouts) -> None:
    def found(kind: str, thing_id: str) -> Json:
        thing = twin.store.get(kind, thing_id)
        if thing is None:
            raise HTTPException(404, f"no such {kind}")
        return thing

    @routes.post("/sandbox/wompi/events-url")
    async def events_url(body: EventsUrl) -> Json:
        return twin.store.put(EVENTS_URL, body.public_key, {"url": body.url}, f"{body.public_key} {body.url}")

    @routes.post("/sandbox/wompi/pay")
    async def pay(body: Payment) -> Json:
        address = urlsplit(body.url)
        link_id = address.path.rpartition("/l/")[2]
        offer = checkouts.of_link(link_id) if "/l/" in address.path else checkouts.of_page(address.query)
        if offer is None:
            raise HTTPException(404, "no such checkout")
        made = checkouts.pay(offer, body)
        return {"outcome": made["status"] if made else offer.fault or "closed", "transaction": made and made["id"]}

    @routes.post("/sandbox/wompi/transactions/{transaction_id}/settle")
    async def settle(transaction_id: str, body: Settlement) -> Json:
        return public(twin.settle(found(TRANSACTION, transaction_id), body.status))

    @routes.post("/sandbox/wompi/transactions/{transaction_id}/amount")
    async def change_amount(transaction_id: str, body: Json) -> Json:
        allowed = {name: value for name, value in body.items() if name in ("amount_in_cents", "currency")}
        return public(twin.keep(found(TRANSACTION, transaction_id) | allowed))

    @routes.post("/sandbox/wompi/transactions/{transaction_id}/event")
    async def send_event(transaction_id: str) -> Json:
        twin.tell(found(TRANSACTION, transaction_id))
        return {"sent": True}

    @routes.post("/sandbox/wompi/references/{reference}/expire")
    async def expire_page(reference: str, body: Json) -> Json:
        owner = str(body.get("public_key", ""))
        return twin.store.put(CLOSED, owner, {"reference": reference}, f"{owner}/{reference}")

    @routes.post("/sandbox/wompi/links/{link_id}/expire")
    async def expire_link(link_id: str) -> Json:
        link = found(LINK, link_id) | {"expires_at": "2020-01-01T00:00:00.000Z"}
        return twin.store.put(LINK, twin.store.owner_of(link_id), link)

    @routes.get("/sandbox/wompi/transactions")
    async def transactions(reference: str = "") -> list[Json]:
        """All of a reference, or of the payment link of this id."""
        made = twin.store.all(TRANSACTION)
        return [public(one) for one in made if reference in (one["reference"], one["_link"])]

    @routes.get("/sandbox/wompi/links")
    async def links(sku: str) -> list[Json]:
        return [link for link in twin.store.all(LINK) if link.get("sku") == sku]


TWIN = router

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
- `/transactions/{id}/age` {days}: let it have happened so many days ago
- `/references/{reference}/expire` {}: close the page of a reference; `/links/{id}/expire` {}: the same of a link

Quirks kept: a new transaction is always PENDING; the bank's address appears only after some looks; a reference is
taken once (422), except that a refused payer may try again on the same page; a transaction with a payment method is
created by the public key and read by the private one, without which it is *not found*; a void is taken on the day of
the payment, in Colombia, and answers with its own status beside the transaction; a body is checked before the key; an
acceptance token is good once; a refusal of a key repeats the key.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sandbox.courier import Courier
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.state import Json, Store, new_id
from sandbox.variants import chosen
from sandbox.wompi_books import (
    LINK,
    TOKEN,
    TRANSACTION,
    Merchant,
    WompiTwin,
    merchant_of,
    now_text,
    public,
    signature_of,
)
from sandbox.wompi_pages import Checkouts, add_controls, add_pages

VARIANTS = {
    "void_empty": "a void answers 201 without a body (OpenAPI 1.2.0; pulgueta/wompi-node)",
    "private_creates": "POST /transactions takes the private key alone (docs.wompi.co, Transactions)",
    "open_reads": "GET /transactions/{id} takes either key, or none (OpenAPI 1.2.0)",
}
COLOMBIA = timezone(timedelta(hours=-5))
PHONES = {"3991111111": "APPROVED", "3992222222": "DECLINED"}
BANKS = {"1": "Banco que aprueba", "2": "Banco que declina", "3": "Banco que simula un error", "9": "Banco lento"}
LOOKS_BEFORE_BANK_URL = {"9": 4}
USUAL_LOOKS = 2
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


class WompiFault(Exception):
    """An answer that is an error, in Wompi's shape."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(str(status))
        self.status = status
        self.body = body


def invalid_input(**messages: str) -> WompiFault:
    """422 with Wompi's messages."""
    shown = {field: [message] for field, message in messages.items()}
    return WompiFault(422, {"error": {"type": "INPUT_VALIDATION_ERROR", "messages": shown}})


def not_found() -> WompiFault:
    """404."""
    return WompiFault(404, {"error": {"type": "NOT_FOUND_ERROR", "reason": "La entidad solicitada no existe"}})


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

    def public(self) -> Merchant:
        """The merchant, by a public key. Raises WompiFault."""
        return self._by("pub")

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
        merchant = call.private() if self._behaves(call, "private_creates") else call.public()
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
        if not call.key.startswith("prv_") and not self._behaves(call, "open_reads"):
            raise not_found()
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
        """POST /transactions/{id}/void: cards only, all of it, on the day of the payment."""
        merchant, transaction = call.private(), self._transaction(transaction_id)
        if self.twin.store.owner_of(transaction_id) != merchant.owner:
            raise not_found()
        if transaction["payment_method_type"] != "CARD" or transaction["status"] != "APPROVED":
            raise invalid_input(transaction="La transacción no se puede anular")
        if call.body.get("amount_in_cents", transaction["amount_in_cents"]) != transaction["amount_in_cents"]:
            raise invalid_input(amount_in_cents="Este comercio no tiene anulaciones parciales")
        if _day(transaction["finalized_at"]) != datetime.now(COLOMBIA).date():
            raise invalid_input(transaction="La transacción ya no se puede anular")
        voided = self.twin.settle(transaction, "VOIDED")
        if self._behaves(call, "void_empty"):
            return 201, None
        return 201, {"status": "APPROVED", "status_message": None, "transaction": public(voided)}

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

    def _behaves(self, call: Call, variant: str) -> bool:
        return call.merchant is not None and chosen(self.twin.store, call.merchant.owner, variant)

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
    add_pages(routes, Checkouts(twin))
    add_controls(routes, twin, Checkouts(twin))
    return routes


def _endpoint(interface: WompiInterface, operation: str) -> Callable[[Request], Awaitable[Response]]:
    handler: Handler = getattr(interface, operation)

    async def endpoint(request: Request) -> Response:
        return await interface.answer(request, operation, handler)

    return endpoint


def _day(text: str) -> date:
    """The day of a moment in Colombia."""
    return datetime.fromisoformat(text).astimezone(COLOMBIA).date()


TWIN = router

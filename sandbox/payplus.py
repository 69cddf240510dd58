"""PayPlus's side of the wire: classic REST API v1.0 under `/payplus/api/v1.0`, payment pages, signed callbacks.

Operations for faults: `payplus_link`, `payplus_ipn`, `payplus_disable`, `payplus_charge`, `payplus_refund`,
`payplus_view`, `payplus_methods`. Keys with `invalid` in them are refused. Its quirks: errors under HTTP 200, an
identical request answered with the same page, a status query that knows transactions only, and answers in one of three
forms (`flat`, `nested`, `list`; `POST /sandbox/payplus/form`). What it says to unknown and closed pages is made up in
the style of the descriptions that are known.

Controls under `/sandbox/payplus`: see the functions of `_controls`. Amounts are decimal strings in major units.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel

from sandbox.courier import Courier
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.state import Json, Store

PREFIX = "/payplus/api/v1.0"
SCHEME = "payplus"
GOOD, REJECTED = "5326140280779844", "5326140200010120"
METHODS = ("credit-card", "bit", "google-pay", "paypal", "multipass", "praxell", "valuecard", "verifone")
CURRENCIES = ("ILS", "USD", "EUR", "GBP", "GPB")
FORMS = ("flat", "nested", "list")
PRIVATE = ("amount", "items", "customer")
"""Fields of a page that are kept apart or not at all."""
SYMBOLS = {"ILS": "₪", "USD": "$", "EUR": "€", "GBP": "£", "GPB": "£"}
PAGE, TRANSACTION, SETTING = "payplus.page", "payplus.transaction", "payplus.setting"
CARD = "payplus.card"
ISRAEL = ZoneInfo("Asia/Jerusalem")

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class Refusal(Exception):
    """An error in PayPlus's envelope; HTTP 200 unless said otherwise."""

    def __init__(self, description: str, status: int = 200) -> None:
        super().__init__(description)
        self.description = description
        self.status = status


def seal(secret: str, body: bytes) -> Mapping[str, str]:
    """The headers of a callback."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return {"hash": base64.b64encode(digest).decode(), "user-agent": "PayPlus"}


def dumps(value: Any) -> str:
    """Compact JSON with raw Hebrew; a Decimal is a plain number."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{dumps(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request."""

    api_key: str
    secret_key: str
    fields: Json
    raw: bytes
    base_url: str


Handler = Callable[[Call, str], Any]


@dataclass(slots=True)
class PayPlusTwin:
    """Pages and transactions, and what happens to them."""

    store: Store
    courier: Courier

    def __post_init__(self) -> None:
        """Teach the courier PayPlus's signature."""
        self.courier.schemes[SCHEME] = seal

    def make_page(self, call: Call) -> Json:
        """A page; an identical request finds the open one again."""
        fields = call.fields
        digest = hashlib.sha256(call.raw).hexdigest()
        for known in self.store.all(PAGE, call.api_key):
            if known["digest"] == digest and self.state_of(known) == "open":
                return known
        minutes = _minutes(fields.get("expiry_datetime"))
        page: Json = {
            "id": str(uuid.uuid4()),
            "digest": digest,
            "secret": call.secret_key,
            "amount": str(fields["amount"]),
            "currency": fields["currency_code"],
            "state": "open",
            "expires_at": time.time() + minutes * 60,
            "name": (fields.get("items") or [{}])[0].get("name") or "Payment",
            "email": (fields.get("customer") or {}).get("email"),
            "fields": json.loads(dumps({name: fields[name] for name in fields if name not in PRIVATE})),
            "base_url": call.base_url,
        }
        return self.store.put(PAGE, call.api_key, page)

    def state_of(self, page: Json) -> str:
        """Open, disabled, expired or paid."""
        if page["state"] == "open" and page["expires_at"] < time.time():
            return "expired"
        return str(page["state"])

    def close(self, page: Json, state: str) -> Json:
        """Let nobody pay there any more."""
        return self.store.put(PAGE, self.store.owner_of(page["id"]), page | {"state": state})

    def attempt(self, page: Json, *, method: str, approved: bool, kind: str = "Charge", card: str = "") -> Json:
        """A try to pay at an open page. Answers the transaction."""
        fields = page["fields"]
        card_used = method in ("credit-card", "google-pay")
        one: Json = {
            "id": str(uuid.uuid4()),
            "page": page["id"],
            "type": kind,
            "method": method,
            "status": "approved" if approved else "rejected",
            "status_code": "000" if approved else "004",
            "amount": page["amount"],
            "currency": page["currency"],
            "four_digits": card[-4:] if card_used else "",
            "brand_name": "mastercard" if card_used else "",
            "more_info": {name: value for name, value in fields.items() if name.startswith("more_info")},
            "date": datetime.now(ISRAEL).strftime("%Y-%m-%d %H:%M:%S"),
            "of": None,
        }
        owner = self.store.owner_of(page["id"])
        if approved and card_used and (kind == "Token" or fields.get("create_token")):
            one |= {"token_uid": self.token_for(owner, card), "customer_uid": f"customer-{card[-4:]}"}
        self.store.put(TRANSACTION, owner, one)
        if approved:
            self.close(page, "paid")
        if approved or fields.get("send_failure_callback"):
            self.call_back(owner, one, page)
        return one

    def token_for(self, owner: str, card: str) -> str:
        """A token of a card; each try makes its own."""
        token = str(uuid.uuid4())
        self.store.put(CARD, owner, {"id": token, "card": card, "outcomes": []})
        return token

    def charge_token(self, owner: str, secret: str, token: Json, fields: Json) -> Json:
        """Charge a card that is away. The planned outcomes come first, then what the card's number says."""
        code = token["outcomes"].pop(0) if token["outcomes"] else "004" if token["card"] == REJECTED else "000"
        self.store.put(CARD, owner, token)
        one: Json = {
            "id": str(uuid.uuid4()),
            "page": None,
            "type": "Charge",
            "method": "credit-card",
            "status": "approved" if code == "000" else "rejected",
            "status_code": code,
            "amount": str(fields["amount"]),
            "currency": fields["currency_code"],
            "four_digits": token["card"][-4:],
            "brand_name": "mastercard",
            "more_info": {name: value for name, value in fields.items() if re.fullmatch(r"more_info_[1-5]", name)},
            "date": datetime.now(ISRAEL).strftime("%Y-%m-%d %H:%M:%S"),
            "of": None,
        }
        self.store.put(TRANSACTION, owner, one)
        self.call_back(owner, one, {"fields": {}, "secret": secret})
        return one

    def refund(self, owner: str, charge: Json, amount: Decimal, more_info: str | None) -> Json:
        """Give back; every refund is a transaction of its own."""
        one = charge | {
            "id": str(uuid.uuid4()),
            "type": "Refund",
            "amount": str(amount),
            "more_info": {"more_info": more_info} if more_info else {},
            "of": charge["id"],
        }
        self.store.put(TRANSACTION, owner, one)
        page = self.store.get(PAGE, charge["page"]) if charge["page"] else None
        if page is not None:
            self.call_back(owner, one, page)
        return one

    def refunds_of(self, charge: Json) -> list[Json]:
        """All refunds of a charge, newest first."""
        return [one for one in self.store.all(TRANSACTION) if one["of"] == charge["id"]]

    def standing_refunds_of(self, charge: Json) -> list[Json]:
        """Those that were not cancelled."""
        return [one for one in self.refunds_of(charge) if not one.get("cancelled")]

    def left_of(self, charge: Json) -> Decimal:
        """What can still be refunded."""
        gone = sum((Decimal(one["amount"]) for one in self.standing_refunds_of(charge)), Decimal(0))
        return Decimal(charge["amount"]) - gone

    def setting(self, owner: str, name: str) -> str | None:
        """One of the account's settings."""
        found = self.store.get(SETTING, f"{SETTING}:{owner}:{name}")
        return None if found is None else str(found["value"])

    def set(self, owner: str, name: str, value: str) -> None:
        """Keep a setting."""
        self.store.put(SETTING, owner, {"value": value}, f"{SETTING}:{owner}:{name}")

    def call_back(self, owner: str, one: Json, page: Json) -> None:
        """Tell the page's own address, or the account's."""
        url = page["fields"].get("refURL_callback") or self.setting(owner, "callback_url")
        if url:
            self.courier.send(
                owner=owner,
                event_id=f"{one['id']}:{one['type']}",
                event_type=one["type"],
                url=url,
                body=dumps(callback_of(one)).encode(),
                content_type="application/json;charset=utf-8",
                scheme=SCHEME,
                secret=page["secret"],
            )


def callback_of(one: Json) -> Json:
    """The body of a callback."""
    return {
        "transaction_type": one["type"],
        "transaction": {
            "uid": one["id"],
            **({"payment_request_uid": one["page"]} if one["page"] else {}),
            "number": "100200",
            "type": one["type"],
            "date": one["date"],
            "status_code": one["status_code"],
            "amount": Decimal(one["amount"]),
            "currency": one["currency"],
            "credit_terms": "regular",
            "payments": {"number_of_payments": 1},
            "secure3D": {"status": False, "tracking": None},
            "approval_number": "0123456",
            "voucher_number": "12-345-67",
            "alternative_method_name": None if one["method"] == "credit-card" else one["method"],
            **one["more_info"],
        },
        "data": {
            "customer_uid": "c-1",
            "terminal_uid": "t-1",
            "cashier_uid": "k-1",
            "items": [],
            "card_information": {
                "four_digits": one["four_digits"],
                "brand_id": 1,
                "card_holder_name": "דנה לוי",
                **({"token": one["token_uid"]} if one.get("token_uid") else {}),
            },
        },
        "invoice": {},
    }


def flat(one: Json) -> Json:
    """A transaction as the status query shows it."""
    return {
        "transaction_uid": one["id"],
        "page_request_uid": one["page"],
        "is_multiple_transaction": False,
        "type": one["type"],
        "method": one["method"],
        "number": "100200",
        "date": one["date"],
        "status": one["status"],
        "status_code": one["status_code"],
        "status_description": "",
        "amount": Decimal(one["amount"]),
        "currency": one["currency"],
        "number_of_payments": 1,
        "four_digits": one["four_digits"],
        "expiry_month": "05",
        "expiry_year": "26",
        "brand_name": one["brand_name"],
        "approval_num": "0123456",
        "voucher_num": "12-345-67",
        "customer_name": "דנה לוי",
        **({"transaction_is_cancelled": True} if one.get("cancelled") else {}),
        **{name: one[name] for name in ("token_uid", "customer_uid") if one.get(name)},
        **one["more_info"],
    }


@dataclass(slots=True)
class PayPlusApi:
    """The operations."""

    twin: PayPlusTwin
    faults: FaultPlan

    def link(self, call: Call, _: str) -> Json:
        """POST PaymentPages/generateLink."""
        fields = call.fields
        for name in ("payment_page_uid", "amount", "currency_code", "sendEmailApproval", "sendEmailFailure"):
            if fields.get(name) is None:
                raise Refusal(f"missing-{name}", 422)
        amount = _amount(fields["amount"])
        if fields["currency_code"] not in CURRENCIES:
            raise Refusal("currency-code-is-not-valid", 422)
        if amount <= 0:
            raise Refusal("amount-must-be-greater-than-zero", 422)
        items = fields.get("items") or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Refusal("items-are-not-valid", 422)
        if items and sum(_amount(item.get("price")) * _amount(item.get("quantity")) for item in items) != amount:
            raise Refusal("the total items amount is not equal to the amount", 422)
        if any(method not in METHODS for method in fields.get("allowed_charge_methods") or ()):
            raise Refusal("charge-method-is-not-allowed", 422)
        page = self.twin.make_page(call)
        return {
            "page_request_uid": page["id"],
            "payment_page_link": f"{call.base_url}/payplus/page/{page['id']}",
            "qr_code_image": f"{call.base_url}/payplus/page/{page['id']}/qr",
        }

    def ipn(self, call: Call, _: str) -> Any:
        """POST PaymentPages/ipn and ipn-full: the newest transaction that fits."""
        fields = call.fields
        own = [one for one in self.twin.store.all(TRANSACTION, call.api_key) if one["type"] != "Refund"]
        if (page := fields.get("payment_request_uid")) is not None:
            if self.twin.store.get(PAGE, str(page), call.api_key) is None:
                raise Refusal("can-not-find-payment_request_uid")
            fits = [one for one in own if one["page"] == page]
        elif (uid := fields.get("transaction_uid")) is not None:
            fits = [one for one in own if one["id"] == uid]
            if not fits:
                raise Refusal("can-not-find-transaction_uid")
        elif (text := fields.get("more_info")) is not None:
            fits = [one for one in own if one["more_info"].get("more_info") == text]
        else:
            raise Refusal("missing-transaction_uid-or-payment_request_uid")
        if not fits:
            raise Refusal("can-not-find-transaction")
        data = flat(fits[0])
        if fields.get("related_transaction"):
            data["related_transactions"] = [flat(one) for one in [*self.twin.refunds_of(fits[0]), *fits[1:]]]
        return self._formed(call.api_key, data)

    def disable(self, call: Call, page_uid: str) -> Json:
        """POST PaymentPages/Disable/{page_request_uid}."""
        page = self.twin.store.get(PAGE, page_uid, call.api_key)
        if page is None:
            raise Refusal("can-not-find-payment_request_uid", 400)
        state = self.twin.state_of(page)
        if state != "open":
            raise Refusal(f"payment-request-already-{state}", 400)
        self.twin.close(page, "disabled")
        return {}

    def refund(self, call: Call, _: str) -> Json:
        """POST Transactions/RefundByTransactionUID. No idempotency key: every call gives back again."""
        charge = self.twin.store.get(TRANSACTION, str(call.fields.get("transaction_uid")), call.api_key)
        amount = _amount(call.fields.get("amount"))
        if charge is None or charge["type"] != "Charge" or charge["status_code"] != "000":
            raise Refusal("can-not-find-transaction_uid")
        if not 0 < amount <= self.twin.left_of(charge):
            raise Refusal("refund-amount-is-greater-than-transaction-amount")
        if code := self.twin.setting(call.api_key, "refund_status"):
            return {"transaction": {"uid": str(uuid.uuid4()), "number": "1", "status_code": code, "amount": amount}}
        named = call.fields.get("more_info")
        if self.twin.setting(call.api_key, "forgets_more_info") is not None:
            named = None
        one = self.twin.refund(call.api_key, charge, amount, named)
        return {"transaction": {"uid": one["id"], "number": "100201", "status_code": "000", "amount": amount}}

    def charge(self, call: Call, _: str) -> Json:
        """POST Transactions/Charge by token. No idempotency key: every call charges again. `more_info` is not kept."""
        fields = call.fields
        for name in ("terminal_uid", "cashier_uid", "amount", "currency_code", "credit_terms", "use_token"):
            if fields.get(name) is None:
                raise Refusal(f"missing-{name}", 422)
        token = self.twin.store.get(CARD, str(fields.get("token")), call.api_key)
        if fields["use_token"] is not True or token is None:
            raise Refusal("can-not-find-token")
        if not fields.get("customer_uid") and not fields.get("customer"):
            raise Refusal("missing-customer_uid", 422)
        if fields["currency_code"] not in CURRENCIES or _amount(fields["amount"]) <= 0:
            raise Refusal("amount-is-not-valid", 422)
        one = self.twin.charge_token(call.api_key, call.secret_key, token, fields)
        transaction = {"uid": one["id"], "number": "100202", "status_code": one["status_code"]}
        return {"transaction": transaction | {"amount": _amount(fields["amount"])}, "data": {"terminal_uid": "t-1"}}

    def view(self, call: Call, _: str) -> list[Json]:
        """POST Transactions/View: by `transaction_uid`, `more_info`, or the days of `fromDate` and `untilDate`."""
        uid, text = call.fields.get("transaction_uid"), call.fields.get("more_info")
        first, last = call.fields.get("fromDate"), call.fields.get("untilDate")
        fits = [
            one
            for one in self.twin.store.all(TRANSACTION, call.api_key)
            if (uid and one["id"] == uid)
            or (text and one["more_info"].get("more_info") == text)
            or (first and last and str(first) <= one["date"][:10] <= str(last))
        ]
        if not fits:
            raise Refusal("can-not-find-transaction")
        return [
            {"transaction": flat(one) | {"transaction_type": one["type"]}, "data": {"terminal_uid": "t-1"}}
            for one in fits
        ]

    def methods(self, call: Call, _: str) -> Json:
        """GET PaymentPages/ChargeMethods."""
        if not call.fields.get("payment_page_uid"):
            raise Refusal("missing-payment_page_uid", 422)
        return dict.fromkeys(METHODS, True)

    def _formed(self, owner: str, data: Json) -> Any:
        form = self.twin.setting(owner, "form") or "flat"
        if form == "list":
            return [data]
        if form == "nested":
            related = data.pop("related_transactions", [])
            return {"transaction": data, "data": {"terminal_uid": "t-1"}, "related_transactions": related}
        return data

    async def answer(self, request: Request, operation: str, handler: Handler, thing_id: str) -> Response:
        """Authenticate, misbehave if asked to, act, answer in the envelope."""
        raw = await request.body()
        try:
            api_key, secret_key = _authenticate(request.headers)
            fault = await self.faults.of(request, operation)
            await before_acting(fault)
            fields = _fields(raw) if request.method == "POST" else dict(request.query_params)
            call = Call(api_key, secret_key, fields, raw, str(request.base_url).rstrip("/"))
            data = handler(call, thing_id)
            await after_acting(fault)
        except Refusal as refusal:
            return _envelope("error", 1, refusal.description, {}, refusal.status)
        except Trouble as trouble:
            answer = _envelope("error", 1, "system-error", {}, trouble.status)
            answer.headers.update(trouble.headers)
            return answer
        return _envelope("success", 0, "operation has been success", data)


def _envelope(status: str, code: int, description: str, data: Any, http: int = 200) -> Response:
    body = {"results": {"status": status, "code": code, "description": description}, "data": data}
    return Response(dumps(body), http, media_type="application/json")


def _authenticate(headers: Mapping[str, str]) -> tuple[str, str]:
    """Either form of the credentials; a key with `invalid` in it is none."""
    api_key, secret_key = headers.get("api-key", ""), headers.get("secret-key", "")
    if "authorization" in headers:
        try:
            pair = json.loads(headers["authorization"])
            api_key, secret_key = str(pair["api_key"]), str(pair["secret_key"])
        except (ValueError, KeyError, TypeError):
            api_key = ""
    if not api_key or not secret_key or "invalid" in api_key + secret_key:
        raise Refusal("not-authorize", 403)
    return api_key, secret_key


def _fields(raw: bytes) -> Json:
    try:
        fields = json.loads(raw or b"{}", parse_float=Decimal)
    except ValueError:
        raise Refusal("not-a-valid-json", 400) from None
    if not isinstance(fields, dict):
        raise Refusal("not-a-valid-json", 400)
    return fields


def _amount(value: object) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise Refusal("amount-is-not-valid", 422) from None


def _minutes(value: object) -> int:
    text = str(value or 30)
    if not text.isdecimal() or not 0 < int(text) < 10**8:
        raise Refusal("expiry-datetime-is-not-valid", 422)
    return int(text)


ROUTES: tuple[tuple[str, str, str], ...] = (
    ("POST", "/PaymentPages/generateLink", "link"),
    ("POST", "/PaymentPages/ipn", "ipn"),
    ("POST", "/PaymentPages/ipn-full", "ipn"),
    ("POST", "/PaymentPages/Disable/{thing_id}", "disable"),
    ("GET", "/PaymentPages/ChargeMethods", "methods"),
    ("POST", "/Transactions/Charge", "charge"),
    ("POST", "/Transactions/RefundByTransactionUID", "refund"),
    ("POST", "/Transactions/View", "view"),
)


def router(store: Store, courier: Courier, faults: FaultPlan) -> APIRouter:
    """Interface, pages and controls."""
    twin = PayPlusTwin(store, courier)
    api = PayPlusApi(twin, faults)
    routes = APIRouter()
    for method, path, operation in ROUTES:
        routes.add_api_route(PREFIX + path, _endpoint(api, operation), methods=[method])

    @routes.api_route(PREFIX + "/{_:path}", methods=["GET", "POST"])
    def unknown_endpoint(_: str) -> Response:
        return Response(status_code=403)

    routes.include_router(_checkout_pages(twin))
    routes.include_router(_controls(twin))
    return routes


def _endpoint(api: PayPlusApi, operation: str) -> Callable[[Request], Awaitable[Response]]:
    handler: Handler = getattr(api, operation)

    async def endpoint(request: Request) -> Response:
        return await api.answer(request, f"payplus_{operation}", handler, request.path_params.get("thing_id", ""))

    return endpoint


def _render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


def _checkout_pages(twin: PayPlusTwin) -> APIRouter:
    """`POST /payplus/page/{uid}` takes `card`, or `outcome`: pay, decline, hold, close, or the name of a method."""
    routes = APIRouter(prefix="/payplus/page")

    def show_page(page: Json, error: str | None = None) -> HTMLResponse:
        amount = f"{SYMBOLS.get(page['currency'], '')}{Decimal(page['amount']):,.2f}"
        view = {"name": page["name"], "amount": amount, "email": page["email"], "error": error}
        state = twin.state_of(page)
        if state == "open":
            allowed = page["fields"].get("allowed_charge_methods") or ["credit-card", "bit", "google-pay"]
            view |= {"card": "credit-card" in allowed, "others": [one for one in allowed if one != "credit-card"]}
            return _render("payplus_checkout.html", 402 if error else 200, action=f"/payplus/page/{page['id']}", **view)
        paid = state == "paid"
        return _render(
            "done.html", 200 if paid else 410, paid=paid, target=_target(twin, page) if paid else None, **view
        )

    @routes.get("/{page_uid}")
    def show(page_uid: str) -> Response:
        page = twin.store.get(PAGE, page_uid)
        return _render("missing.html", 404) if page is None else show_page(page)

    @routes.post("/{page_uid}")
    async def submit(
        page_uid: str, card: Annotated[str, Form()] = "", outcome: Annotated[str, Form()] = "pay"
    ) -> Response:
        page = twin.store.get(PAGE, page_uid)
        if page is None:
            return _render("missing.html", 404)
        if outcome == "close":
            return RedirectResponse(page["fields"].get("refURL_cancel") or f"/payplus/page/{page_uid}", 303)
        if twin.state_of(page) != "open":
            return show_page(page)
        number = "".join(sign for sign in card if sign.isdigit()) or GOOD
        approved = outcome != "decline" and number != REJECTED
        method = outcome if outcome in METHODS else "credit-card"
        kind = "Token" if page["fields"].get("charge_method") == 5 else "Approval" if outcome == "hold" else "Charge"
        twin.attempt(page, method=method, approved=approved, kind=kind, card=number)
        page = twin.store.get(PAGE, page_uid) or page
        return show_page(page, None if approved else "The card was declined (004).")

    return routes


def _target(twin: PayPlusTwin, page: Json) -> str | None:
    """The browser's way back, with flat fields that nobody signed."""
    url = page["fields"].get("refURL_success")
    one = next((one for one in twin.store.all(TRANSACTION) if one["page"] == page["id"]), None)
    if not url or one is None:
        return None
    shown = ("transaction_uid", "page_request_uid", "type", "status", "status_code", "amount", "currency", "more_info")
    query = urlencode({name: str(value) for name, value in flat(one).items() if name in shown})
    return f"{url}{'&' if '?' in url else '?'}{query}"


class Attempt(BaseModel):
    """How a payer without a browser pays."""

    method: str = "credit-card"
    approved: bool = True
    kind: str = "Charge"
    card: str = GOOD


class Setting(BaseModel):
    """One setting of an account, by its API key."""

    api_key: str
    value: str


class Outcomes(BaseModel):
    """Status codes, in order."""

    outcomes: list[str]


class Amount(BaseModel):
    """Major units."""

    amount: str


def _controls(twin: PayPlusTwin) -> APIRouter:
    routes = APIRouter(prefix="/sandbox/payplus")

    def found(kind: str, thing_id: str) -> Json:
        thing = twin.store.get(kind, thing_id)
        if thing is None:
            raise HTTPException(404, f"no such {kind}")
        return thing

    @routes.get("/pages")
    async def pages(more_info: str) -> list[Json]:
        """Pages of a reference, without the merchant's secret."""
        own = [page for page in twin.store.all(PAGE) if page["fields"].get("more_info") == more_info]
        return [{name: page[name] for name in page if name != "secret"} for page in own]

    @routes.get("/transactions")
    async def transactions(more_info: str) -> list[Json]:
        return [one for one in twin.store.all(TRANSACTION) if more_info in one["more_info"].values()]

    @routes.post("/pages/{page_uid}/pay")
    async def pay(page_uid: str, body: Attempt) -> Json:
        """Pay, be declined (`approved` false) or only have the amount held (`kind` Approval)."""
        page = found(PAGE, page_uid)
        if twin.state_of(page) != "open":
            raise HTTPException(409, twin.state_of(page))
        one = twin.attempt(page, method=body.method, approved=body.approved, kind=body.kind, card=body.card)
        return {"transaction_uid": one["id"], "status": one["status"]}

    @routes.post("/pages/{page_uid}/capture")
    async def capture(page_uid: str) -> Json:
        """Turn a hold into a charge, as the merchant does in the dashboard."""
        page = found(PAGE, page_uid)
        one = twin.attempt(page, method="credit-card", approved=True, card=GOOD)
        return {"transaction_uid": one["id"]}

    @routes.post("/pages/{page_uid}/expire")
    async def expire(page_uid: str) -> Json:
        return {"state": twin.close(found(PAGE, page_uid), "expired")["state"]}

    @routes.post("/pages/{page_uid}/held")
    async def hold_otherwise(page_uid: str, body: dict[str, Any]) -> Json:
        """Let PayPlus hold another `amount`, `currency` or `more_info` than was asked for."""
        page = found(PAGE, page_uid)
        changed = page | {name: body[name] for name in ("amount", "currency") if name in body}
        if "more_info" in body:
            changed["fields"] = page["fields"] | {"more_info": body["more_info"]}
        twin.store.put(PAGE, twin.store.owner_of(page_uid), changed)
        return {"amount": changed["amount"], "currency": changed["currency"]}

    @routes.post("/tokens/{token}/outcomes")
    async def plan_outcomes(token: str, body: Outcomes) -> Json:
        """What the next charges of a token do: codes, `000` for success."""
        known = found(CARD, token)
        twin.store.put(CARD, twin.store.owner_of(token), known | {"outcomes": list(body.outcomes)})
        return {"planned": len(body.outcomes)}

    @routes.post("/transactions/{uid}/refund")
    async def refund_by_hand(uid: str, body: Amount) -> Json:
        """What the merchant does in the dashboard: a refund without any reference of ours."""
        charge, amount = found(TRANSACTION, uid), Decimal(body.amount)
        if not 0 < amount <= (left := twin.left_of(charge)):
            raise HTTPException(409, f"{left} is left to refund")
        return {"transaction_uid": twin.refund(twin.store.owner_of(uid), charge, amount, None)["id"]}

    @routes.post("/transactions/{uid}/cancel")
    async def cancel_by_hand(uid: str) -> Json:
        """Same-day cancellation: the charge, or the refund, never reaches the bank."""
        one = found(TRANSACTION, uid) | {"cancelled": True}
        twin.store.put(TRANSACTION, twin.store.owner_of(uid), one)
        return {"transaction_uid": uid}

    @routes.post("/{name}")
    async def change_setting(name: str, body: Setting) -> Json:
        """`form` (flat, nested, list), `callback_url`, `forgets_more_info`, `refund_status` (a code, or '' again)."""
        if name not in ("form", "callback_url", "forgets_more_info", "refund_status"):
            raise HTTPException(404, "no such setting")
        if name == "form" and body.value not in FORMS:
            raise HTTPException(422, "no such form")
        twin.set(body.api_key, name, body.value)
        return {name: body.value}

    return routes


TWIN = router

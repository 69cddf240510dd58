"""PayU Latam's side of the wire (Colombia): payments and queries in JSON, the WebCheckout form, confirmations as forms.

Merchants need no set-up. Merchant 508029 has PayU's public sandbox key; any other merchant N has `sandbox-key-N`, or
the key that it first calls with, or the one given to POST /sandbox/payu/merchants (merchant_id, api_key, hmac_key,
algorithm, confirms_in_json, hides_reasons). A key or login with `invalid` in it is refused as PayU refuses: HTTP 200
and `code: ERROR`. The algorithm is the one whose signature came first.

Operations for faults: `payu.submit`, `payu.refund`, `payu.banks`, `payu.ping`, `payu.query`.

Payers without a browser, all POST under /sandbox/payu and with `reference` in the body: `pay`, `decline`
(response_code), `expire`, `settle` (state: what is pending becomes APPROVED, DECLINED, EXPIRED or ERROR), `amount`
(value, currency: what PayU holds), `refunds/settle` (state). `pay` and `decline` make an attempt where nothing waits.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4
from xml.sax.saxutils import escape

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from sandbox.courier import Courier
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.state import Json, Store

PUBLIC_MERCHANT, PUBLIC_KEY = "508029", "4Vj8eK4rloUd272L48hsrarnUA"
COLOMBIA = timezone(timedelta(hours=-5))
CASH_DAYS = 7
CASH_LIMITS = {"BALOTO": (3_000, 1_000_000), "EFECTY": (20_000, 6_000_000), "OTHERS_CASH": (1_000, 4_000_000)}
CASH = frozenset({*CASH_LIMITS, "BANK_REFERENCED"})
BANKS = [
    {"id": "0", "description": "A continuación seleccione su banco", "pseCode": "0"},
    {"id": "1", "description": "BANCOLOMBIA", "pseCode": "1007"},
    {"id": "2", "description": "BANCO DE BOGOTÁ", "pseCode": "1001"},
    {"id": "3", "description": "BANCO DAVIVIENDA", "pseCode": 1051},
]
STATE_POL = {"APPROVED": "4", "DECLINED": "6", "EXPIRED": "5", "PENDING": "7", "ERROR": "104"}
RESPONSE_POL = {"APPROVED": "1", "DECLINED": "5", "EXPIRED": "20", "PENDING": "25", "ERROR": "9999"}
METHOD_TYPE = {"VISA": "2", "PSE": "4", "BANK_REFERENCED": "10"}
ALGORITHMS = ("MD5", "SHA1", "SHA256", "HMAC-SHA256")
FINAL = ("APPROVED", "DECLINED", "EXPIRED", "ERROR")

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class Refusal(Exception):
    """`code: ERROR` with this text, at HTTP 200."""


def digest(text: str, algorithm: str, hmac_key: str) -> str:
    """A signature as PayU makes it."""
    if algorithm == "HMAC-SHA256":
        return hmac.new(hmac_key.encode(), text.encode(), hashlib.sha256).hexdigest()
    return hashlib.new(algorithm.lower(), text.encode(), usedforsecurity=False).hexdigest()


def confirmation_value(value: Decimal) -> str:
    """Two decimals, one where the second is 0."""
    return f"{value:.2f}".removesuffix("0")


@dataclass(slots=True)
class PayuTwin:
    """Merchants, orders and their transactions."""

    store: Store
    courier: Courier

    # merchants

    def merchant_of_key(self, api_key: str) -> Json:
        """The merchant of a key; an unknown key's merchant is learnt from its first signature."""
        known = self.store.get("payu_merchant", f"payu_merchant:{api_key}")
        if known is not None:
            return known
        merchant_id = PUBLIC_MERCHANT if api_key == PUBLIC_KEY else api_key.removeprefix("sandbox-key-")
        return self.keep_merchant({"api_key": api_key, "merchant_id": merchant_id if merchant_id.isdigit() else None})

    def keep_merchant(self, merchant: Json) -> Json:
        """Remember a merchant by its key."""
        usual = {"algorithm": None, "hmac_key": None, "confirms_in_json": False, "hides_reasons": False}
        return self.store.put(
            "payu_merchant", merchant["api_key"], usual | merchant, f"payu_merchant:{merchant['api_key']}"
        )

    def signs(self, merchant: Json, merchant_id: str | None, parts: str, signature: str) -> bool:
        """Whether this merchant made the signature; the first one settles its algorithm and id."""
        ids = [merchant_id] if merchant_id else [merchant["merchant_id"] or PUBLIC_MERCHANT]
        if merchant["merchant_id"] not in (None, *ids):
            return False
        for algorithm in [merchant["algorithm"]] if merchant["algorithm"] else ALGORITHMS:
            made = self.signature(merchant | {"algorithm": algorithm}, f"{ids[0]}~{parts}")
            if hmac.compare_digest(made, signature.lower()):
                self.keep_merchant(merchant | {"algorithm": algorithm, "merchant_id": ids[0]})
                return True
        return False

    def signature(self, merchant: Json, parts: str) -> str:
        """Sign as this merchant's account does."""
        key = merchant["api_key"]
        return digest(f"{key}~{parts}", merchant["algorithm"] or "MD5", merchant["hmac_key"] or key)

    def signer_of_form(self, merchant_id: str, parts: str, signature: str) -> Json | None:
        """The merchant whose key made a form's signature."""
        usual = PUBLIC_KEY if merchant_id == PUBLIC_MERCHANT else f"sandbox-key-{merchant_id}"
        self.merchant_of_key(usual)
        for merchant in self.store.all("payu_merchant"):
            if self.signs(merchant, merchant_id, parts, signature):
                return self.merchant_of_key(merchant["api_key"])
        return None

    # orders

    def orders(self, reference: str, owner: str | None = None) -> list[Json]:
        """The orders of a reference, oldest first."""
        index = self.store.get("payu_reference", f"payu_reference:{reference}") or {"orders": []}
        found = (self.order_by_id(order_id, owner) for order_id in index["orders"])
        return [order for order in found if order is not None]

    def order_by_id(self, order_id: str, owner: str | None = None) -> Json | None:
        """One order."""
        return self.store.get("payu_order", f"payu_order:{order_id}", owner)

    def transaction(self, transaction_id: str, owner: str | None = None) -> tuple[Json, Json] | None:
        """One transaction with its order."""
        index = self.store.get("payu_transaction", f"payu_transaction:{transaction_id}", owner)
        order = None if index is None else self.order_by_id(index["order"])
        return (
            None
            if order is None
            else (order, next(one for one in order["transactions"] if one["id"] == transaction_id))
        )

    def add(self, order: Json, transaction: Json) -> None:
        """Another transaction of an order."""
        order["transactions"].append(transaction)
        index = {"order": str(order["id"])}
        self.store.put("payu_transaction", order["_api_key"], index, f"payu_transaction:{transaction['id']}")
        self.keep(order)

    def keep(self, order: Json) -> Json:
        """Remember an order's new state."""
        return self.store.put("payu_order", order["_api_key"], order, f"payu_order:{order['id']}")

    def new_order(self, api_key: str, values: Json) -> Json:
        """An order without transactions."""
        order_id = 800_000_000 + secrets.randbelow(10**9)
        index_id = f"payu_reference:{values['referenceCode']}"
        index = self.store.get("payu_reference", index_id) or {"orders": []}
        self.store.put("payu_reference", api_key, {"orders": [*index["orders"], str(order_id)]}, index_id)
        return self.keep({"id": order_id, "status": "NEW", "transactions": [], "_api_key": api_key} | values)

    def attempt(self, order: Json, payment_method: str, state: str, response_code: str) -> Json:
        """A payer's try to pay."""
        transaction: Json = {
            "id": str(uuid4()),
            "type": "AUTHORIZATION_AND_CAPTURE",
            "parentTransactionId": None,
            "paymentMethod": payment_method,
            "transactionResponse": {"state": state, "responseCode": response_code, "operationDate": _now_ms()},
            "creditCard": {"maskedNumber": "411111******1111"} if payment_method == "VISA" else None,
            "additionalValues": order["additionalValues"],
            "extraParameters": {},
        }
        self.add(order, transaction)
        self.decide(order, transaction, state, response_code)
        return transaction

    def decide(self, order: Json, transaction: Json, state: str, response_code: str) -> None:
        """Give a transaction its state; final ones are confirmed to the merchant."""
        transaction["transactionResponse"] |= {"state": state, "responseCode": response_code}
        order["status"] = {"APPROVED": "CAPTURED", "PENDING": "IN_PROGRESS"}.get(state, "DECLINED")
        self.keep(order)
        if state in FINAL:
            self.confirm(order, transaction)

    def waiting(self, orders: list[Json]) -> tuple[Json, Json] | None:
        """The first attempt that is not decided."""
        for order in orders:
            for one in order["transactions"]:
                if one["type"] == "AUTHORIZATION_AND_CAPTURE" and one["transactionResponse"]["state"] == "PENDING":
                    return order, one
        return None

    def paid(self, order: Json) -> bool:
        """Whether an attempt was approved."""
        return any(
            one["type"] == "AUTHORIZATION_AND_CAPTURE" and one["transactionResponse"]["state"] == "APPROVED"
            for one in order["transactions"]
        )

    def confirm(self, order: Json, transaction: Json) -> None:
        """Send the confirmation of an attempt, if an address was given."""
        if not order["_notify_url"]:
            return
        merchant = self.merchant_of_key(order["_api_key"])
        fields = self.confirmation(order, transaction, merchant)
        if merchant["confirms_in_json"]:
            value = fields["value"]  # a number with its decimals, as no library would write it
            body = json.dumps(fields).replace(f'"value": "{value}"', f'"value": {value}')
        else:
            body = urlencode(fields)
        self.courier.send(
            owner=order["_api_key"],
            event_id=f"{transaction['id']}:{fields['state_pol']}",
            event_type=f"confirmation.{fields['state_pol']}",
            url=order["_notify_url"],
            body=body.encode(),
            content_type="application/json" if merchant["confirms_in_json"] else "application/x-www-form-urlencoded",
        )

    def confirmation(self, order: Json, transaction: Json, merchant: Json) -> dict[str, str]:
        """The fields of a confirmation, `sign` among them."""
        state = STATE_POL[transaction["transactionResponse"]["state"]]
        value, currency = _held(order)
        merchant_id, reference = merchant["merchant_id"] or PUBLIC_MERCHANT, order["referenceCode"]
        method = transaction["paymentMethod"]
        signed = f"{merchant_id}~{reference}~{confirmation_value(value)}~{currency}~{state}"
        return {
            "merchant_id": merchant_id,
            "state_pol": state,
            "risk": "0.00",
            "response_code_pol": RESPONSE_POL[transaction["transactionResponse"]["state"]],
            "reference_sale": reference,
            "reference_pol": str(order["id"]),
            "sign": self.signature(merchant, signed),
            "extra1": "",
            "extra2": "",
            "payment_method": "10",
            "payment_method_type": METHOD_TYPE.get(method, "7"),
            "payment_method_name": method,
            "installments_number": "1",
            "value": f"{value:.2f}",
            "tax": "0.00",
            "additional_value": "0.00",
            "transaction_date": datetime.now(COLOMBIA).strftime("%Y-%m-%d %H:%M:%S"),
            "currency": currency,
            "test": order["_test"],
            "description": order["_description"],
            "attempts": "1",
            "response_message_pol": transaction["transactionResponse"]["responseCode"],
            "transaction_id": transaction["id"],
        }

    def response_query(self, order: Json, transaction: Json) -> str:
        """The parameters of the response page, whose value is rounded half to even to one decimal."""
        merchant = self.merchant_of_key(order["_api_key"])
        value, currency = _held(order)
        state = STATE_POL[transaction["transactionResponse"]["state"]]
        merchant_id = merchant["merchant_id"] or PUBLIC_MERCHANT
        rounded = value.quantize(Decimal("0.1"), ROUND_HALF_EVEN)
        signed = f"{merchant_id}~{order['referenceCode']}~{rounded}~{currency}~{state}"
        return urlencode(
            {
                "merchantId": merchant_id,
                "referenceCode": order["referenceCode"],
                "TX_VALUE": f"{value:.2f}",
                "currency": currency,
                "transactionState": state,
                "transactionId": transaction["id"],
                "polResponseCode": RESPONSE_POL[transaction["transactionResponse"]["state"]],
                "signature": self.signature(merchant, signed),
            }
        )


@dataclass(slots=True)
class PayuApi:
    """The commands."""

    twin: PayuTwin
    faults: FaultPlan

    async def answer(self, request: Request, *, queries: bool) -> Response:
        """Authenticate, misbehave if asked to, act, and answer in JSON only if JSON is accepted."""
        as_json = "application/json" in request.headers.get("accept", "")
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise Refusal("Invalid request format")  # noqa: TRY301
            operation = _operation(body, queries=queries)
            fault = await self.faults.of(request, operation)
            await before_acting(fault)
            result = self._act(body, str(request.base_url).rstrip("/"), queries=queries)
            await after_acting(fault)
        except Trouble as trouble:
            return JSONResponse({"code": "ERROR"}, trouble.status, headers=trouble.headers)
        except Refusal as refusal:
            result = {"code": "ERROR", "error": str(refusal)} | (
                {"result": None} if queries else {"transactionResponse": None}
            )
        except ValueError:
            result = {"code": "ERROR", "error": "Invalid request format"}
        if as_json:
            return JSONResponse(result)
        name = "reportingResponse" if queries else "paymentResponse"
        code, error = result["code"], escape(str(result.get("error") or ""))
        xml = f"<{name}><code>{code}</code><error>{error}</error></{name}>"
        return Response(xml, media_type="application/xml")

    def _act(self, body: Json, base_url: str, *, queries: bool) -> Json:
        merchant = self._authenticate(body)
        command = body.get("command")
        if command == "PING":
            return {"code": "SUCCESS", "error": None} | ({"result": {"payload": "PONG"}} if queries else {})
        if queries:
            return {"code": "SUCCESS", "error": None, "result": self._query(command, body, merchant)}
        if command == "GET_BANKS_LIST":
            return {"code": "SUCCESS", "error": None, "banks": BANKS}
        if command == "GET_PAYMENT_METHODS":
            methods = [{"id": number, "description": name, "country": "CO"} for number, name in enumerate(sorted(CASH))]
            return {"code": "SUCCESS", "error": None, "paymentMethods": methods}
        if command == "SUBMIT_TRANSACTION":
            transaction = body.get("transaction") or {}
            refund = transaction.get("type") in ("REFUND", "PARTIAL_REFUND")
            answer = self._refund(transaction, merchant) if refund else self._submit(body, merchant, base_url)
            return {"code": "SUCCESS", "error": None, "transactionResponse": answer}
        raise Refusal("The command is not valid")

    def _authenticate(self, body: Json) -> Json:
        merchant = body.get("merchant") or {}
        key, login = str(merchant.get("apiKey") or ""), str(merchant.get("apiLogin") or "")
        if not key or not login or "invalid" in key or "invalid" in login:
            raise Refusal("Invalid credentials")
        return self.twin.merchant_of_key(key)

    def _query(self, command: object, body: Json, merchant: Json) -> Json | None:
        details, owner = body.get("details") or {}, merchant["api_key"]
        if command == "ORDER_DETAIL_BY_REFERENCE_CODE":
            orders = self.twin.orders(str(details.get("referenceCode")), owner)
            return {"payload": [_shown(one, merchant) for one in orders]} if orders else None
        if command == "ORDER_DETAIL":
            order = self.twin.order_by_id(str(details.get("orderId")), owner)
            return None if order is None else {"payload": _shown(order, merchant)}
        if command == "TRANSACTION_RESPONSE_DETAIL":
            pair = self.twin.transaction(str(details.get("transactionId")), owner)
            if pair is None:
                return None
            return {"payload": pair[1]["transactionResponse"] | {"extraParameters": pair[1]["extraParameters"]}}
        raise Refusal("The command is not valid")

    def _submit(self, body: Json, merchant: Json, base_url: str) -> Json:
        transaction = body["transaction"]
        order = transaction.get("order") or {}
        sent = (order.get("additionalValues") or {}).get("TX_VALUE") or {}
        reference, method = str(order.get("referenceCode") or ""), transaction.get("paymentMethod")
        if transaction.get("type") != "AUTHORIZATION_AND_CAPTURE" or transaction.get("paymentCountry") != "CO":
            raise Refusal("The transaction type is not allowed in this country")
        signed = f"{reference}~{sent.get('value')}~{sent.get('currency')}"
        if not self.twin.signs(merchant, None, signed, str(order.get("signature"))):
            raise Refusal("The signature of the order is not valid")
        value = _amount(sent)
        if value != value.to_integral_value():
            raise Refusal("The value must not have decimals")
        token = transaction.get("creditCardTokenId")
        if method not in CASH and method != "PSE" and token is None:
            raise Refusal("The payment method is not supported")
        card = None if token is None else self.twin.store.get("payu_card", f"payu_card:{token}", merchant["api_key"])
        if token is not None and card is None:
            raise Refusal("The credit card token does not exist")
        made = self.twin.new_order(
            merchant["api_key"],
            {
                "referenceCode": reference,
                "additionalValues": {"TX_VALUE": {"value": str(value), "currency": sent.get("currency")}},
                "_notify_url": order.get("notifyUrl"),
                "_response_url": (transaction.get("extraParameters") or {}).get("RESPONSE_URL"),
                "_description": order.get("description", ""),
                "_test": "1" if body.get("test") else "0",
            },
        )
        if card is not None:
            code = card["outcomes"].pop(0) if card["outcomes"] else "APPROVED"
            self.twin.store.put("payu_card", merchant["api_key"], card, f"payu_card:{token}")
            state = "APPROVED" if code == "APPROVED" else "DECLINED"
            return _response(made, self.twin.attempt(made, str(method), state, code))
        low, high = CASH_LIMITS.get(method, (1, 10**9))
        if not low <= value <= high:
            return _response(made, self.twin.attempt(made, method, "DECLINED", "EXCEEDED_AMOUNT"))
        one = self.twin.attempt(made, method, "PENDING", "PENDING_TRANSACTION_CONFIRMATION")
        one["extraParameters"] = _extra(made, one, transaction, base_url)
        self.twin.keep(made)
        return _response(made, one)

    def _refund(self, transaction: Json, merchant: Json) -> Json:
        order = self.twin.order_by_id(str((transaction.get("order") or {}).get("id")), merchant["api_key"])
        parent_id = transaction.get("parentTransactionId")
        parent = next((one for one in (order or {}).get("transactions", []) if one["id"] == parent_id), None)
        if order is None or parent is None or parent["transactionResponse"]["state"] != "APPROVED":
            raise Refusal("The order or the parent transaction does not exist")
        if parent["paymentMethod"] != "VISA":
            raise Refusal("The payment method does not allow refunds")
        captured, currency = _held(order)
        refunds = [one for one in order["transactions"] if one["type"] in ("REFUND", "PARTIAL_REFUND")]
        standing = [one for one in refunds if one["transactionResponse"]["state"] in ("PENDING", "APPROVED")]
        left = captured - sum((_amount(one["additionalValues"]["TX_VALUE"]) for one in standing), Decimal(0))
        value = captured
        if transaction["type"] == "PARTIAL_REFUND":
            named = transaction.get("additionalValues") or transaction["order"].get("additionalValues") or {}
            value = _amount(named.get("TX_VALUE") or {})
        if not 300 <= value <= left:
            raise Refusal("The amount of the refund is not valid")
        made: Json = {
            "id": str(uuid4()),
            "type": transaction["type"],
            "parentTransactionId": parent_id,
            "paymentMethod": parent["paymentMethod"],
            "reason": str(transaction.get("reason") or ""),
            "transactionResponse": {"state": "PENDING", "responseCode": "PENDING_REVIEW", "operationDate": _now_ms()},
            "creditCard": None,
            "additionalValues": {"TX_VALUE": {"value": str(value), "currency": currency}},
            "extraParameters": {},
        }
        self.twin.add(order, made)
        return _response(order, made)


def router(store: Store, courier: Courier, faults: FaultPlan) -> APIRouter:
    """PayU's interfaces, pages and controls."""
    routes = APIRouter()
    twin = PayuTwin(store, courier)
    api = PayuApi(twin, faults)
    _add_interfaces(routes, api)
    _add_checkout(routes, twin)
    _add_waiting_pages(routes, twin)
    _add_controls(routes, twin)
    _add_refund_controls(routes, twin)
    return routes


def _add_interfaces(routes: APIRouter, api: PayuApi) -> None:
    @routes.post("/payments-api/4.0/service.cgi")
    async def payments(request: Request) -> Response:
        return await api.answer(request, queries=False)

    @routes.post("/reports-api/4.0/service.cgi")
    async def queries(request: Request) -> Response:
        return await api.answer(request, queries=True)


def _add_checkout(routes: APIRouter, twin: PayuTwin) -> None:
    """WebCheckout: the form opens a page, and every try to pay is a transaction of one order."""

    @routes.post("/ppp-web-gateway-payu/")
    async def open_page(request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        signed = "~".join(
            [form.get(name, "") for name in ("referenceCode", "amount", "currency")]
            + [form[name] for name in ("paymentMethods", "iin", "pseBanks") if form.get(name)]
        )
        merchant = twin.signer_of_form(form.get("merchantId", ""), signed, form.get("signature", ""))
        if merchant is None:
            return _page("payu.html", 400, fault="The merchant's signature is not valid (firma inválida).")
        page_id = secrets.token_hex(12)
        twin.store.put("payu_page", merchant["api_key"], form, f"payu_page:{page_id}")
        return RedirectResponse(f"/ppp-web-gateway-payu/app/{page_id}", 303)

    def show(page_id: str, form: Json, error: str | None = None, notice: str | None = None) -> Response:
        order = next((one for one in twin.orders(form["referenceCode"]) if twin.paid(one)), None)
        view = {
            "name": form.get("description", ""),
            "amount": _readable(form["amount"], form["currency"]),
            "email": form.get("payerEmail") or form.get("buyerEmail"),
            "action": f"/ppp-web-gateway-payu/app/{page_id}",
            "target": form.get("responseUrl"),
            "error": error,
            "notice": notice,
        }
        if order is not None:
            target = _returning(twin, order, form.get("responseUrl"))
            return _page("done.html", 200, paid=True, **(view | {"target": target}))
        return _page("payu.html", 402 if error else 200, fault=None, **view)

    @routes.get("/ppp-web-gateway-payu/app/{page_id}")
    def page(page_id: str) -> Response:
        form = twin.store.get("payu_page", f"payu_page:{page_id}")
        return _page("missing.html", 404) if form is None else show(page_id, form)

    @routes.post("/ppp-web-gateway-payu/app/{page_id}")
    async def submit(page_id: str, request: Request) -> Response:
        form = twin.store.get("payu_page", f"payu_page:{page_id}")
        if form is None:
            return _page("missing.html", 404)
        outcome = str((await request.form()).get("outcome", "pay"))
        owner = twin.store.owner_of(f"payu_page:{page_id}")
        state, code = _tried(twin, owner, form, outcome)
        if state == "PENDING":
            return show(page_id, form, notice="This payment waits for the bank or the counter.")
        return show(page_id, form, None if state == "APPROVED" else code)


def _tried(twin: PayuTwin, owner: str, form: Json, outcome: str) -> tuple[str, str]:
    """One attempt on PayU's page: its state and response code. A paid order takes no other."""
    states = {
        "pay": ("VISA", "APPROVED", "APPROVED"),
        "decline": ("VISA", "DECLINED", "ENTITY_DECLINED"),
        "insufficient": ("VISA", "DECLINED", "INSUFFICIENT_FUNDS"),
        "error": ("VISA", "ERROR", "INTERNAL_PAYMENT_PROVIDER_ERROR"),
        "later": ("PSE", "PENDING", "PENDING_TRANSACTION_CONFIRMATION"),
        "cash": ("EFECTY", "PENDING", "PENDING_TRANSACTION_CONFIRMATION"),
    }
    method, state, code = states.get(outcome, states["decline"])
    order = next(iter(twin.orders(form["referenceCode"], owner)), None) or twin.new_order(
        owner,
        {
            "referenceCode": form["referenceCode"],
            "additionalValues": {"TX_VALUE": {"value": form["amount"], "currency": form["currency"]}},
            "_notify_url": form.get("confirmationUrl"),
            "_response_url": form.get("responseUrl"),
            "_description": form.get("description", ""),
            "_test": form.get("test", "0"),
        },
    )
    if twin.paid(order):
        return "APPROVED", "APPROVED"
    twin.attempt(order, method, state, code)
    return state, code


def _add_waiting_pages(routes: APIRouter, twin: PayuTwin) -> None:
    """The bank's page of PSE and the voucher of a cash code; both decide one transaction."""

    def view(order: Json, one: Json) -> Response:
        value, currency = _held(order)
        state, extra = one["transactionResponse"]["state"], one["extraParameters"]
        cash = one["paymentMethod"] in CASH
        values = {
            "name": order["_description"],
            "amount": _readable(str(value), currency),
            "target": _returning(twin, order, order["_response_url"]),
        }
        if state != "PENDING":
            return _page("done.html", 200 if state == "APPROVED" else 410, paid=state == "APPROVED", **values)
        expiry = extra.get("EXPIRATION_DATE")
        until = datetime.fromtimestamp(expiry / 1000, COLOMBIA).strftime("%Y-%m-%d %H:%M") if expiry else None
        return _page(
            "payu_waiting.html",
            network=one["paymentMethod"].replace("_", " ").title() if cash else None,
            code=extra.get("REFERENCE"),
            until=until,
            action=f"/payu/{'cash' if cash else 'pse'}/{one['id']}",
            **values,
        )

    @routes.get("/payu/pse/{transaction_id}")
    @routes.get("/payu/cash/{transaction_id}")
    def page(transaction_id: str) -> Response:
        pair = twin.transaction(transaction_id)
        return _page("missing.html", 404) if pair is None else view(*pair)

    @routes.post("/payu/pse/{transaction_id}")
    @routes.post("/payu/cash/{transaction_id}")
    async def submit(transaction_id: str, request: Request) -> Response:
        pair = twin.transaction(transaction_id)
        if pair is None:
            return _page("missing.html", 404)
        order, one = pair
        outcome = str((await request.form()).get("outcome", "pay"))
        state = {"pay": "APPROVED", "decline": "DECLINED", "expire": "EXPIRED"}.get(outcome)
        if state is not None and one["transactionResponse"]["state"] == "PENDING":
            twin.decide(order, one, state, {"DECLINED": "ENTITY_DECLINED"}.get(state, state))
        return view(order, one)


def _add_controls(routes: APIRouter, twin: PayuTwin) -> None:
    def orders_of(body: Json) -> list[Json]:
        orders = twin.orders(str(body.get("reference")))
        if not orders:
            raise HTTPException(404, "no such order")
        return orders

    def decide(body: Json, state: str, response_code: str) -> Json:
        """What waits becomes this; where nothing waits, another attempt is made."""
        orders = orders_of(body)
        waiting = twin.waiting(orders)
        if waiting is None:
            one = twin.attempt(orders[-1], "VISA", state, response_code)
        else:
            twin.decide(*waiting, state, response_code)
            one = waiting[1]
        return {"transaction_id": one["id"], "state": state}

    @routes.post("/sandbox/payu/merchants")
    async def keep_merchant(body: Json) -> Json:
        known = {"merchant_id", "api_key", "algorithm", "hmac_key", "confirms_in_json", "hides_reasons"}
        return twin.keep_merchant({name: value for name, value in body.items() if name in known})

    @routes.post("/sandbox/payu/tokens")
    async def tokenise(body: Json) -> Json:
        """What PayU's library does in the payer's browser: a token of a Visa card, by the account's `api_key`."""
        token = str(uuid4())
        twin.store.put("payu_card", str(body["api_key"]), {"outcomes": []}, f"payu_card:{token}")
        return {"token": token, "brand": "VISA", "last4": "1111"}

    @routes.post("/sandbox/payu/tokens/{token}/outcomes")
    async def plan_outcomes(token: str, body: Json) -> Json:
        """The response codes of the token's next charges; APPROVED for success."""
        name = f"payu_card:{token}"
        card = twin.store.get("payu_card", name)
        if card is None:
            raise HTTPException(404, "no such token")
        twin.store.put("payu_card", twin.store.owner_of(name), card | {"outcomes": list(body["outcomes"])}, name)
        return {"planned": len(body["outcomes"])}

    @routes.post("/sandbox/payu/pay")
    async def pay(body: Json) -> Json:
        return decide(body, "APPROVED", "APPROVED")

    @routes.post("/sandbox/payu/decline")
    async def decline(body: Json) -> Json:
        return decide(body, "DECLINED", str(body.get("response_code", "ENTITY_DECLINED")))

    @routes.post("/sandbox/payu/expire")
    async def expire(body: Json) -> Json:
        return decide(body, "EXPIRED", "EXPIRED_TRANSACTION")

    @routes.post("/sandbox/payu/settle")
    async def settle(body: Json) -> Json:
        state = str(body.get("state", "APPROVED"))
        if state not in FINAL:
            raise HTTPException(422, f"state is one of {', '.join(FINAL)}")
        return decide(body, state, state if state == "APPROVED" else "ENTITY_DECLINED")

    @routes.post("/sandbox/payu/amount")
    async def change_amount(body: Json) -> Json:
        for order in orders_of(body):
            held = order["additionalValues"]["TX_VALUE"]
            changed = {"TX_VALUE": held | {name: body[name] for name in ("value", "currency") if name in body}}
            order["additionalValues"] = changed
            for one in order["transactions"]:
                if one["type"] == "AUTHORIZATION_AND_CAPTURE":
                    one["additionalValues"] = changed
            twin.keep(order)
        return {"changed": True}

    @routes.get("/sandbox/payu/orders")
    async def orders(reference: str) -> list[Json]:
        return twin.orders(reference)


def _add_refund_controls(routes: APIRouter, twin: PayuTwin) -> None:
    """Refunds that the merchant makes in PayU's panel, and what PayU decides days later."""

    def orders_of(body: Json) -> list[Json]:
        orders = twin.orders(str(body.get("reference")))
        if not orders:
            raise HTTPException(404, "no such order")
        return orders

    @routes.post("/sandbox/payu/refunds")
    async def refund_by_hand(body: Json) -> Json:
        """What the merchant does in PayU's panel: `reference`, `value`, and `state` (PENDING for days, as usual)."""
        order = next(iter(orders_of(body)), None)
        paid = [one for one in (order or {}).get("transactions", []) if one["type"] == "AUTHORIZATION_AND_CAPTURE"]
        if order is None or not paid:
            raise HTTPException(404, "no such payment")
        captured, currency = _held(order)
        left = captured - sum(
            _amount(one["additionalValues"]["TX_VALUE"])
            for one in order["transactions"]
            if one["type"] in ("REFUND", "PARTIAL_REFUND") and one["transactionResponse"]["state"] != "DECLINED"
        )
        if not 0 < _amount({"value": body["value"]}) <= left:
            raise HTTPException(409, f"{left} is left to refund")
        made: Json = {
            "id": str(uuid4()),
            "type": "PARTIAL_REFUND" if _amount({"value": body["value"]}) < captured else "REFUND",
            "parentTransactionId": paid[0]["id"],
            "paymentMethod": paid[0]["paymentMethod"],
            "reason": str(body.get("reason", "made in the panel")),
            "transactionResponse": {"state": str(body.get("state", "PENDING")), "operationDate": _now_ms()},
            "creditCard": None,
            "additionalValues": {"TX_VALUE": {"value": str(body["value"]), "currency": currency}},
            "extraParameters": {},
        }
        twin.add(order, made)
        return {"id": made["id"]}

    @routes.post("/sandbox/payu/refunds/settle")
    async def settle_refunds(body: Json) -> Json:
        settled = 0
        for order in orders_of(body):
            for one in order["transactions"]:
                if one["type"] in ("REFUND", "PARTIAL_REFUND") and one["transactionResponse"]["state"] == "PENDING":
                    one["transactionResponse"] |= {"state": str(body.get("state", "APPROVED"))}
                    order["status"] = "REFUNDED" if one["type"] == "REFUND" else order["status"]
                    settled += 1
            twin.keep(order)
        return {"settled": settled}


def _operation(body: Json, *, queries: bool) -> str:
    if body.get("command") == "PING":
        return "payu.ping"
    if queries:
        return "payu.query"
    if body.get("command") == "GET_BANKS_LIST":
        return "payu.banks"
    kind = (body.get("transaction") or {}).get("type")
    return "payu.refund" if kind in ("REFUND", "PARTIAL_REFUND") else "payu.submit"


def _extra(order: Json, one: Json, transaction: Json, base_url: str) -> Json:
    """`extraParameters` of an answer: the bank's address, or what the payer says at the counter."""
    if one["paymentMethod"] == "PSE":
        return {"BANK_URL": f"{base_url}/payu/pse/{one['id']}", "TRANSACTION_CYCLE": 1}
    latest = datetime.now(COLOMBIA) + timedelta(days=CASH_DAYS)
    try:
        asked = datetime.fromisoformat(str(transaction.get("expirationDate"))).replace(tzinfo=COLOMBIA)
    except ValueError:
        asked = latest
    voucher = f"{base_url}/payu/cash/{one['id']}"
    extra: Json = {
        "EXPIRATION_DATE": int(min(asked, latest).timestamp() * 1000),
        "REFERENCE": order["id"],
        "URL_PAYMENT_RECEIPT_HTML": voucher,
        "URL_PAYMENT_RECEIPT_PDF": voucher,
    }
    if one["paymentMethod"] == "BANK_REFERENCED":
        extra |= {"BANCO_BOGOTA_SERVICE_CODE": 4321, "BANCOLOMBIA_SERVICE_CODE": "11111"}
    return extra


def _response(order: Json, one: Json) -> Json:
    """A `transactionResponse`."""
    pending = one["transactionResponse"]["state"] == "PENDING"
    return {
        "orderId": order["id"],
        "transactionId": one["id"],
        "pendingReason": "AWAITING_NOTIFICATION" if pending else None,
        "trazabilityCode": None,
        "authorizationCode": None,
        "extraParameters": one["extraParameters"] or None,
        **one["transactionResponse"],
    }


def _shown(order: Json, merchant: Json) -> Json:
    """An order as the queries show it: amounts as numbers or strings, as it happens."""
    as_number = order["id"] % 2 == 0
    shown = {name: value for name, value in order.items() if not name.startswith("_")}
    shown["additionalValues"] = _values(order["additionalValues"], as_number=as_number)
    shown["transactions"] = [
        one
        | {"additionalValues": _values(one["additionalValues"], as_number=not as_number)}
        | ({"reason": None} if merchant["hides_reasons"] else {})
        for one in order["transactions"]
    ]
    return shown


def _values(values: Json, *, as_number: bool) -> Json:
    held = values["TX_VALUE"]
    value = Decimal(str(held["value"]))
    return {"TX_VALUE": {"value": float(value) if as_number else f"{value:.2f}", "currency": held["currency"]}}


def _held(order: Json) -> tuple[Decimal, str]:
    held = order["additionalValues"]["TX_VALUE"]
    return Decimal(str(held["value"])), str(held["currency"])


def _amount(values: Mapping[str, Any]) -> Decimal:
    try:
        return Decimal(str(values.get("value")))
    except InvalidOperation:
        raise Refusal("The value is not valid") from None


def _returning(twin: PayuTwin, order: Json, url: str | None) -> str | None:
    """The merchant's page with PayU's parameters."""
    if not url or not order["transactions"]:
        return url
    return f"{url}{'&' if '?' in url else '?'}{twin.response_query(order, order['transactions'][-1])}"


def _readable(value: str, currency: str) -> str:
    try:
        return f"$ {Decimal(value):,.0f} {currency}"
    except InvalidOperation:
        return f"{value} {currency}"


def _now_ms() -> int:
    return int(time.time() * 1000)


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


TWIN = router

"""PayPlus's side of the wire: classic REST API v1.0 under `/payplus/api/v1.0`, payment pages, signed callbacks.

Operations for faults: `payplus_link`, `payplus_ipn`, `payplus_disable`, `payplus_charge`, `payplus_refund`,
`payplus_view`, `payplus_methods`, `payplus_token`, `payplus_documents`. Keys with `invalid` in them are refused, and
pages with `unknown` in their uid. Its quirks: errors under HTTP 200 and without an envelope, an identical request
answered with the same page, a status query that knows transactions only, payments by several ways as one total with
parts, and answers in one of three forms (`flat`, `nested`, `list`; `POST /sandbox/payplus/form`). What it says to
closed pages, and to a refund of a total, is made up in the style of the descriptions that are known.

Controls under `/sandbox/payplus`: see `payplus_controls`. Amounts are decimal strings in major units.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from sandbox.courier import Courier
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.payplus_books import (
    BARE_JSON,
    BARE_TEXT,
    CARD,
    COMBINED,
    DOCUMENT,
    HIDDEN,
    LOST,
    MOVED,
    OTHER_BYTES,
    PAGE,
    SILENT,
    SPLIT,
    TRANSACTION,
    PayPlusTwin,
    flat,
    listed,
)
from sandbox.payplus_controls import METHODS, checkout_pages, controls
from sandbox.payplus_wire import (
    Call,
    Refusal,
    amount_of,
    authenticate,
    check_vat_number,
    dumps,
    envelope,
    fields_of,
)
from sandbox.state import Json, Store

PREFIX = "/payplus/api/v1.0"
CURRENCIES = ("ILS", "USD", "EUR", "GBP", "GPB")

VARIANTS: dict[str, str] = {
    BARE_TEXT: "refusals are HTTP 400 or 422 with the description alone as text (three integrations' logs)",
    BARE_JSON: "refusals are HTTP 400 or 422 with the description alone as a JSON string (copies of the documents)",
    SPLIT: "each card payment is a gift card and a card: a total with is_multiple_transaction and its parts "
    "(WooCommerce and Magento plug-ins)",
    COMBINED: "the same without is_multiple_transaction (the Magento plug-in's combined payments)",
    HIDDEN: "neither the status query nor Transactions/View knows refunds (an integration that asked the support)",
    MOVED: "a token is charged with move_token only, else can-not-find-card (WooCommerce plug-in)",
    LOST: "a token is charged without customer_uid only, else can-not-find-customer (an integration's client)",
    SILENT: "a charge by token sends no callback (an integration that asked PayPlus's support)",
    OTHER_BYTES: "a callback's hash is over its value written compactly, and not over the bytes that are sent "
    "(the documents' sample)",
}


Handler = Callable[[Call, str], Any]


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
        if "unknown" in str(fields["payment_page_uid"]):
            raise Refusal("can-not-find-payment-page", 422, bare=True)
        amount = amount_of(fields["amount"])
        if fields["currency_code"] not in CURRENCIES:
            raise Refusal("currency-code-is-not-valid", 422)
        if amount <= 0:
            raise Refusal("amount-must-be-greater-than-zero", 422)
        items = fields.get("items") or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Refusal("items-are-not-valid", 422)
        if items and sum(amount_of(item.get("price")) * amount_of(item.get("quantity")) for item in items) != amount:
            raise Refusal("the total items amount is not equal to the amount", 422)
        if any(method not in METHODS for method in fields.get("allowed_charge_methods") or ()):
            raise Refusal("charge-method-is-not-allowed", 422)
        if (number := (fields.get("customer") or {}).get("vat_number")) is not None:
            check_vat_number(number)
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
        whole = [one for one in own if not one.get("part_of")]
        if (page := fields.get("payment_request_uid")) is not None:
            if self.twin.store.get(PAGE, str(page), call.api_key) is None:
                raise Refusal("can-not-find-payment_request_uid")
            fits = [one for one in whole if one["page"] == page]
        elif (uid := fields.get("transaction_uid")) is not None:
            fits = [one for one in own if one["id"] == uid]
            if not fits:
                raise Refusal("can-not-find-transaction_uid")
        elif (text := fields.get("more_info")) is not None:
            fits = [one for one in whole if one["more_info"].get("more_info") == text]
        else:
            raise Refusal("missing-transaction_uid-or-payment_request_uid")
        if not fits:
            raise Refusal("can-not-find-transaction")
        return self._formed(call.api_key, self._shown(call, fits))

    def _shown(self, call: Call, fits: list[Json]) -> Json:
        """A transaction with what hangs on it: its parts, its refunds where they are known, the page's other tries."""
        data, twin = flat(fits[0]), self.twin
        refunds = [] if twin.acts(call.api_key, HIDDEN) else twin.refunds_of(fits[0])
        related = [flat(one) for one in [*twin.parts_of(fits[0]), *refunds, *fits[1:]]]
        if call.fields.get("related_transaction") or fits[0].get("in_parts"):
            data["related_transactions"] = related
        return data

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
        twin, fields = self.twin, call.fields
        charge = twin.store.get(TRANSACTION, str(fields.get("transaction_uid")), call.api_key)
        amount = amount_of(fields.get("amount"))
        if charge is None or charge["type"] != "Charge" or charge["status_code"] != "000":
            raise Refusal("can-not-find-transaction_uid")
        if charge.get("in_parts"):
            raise Refusal("can-not-refund-multiple-transaction", 422)
        if not 0 < amount <= twin.left_of(charge):
            raise Refusal("refund-amount-is-greater-than-transaction-amount")
        if code := twin.setting(call.api_key, "refund_status"):
            return {"transaction": {"uid": str(uuid.uuid4()), "number": "1", "status_code": code, "amount": amount}}
        named = fields.get("more_info")
        if twin.setting(call.api_key, "forgets_more_info") is not None:
            named = None
        document = fields.get("initial_invoice") is not False
        one = twin.refund(call.api_key, charge, amount, named, document=document)
        card = {"four_digits": one["four_digits"], "expiry_month": "05", "expiry_year": "26"}
        return {
            "transaction": {"uid": one["id"], "number": "100201", "status_code": "000", "amount": amount},
            "data": {"customer_uid": one["customer_uid"], "items": [], "card_information": card},
        }

    def charge(self, call: Call, _: str) -> Json:
        """POST Transactions/Charge by token. No idempotency key: every call charges again. `more_info` is not kept."""
        fields, twin = call.fields, self.twin
        for name in ("terminal_uid", "cashier_uid", "amount", "currency_code", "credit_terms", "use_token"):
            if fields.get(name) is None:
                raise Refusal(f"missing-{name}", 422)
        token = twin.store.get(CARD, str(fields.get("token")), call.api_key)
        if fields["use_token"] is not True or token is None:
            raise Refusal("can-not-find-token")
        if twin.acts(call.api_key, LOST) and fields.get("customer_uid"):
            raise Refusal("can-not-find-customer")
        if not twin.acts(call.api_key, LOST) and not fields.get("customer_uid") and not fields.get("customer"):
            raise Refusal("missing-customer_uid", 422)
        if twin.acts(call.api_key, MOVED) and fields.get("move_token") is not True:
            raise Refusal("can-not-find-card")
        if fields["currency_code"] not in CURRENCIES or amount_of(fields["amount"]) <= 0:
            raise Refusal("amount-is-not-valid", 422)
        one = twin.charge_token(call.api_key, call.secret_key, token, fields)
        transaction = {"uid": one["id"], "number": "100202", "status_code": one["status_code"]}
        beside = {"customer_uid": one["customer_uid"], "terminal_uid": "t-1"}
        return {"transaction": transaction | {"amount": amount_of(fields["amount"])}, "data": beside}

    def check_token(self, call: Call, token_uid: str) -> Json:
        """GET Token/Check/{uid}."""
        token = self.twin.store.get(CARD, token_uid, call.api_key)
        if token is None:
            raise Refusal("can-not-find-token")
        card = {"four_digits": token["card"][-4:], "expiry_month": "05", "expiry_year": "26"}
        return card | {"token_uid": token_uid, "customer_uid": token["customer"], "brand_name": "mastercard"}

    def remove_token(self, call: Call, token_uid: str) -> Response:
        """POST Token/Remove/{uid}: the one answer whose wrapper is `result`."""
        if self.twin.store.get(CARD, token_uid, call.api_key) is None:
            raise Refusal("can-not-find-token", 422)
        self.twin.store.remove(token_uid)
        said = {"status": "success", "code": 0, "description": "operation has been success"}
        return Response(dumps({"result": said, "data": {}}), media_type="application/json")

    def documents(self, call: Call, _: str) -> Response:
        """GET books/docs/list, newest first; its wrapper is of its own kind too."""
        fields = call.fields
        if not fields.get("take"):
            raise Refusal("take-is-missing", 422, bare=True)
        found = [
            listed(one)
            for one in self.twin.store.all(DOCUMENT, call.api_key)
            if fields.get("customer") in (None, one["customer"])
            and fields.get("types") in (None, "inv_refund")
            and str(fields.get("fromDate") or "") <= one["date"]
        ]
        body = {"status": "success", "details": {"items": found[: int(str(fields["take"]))]}}
        return Response(dumps(body), media_type="application/json")

    def view(self, call: Call, _: str) -> list[Json]:
        """POST Transactions/View: by `transaction_uid`, `more_info`, or the days of `fromDate` and `untilDate`."""
        uid, text = call.fields.get("transaction_uid"), call.fields.get("more_info")
        first, last = call.fields.get("fromDate"), call.fields.get("untilDate")
        hidden = self.twin.acts(call.api_key, HIDDEN)
        fits = [
            one
            for one in self.twin.store.all(TRANSACTION, call.api_key)
            if (
                (uid and one["id"] == uid)
                or (text and one["more_info"].get("more_info") == text)
                or (first and last and str(first) <= one["date"][:10] <= str(last))
            )
            and not (hidden and one["type"] == "Refund")
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
        if "unknown" in call.fields["payment_page_uid"]:
            raise Refusal("can-not-find-payment-page", 422, bare=True)
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
        raw, api_key = await request.body(), ""
        try:
            api_key, secret_key = authenticate(request.headers)
            fault = await self.faults.of(request, operation)
            await before_acting(fault)
            fields = fields_of(raw) if request.method == "POST" else dict(request.query_params)
            call = Call(api_key, secret_key, fields, raw, str(request.base_url).rstrip("/"))
            data = handler(call, thing_id)
            await after_acting(fault)
        except Refusal as refusal:
            return self._refused(api_key, refusal)
        except Trouble as trouble:
            answer = envelope("error", 1, "system-error", {}, trouble.status)
            answer.headers.update(trouble.headers)
            return answer
        return data if isinstance(data, Response) else envelope("success", 0, "operation has been success", data)

    def _refused(self, api_key: str, refusal: Refusal) -> Response:
        """In the envelope, or bare, as a text or as a JSON string."""
        status = refusal.status if refusal.status != 200 else 422
        if api_key and self.twin.acts(api_key, BARE_TEXT):
            return Response(refusal.description, status, media_type="text/html")
        if refusal.bare or (api_key and self.twin.acts(api_key, BARE_JSON)):
            return Response(dumps(refusal.description), status, media_type="application/json")
        return envelope("error", 1, refusal.description, {}, refusal.status)


ROUTES: tuple[tuple[str, str, str, str], ...] = (
    ("POST", "/PaymentPages/generateLink", "link", "payplus_link"),
    ("POST", "/PaymentPages/ipn", "ipn", "payplus_ipn"),
    ("POST", "/PaymentPages/ipn-full", "ipn", "payplus_ipn"),
    ("POST", "/PaymentPages/Disable/{thing_id}", "disable", "payplus_disable"),
    ("GET", "/PaymentPages/ChargeMethods", "methods", "payplus_methods"),
    ("POST", "/Transactions/Charge", "charge", "payplus_charge"),
    ("POST", "/Transactions/RefundByTransactionUID", "refund", "payplus_refund"),
    ("POST", "/Transactions/View", "view", "payplus_view"),
    ("GET", "/Token/Check/{thing_id}", "check_token", "payplus_token"),
    ("POST", "/Token/Remove/{thing_id}", "remove_token", "payplus_token"),
    ("GET", "/books/docs/list", "documents", "payplus_documents"),
)


def router(store: Store, courier: Courier, faults: FaultPlan) -> APIRouter:
    """Interface, pages and controls."""
    twin = PayPlusTwin(store, courier)
    api = PayPlusApi(twin, faults)
    routes = APIRouter()
    for method, path, operation, fault in ROUTES:
        routes.add_api_route(PREFIX + path, _endpoint(api, operation, fault), methods=[method])

    @routes.api_route(PREFIX + "/{_:path}", methods=["GET", "POST"])
    def unknown_endpoint(_: str) -> Response:
        return Response(status_code=403)

    routes.include_router(checkout_pages(twin))
    routes.include_router(controls(twin))
    return routes


def _endpoint(api: PayPlusApi, operation: str, fault: str) -> Callable[[Request], Awaitable[Response]]:
    handler: Handler = getattr(api, operation)

    async def endpoint(request: Request) -> Response:
        return await api.answer(request, fault, handler, request.path_params.get("thing_id", ""))

    return endpoint


TWIN = router

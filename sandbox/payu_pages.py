"""PayU's pages: WebCheckout, the bank's page of PSE and the voucher of a cash code."""

from __future__ import annotations

import secrets
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from sandbox.payu_api import CASH
from sandbox.payu_fields import MANDATORY, fault_of_form
from sandbox.payu_twin import COLOMBIA, PayuTwin, held
from sandbox.state import Json
from sandbox.variants import chosen

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


def add_checkout(routes: APIRouter, twin: PayuTwin) -> None:
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
        fault = fault_of_form(form, mandatory=chosen(twin.store, merchant["api_key"], MANDATORY))
        if fault is not None:
            return _page("payu.html", 400, fault=fault)
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
            target = returning(twin, order, form.get("responseUrl"))
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


def add_waiting_pages(routes: APIRouter, twin: PayuTwin) -> None:
    """The bank's page of PSE and the voucher of a cash code; both decide one transaction."""

    def view(order: Json, one: Json) -> Response:
        value, currency = held(order)
        state, extra = one["transactionResponse"]["state"], one["extraParameters"]
        cash = one["paymentMethod"] in CASH
        values = {
            "name": order["_description"],
            "amount": _readable(str(value), currency),
            "target": returning(twin, order, order["_response_url"]),
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


def returning(twin: PayuTwin, order: Json, url: str | None) -> str | None:
    """The merchant's page with PayU's parameters."""
    if not url or not order["transactions"]:
        return url
    return f"{url}{'&' if '?' in url else '?'}{twin.response_query(order, order['transactions'][-1])}"


def _readable(value: str, currency: str) -> str:
    try:
        return f"$ {Decimal(value):,.0f} {currency}"
    except InvalidOperation:
        return f"{value} {currency}"


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)

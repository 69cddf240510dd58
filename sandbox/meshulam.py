"""Meshulam (Grow): its form interface under /meshulam/api/light/server/1.0/, its payment page, and its controls.

Everything is answered with HTTP 200: `status` is 1 or 0, as a number or as text, and `err` is "", an object, or the
text "unknown method". Faults are planned by the method's name (createPaymentProcess, getPaymentProcessInfo,
getTransactionInfo, refundTransaction, approveTransaction, createTransactionWithToken,
getTokenTransactionsByExternalIdentifiers). A page code or user id that contains `invalid` is refused;
a page code that contains `bit` is a Bit page. Callbacks carry no signature, because Meshulam has none.

Controls, all JSON, under /sandbox/meshulam/processes: GET them all, and POST {id}/pay (`sum`, `encoding` form,
multipart or json), /decline, /expire, /suspend, /settle, /amount (`sum`), /refund (`sum`, as by hand), /age (`days`).
Under /sandbox/meshulam/cards: POST {token}/outcomes (`outcomes`) and {token}/complete (`paid`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel
from starlette.datastructures import FormData

from sandbox.courier import Courier
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.meshulam_api import MESSAGES, Fields, MeshulamApi, Refused
from sandbox.meshulam_books import CARD, CARDS, PAID, PROCESS, REQUEST, SUSPENDED, WORDS, MeshulamTwin, written
from sandbox.state import Json, Store

VARIANTS: dict[str, str] = {
    "placeholder": (
        "an unpaid process lists a transaction whose id and status are 0: one production integration; others skip "
        "unpaid entries"
    ),
    "regular_payments_only": "paymentNum and maxPaymentNum are refused with 740: Grow's page 'Errors'",
    "payment_num_required": "a charge of a saved card without paymentNum is refused with 54: probes of one integration",
    "no_balance": "a refund is refused with 115 until money has come: Grow's pages 'Errors' and 'Refund'",
    "charges_without_times": (
        "the charges of an identifier carry no times, and one at work is not listed: public clients, before Grow's "
        "changelog of November 2023"
    ),
}

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class Payment(BaseModel):
    """How a payer without a browser pays: another sum than asked for, and how the callback is written."""

    sum: str | None = None
    encoding: str = "form"


class Sum(BaseModel):
    """Major units; None for all that is left."""

    sum: str | None = None


class Outcomes(BaseModel):
    """Error ids, in order; 0 for success, -1 for a charge that is at work until it is completed.

    1031 to 1034 are error 103 with the texts for expired, stolen, blocked, and not approved.
    """

    outcomes: list[int]


class Completion(BaseModel):
    """How a charge at work ends: paid, or declined."""

    paid: bool = True


class Days(BaseModel):
    """How long ago the payment shall have been."""

    days: int = 1


def router(store: Store, courier: Courier, faults: FaultPlan) -> APIRouter:
    """The interface, the payment page and the controls."""
    twin = MeshulamTwin(store, courier)
    api = MeshulamApi(twin)
    routes = APIRouter()

    @routes.post("/meshulam/api/light/server/1.0/{method}")
    async def call(method: str, request: Request) -> Response:
        handler = api.methods.get(method)
        if handler is None:
            return JSONResponse({"err": "unknown method"})
        try:
            fault = await faults.of(request, method)
            await before_acting(fault)
            data = handler(await _form(request), str(request.base_url).rstrip("/"))
            await after_acting(fault)
        except Refused as refused:
            message = " ".join(part for part in (MESSAGES.get(refused.error_id, ""), refused.detail) if part)
            error = {"id": refused.error_id, "message": message}
            return JSONResponse({"status": "0" if refused.error_id % 2 else 0, "err": error, "data": ""})
        except Trouble as trouble:
            return JSONResponse({"err": "unavailable"}, trouble.status, headers=trouble.headers)
        return JSONResponse({"status": "1" if method.startswith("get") else 1, "err": "", "data": data})

    _add_pages(routes, twin)
    _add_controls(routes, twin)
    _add_card_controls(routes, twin)
    return routes


def _add_pages(routes: APIRouter, twin: MeshulamTwin) -> None:
    def found(page: str) -> Json | None:
        return next((one for one in twin.store.all(PROCESS) if one["page"] == page), None)

    def shown(process: Json, error: str | None = None) -> HTMLResponse:
        view = {
            "name": process["description"],
            "payer": process["fullName"],
            "amount": f"₪{Decimal(process['sum']):,.2f}",
            "action": f"/meshulam/pay/{process['page']}",
            "cards": list(CARDS),
            "error": error,
        }
        if twin.is_open(process):
            return _html("meshulam.html", 402 if error else 200, **view)
        paid = bool(process["transactions"])
        target = f"{process['successUrl']}{'&' if '?' in process['successUrl'] else '?'}response=success"
        return _html("done.html", 200 if paid else 410, paid=paid, target=target if paid else None, **view)

    @routes.get("/meshulam/pay/{page}")
    async def show(page: str) -> Response:
        process = found(page)
        return _html("missing.html", 404) if process is None else shown(process)

    @routes.post("/meshulam/pay/{page}")
    async def submit(page: str, card: Annotated[str, Form()] = "", outcome: Annotated[str, Form()] = "pay") -> Response:
        process = found(page)
        if process is None:
            return _html("missing.html", 404)
        if outcome == "close":
            return RedirectResponse(process["cancelUrl"], 303)
        if not twin.is_open(process):
            return shown(process)
        last4 = CARDS.get(re.sub(r"\D", "", card) or next(iter(CARDS)))
        if outcome != "pay" or last4 is None:
            return shown(process, "The card was declined. Try another one.")
        status = SUSPENDED if process.get("chargeType") == "3" else PAID
        twin.tell(process, twin.charge(process, status, last4=last4))
        return shown(process)


def _add_controls(routes: APIRouter, twin: MeshulamTwin) -> None:
    def found(process_id: str) -> Json:
        process = twin.process(process_id)
        if process is None:
            raise HTTPException(404, "no such process")
        return process

    def charge_of(process: Json) -> Json:
        if not process["transactions"]:
            raise HTTPException(409, "nothing was paid")
        charge: Json = process["transactions"][0]
        return charge

    @routes.get("/sandbox/meshulam/processes")
    async def processes(reference: str | None = None) -> list[Json]:
        """Newest first; `reference` is what was sent as cField1, with or without hyphens."""
        wanted = None if reference is None else reference.replace("-", "")
        known = twin.store.all(PROCESS)
        return [one for one in known if wanted in (None, str(one["customFields"].get("cField1", "")).replace("-", ""))]

    @routes.post("/sandbox/meshulam/processes/{process_id}/pay")
    async def pay(process_id: str, body: Payment) -> Json:
        process = found(process_id)
        if not twin.is_open(process):
            return {"outcome": "closed"}
        transaction = twin.charge(process, amount=body.sum)
        twin.tell(process, transaction, body.encoding)
        return {"outcome": "paid", "transactionId": transaction["transactionId"]}

    @routes.post("/sandbox/meshulam/processes/{process_id}/decline")
    async def decline(process_id: str) -> Json:
        """A declined card leaves no trace in the process, and the page stays open."""
        return {"outcome": "declined" if twin.is_open(found(process_id)) else "closed"}

    @routes.post("/sandbox/meshulam/processes/{process_id}/expire")
    async def expire(process_id: str) -> Json:
        process = found(process_id)
        process["expires"] = datetime.now(UTC).isoformat()
        twin.keep(process)
        return {"outcome": "expired"}

    @routes.post("/sandbox/meshulam/processes/{process_id}/suspend")
    async def suspend(process_id: str) -> Json:
        """A hold (J5): no money."""
        process = found(process_id)
        twin.tell(process, twin.charge(process, SUSPENDED))
        return {"outcome": "suspended"}

    @routes.post("/sandbox/meshulam/processes/{process_id}/settle")
    async def settle(process_id: str) -> Json:
        """The hold becomes money."""
        process = found(process_id)
        charge_of(process).update(status=WORDS[PAID], statusCode=str(PAID))
        twin.keep(process)
        twin.tell(process, charge_of(process))
        return {"outcome": "paid"}

    @routes.post("/sandbox/meshulam/processes/{process_id}/amount")
    async def change_amount(process_id: str, body: Sum) -> Json:
        """Let Meshulam hold another sum than was asked for, before or after the payment. It knows shekels only."""
        process = found(process_id)
        for thing in (process, *process["transactions"][:1]):
            thing["sum"] = body.sum
        twin.keep(process)
        return {"sum": body.sum}

    @routes.post("/sandbox/meshulam/processes/{process_id}/refund")
    async def refund(process_id: str, body: Sum) -> Json:
        """A refund by hand, in Grow's own pages."""
        process = found(process_id)
        charge = charge_of(process)
        return {"transactionId": twin.give_back_by_hand(process, charge, body.sum)["transactionId"]}

    @routes.post("/sandbox/meshulam/processes/{process_id}/age")
    async def age(process_id: str, body: Days) -> Json:
        """Let the payment have been some days ago: part of it cannot be refunded on its own day."""
        process = found(process_id)
        moment = datetime.now(UTC) - timedelta(days=body.days)
        charge_of(process).update(_paid_on=moment.date().isoformat(), paymentDate=written(moment))
        twin.keep(process)
        return {"days": body.days}


def _add_card_controls(routes: APIRouter, twin: MeshulamTwin) -> None:
    @routes.post("/sandbox/meshulam/cards/{token}/outcomes")
    async def plan_outcomes(token: str, body: Outcomes) -> Json:
        """What the next charges of a saved card do: error ids, 0 for success."""
        card = twin.store.get(CARD, f"{CARD}-{token}")
        if card is None:
            raise HTTPException(404, "no such card")
        twin.store.put(
            CARD, twin.store.owner_of(f"{CARD}-{token}"), card | {"outcomes": body.outcomes}, f"{CARD}-{token}"
        )
        return {"planned": len(body.outcomes)}

    @routes.post("/sandbox/meshulam/cards/{token}/complete")
    async def complete(token: str, body: Completion) -> Json:
        """Let the charges of a card that are at work end."""
        card = twin.store.get(CARD, f"{CARD}-{token}")
        at_work = [
            one
            for one in twin.store.all(REQUEST)
            if one["fields"]["cardToken"] == token and one["complete_time"] is None
        ]
        if card is None or not at_work:
            raise HTTPException(409, "no charge of this card is at work")
        for request in at_work:
            twin.complete(request, card["last4"] if body.paid else None)
        return {"completed": len(at_work)}


async def _form(request: Request) -> Fields:
    """Form fields, urlencoded or multipart; JSON is not understood, and then the sum is what is missing."""
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        form: FormData = await request.form()
        return {name: value.strip() for name, value in form.items() if isinstance(value, str)}
    if kind.startswith("application/x-www-form-urlencoded"):
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True)
        return {name: value.strip() for name, value in pairs}
    raise Refused(707)


def _html(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


TWIN = router

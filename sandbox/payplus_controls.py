"""PayPlus's payment pages, and the controls under `/sandbox/payplus`: payers, the merchant's desk, settings."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, HTTPException, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel

from sandbox.payplus_books import CARD, GOOD, PAGE, REJECTED, TRANSACTION, Part, PayPlusTwin, flat
from sandbox.state import Json

METHODS = (
    "credit-card",
    "bit",
    "google-pay",
    "apple-pay",
    "paypal",
    "multipass",
    "valuecard",
    "tav-zahav",
    "finitione",
    "praxell",
    "verifone",
)
FORMS = ("flat", "nested", "list")
SETTINGS = ("form", "callback_url", "forgets_more_info", "refund_status", "documents")
SYMBOLS = {"ILS": "₪", "USD": "$", "EUR": "€", "GBP": "£", "GPB": "£"}

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


def _render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


def checkout_pages(twin: PayPlusTwin) -> APIRouter:
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


class OnePart(BaseModel):
    """What one way pays of a page, in major units."""

    method: str
    amount: str
    card: str = GOOD


class InParts(BaseModel):
    """How a payer pays by several ways at once."""

    parts: list[OnePart]


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


def controls(twin: PayPlusTwin) -> APIRouter:
    """What tests, payers and the merchant do."""
    routes = APIRouter(prefix="/sandbox/payplus")

    @routes.get("/pages")
    async def pages(more_info: str) -> list[Json]:
        """Pages of a reference, without the merchant's secret."""
        own = [page for page in twin.store.all(PAGE) if page["fields"].get("more_info") == more_info]
        return [{name: page[name] for name in page if name != "secret"} for page in own]

    @routes.get("/pages/{page_uid}")
    async def page(page_uid: str) -> Json:
        """One page, without the merchant's secret."""
        found = _found(twin, PAGE, page_uid)
        return {name: found[name] for name in found if name != "secret"}

    @routes.get("/transactions")
    async def transactions(more_info: str) -> list[Json]:
        """Those of a reference, and the refunds of them."""
        every = twin.store.all(TRANSACTION)
        own = {one["id"] for one in every if more_info in one["more_info"].values()}
        return [one for one in every if one["id"] in own or one["of"] in own]

    @routes.post("/pages/{page_uid}/pay")
    async def pay(page_uid: str, body: Attempt) -> Json:
        """Pay, be declined (`approved` false) or only have the amount held (`kind` Approval)."""
        page = _found(twin, PAGE, page_uid)
        if twin.state_of(page) != "open":
            raise HTTPException(409, twin.state_of(page))
        one = twin.attempt(page, method=body.method, approved=body.approved, kind=body.kind, card=body.card)
        return {"transaction_uid": one["id"], "status": one["status"]}

    @routes.post("/pages/{page_uid}/split")
    async def split(page_uid: str, body: InParts) -> Json:
        """Pay by several ways: `parts` with `method`, `amount`, `card`."""
        parts = [Part(one.method, Decimal(one.amount), one.card) for one in body.parts]
        whole = twin.pay_in_parts(_found(twin, PAGE, page_uid), parts)
        return {"transaction_uid": whole["id"], "parts": [one["id"] for one in twin.parts_of(whole)]}

    @routes.post("/pages/{page_uid}/capture")
    async def capture(page_uid: str) -> Json:
        """Turn a hold into a charge, as the merchant does in the dashboard."""
        page = _found(twin, PAGE, page_uid)
        one = twin.attempt(page, method="credit-card", approved=True, card=GOOD)
        return {"transaction_uid": one["id"]}

    @routes.post("/pages/{page_uid}/expire")
    async def expire(page_uid: str) -> Json:
        return {"state": twin.close(_found(twin, PAGE, page_uid), "expired")["state"]}

    @routes.post("/pages/{page_uid}/held")
    async def hold_otherwise(page_uid: str, body: dict[str, Any]) -> Json:
        """Let PayPlus hold another `amount`, `currency` or `more_info` than was asked for."""
        page = _found(twin, PAGE, page_uid)
        changed = page | {name: body[name] for name in ("amount", "currency") if name in body}
        if "more_info" in body:
            changed["fields"] = page["fields"] | {"more_info": body["more_info"]}
        twin.store.put(PAGE, twin.store.owner_of(page_uid), changed)
        return {"amount": changed["amount"], "currency": changed["currency"]}

    @routes.post("/tokens/{token}/outcomes")
    async def plan_outcomes(token: str, body: Outcomes) -> Json:
        """What the next charges of a token do: codes, `000` for success."""
        known = _found(twin, CARD, token)
        twin.store.put(CARD, twin.store.owner_of(token), known | {"outcomes": list(body.outcomes)})
        return {"planned": len(body.outcomes)}

    _control_desk(routes, twin)
    return routes


def _found(twin: PayPlusTwin, kind: str, thing_id: str) -> Json:
    thing = twin.store.get(kind, thing_id)
    if thing is None:
        raise HTTPException(404, f"no such {kind}")
    return thing


def _control_desk(routes: APIRouter, twin: PayPlusTwin) -> None:
    @routes.post("/transactions/{uid}/refund")
    async def refund_by_hand(uid: str, body: Amount) -> Json:
        """What the merchant does in the dashboard: a refund without any reference of ours, of parts one by one."""
        charge, left = _found(twin, TRANSACTION, uid), Decimal(body.amount)
        if not 0 < left <= (most := twin.left_of(charge)):
            raise HTTPException(409, f"{most} is left to refund")
        made, owner = "", twin.store.owner_of(uid)
        for one in twin.parts_of(charge) or [charge]:
            if (piece := min(left, twin.left_of(one))) > 0:
                made, left = twin.refund(owner, one, piece, None, document=True)["id"], left - piece
        return {"transaction_uid": made}

    @routes.post("/transactions/{uid}/cancel")
    async def cancel_by_hand(uid: str) -> Json:
        """Same-day cancellation: the charge, or the refund, never reaches the bank."""
        one = _found(twin, TRANSACTION, uid) | {"cancelled": True}
        twin.store.put(TRANSACTION, twin.store.owner_of(uid), one)
        return {"transaction_uid": uid}

    @routes.post("/{name}")
    async def change_setting(name: str, body: Setting) -> Json:
        """`form` (flat, nested, list), `callback_url`, `forgets_more_info`, `refund_status` (a code, or '' again).

        `documents`: PayPlus issues a document for each refund that does not forbid it.
        """
        if name not in SETTINGS:
            raise HTTPException(404, "no such setting")
        if name == "form" and body.value not in FORMS:
            raise HTTPException(422, "no such form")
        twin.set(body.api_key, name, body.value)
        return {name: body.value}

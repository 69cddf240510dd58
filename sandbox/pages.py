"""What the payer sees: the hosted checkout, the 3DS challenge, and a stand-in for the merchant's own page.

`POST /c/pay/{session_id}` takes the form fields `card`, or `outcome` (pay, decline, insufficient, expired, challenge,
later, close); `POST /c/pay/{session_id}/challenge` takes `approve` (yes or no). `/pay/pi/{intent_id}` is the same for
direct mode and needs `client_secret`.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from sandbox.state import Json
from sandbox.stripe_methods import StripeVault
from sandbox.stripe_objects import CHALLENGE, GOOD, StripeTwin

CARDS = {
    "pay": GOOD,
    "decline": "4000000000000002",
    "insufficient": "4000000000009995",
    "expired": "4000000000000069",
    "challenge": CHALLENGE,
}
SYMBOLS = {"ils": "₪", "usd": "$", "eur": "€", "gbp": "£"}
ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


def shown_amount(minor: int, currency: str) -> str:
    """The wire's amount as a person reads it."""
    digits = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    number = f"{Decimal(minor).scaleb(-digits):,.{digits}f}"
    return f"{SYMBOLS[currency]}{number}" if currency in SYMBOLS else f"{number} {currency.upper()}"


def _page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


def router(twin: StripeTwin, vault: StripeVault) -> APIRouter:
    """The pages."""
    routes = APIRouter()

    def checkout(session: Json, error: str | None = None) -> HTMLResponse:
        twin.expire_if_due(session)
        view = {
            "name": session["_product"],
            "amount": _amount_of(session),
            "action": f"/c/pay/{session['id']}",
            "email": session.get("customer_email"),
            "error": error,
            "hosted": True,
        }
        if session["status"] == "open":
            return _page("checkout.html", 402 if error else 200, **view)
        paid = session["status"] == "complete"
        return _page(
            "done.html", 200 if paid else 410, paid=paid, target=_success_url(session) if paid else None, **view
        )

    def after(session: Json, outcome: str) -> Response:
        if outcome == "challenge":
            action = f"/c/pay/{session['id']}/challenge"
            return _page("challenge.html", action=action, amount=_amount_of(session), secret="")
        return checkout(session, None if outcome in ("paid", "later") else outcome)

    @routes.get("/c/pay/{session_id}")
    def show(session_id: str) -> Response:
        session = twin.store.get("checkout.session", session_id)
        return _page("missing.html", 404) if session is None else checkout(session)

    @routes.post("/c/pay/{session_id}")
    async def submit(
        session_id: str, card: Annotated[str, Form()] = "", outcome: Annotated[str, Form()] = "pay"
    ) -> Response:
        session = twin.store.get("checkout.session", session_id)
        if session is None:
            return _page("missing.html", 404)
        if outcome == "close":
            return RedirectResponse(session["cancel_url"] or f"/c/pay/{session_id}", 303)
        if outcome == "later":
            return after(session, twin.pay_session_later(session))
        number = card if outcome == "pay" and card else CARDS.get(outcome, GOOD)
        if session["mode"] == "setup":
            return after(session, vault.enter(session, number))
        return after(session, twin.pay_session(session, number))

    @routes.post("/c/pay/{session_id}/challenge")
    async def answer_challenge(session_id: str, approve: Annotated[str, Form()]) -> Response:
        session = twin.store.get("checkout.session", session_id)
        if session is None:
            return _page("missing.html", 404)
        if session["mode"] == "setup":
            entered = twin.must("setup_intent", session["setup_intent"]).get("_card", CHALLENGE)
            return after(session, vault.enter(session, entered, approved=approve == "yes"))
        return after(session, twin.pay_session(session, CHALLENGE, approved=approve == "yes"))

    @routes.get("/pay/authenticate/{intent_id}")
    def show_authentication(intent_id: str, client_secret: str = "") -> Response:
        intent = twin.store.get("payment_intent", intent_id)
        if intent is None or intent["client_secret"] != client_secret:
            return _page("missing.html", 404)
        if intent["status"] != "requires_action":
            return RedirectResponse(intent["_return_url"] or "/", 303)
        action, amount = f"/pay/authenticate/{intent_id}", shown_amount(intent["amount"], intent["currency"])
        return _page("challenge.html", action=action, amount=amount, secret=client_secret)

    @routes.post("/pay/authenticate/{intent_id}")
    async def authenticate(
        intent_id: str, client_secret: Annotated[str, Form()], approve: Annotated[str, Form()]
    ) -> Response:
        """The payer answers the bank about a saved method and goes back to the shop."""
        intent = twin.store.get("payment_intent", intent_id)
        if intent is None or intent["client_secret"] != client_secret:
            return _page("missing.html", 404)
        vault.authenticate(intent, approved=approve == "yes")
        return RedirectResponse(intent.get("_return_url") or "/", 303)

    @routes.get("/pay/pi/{intent_id}")
    def show_intent(intent_id: str, client_secret: str = "") -> Response:
        intent = twin.store.get("payment_intent", intent_id)
        if intent is None or intent["client_secret"] != client_secret:
            return _page("missing.html", 404)
        return _intent_page(intent, None)

    @routes.post("/pay/pi/{intent_id}")
    async def submit_intent(
        request: Request, intent_id: str, client_secret: Annotated[str, Form()], outcome: Annotated[str, Form()] = "pay"
    ) -> Response:
        intent = twin.store.get("payment_intent", intent_id)
        if intent is None or intent["client_secret"] != client_secret:
            return _page("missing.html", 404)
        form = await request.form()
        approve, card = form.get("approve"), str(form.get("card") or CARDS.get(outcome, GOOD))
        if approve is not None:
            card = CHALLENGE
        result = twin.confirm(intent, card, approved=None if approve is None else approve == "yes")
        if result == "challenge":
            amount = shown_amount(intent["amount"], intent["currency"])
            return _page("challenge.html", action=f"/pay/pi/{intent_id}", amount=amount, secret=client_secret)
        return _intent_page(intent, None if result == "paid" else result)

    return routes


def _amount_of(session: Json) -> str:
    """What a session takes; a set-up takes nothing."""
    return "nothing now" if session["mode"] == "setup" else shown_amount(session["amount_total"], session["currency"])


def _intent_page(intent: Json, error: str | None) -> HTMLResponse:
    view = {
        "name": intent.get("description") or "Payment",
        "amount": shown_amount(intent["amount"], intent["currency"]),
        "action": f"/pay/pi/{intent['id']}",
        "secret": intent["client_secret"],
        "error": error,
        "hosted": False,
    }
    if intent["status"] in ("succeeded", "canceled"):
        return _page("done.html", paid=intent["status"] == "succeeded", target=None, **view)
    return _page("checkout.html", 402 if error else 200, **view)


def _success_url(session: Json) -> str | None:
    url = session.get("success_url")
    return None if url is None else str(url).replace("{CHECKOUT_SESSION_ID}", session["id"])

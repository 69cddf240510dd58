"""Wompi's pages under /wompi/checkout, where payers are, and the sandbox's own controls of it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel

from sandbox.pages import shown_amount
from sandbox.state import Json, new_id
from sandbox.wompi_books import (
    CLOSED,
    EVENTS_URL,
    LINK,
    TRANSACTION,
    UNFINISHED,
    Merchant,
    Payment,
    WompiTwin,
    merchant_of,
    public,
    signature_of,
    wire_moment,
)

BANK_OUTCOMES = {"1": "APPROVED", "2": "DECLINED", "3": "ERROR"}
REFUSALS = {"DECLINED": "The payment was declined.", "ERROR": "The bank had an error."}

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class EventsUrl(BaseModel):
    """Where a merchant's events go."""

    public_key: str
    url: str


class Settlement(BaseModel):
    """What becomes of a pending transaction."""

    status: str = "APPROVED"


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


def add_pages(routes: APIRouter, checkouts: Checkouts) -> None:
    """The Web Checkout, payment links, and the bank of PSE."""

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


def add_controls(routes: APIRouter, twin: WompiTwin, checkouts: Checkouts) -> None:
    """What sandbox/wompi.py lists."""

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

    @routes.post("/sandbox/wompi/transactions/{transaction_id}/age")
    async def age(transaction_id: str, body: Json) -> Json:
        transaction = found(TRANSACTION, transaction_id)
        moments = {name: transaction[name] for name in ("created_at", "finalized_at") if transaction[name]}
        passed = timedelta(days=int(body["days"]))
        moved = {name: wire_moment(datetime.fromisoformat(moment) - passed) for name, moment in moments.items()}
        return public(twin.keep(transaction | moved))

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

"""Efecty's side of an agreement: a counter where a code is paid, signed confirmations, and the day's settlement file.

The network is told nothing beforehand, so any agreement and code is taken, as often as somebody pays. There is no
interface to call and therefore no operation of its own for faults; `webhooks` works on the confirmations.

Page: `GET /efecty?agreement=…&code=…&amount=…&expires=…`; its form posts to `/efecty` with `outcome` pay, late or
decline. Controls, all JSON, under /sandbox/efecty: `POST codes` (code, url, secret, scheme `hmac` or `payvalida`: where
one code's confirmations go), `POST pay` (agreement, code, amount, currency, late, silent), `POST tell` (agreement,
code, status: expired, cancelled, reversed, …), `GET payments?code=…`, `GET settlement-file?agreement=…`. Without an
address of its own a code's confirmations go to the addresses of /sandbox/webhook-endpoints whose `account_key` is the
agreement's number, and to those without one that have `efecty` in the path.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import re
import time
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, HTTPException, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel

from sandbox.courier import Courier
from sandbox.faults import FaultPlan
from sandbox.state import Json, Store
from sandbox.variants import chosen

SCHEME = "efecty"
VARIANTS = {
    "expired_unnamed": "Payválida's notification of an order that expired names no method (docs.payvalida.com)",
}
COLOMBIA = timezone(timedelta(hours=-5))
LATE = timedelta(minutes=10)
COLUMNS = ("agreement", "reference", "amount", "paid_at", "transaction_id", "status")

_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class Refused(ValueError):
    """The cashier shakes the head. The text says why."""


class Destination(BaseModel):
    """Where the confirmations of one code go."""

    code: str
    url: str
    secret: str
    scheme: Literal["hmac", "payvalida"] = "hmac"


class Cash(BaseModel):
    """Somebody pays. `silent`: the confirmation is lost, and only the settlement file tells."""

    agreement: str
    code: str
    amount: str
    currency: str = "COP"
    late: bool = False
    expires: str = ""
    silent: bool = False


class News(BaseModel):
    """A confirmation of something else than money."""

    agreement: str
    code: str
    status: str


def seal(secret: str, body: bytes) -> dict[str, str]:
    """The headers of a confirmation that is sent now."""
    at = str(int(time.time()))
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"x-efecty-timestamp": at, "x-efecty-signature": digest}


@dataclass(slots=True)
class Network:
    """What was paid, and who is told."""

    store: Store
    courier: Courier

    def pay(self, cash: Cash) -> Json:
        """Take the money, keep it for the settlement file, tell the company. Raises Refused."""
        amount = _amount(cash.amount)
        if not re.fullmatch(r"[0-9]{4,10}", cash.agreement):
            raise Refused("There is no such agreement.")
        if not re.fullmatch(r"[0-9]{4,20}", cash.code):
            raise Refused("A code has digits only.")
        number = f"{len(self.store.all('efecty_payment')) + 1:010d}"
        payment: Json = {
            "id": f"efecty-{number}",
            "agreement": cash.agreement,
            "reference": cash.code,
            "amount": f"{amount:f}",
            "currency": cash.currency,
            "paid_at": _paid_at(cash).isoformat(timespec="seconds"),
            "transaction_id": number,
            "status": "paid",
        }
        self.store.put("efecty_payment", cash.agreement, payment)
        if not cash.silent:
            self._tell(payment)
        return payment

    def tell(self, news: News) -> Json:
        """A confirmation without money. Where the code was paid it is about that payment."""
        paid = self.payments(news.code)
        told: Json = {
            "agreement": news.agreement,
            "reference": news.code,
            "amount": paid[0]["amount"] if paid else "0",
            "currency": "COP",
            "paid_at": datetime.now(COLOMBIA).isoformat(timespec="seconds"),
            "transaction_id": paid[0]["transaction_id"] if paid else None,
            "status": news.status,
        }
        self._tell(told)
        return told

    def payments(self, code: str | None = None, agreement: str | None = None) -> list[Json]:
        """Newest first."""
        all_of_them = self.store.all("efecty_payment", agreement)
        return [payment for payment in all_of_them if code in (None, payment["reference"])]

    def settlement_file(self, agreement: str) -> str:
        """The file of one agreement, oldest payment first."""
        text = io.StringIO()
        rows = csv.writer(text, delimiter=";", lineterminator="\r\n")
        rows.writerow(COLUMNS)
        for payment in reversed(self.payments(agreement=agreement)):
            rows.writerow(payment[name] for name in COLUMNS)
        return text.getvalue()

    def _tell(self, payment: Json) -> None:
        body = {name: value for name, value in payment.items() if name != "id"}
        for url, secret, scheme in self._destinations(payment):
            signed = scheme == "hmac"
            self.courier.send(
                owner=payment["agreement"],
                event_id=payment["transaction_id"] or f"{payment['reference']}-{payment['status']}",
                event_type=f"efecty.{payment['status']}",
                url=url,
                body=json.dumps(body if signed else self._payvalida(payment, secret)).encode(),
                scheme=SCHEME if signed else "",
                secret=secret,
            )

    def _payvalida(self, payment: Json, secret: str) -> Json:
        """The aggregator's notification; its checksum leaves the amount out. Its own number of the order is another."""
        status = "approved" if payment["status"] == "paid" else "cancelled"
        signed = f"{payment['reference']}{status}{secret}"
        body: Json = {
            "pv_po_id": zlib.crc32(payment["reference"].encode()),
            "po_id": payment["reference"],
            "status": status,
            "amount": payment["amount"],
            "iso_currency": payment["currency"],
            "pv_payment": "efecty",
            "pv_checksum": hashlib.sha256(signed.encode()).hexdigest(),
        }
        if status == "cancelled" and chosen(self.store, payment["agreement"], "expired_unnamed"):
            del body["pv_payment"]
        return body

    def _destinations(self, payment: Json) -> list[tuple[str, str, str]]:
        own = self.store.get("efecty_code", f"efecty-code-{payment['reference']}")
        if own is not None:
            return [(own["url"], own["secret"], own["scheme"])]
        return [
            (endpoint["url"], endpoint["secret"], "hmac")
            for endpoint in self.store.all("webhook_endpoint")
            if endpoint["account_key"] == payment["agreement"]
            or (endpoint["account_key"] is None and "efecty" in urlsplit(endpoint["url"]).path)
        ]


def router(store: Store, courier: Courier, faults: FaultPlan) -> APIRouter:  # noqa: ARG001  (nothing is called)
    """The counter and the controls."""
    network = Network(store, courier)
    courier.schemes[SCHEME] = seal
    routes = APIRouter()

    def counter(cash: Cash, status: int = 200, **values: str) -> HTMLResponse:
        paid = network.payments(cash.code, cash.agreement) if cash.code else []
        page = _pages.get_template("efecty.html").render(
            cash=cash, paid=paid, shown=_shown(cash.amount), until=_until(cash.expires), **values
        )
        return HTMLResponse(page, status)

    @routes.get("/efecty")
    def show(agreement: str = "", code: str = "", amount: str = "", expires: str = "") -> Response:
        return counter(Cash(agreement=agreement, code=code, amount=amount, expires=expires))

    @routes.post("/efecty")
    async def submit(
        agreement: Annotated[str, Form()] = "",
        code: Annotated[str, Form()] = "",
        amount: Annotated[str, Form()] = "",
        expires: Annotated[str, Form()] = "",
        outcome: Annotated[str, Form()] = "pay",
    ) -> Response:
        cash = Cash(agreement=agreement.strip(), code=code.strip(), amount=amount.strip(), expires=expires)
        if outcome == "decline":
            return counter(cash, error="The cashier did not take the money.")
        cash.late = outcome == "late"
        try:
            payment = network.pay(cash)
        except Refused as refused:
            return counter(cash, 422, error=str(refused))
        return counter(cash, done=f"{_shown(payment['amount'])} taken. Receipt {payment['transaction_id']}.")

    @routes.post("/sandbox/efecty/codes")
    async def send_to(body: Destination) -> Json:
        return store.put("efecty_code", body.code, body.model_dump() | {"id": f"efecty-code-{body.code}"})

    @routes.post("/sandbox/efecty/pay")
    async def pay(body: Cash) -> Json:
        try:
            return network.pay(body)
        except Refused as refused:
            raise HTTPException(422, str(refused)) from None

    @routes.post("/sandbox/efecty/tell")
    async def tell(body: News) -> Json:
        return network.tell(body)

    @routes.get("/sandbox/efecty/payments")
    async def payments(code: str | None = None, agreement: str | None = None) -> list[Json]:
        return network.payments(code, agreement)

    @routes.get("/sandbox/efecty/settlement-file")
    async def settlement_file(agreement: str) -> Response:
        name = "".join(character for character in agreement if character.isalnum())
        headers = {"content-disposition": f'attachment; filename="efecty-{name}.csv"'}
        return Response(network.settlement_file(agreement), media_type="text/csv; charset=utf-8", headers=headers)

    return routes


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise Refused("How much?") from None
    if not amount.is_finite() or not 0 < amount < 10**12:
        raise Refused("How much?")
    return amount


def _paid_at(cash: Cash) -> datetime:
    now = datetime.now(COLOMBIA)
    if not cash.late:
        return now
    try:
        expires = datetime.fromisoformat(cash.expires).astimezone(COLOMBIA)
    except ValueError:
        expires = now
    return max(expires, now) + LATE


def _until(expires: str) -> str:
    """A moment as the cashier's clock shows it; anything else as it is."""
    try:
        moment = datetime.fromisoformat(expires)
    except ValueError:
        return expires
    return (moment.astimezone(COLOMBIA) if moment.tzinfo else moment).strftime("%d %b %Y, %H:%M")


def _shown(amount: str) -> str:
    try:
        value = _amount(amount)
    except Refused:
        return "Cash"
    return f"${value:,.2f} COP" if value % 1 else f"${value:,.0f} COP"


TWIN = router

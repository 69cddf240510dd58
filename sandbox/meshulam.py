"""Meshulam (Grow): its form interface under /meshulam/api/light/server/1.0/, its payment page, and its controls.

Everything is answered with HTTP 200: `status` is 1 or 0, as a number or as text, and `err` is "", an object, or the
text "unknown method". Faults are planned by the method's name (createPaymentProcess, getPaymentProcessInfo,
getTransactionInfo, refundTransaction, approveTransaction, createTransactionWithToken,
getTokenTransactionsByExternalIdentifiers). A page code or user id that contains `invalid` is refused;
a page code that contains `bit` is a Bit page. Callbacks carry no signature, because Meshulam has none.

Controls, all JSON, under /sandbox/meshulam/processes: GET them all, and POST {id}/pay (`sum`, `encoding` form,
multipart or json), /decline, /expire, /suspend, /settle, /amount (`sum`), /refund (`sum`, as by hand), /age (`days`).
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import BaseModel
from starlette.datastructures import FormData

from sandbox.courier import Courier
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.state import Json, Store

PROCESS = "meshulam.process"
CARD = "meshulam.card"
LINK_LIFETIME = timedelta(minutes=10)
BIT_MAXIMUM = Decimal(3600)
CARDS = {"4580458045804580": "4580", "4580000000000000": "0000", "4580111111111121": "1121"}
BOUNDARY = "----sandbox-meshulam-7d1f"

PAID, REFUNDED, SUSPENDED, SAVED = 2, 3, 11, 1
WORDS = {PAID: "שולם", REFUNDED: "תשלום שזוכה", SUSPENDED: "עסקה מושהית", SAVED: "נשמר"}
MESSAGES = {
    54: "חסרים נתונים",
    105: "סכום הזיכוי גדול מסכום העסקה",
    130: "לא ניתן לבצע זיכוי חלקי ביום העסקה",
    210: "בוצע זיכוי לעסקה זו, לא ניתן לזכות בשנית.",
    271: "סכום מקסימלי לעסקת ביט",
    701: "userId או pageCode שגויים",
    707: "סכום לא תקין",
    712: "העסקה כבר בוצעה",
    716: "מזהה עסקה שגוי",
    722: "לא ניתן לבצע אישור לעסקה שלא בוצעה או בוטלה",
    723: "apiKey שגוי",
    730: "מזהה תהליך שגוי",
    731: "pageCode אינו תואם",
}

_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")
_MOBILE = re.compile(r"05[0-9]{8}")
_SPECIAL = re.compile(r"[<>&\"'%;{}|\\^`]")
_last_number = 0
_pages = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape(default=True)
)


class Refused(Exception):
    """An error answer, by its id."""

    def __init__(self, error_id: int, detail: str = "") -> None:
        super().__init__(detail)
        self.error_id = error_id
        self.detail = detail


class Payment(BaseModel):
    """How a payer without a browser pays: another sum than asked for, and how the callback is written."""

    sum: str | None = None
    encoding: str = "form"


class Sum(BaseModel):
    """Major units; None for all that is left."""

    sum: str | None = None


class Outcomes(BaseModel):
    """Error ids, in order; 0 for success."""

    outcomes: list[int]


class Days(BaseModel):
    """How long ago the payment shall have been."""

    days: int = 1


Fields = dict[str, str]


class MeshulamTwin:
    """Processes and their transactions."""

    def __init__(self, store: Store, courier: Courier) -> None:
        self.store = store
        self.courier = courier

    def process(self, process_id: str) -> Json | None:
        """By its id."""
        return self.store.get(PROCESS, f"{PROCESS}-{process_id}")

    def keep(self, process: Json) -> None:
        """Its new state."""
        self.store.put(PROCESS, process["pageCode"], process, f"{PROCESS}-{process['processId']}")

    def is_open(self, process: Json) -> bool:
        """Whether its page still takes a payment."""
        lives = datetime.fromisoformat(process["expires"]) > datetime.now(UTC)
        return lives and not process["transactions"]

    def charge(self, process: Json, status: int = PAID, amount: str | None = None, last4: str = "4580") -> Json:
        """A transaction of the payer's."""
        bit = "bit" in process["pageCode"].lower()
        transaction: Json = {
            "transactionId": _number(),
            "transactionToken": secrets.token_hex(16),
            "transactionTypeId": "6" if bit else "1",
            "paymentType": "2",
            "status": WORDS[status],
            "statusCode": str(status),
            "sum": amount or process["sum"],
            "firstPaymentSum": "0",
            "periodicalPaymentSum": "0",
            "paymentsNum": "0",
            "allPaymentsNum": "1",
            "paymentDate": _written(datetime.now(UTC)),
            "asmachta": f"{secrets.randbelow(10**7):07d}",
            "description": process["description"],
            "fullName": process["fullName"],
            "payerPhone": process["phone"],
            "payerEmail": process["email"],
            "cardSuffix": last4,
            "cardType": "Local",
            "cardTypeCode": "1",
            "cardBrand": "Visa",
            "cardBrandCode": "3",
            "cardExp": "0130",
            "_paid_on": datetime.now(UTC).date().isoformat(),
            "_approved": False,
        }
        if process.get("saveCardToken"):
            transaction["cardToken"] = self.save(process["userId"], last4)
        process["transactions"].append(transaction)
        self.keep(process)
        return transaction

    def save(self, owner: str, last4: str) -> str:
        """A card's token; what it does is planned by the controls."""
        token = secrets.token_hex(20)
        self.store.put(CARD, owner, {"token": token, "last4": last4, "outcomes": [], "used": []}, f"{CARD}-{token}")
        return token

    def tell(self, process: Json, transaction: Json, encoding: str = "form") -> None:
        """The server update."""
        if not process["notifyUrl"]:
            return
        data = _shown(transaction) | {"processId": process["processId"], "processToken": process["processToken"]}
        data["statusCode"] = f" {data['statusCode']}"  # as in the documentation's own example
        content_type, body = _written_update(data, process["customFields"], encoding)
        self.courier.send(
            owner=process["pageCode"],
            event_id=str(transaction["transactionId"]),
            event_type="server_update",
            url=process["notifyUrl"],
            body=body,
            content_type=content_type,
        )

    def give_back(self, process: Json, charge: Json, amount: Decimal) -> Json:
        """A credit, as a transaction of its own; a charge that is given back whole changes its status too."""
        credit = charge | {
            "transactionId": _number(),
            "transactionToken": secrets.token_hex(16),
            "refundedTransactionId": charge["transactionId"],
            "status": WORDS[REFUNDED],
            "statusCode": REFUNDED,
            "sum": f"{amount:f}",
            "paymentDate": _written(datetime.now(UTC)),
        }
        process["transactions"].append(credit)
        if self.left(process, charge) == 0:
            charge.update(status=WORDS[REFUNDED], statusCode=str(REFUNDED))
        self.keep(process)
        return credit

    def left(self, process: Json, charge: Json) -> Decimal:
        """What can still be given back."""
        credits_ = [one for one in process["transactions"] if one.get("refundedTransactionId")]
        return Decimal(charge["sum"]) - sum((Decimal(one["sum"]) for one in credits_), Decimal(0))

    def give_back_by_hand(self, process: Json, charge: Json, wanted: str | None) -> Json:
        """What the merchant does in Grow's own pages: so much, or all that is left."""
        left = self.left(process, charge)
        amount = left if wanted is None else Decimal(wanted)
        if not 0 < amount <= left:
            raise HTTPException(409, f"{left} is left to refund")
        return self.give_back(process, charge, amount)


class MeshulamApi:
    """The methods of the interface: from form fields to `data`."""

    def __init__(self, twin: MeshulamTwin) -> None:
        self.twin = twin
        self.methods: dict[str, Callable[[Fields, str], Any]] = {
            "createPaymentProcess": self.create,
            "getPaymentProcessInfo": self.info,
            "getTransactionInfo": self.transaction_info,
            "createTransactionWithToken": self.charge_token,
            "getTokenTransactionsByExternalIdentifiers": self.find_by_identifier,
            "refundTransaction": self.refund,
            "approveTransaction": self.approve,
        }

    def create(self, fields: Fields, base_url: str) -> Json:
        """A payment process and the address of its page."""
        _business(fields)
        _amount(fields.get("sum", ""))
        _need(fields, "description", "successUrl", "cancelUrl", "pageField[fullName]", "pageField[phone]")
        name, phone = fields["pageField[fullName]"], fields["pageField[phone]"]
        if len(name.split()) < 2 or not _MOBILE.fullmatch(phone):
            raise Refused(54, "pageField")
        if any(_SPECIAL.search(text) for text in (name, fields["description"])):
            raise Refused(54, "special characters")
        if "paymentNum" in fields and "maxPaymentNum" in fields:
            raise Refused(736)
        if "bit" in fields["pageCode"].lower() and Decimal(fields["sum"]) > BIT_MAXIMUM:
            raise Refused(271)
        process: Json = {
            "processId": _number(),
            "processToken": secrets.token_hex(16),
            "page": secrets.token_urlsafe(24),
            "userId": fields["userId"],
            "pageCode": fields["pageCode"],
            "sum": fields["sum"],
            "description": fields["description"],
            "fullName": name,
            "phone": phone,
            "email": fields.get("pageField[email]", ""),
            "successUrl": fields["successUrl"],
            "cancelUrl": fields["cancelUrl"],
            "notifyUrl": fields.get("notifyUrl", ""),
            "customFields": {one: fields[one] for one in (f"cField{index}" for index in range(1, 10)) if one in fields},
            "expires": (datetime.now(UTC) + LINK_LIFETIME).isoformat(),
            "transactions": [],
            "chargeType": fields.get("chargeType", "1"),
            "saveCardToken": fields.get("saveCardToken") == "1",
        }
        self.twin.keep(process)
        url = f"{base_url}/meshulam/pay/{process['page']}"
        return {"processId": int(process["processId"]), "processToken": process["processToken"], "url": url}

    def info(self, fields: Fields, _: str) -> Json:
        """A process and its transactions."""
        process = self._process(fields)
        return {
            "processId": process["processId"],
            "processToken": process["processToken"],
            "customFields": process["customFields"],
            "transactions": [_shown(one) for one in process["transactions"]],
        }

    def transaction_info(self, fields: Fields, _: str) -> Json:
        """One transaction."""
        return _shown(self._transaction(fields)[1])

    def charge_token(self, fields: Fields, _: str) -> Json:
        """Charge a saved card, at once and without a callback. An identifier that was used is refused."""
        _business(fields)
        amount = _amount(fields.get("sum", ""))
        _need(fields, "cardToken", "description", "paymentType", "paymentNum", "transactionUniqueIdentifier")
        card = self.twin.store.get(CARD, f"{CARD}-{fields['cardToken']}", fields["userId"])
        if card is None:
            raise Refused(1004)
        number = fields["transactionUniqueIdentifier"]
        if not re.fullmatch(r"[1-9][0-9]{0,9}", number) or int(number) > 2**31 - 1:
            raise Refused(1013)
        if number in card["used"]:
            raise Refused(1010)
        card["used"].append(number)
        outcome = card["outcomes"].pop(0) if card["outcomes"] else 0
        self.twin.store.put(CARD, fields["userId"], card, f"{CARD}-{card['token']}")
        if outcome:
            raise Refused(outcome)
        process: Json = {
            "processId": _number(),
            "processToken": secrets.token_hex(16),
            "page": secrets.token_urlsafe(24),
            "userId": fields["userId"],
            "pageCode": fields["pageCode"],
            "sum": f"{amount:f}",
            "description": fields["description"],
            "fullName": fields.get("pageField[fullName]", ""),
            "phone": fields.get("pageField[phone]", ""),
            "email": fields.get("pageField[email]", ""),
            "successUrl": "",
            "cancelUrl": "",
            "notifyUrl": "",
            "customFields": {"cField1": fields["cField1"]} if fields.get("cField1") else {},
            "expires": datetime.now(UTC).isoformat(),
            "transactions": [],
            "of": [card["token"], number],
        }
        return _shown(self.twin.charge(process, last4=card["last4"]))

    def find_by_identifier(self, fields: Fields, _: str) -> Json:
        """The charges of a saved card under one identifier."""
        _business(fields)
        _need(fields, "cardToken", "transactionUniqueIdentifier")
        wanted = [fields["cardToken"], fields["transactionUniqueIdentifier"]]
        found = [one for one in self.twin.store.all(PROCESS) if one.get("of") == wanted]
        return {
            "transactions": [
                _shown(one) | {"customFields": each["customFields"]} for each in found for one in each["transactions"]
            ]
        }

    def refund(self, fields: Fields, _: str) -> Json:
        """Give money back."""
        _business(fields)
        process, charge = self._transaction(fields)
        amount, left = _amount(fields.get("refundSum", "")), self.twin.left(process, charge)
        if charge["statusCode"] not in (str(PAID), str(REFUNDED)):
            raise Refused(722)
        if left == 0:
            raise Refused(210)
        if amount > left:
            raise Refused(105)
        if amount < Decimal(charge["sum"]) and charge["_paid_on"] == datetime.now(UTC).date().isoformat():
            raise Refused(130)
        return _shown(self.twin.give_back(process, charge, amount))

    def approve(self, fields: Fields, _: str) -> Json:
        """The acknowledgement; a second one is refused."""
        process, charge = self._transaction(fields)
        if charge["statusCode"] == str(SUSPENDED):
            raise Refused(722)
        if charge["_approved"]:
            raise Refused(712)
        charge["_approved"] = True
        self.twin.keep(process)
        return {}

    def _process(self, fields: Fields) -> Json:
        _page(fields)
        _need(fields, "processId", "processToken")
        process = self.twin.process(fields["processId"])
        if process is None or process["processToken"] != fields["processToken"]:
            raise Refused(730)
        if process["pageCode"] != fields["pageCode"]:
            raise Refused(731)
        return process

    def _transaction(self, fields: Fields) -> tuple[Json, Json]:
        _page(fields)
        _need(fields, "transactionId", "transactionToken")
        wanted = fields["transactionId"], fields["transactionToken"]
        for process in self.twin.store.all(PROCESS):
            for one in process["transactions"]:
                if (str(one["transactionId"]), one["transactionToken"]) == wanted:
                    if process["pageCode"] != fields["pageCode"]:
                        raise Refused(731)
                    return process, one
        raise Refused(716)


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
        status = SAVED if process.get("chargeType") == "3" else PAID
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
        charge_of(process).update(_paid_on=moment.date().isoformat(), paymentDate=_written(moment))
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


def _need(fields: Fields, *names: str) -> None:
    missing = [name for name in names if not fields.get(name)]
    if missing:
        raise Refused(54, ", ".join(missing))


def _page(fields: Fields) -> None:
    _need(fields, "pageCode")
    if "invalid" in fields["pageCode"]:
        raise Refused(701)
    if "invalid" in fields.get("apiKey", ""):
        raise Refused(723)


def _business(fields: Fields) -> None:
    _page(fields)
    _need(fields, "userId")
    if "invalid" in fields["userId"]:
        raise Refused(701)


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text) if _AMOUNT.fullmatch(text) else Decimal(0)
    except InvalidOperation:
        amount = Decimal(0)
    if amount <= 0:
        raise Refused(707)
    return amount


def _number() -> str:
    """Ids are numbers that grow."""
    global _last_number  # noqa: PLW0603  (one counter for the process, as the provider has one)
    _last_number = max(_last_number + 1, time.time_ns() // 1000)
    return str(_last_number)


def _written(moment: datetime) -> str:
    """dd/mm/yy, without leading zeros."""
    return f"{moment.day}/{moment.month}/{moment.year % 100:02d}"


def _shown(transaction: Json) -> Json:
    return {name: value for name, value in transaction.items() if not name.startswith("_")}


def _written_update(data: Json, custom: Json, encoding: str) -> tuple[str, bytes]:
    if encoding == "json":
        update = {"err": "", "status": "1", "data": data | {"customFields": custom}}
        return "application/json", json.dumps(update, ensure_ascii=False).encode()
    pairs = [("err", ""), ("status", "1")]
    pairs += [(f"data[{name}]", str(value)) for name, value in data.items()]
    pairs += [(f"data[customFields][{name}]", str(value)) for name, value in custom.items()]
    if encoding == "multipart":
        parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in pairs]
        return f"multipart/form-data; boundary={BOUNDARY}", ("".join(parts) + f"--{BOUNDARY}--\r\n").encode()
    return "application/x-www-form-urlencoded", urlencode(pairs).encode()


def _html(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_pages.get_template(template).render(**values), status)


TWIN = router

"""The methods of the sandbox's Meshulam: from form fields to an answer's `data`, or to an error id."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from sandbox.faults import Trouble
from sandbox.meshulam_books import CARD, LINK_LIFETIME, PAID, PROCESS, REFUNDED, SUSPENDED, MeshulamTwin, number, shown
from sandbox.state import Json

BIT_MAXIMUM = Decimal(3600)
MESSAGES = {
    10: "זיכוי עסקה נכשל",
    54: "חסרים נתונים",
    105: "סכום הזיכוי גדול מסכום העסקה",
    115: "אין יתרה לביצוע הזיכוי",
    130: "לא ניתן לבצע זיכוי חלקי ביום העסקה",
    140: "טוקן שגוי",
    210: "בוצע זיכוי לעסקה זו, לא ניתן לזכות בשנית.",
    271: "סכום מקסימלי לעסקת ביט",
    701: "userId או pageCode שגויים",
    707: "סכום לא תקין",
    712: "העסקה כבר בוצעה",
    716: "מזהה עסקה שגוי",
    717: "לא נשלחו שם וטלפון תקינים",
    722: "לא ניתן לבצע אישור לעסקה שלא בוצעה או בוטלה",
    723: "apiKey שגוי",
    730: "מזהה תהליך שגוי",
    731: "pageCode אינו תואם",
    740: "החשבון לתשלום רגיל בלבד",
    451: "כרטיס האשראי אינו פעיל",
    452: "חברת האשראי חסמה את הכרטיס",
    453: "חסימת מערכת",
    819: "נסה בשלב מאוחר יותר",
}

_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?")
_MOBILE = re.compile(r"05[0-9]{8}")
_SPECIAL = re.compile(r"[<>&\"'%;{}|\\^`]")

Fields = dict[str, str]
MOST_REFUNDS = 2
"""By call, for each transaction."""
DECLINES = {
    1031: (103, "כרטיס פג תוקף"),
    1032: (103, "כרטיס גנוב"),
    1033: (103, "כרטיס חסום"),
    1034: (103, "חברת האשראי לא אשרה את העסקה"),
}
"""Outcomes that Grow answers with one error id, told apart by their text alone."""
AT_WORK = -1
"""The outcome of a charge whose end nobody knows until it is completed by the controls."""


class Refused(Exception):
    """An error answer, by its id."""

    def __init__(self, error_id: int, detail: str = "") -> None:
        super().__init__(detail)
        self.error_id = error_id
        self.detail = detail


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
        _need(fields, "description", "successUrl", "cancelUrl")
        name, phone = _named(fields)
        if any(_SPECIAL.search(text) for text in (name, fields["description"])):
            raise Refused(54, "special characters")
        if "paymentNum" in fields and "maxPaymentNum" in fields:
            raise Refused(736)
        self._check_count(fields)
        if "bit" in fields["pageCode"].lower() and Decimal(fields["sum"]) > BIT_MAXIMUM:
            raise Refused(271)
        process: Json = {
            "processId": number(),
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
        transactions = [shown(one) for one in process["transactions"]]
        if not transactions and self.twin.behaves(fields["pageCode"], "placeholder"):
            transactions = [{"transactionId": "0", "transactionToken": "", "statusCode": "0", "status": "", "sum": "0"}]
        return {
            "processId": process["processId"],
            "processToken": process["processToken"],
            "customField": process["customFields"] or [],
            "transactions": transactions,
        }

    def transaction_info(self, fields: Fields, _: str) -> Json:
        """One transaction."""
        return shown(self._transaction(fields)[1])

    def _check_count(self, fields: Fields) -> None:
        """Some accounts take no number of payments, others insist on it for a charge of a saved card."""
        counted = [name for name in ("paymentNum", "maxPaymentNum") if name in fields]
        if counted and self.twin.behaves(fields["pageCode"], "regular_payments_only"):
            raise Refused(740)
        if not counted and "cardToken" in fields and self.twin.behaves(fields["pageCode"], "payment_num_required"):
            raise Refused(54, "paymentNum")

    def charge_token(self, fields: Fields, _: str) -> Json:
        """Charge a saved card, at once and without a callback. An identifier that was used is refused."""
        _business(fields)
        fields = fields | {"sum": f"{_amount(fields.get('sum', '')):f}"}
        _need(fields, "cardToken", "description", "paymentType", "transactionUniqueIdentifier")
        _named(fields)
        card = self.twin.store.get(CARD, f"{CARD}-{fields['cardToken']}", fields["userId"])
        if card is None:
            raise Refused(140)
        self._check_count(fields)
        unique = fields["transactionUniqueIdentifier"]
        if not re.fullmatch(r"[1-9][0-9]{0,9}", unique) or int(unique) > 2**31 - 1:
            raise Refused(1013)
        if self.twin.request(fields["userId"], unique) is not None:
            raise Refused(1010)
        request = self.twin.receive(fields)
        outcome = card["outcomes"].pop(0) if card["outcomes"] else 0
        self.twin.store.put(CARD, fields["userId"], card, f"{CARD}-{card['token']}")
        if outcome == AT_WORK:
            raise Trouble(504)  # nobody hears of it until its time is up
        made = self.twin.complete(request, None if outcome else card["last4"])
        if made is None:
            raise Refused(*DECLINES.get(outcome, (outcome,)))
        return shown(made)

    def find_by_identifier(self, fields: Fields, _: str) -> Json:
        """What was asked for under one identifier; a request without a transaction shows its times alone."""
        _business(fields)
        _need(fields, "cardToken", "transactionUniqueIdentifier")
        request = self.twin.request(fields["userId"], fields["transactionUniqueIdentifier"])
        if request is None or request["fields"]["cardToken"] != fields["cardToken"]:
            return {"processId": "", "processToken": "", "customField": [], "transactions": []}
        times = {name: request[name] for name in ("received_time", "complete_time")}
        process = self.twin.process(request["processId"] or "")
        if self.twin.behaves(fields["pageCode"], "charges_without_times"):
            times = {}
        made = [] if process is None else [shown(one) | times for one in process["transactions"]]
        named = {} if process is None else {"customFields": process["customFields"]}
        return {
            "processId": request["processId"] or "",
            "processToken": "" if process is None else process["processToken"],
            "customField": [],
            "transactions": [one | named for one in made] or ([times] if times else []),
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
        if self.twin.behaves(fields["pageCode"], "no_balance"):
            raise Refused(115)
        if charge.get("_refunds", 0) >= MOST_REFUNDS:
            raise Refused(10)
        charge["_refunds"] = charge.get("_refunds", 0) + 1
        return shown(self.twin.give_back(process, charge, amount))

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


def _need(fields: Fields, *names: str) -> None:
    missing = [name for name in names if not fields.get(name)]
    if missing:
        raise Refused(54, ", ".join(missing))


def _named(fields: Fields) -> tuple[str, str]:
    """Who pays: at least two names, and an Israeli mobile number."""
    name, phone = fields.get("pageField[fullName]", ""), fields.get("pageField[phone]", "")
    if len(name.split()) < 2 or not _MOBILE.fullmatch(phone):
        raise Refused(717)
    return name, phone


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

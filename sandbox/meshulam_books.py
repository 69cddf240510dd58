"""What the sandbox's Meshulam holds: processes and their transactions, saved cards, and the requests to charge them."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode

from fastapi import HTTPException

from sandbox import variants
from sandbox.courier import Courier
from sandbox.state import Json, Store

PROCESS = "meshulam.process"
CARD = "meshulam.card"
REQUEST = "meshulam.request"
LINK_LIFETIME = timedelta(minutes=10)
CARDS = {"4580458045804580": "4580", "4580000000000000": "0000", "4580111111111121": "1121"}
BOUNDARY = "----sandbox-meshulam-7d1f"

PAID, REFUNDED, SUSPENDED = 2, 3, 11
_last_number = 0
WORDS = {PAID: "שולם", REFUNDED: "תשלום שזוכה", SUSPENDED: "עסקה מושהית"}


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

    def behaves(self, page_code: str, name: str) -> bool:
        """Whether this account answers in this variant."""
        return variants.chosen(self.store, page_code, name)

    def charge(self, process: Json, status: int = PAID, amount: str | None = None, last4: str = "4580") -> Json:
        """A transaction of the payer's."""
        bit = "bit" in process["pageCode"].lower()
        transaction: Json = {
            "transactionId": number(),
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
            "paymentDate": written(datetime.now(UTC)),
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
        self.store.put(CARD, owner, {"token": token, "last4": last4, "outcomes": []}, f"{CARD}-{token}")
        return token

    def request(self, owner: str, unique: str) -> Json | None:
        """A request to charge a card, by the identifier that it has among all of a business."""
        return self.store.get(REQUEST, f"{REQUEST}-{owner}-{unique}")

    def receive(self, fields: dict[str, str]) -> Json:
        """Put a request to charge a card on record: from here on its identifier is used, whatever becomes of it."""
        unique = fields["transactionUniqueIdentifier"]
        made: Json = {"fields": fields, "received_time": _moment(), "complete_time": None, "processId": None}
        return self.store.put(REQUEST, fields["userId"], made, f"{REQUEST}-{fields['userId']}-{unique}")

    def complete(self, request: Json, last4: str | None) -> Json | None:
        """End a request: with a transaction of the card with these digits, or with none, as a declined one ends."""
        fields, made = request["fields"], None
        if last4 is not None:
            process: Json = {
                "processId": number(),
                "processToken": secrets.token_hex(16),
                "page": secrets.token_urlsafe(24),
                "userId": fields["userId"],
                "pageCode": fields["pageCode"],
                "sum": fields["sum"],
                "description": fields["description"],
                "fullName": fields["pageField[fullName]"],
                "phone": fields["pageField[phone]"],
                "email": fields.get("pageField[email]", ""),
                "successUrl": "",
                "cancelUrl": "",
                "notifyUrl": "",
                "customFields": {"cField1": fields["cField1"]} if fields.get("cField1") else {},
                "expires": datetime.now(UTC).isoformat(),
                "transactions": [],
            }
            made = self.charge(process, last4=last4)
            request["processId"] = process["processId"]
        request["complete_time"] = _moment()
        unique = fields["transactionUniqueIdentifier"]
        self.store.put(REQUEST, fields["userId"], request, f"{REQUEST}-{fields['userId']}-{unique}")
        return made

    def tell(self, process: Json, transaction: Json, encoding: str = "form") -> None:
        """The server update."""
        if not process["notifyUrl"]:
            return
        data = shown(transaction) | {"processId": process["processId"], "processToken": process["processToken"]}
        data["statusCode"] = f" {data['statusCode']}"  # as in the documentation's own example
        content_type, body = _update(data, process["customFields"], encoding)
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
            "transactionId": number(),
            "transactionToken": secrets.token_hex(16),
            "refundedTransactionId": charge["transactionId"],
            "status": WORDS[REFUNDED],
            "statusCode": REFUNDED,
            "sum": f"{amount:f}",
            "paymentDate": written(datetime.now(UTC)),
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


def number() -> str:
    """Ids are numbers that grow."""
    global _last_number  # noqa: PLW0603  (one counter for the process, as the provider has one)
    _last_number = max(_last_number + 1, time.time_ns() // 1000)
    return str(_last_number)


def _moment() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def written(moment: datetime) -> str:
    """dd/mm/yy, without leading zeros."""
    return f"{moment.day}/{moment.month}/{moment.year % 100:02d}"


def shown(transaction: Json) -> Json:
    """As an answer shows it."""
    return {name: value for name, value in transaction.items() if not name.startswith("_")}


def _update(data: Json, custom: Json, encoding: str) -> tuple[str, bytes]:
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

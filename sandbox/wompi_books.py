"""What Wompi keeps and does, whoever asks: merchants, transactions and the events about them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel

from sandbox.courier import Courier
from sandbox.state import Json, Store, new_id

TRANSACTION, LINK, EVENTS_URL, CLOSED, TOKEN = (
    "wompi.transaction",
    "wompi.link",
    "wompi.events_url",
    "wompi.closed",
    "wompi.token",
)
SCHEME = "wompi"
CARDS = {"4242424242424242": "APPROVED", "4111111111111111": "DECLINED"}
OUTCOMES = {"decline": "DECLINED", "error": "ERROR", "later": "PENDING"}
PHONE_ANSWERS_SECONDS = 0.2
UNFINISHED = ("PENDING",)

_KEY = re.compile(r"(pub|prv)_(test|prod)_([A-Za-z0-9_-]{1,128})")


@dataclass(frozen=True, slots=True)
class Merchant:
    """Who a key belongs to."""

    suffix: str
    environment: str

    @property
    def owner(self) -> str:
        """The public key."""
        return f"pub_{self.environment}_{self.suffix}"

    @property
    def events_secret(self) -> str:
        """What this merchant's events are signed with."""
        return f"{self.environment}_events_{self.suffix}"

    @property
    def integrity_secret(self) -> str:
        """What this merchant signs its requests with."""
        return f"{self.environment}_integrity_{self.suffix}"


class Payment(BaseModel):
    """What a payer without a browser does at a page or link."""

    url: str
    outcome: str = "pay"
    method: str = "CARD"
    card: str = "4242424242424242"


def merchant_of(key: str, kinds: str = "pub prv") -> Merchant | None:
    """Whose key this is; None for what Wompi would not know."""
    match = _KEY.fullmatch(key)
    if match is None or match.group(1) not in kinds.split() or "invalid" in key:
        return None
    return Merchant(match.group(3), match.group(2))


def public(thing: Json) -> Json:
    """Without what only the sandbox knows."""
    return {name: value for name, value in thing.items() if not name.startswith("_")}


def signature_of(reference: str, amount: object, currency: str, expiration: str, merchant: Merchant) -> str:
    """The integrity signature that Wompi expects."""
    text = f"{reference}{amount}{currency}{expiration}{merchant.integrity_secret}"
    return hashlib.sha256(text.encode()).hexdigest()


def now_text() -> str:
    """Now, as Wompi writes it."""
    return wire_moment(datetime.now(UTC))


def wire_moment(moment: datetime) -> str:
    """A moment, as Wompi writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class WompiTwin:
    """What Wompi keeps and does."""

    def __init__(self, store: Store, courier: Courier) -> None:
        self.store = store
        self.courier = courier
        self._tasks: set[asyncio.Task[None]] = set()
        courier.schemes[SCHEME] = lambda _, body: {"X-Event-Checksum": json.loads(body)["signature"]["checksum"]}

    def of_reference(self, owner: str, reference: str) -> list[Json]:
        """A merchant's transactions of one reference, newest first."""
        return [one for one in self.store.all(TRANSACTION, owner) if one["reference"] == reference]

    def create(self, merchant: Merchant, values: Json) -> Json:
        """A new transaction, which is always pending."""
        seconds = datetime.now(UTC).timestamp()
        number = int(hashlib.sha256(merchant.owner.encode()).hexdigest()[:6], 16)
        transaction: Json = {
            "id": f"{number}-{int(seconds)}-{new_id('t')[-8:]}",
            "created_at": now_text(),
            "finalized_at": None,
            "status": "PENDING",
            "status_message": None,
            "shipping_address": None,
            "payment_link_id": None,
            "payment_source_id": None,
            "redirect_url": None,
            "customer_email": "payer@example.com",
            "_environment": merchant.environment,
            "_suffix": merchant.suffix,
            "_looks": 0,
            "_link": None,
        } | values
        self.store.put(TRANSACTION, merchant.owner, transaction)
        return transaction

    def settle(self, transaction: Json, status: str) -> Json:
        """Give a transaction its end, and tell the merchant."""
        final = {"status": status, "finalized_at": now_text(), "status_message": None}
        settled = self.keep(transaction | final)
        self.tell(settled)
        return settled

    def keep(self, transaction: Json) -> Json:
        """Keep a transaction's new state."""
        return self.store.put(TRANSACTION, self.store.owner_of(transaction["id"]), transaction)

    def settle_soon(self, transaction: Json, status: str) -> None:
        """The payer answers in the app a moment later."""
        task = asyncio.get_running_loop().create_task(self._settle_later(transaction["id"], status))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_later(self, transaction_id: str, status: str) -> None:
        await asyncio.sleep(PHONE_ANSWERS_SECONDS)
        transaction = self.store.get(TRANSACTION, transaction_id)
        if transaction is not None and transaction["status"] in UNFINISHED:
            self.settle(transaction, status)

    def tell(self, transaction: Json) -> None:
        """Send the event of a transaction to every address that its merchant gave."""
        merchant = Merchant(transaction["_suffix"], transaction["_environment"])
        body = event_of(transaction, merchant)
        event_id = new_id("wompi_event")
        urls = {place["url"] for place in self.store.all(EVENTS_URL, merchant.owner)}
        urls |= {place["url"] for place in self.store.all("webhook_endpoint") if place["account_key"] == merchant.owner}
        for url in sorted(urls):
            self.courier.send(
                owner=merchant.owner,
                event_id=event_id,
                event_type="transaction.updated",
                url=url,
                body=body,
                content_type="application/json",
                scheme=SCHEME,
            )

    def pay(self, merchant: Merchant, way: Json, payment: Payment) -> Json:
        """What a payer does at a page or link; `way` is what the transaction will have of it."""
        method: Json = {"type": payment.method}
        status = OUTCOMES.get(payment.outcome, "APPROVED")
        if payment.method == "CARD":
            number = re.sub(r"\D", "", payment.card)
            method["extra"] = {"brand": "VISA", "last_four": number[-4:], "name": f"VISA-{number[-4:]}"}
            status = CARDS.get(number, "ERROR") if payment.outcome == "pay" else status
        values = way | {"payment_method_type": payment.method, "payment_method": method, "currency": "COP"}
        transaction = self.create(merchant, values)
        return transaction if status in UNFINISHED else self.settle(transaction, status)


def event_of(transaction: Json, merchant: Merchant) -> bytes:
    """A transaction's event, signed with the merchant's events secret. It does not name the payment link."""
    properties = ["transaction.id", "transaction.status", "transaction.amount_in_cents"]
    moment = datetime.now(UTC)
    values = "".join(str(transaction[path.split(".")[1]]) for path in properties)
    signed = f"{values}{int(moment.timestamp())}{merchant.events_secret}"
    event = {
        "event": "transaction.updated",
        "data": {"transaction": public(transaction) | {"payment_link_id": None}},
        "environment": merchant.environment,
        "signature": {"properties": properties, "checksum": hashlib.sha256(signed.encode()).hexdigest().upper()},
        "timestamp": int(moment.timestamp()),
        "sent_at": now_text(),
    }
    return json.dumps(event, ensure_ascii=False).encode()

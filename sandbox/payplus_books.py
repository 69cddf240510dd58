"""What PayPlus keeps: pages, transactions with parts and refunds, cards behind tokens, documents; and its shapes."""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sandbox import variants
from sandbox.courier import Courier
from sandbox.payplus_wire import Call, dumps, minutes_of, seal, seal_value, spread
from sandbox.state import Json, Store

SCHEME, VALUE_SCHEME = "payplus", "payplus.value"
GOOD, REJECTED = "5326140280779844", "5326140200010120"
CARDS = ("credit-card", "google-pay", "apple-pay")
"""Methods by which a card pays; the others have names of their own in `alternative_method_name`."""
PRIVATE = ("amount", "items", "customer")
"""Fields of a page that are kept apart or not at all."""
PAGE, TRANSACTION, SETTING = "payplus.page", "payplus.transaction", "payplus.setting"
CARD, DOCUMENT = "payplus.card", "payplus.document"
ISRAEL = ZoneInfo("Asia/Jerusalem")

BARE_TEXT, BARE_JSON = "bare-text", "bare-json"
SPLIT, COMBINED, HIDDEN = "split-payments", "combined-payments", "hidden-refunds"
MOVED, LOST, SILENT, OTHER_BYTES = "moved-tokens", "lost-customers", "silent-charges", "other-bytes"


@dataclass(frozen=True, slots=True)
class Part:
    """What one way pays of a page."""

    method: str
    amount: Decimal
    card: str = GOOD


@dataclass(slots=True)
class PayPlusTwin:
    """Pages and transactions, and what happens to them."""

    store: Store
    courier: Courier

    def __post_init__(self) -> None:
        """Teach the courier PayPlus's signature."""
        self.courier.schemes |= {SCHEME: seal, VALUE_SCHEME: seal_value}

    def acts(self, owner: str, variant: str) -> bool:
        """Whether this account answers in a variant."""
        return variants.chosen(self.store, owner, variant)

    def make_page(self, call: Call) -> Json:
        """A page; an identical request finds the open one again."""
        fields = call.fields
        digest = hashlib.sha256(call.raw).hexdigest()
        for known in self.store.all(PAGE, call.api_key):
            if known["digest"] == digest and self.state_of(known) == "open":
                return known
        minutes = minutes_of(fields.get("expiry_datetime"))
        email = (fields.get("customer") or {}).get("email")
        page: Json = {
            "id": str(uuid.uuid4()),
            "digest": digest,
            "secret": call.secret_key,
            "amount": str(fields["amount"]),
            "currency": fields["currency_code"],
            "state": "open",
            "expires_at": time.time() + minutes * 60,
            "name": (fields.get("items") or [{}])[0].get("name") or "Payment",
            "email": email,
            "customer": f"customer-{hashlib.sha256(str(email).encode()).hexdigest()[:12]}",
            "fields": json.loads(dumps({name: fields[name] for name in fields if name not in PRIVATE})),
            "base_url": call.base_url,
        }
        return self.store.put(PAGE, call.api_key, page)

    def state_of(self, page: Json) -> str:
        """Open, disabled, expired or paid."""
        if page["state"] == "open" and page["expires_at"] < time.time():
            return "expired"
        return str(page["state"])

    def close(self, page: Json, state: str) -> Json:
        """Let nobody pay there any more."""
        return self.store.put(PAGE, self.store.owner_of(page["id"]), page | {"state": state})

    def attempt(self, page: Json, *, method: str, approved: bool, kind: str = "Charge", card: str = "") -> Json:
        """A try to pay at an open page, in two parts where the account is so. Answers the transaction."""
        owner = self.store.owner_of(page["id"])
        gift = (Decimal(page["amount"]) * Decimal("0.25")).quantize(Decimal("0.01"))
        splits = self.acts(owner, SPLIT) or self.acts(owner, COMBINED)
        if splits and approved and kind == "Charge" and method == "credit-card" and gift > 0:
            rest = Decimal(page["amount"]) - gift
            return self.pay_in_parts(page, [Part("multipass", gift), Part("credit-card", rest, card)])
        fields = page["fields"]
        one = self._transaction(page, method=method, approved=approved, kind=kind, card=card)
        if approved and method in ("credit-card", "google-pay") and (kind == "Token" or fields.get("create_token")):
            one |= {"token_uid": self.token_for(owner, card), "customer_uid": f"customer-{card[-4:]}"}
        self.store.put(TRANSACTION, owner, one)
        if approved:
            self.close(page, "paid")
        if approved or fields.get("send_failure_callback"):
            self.call_back(owner, one, page)
        return one

    def pay_in_parts(self, page: Json, parts: Sequence[Part]) -> Json:
        """Pay a page by several ways at once: one transaction of the total, and a part of it for each."""
        owner, fields = self.store.owner_of(page["id"]), page["fields"]
        flagged = not self.acts(owner, COMBINED)
        whole = self._transaction(page, method=parts[0].method, approved=True, kind="Charge", card="")
        whole |= {"four_digits": "", "brand_name": "", "in_parts": True, "flagged": flagged}
        made = []
        for part in parts:
            one = self._transaction(page, method=part.method, approved=True, kind="Charge", card=part.card)
            one |= {"amount": str(part.amount), "part_of": whole["id"]}
            if part.method == "credit-card" and fields.get("create_token"):
                one |= {"token_uid": self.token_for(owner, part.card), "customer_uid": f"customer-{part.card[-4:]}"}
            made.append(self.store.put(TRANSACTION, owner, one))
        tokens = {name: one[name] for one in made for name in ("token_uid", "customer_uid") if one.get("token_uid")}
        self.store.put(TRANSACTION, owner, whole | tokens)
        self.close(page, "paid")
        self.call_back(owner, whole, page)
        return whole

    def _transaction(self, page: Json, *, method: str, approved: bool, kind: str, card: str) -> Json:
        card_used = method in CARDS
        return {
            "id": str(uuid.uuid4()),
            "page": page["id"],
            "type": kind,
            "method": method,
            "status": "approved" if approved else "rejected",
            "status_code": "000" if approved else "004",
            "amount": page["amount"],
            "currency": page["currency"],
            "four_digits": card[-4:] if card_used else "",
            "brand_name": "mastercard" if card_used else "",
            "customer_uid": page["customer"],
            "more_info": {name: value for name, value in page["fields"].items() if name.startswith("more_info")},
            "date": _now(),
            "of": None,
        }

    def token_for(self, owner: str, card: str) -> str:
        """A token of a card; each try makes its own."""
        token = str(uuid.uuid4())
        self.store.put(CARD, owner, {"id": token, "card": card, "outcomes": [], "customer": f"customer-{card[-4:]}"})
        return token

    def charge_token(self, owner: str, secret: str, token: Json, fields: Json, *, page: Json | None = None) -> Json:
        """Charge a card that is away. The planned outcomes come first, then what the card's number says."""
        code = token["outcomes"].pop(0) if token["outcomes"] else "004" if token["card"] == REJECTED else "000"
        self.store.put(CARD, owner, token)
        kept = r"more_info_[1-5]" if page is None else r"more_info(_[1-5])?"
        one: Json = {
            "id": str(uuid.uuid4()),
            "page": None if page is None else page["id"],
            "type": "Charge",
            "method": "credit-card",
            "status": "approved" if code == "000" else "rejected",
            "status_code": code,
            "amount": str(fields["amount"]),
            "currency": fields["currency_code"],
            "four_digits": token["card"][-4:],
            "brand_name": "mastercard",
            "customer_uid": token["customer"],
            "more_info": {name: value for name, value in fields.items() if re.fullmatch(kept, name)},
            "date": _now(),
            "of": None,
        }
        self.store.put(TRANSACTION, owner, one)
        if not self.acts(owner, SILENT):
            self.call_back(owner, one, {"fields": {}, "secret": secret})
        return one

    def refund(self, owner: str, charge: Json, amount: Decimal, more_info: str | None, *, document: bool) -> Json:
        """Give back; every refund is a transaction of its own, with a document where PayPlus issues them."""
        one = charge | {
            "id": str(uuid.uuid4()),
            "type": "Refund",
            "amount": str(amount),
            "more_info": {"more_info": more_info} if more_info else {},
            "date": _now(),
            "of": charge["id"],
        }
        for name in ("part_of", "in_parts", "flagged", "token_uid"):
            one.pop(name, None)
        self.store.put(TRANSACTION, owner, one)
        if document and self.setting(owner, "documents"):
            self.issue(owner, one, more_info)
        page = self.store.get(PAGE, charge["page"]) if charge["page"] else None
        if page is not None:
            self.call_back(owner, one, page)
        return one

    def issue(self, owner: str, refund: Json, line: str | None) -> Json:
        """A credit document of a refund; `line` is what is printed in it."""
        number = len(self.store.all(DOCUMENT, owner)) + 1
        document = {"id": str(uuid.uuid4()), "number": str(number), "amount": refund["amount"], "line": line or ""}
        return self.store.put(
            DOCUMENT, owner, document | {"customer": refund["customer_uid"], "date": refund["date"][:10]}
        )

    def parts_of(self, whole: Json) -> list[Json]:
        """The parts of a payment by several ways, in the order in which they were paid."""
        return [one for one in reversed(self.store.all(TRANSACTION)) if one.get("part_of") == whole["id"]]

    def refunds_of(self, charge: Json) -> list[Json]:
        """All refunds of a charge, of its parts too, newest first."""
        own = {charge["id"], *(one["id"] for one in self.parts_of(charge))}
        return [one for one in self.store.all(TRANSACTION) if one["of"] in own]

    def standing_refunds_of(self, charge: Json) -> list[Json]:
        """Those that were not cancelled."""
        return [one for one in self.refunds_of(charge) if not one.get("cancelled")]

    def left_of(self, charge: Json) -> Decimal:
        """What can still be refunded."""
        gone = sum((Decimal(one["amount"]) for one in self.standing_refunds_of(charge)), Decimal(0))
        return Decimal(charge["amount"]) - gone

    def setting(self, owner: str, name: str) -> str | None:
        """One of the account's settings."""
        found = self.store.get(SETTING, f"{SETTING}:{owner}:{name}")
        return None if found is None else str(found["value"])

    def set(self, owner: str, name: str, value: str) -> None:
        """Keep a setting."""
        self.store.put(SETTING, owner, {"value": value}, f"{SETTING}:{owner}:{name}")

    def call_back(self, owner: str, one: Json, page: Json) -> None:
        """Tell the page's own address, or the account's."""
        url = page["fields"].get("refURL_callback") or self.setting(owner, "callback_url")
        body = dumps(callback_of(one)).encode()
        other = self.acts(owner, OTHER_BYTES)
        if url:
            self.courier.send(
                owner=owner,
                event_id=f"{one['id']}:{one['type']}",
                event_type=one["type"],
                url=url,
                body=spread(body) if other else body,
                content_type="application/json;charset=utf-8",
                scheme=VALUE_SCHEME if other else SCHEME,
                secret=page["secret"],
            )


def _now() -> str:
    return datetime.now(ISRAEL).strftime("%Y-%m-%d %H:%M:%S")


def callback_of(one: Json) -> Json:
    """The body of a callback."""
    return {
        "transaction_type": one["type"],
        "transaction": {
            "uid": one["id"],
            **({"payment_request_uid": one["page"]} if one["page"] else {}),
            "number": "100200",
            "type": one["type"],
            "date": one["date"],
            "status_code": one["status_code"],
            "amount": Decimal(one["amount"]),
            "currency": one["currency"],
            "credit_terms": "regular",
            "payments": {"number_of_payments": 1},
            "secure3D": {"status": False, "tracking": None},
            "approval_number": "0123456",
            "voucher_number": "12-345-67",
            "alternative_method_name": None if one["method"] == "credit-card" else one["method"],
            **one["more_info"],
        },
        "data": {
            "customer_uid": one["customer_uid"],
            "terminal_uid": "t-1",
            "cashier_uid": "k-1",
            "items": [],
            "card_information": {
                "four_digits": one["four_digits"],
                "brand_id": 1,
                "card_holder_name": "דנה לוי",
                **({"token": one["token_uid"]} if one.get("token_uid") else {}),
            },
        },
        "invoice": {},
    }


def flat(one: Json) -> Json:
    """A transaction as the status query shows it."""
    return {
        "transaction_uid": one["id"],
        "page_request_uid": one["page"],
        "is_multiple_transaction": one.get("flagged", False),
        "type": one["type"],
        "method": one["method"],
        "number": "100200",
        "date": one["date"],
        "status": one["status"],
        "status_code": one["status_code"],
        "status_description": "",
        "amount": Decimal(one["amount"]),
        "currency": one["currency"],
        "number_of_payments": 1,
        "four_digits": one["four_digits"],
        "expiry_month": "05",
        "expiry_year": "26",
        "brand_name": one["brand_name"],
        "approval_num": "0123456",
        "voucher_num": "12-345-67",
        "customer_name": "דנה לוי",
        "customer_uid": one["customer_uid"],
        **({} if one["method"] == "credit-card" else {"alternative_method_name": one["method"]}),
        **({"transaction_is_cancelled": True} if one.get("cancelled") else {}),
        **({"token_uid": one["token_uid"]} if one.get("token_uid") else {}),
        **one["more_info"],
    }


def listed(document: Json) -> Mapping[str, Any]:
    """A document as the list of documents shows it."""
    return {
        "uuid": document["id"],
        "number": document["number"],
        "doc_amount": Decimal(document["amount"]),
        "entity_type_name": "inv_refund",
        "original_doc": f"https://invoices.example/{document['id']}",
        "true_copy_doc": f"https://invoices.example/{document['id']}/copy",
        "more_info": document["line"],
    }

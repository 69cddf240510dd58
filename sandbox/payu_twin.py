"""What PayU Latam's side of the wire remembers: merchants, orders and their transactions, and what it tells of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from sandbox.courier import Courier
from sandbox.state import Json, Store
from sandbox.variants import chosen

PUBLIC_MERCHANT, PUBLIC_KEY = "508029", "4Vj8eK4rloUd272L48hsrarnUA"
COLOMBIA = timezone(timedelta(hours=-5))
STATE_POL = {"APPROVED": "4", "DECLINED": "6", "EXPIRED": "5", "PENDING": "7", "ERROR": "104"}
RESPONSE_POL = {"APPROVED": "1", "DECLINED": "5", "EXPIRED": "20", "PENDING": "25", "ERROR": "9999"}
METHOD_TYPE = {"VISA": "2", "PSE": "4", "BANK_REFERENCED": "10"}
ALGORITHMS = ("MD5", "SHA1", "SHA256", "HMAC-SHA256")
FINAL = ("APPROVED", "DECLINED", "EXPIRED", "ERROR")


class Refusal(Exception):
    """`code: ERROR` with this text, at HTTP 200."""


def digest(text: str, algorithm: str, hmac_key: str) -> str:
    """A signature as PayU makes it."""
    if algorithm == "HMAC-SHA256":
        return hmac.new(hmac_key.encode(), text.encode(), hashlib.sha256).hexdigest()
    return hashlib.new(algorithm.lower(), text.encode(), usedforsecurity=False).hexdigest()


def confirmation_value(value: Decimal) -> str:
    """Two decimals, one where the second is 0."""
    return f"{value:.2f}".removesuffix("0")


@dataclass(slots=True)
class PayuTwin:
    """Merchants, orders and their transactions."""

    store: Store
    courier: Courier

    # merchants

    def merchant_of_key(self, api_key: str) -> Json:
        """The merchant of a key; an unknown key's merchant is learnt from its first signature."""
        known = self.store.get("payu_merchant", f"payu_merchant:{api_key}")
        if known is not None:
            return known
        merchant_id = PUBLIC_MERCHANT if api_key == PUBLIC_KEY else api_key.removeprefix("sandbox-key-")
        return self.keep_merchant({"api_key": api_key, "merchant_id": merchant_id if merchant_id.isdigit() else None})

    def keep_merchant(self, merchant: Json) -> Json:
        """Remember a merchant by its key."""
        usual = {"algorithm": None, "hmac_key": None, "confirms_in_json": False, "hides_reasons": True}
        return self.store.put(
            "payu_merchant", merchant["api_key"], usual | merchant, f"payu_merchant:{merchant['api_key']}"
        )

    def signs(self, merchant: Json, merchant_id: str | None, parts: str, signature: str) -> bool:
        """Whether this merchant made the signature; the first one settles its algorithm and id."""
        ids = [merchant_id] if merchant_id else [merchant["merchant_id"] or PUBLIC_MERCHANT]
        if merchant["merchant_id"] not in (None, *ids):
            return False
        for algorithm in [merchant["algorithm"]] if merchant["algorithm"] else ALGORITHMS:
            made = self.signature(merchant | {"algorithm": algorithm}, f"{ids[0]}~{parts}")
            if hmac.compare_digest(made, signature.lower()):
                self.keep_merchant(merchant | {"algorithm": algorithm, "merchant_id": ids[0]})
                return True
        return False

    def signature(self, merchant: Json, parts: str) -> str:
        """Sign as this merchant's account does."""
        key = merchant["api_key"]
        return digest(f"{key}~{parts}", merchant["algorithm"] or "MD5", merchant["hmac_key"] or key)

    def signer_of_form(self, merchant_id: str, parts: str, signature: str) -> Json | None:
        """The merchant whose key made a form's signature."""
        usual = PUBLIC_KEY if merchant_id == PUBLIC_MERCHANT else f"sandbox-key-{merchant_id}"
        self.merchant_of_key(usual)
        for merchant in self.store.all("payu_merchant"):
            if self.signs(merchant, merchant_id, parts, signature):
                return self.merchant_of_key(merchant["api_key"])
        return None

    def behaves(self, order: Json, variant: str) -> bool:
        """Whether the order's account answers in this variant."""
        return chosen(self.store, order["_api_key"], variant)

    # orders

    def orders(self, reference: str, owner: str | None = None) -> list[Json]:
        """The orders of a reference, oldest first."""
        index = self.store.get("payu_reference", f"payu_reference:{reference}") or {"orders": []}
        found = (self.order_by_id(order_id, owner) for order_id in index["orders"])
        return [order for order in found if order is not None]

    def order_by_id(self, order_id: str, owner: str | None = None) -> Json | None:
        """One order."""
        return self.store.get("payu_order", f"payu_order:{order_id}", owner)

    def transaction(self, transaction_id: str, owner: str | None = None) -> tuple[Json, Json] | None:
        """One transaction with its order."""
        index = self.store.get("payu_transaction", f"payu_transaction:{transaction_id}", owner)
        order = None if index is None else self.order_by_id(index["order"])
        return (
            None
            if order is None
            else (order, next(one for one in order["transactions"] if one["id"] == transaction_id))
        )

    def add(self, order: Json, transaction: Json) -> None:
        """Another transaction of an order."""
        order["transactions"].append(transaction)
        index = {"order": str(order["id"])}
        self.store.put("payu_transaction", order["_api_key"], index, f"payu_transaction:{transaction['id']}")
        self.keep(order)

    def keep(self, order: Json) -> Json:
        """Remember an order's new state."""
        return self.store.put("payu_order", order["_api_key"], order, f"payu_order:{order['id']}")

    def new_order(self, api_key: str, values: Json) -> Json:
        """An order without transactions."""
        order_id = 800_000_000 + secrets.randbelow(10**9)
        index_id = f"payu_reference:{values['referenceCode']}"
        index = self.store.get("payu_reference", index_id) or {"orders": []}
        self.store.put("payu_reference", api_key, {"orders": [*index["orders"], str(order_id)]}, index_id)
        return self.keep({"id": order_id, "status": "NEW", "transactions": [], "_api_key": api_key} | values)

    def attempt(self, order: Json, payment_method: str, state: str, response_code: str) -> Json:
        """A payer's try to pay."""
        transaction: Json = {
            "id": str(uuid4()),
            "type": "AUTHORIZATION_AND_CAPTURE",
            "parentTransactionId": None,
            "paymentMethod": payment_method,
            "transactionResponse": {"state": state, "responseCode": response_code, "operationDate": now_ms()},
            "creditCard": {"maskedNumber": "411111******1111"} if payment_method == "VISA" else None,
            "additionalValues": order["additionalValues"],
            "extraParameters": {},
        }
        self.add(order, transaction)
        self.decide(order, transaction, state, response_code)
        return transaction

    def decide(self, order: Json, transaction: Json, state: str, response_code: str) -> None:
        """Give a transaction its state; final ones are confirmed to the merchant."""
        transaction["transactionResponse"] |= {"state": state, "responseCode": response_code}
        order["status"] = {"APPROVED": "CAPTURED", "PENDING": "IN_PROGRESS"}.get(state, "DECLINED")
        self.keep(order)
        if state in FINAL:
            self.confirm(order, transaction)

    def waiting(self, orders: list[Json]) -> tuple[Json, Json] | None:
        """The first attempt that is not decided."""
        for order in orders:
            for one in order["transactions"]:
                if one["type"] == "AUTHORIZATION_AND_CAPTURE" and one["transactionResponse"]["state"] == "PENDING":
                    return order, one
        return None

    def paid(self, order: Json) -> bool:
        """Whether an attempt was approved."""
        return any(
            one["type"] == "AUTHORIZATION_AND_CAPTURE" and one["transactionResponse"]["state"] == "APPROVED"
            for one in order["transactions"]
        )

    def confirm(self, order: Json, transaction: Json) -> None:
        """Send the confirmation of an attempt, if an address was given."""
        if not order["_notify_url"]:
            return
        merchant = self.merchant_of_key(order["_api_key"])
        fields = self.confirmation(order, transaction, merchant)
        if merchant["confirms_in_json"]:
            value = fields["value"]  # a number with its decimals, as no library would write it
            body = json.dumps(fields).replace(f'"value": "{value}"', f'"value": {value}')
        else:
            body = urlencode(fields)
        self.courier.send(
            owner=order["_api_key"],
            event_id=f"{transaction['id']}:{fields['state_pol']}",
            event_type=f"confirmation.{fields['state_pol']}",
            url=order["_notify_url"],
            body=body.encode(),
            content_type="application/json" if merchant["confirms_in_json"] else "application/x-www-form-urlencoded",
        )

    def confirmation(self, order: Json, transaction: Json, merchant: Json) -> dict[str, str]:
        """The fields of a confirmation, `sign` among them."""
        state = STATE_POL[transaction["transactionResponse"]["state"]]
        value, currency = held(order if transaction["type"] == "AUTHORIZATION_AND_CAPTURE" else transaction)
        merchant_id, reference = merchant["merchant_id"] or PUBLIC_MERCHANT, order["referenceCode"]
        method = transaction["paymentMethod"]
        signed = f"{merchant_id}~{reference}~{confirmation_value(value)}~{currency}~{state}"
        return {
            "merchant_id": merchant_id,
            "state_pol": state,
            "risk": "0.00",
            "response_code_pol": RESPONSE_POL[transaction["transactionResponse"]["state"]],
            "reference_sale": reference,
            "reference_pol": str(order["id"]),
            "sign": self.signature(merchant, signed),
            "extra1": "",
            "extra2": "",
            "payment_method": "10",
            "payment_method_type": METHOD_TYPE.get(method, "7"),
            "payment_method_name": method,
            "installments_number": "1",
            "value": f"{value:.2f}",
            "tax": "0.00",
            "additional_value": "0.00",
            "transaction_date": datetime.now(COLOMBIA).strftime("%Y-%m-%d %H:%M:%S"),
            "currency": currency,
            "test": order["_test"],
            "description": order["_description"],
            "attempts": "1",
            "response_message_pol": transaction["transactionResponse"]["responseCode"],
            "transaction_id": transaction["id"],
            "transaction_type": transaction["type"],
        }

    def response_query(self, order: Json, transaction: Json) -> str:
        """The parameters of the response page, whose value is rounded half to even to one decimal."""
        merchant = self.merchant_of_key(order["_api_key"])
        value, currency = held(order)
        state = STATE_POL[transaction["transactionResponse"]["state"]]
        merchant_id = merchant["merchant_id"] or PUBLIC_MERCHANT
        rounded = value.quantize(Decimal("0.1"), ROUND_HALF_EVEN)
        signed = f"{merchant_id}~{order['referenceCode']}~{rounded}~{currency}~{state}"
        return urlencode(
            {
                "merchantId": merchant_id,
                "referenceCode": order["referenceCode"],
                "TX_VALUE": f"{value:.2f}",
                "currency": currency,
                "transactionState": state,
                "transactionId": transaction["id"],
                "polResponseCode": RESPONSE_POL[transaction["transactionResponse"]["state"]],
                "signature": self.signature(merchant, signed),
            }
        )


def response_of(order: Json, one: Json) -> Json:
    """A `transactionResponse`."""
    pending = one["transactionResponse"]["state"] == "PENDING"
    return {
        "orderId": order["id"],
        "transactionId": one["id"],
        "pendingReason": "AWAITING_NOTIFICATION" if pending else None,
        "trazabilityCode": None,
        "authorizationCode": None,
        "extraParameters": one["extraParameters"] or None,
        **one["transactionResponse"],
    }


def shown(order: Json, *, with_reasons: bool) -> Json:
    """An order as the queries show it: the newest transaction first, amounts as numbers or strings, as it happens."""
    as_number = order["id"] % 2 == 0
    told = {name: value for name, value in order.items() if not name.startswith("_")}
    told["additionalValues"] = values_shown(order["additionalValues"], as_number=as_number)
    told["transactions"] = [
        {name: value for name, value in one.items() if name != "reason" or with_reasons}
        | {"additionalValues": values_shown(one["additionalValues"], as_number=not as_number)}
        for one in reversed(order["transactions"])
    ]
    return told


def values_shown(values: Json, *, as_number: bool) -> Json:
    """Amounts as the queries show them."""
    sent = values["TX_VALUE"]
    value = Decimal(str(sent["value"]))
    return {"TX_VALUE": {"value": float(value) if as_number else f"{value:.2f}", "currency": sent["currency"]}}


def held(order: Json) -> tuple[Decimal, str]:
    """Value and currency of an order, or of a transaction."""
    value = order["additionalValues"]["TX_VALUE"]
    return Decimal(str(value["value"])), str(value["currency"])


def amount_of(values: Mapping[str, Any]) -> Decimal:
    """An amount that was sent. Raises Refusal."""
    try:
        return Decimal(str(values.get("value")))
    except InvalidOperation:
        raise Refusal("The value is not valid") from None


def now_ms() -> int:
    """PayU's clock, in epoch milliseconds."""
    return int(time.time() * 1000)

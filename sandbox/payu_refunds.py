"""Refunds at PayU: requests that are reviewed for days, what comes of them, and what is done in PayU's panel."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

from fastapi import APIRouter, HTTPException

from sandbox.payu_twin import PayuTwin, Refusal, amount_of, held, now_ms, response_of
from sandbox.state import Json

LISTED_AT_ONCE, RETRIED = "refund_listed_at_once", "cancellations_module"
LEAST = 100
REFUNDS = ("REFUND", "PARTIAL_REFUND")
_CODES = {"APPROVED": "APPROVED", "DECLINED": "ENTITY_DECLINED", "PENDING": None}


@dataclass(slots=True)
class PayuRefunds:
    """Requests to refund an order, and PayU's decisions."""

    twin: PayuTwin

    def request(self, transaction: Json, merchant: Json) -> Json:
        """Take a request on: it gets no id, and no query shows it until PayU has decided. Raises Refusal."""
        order, parent = self._parent(transaction, merchant)
        value = self._value(order, transaction)
        request: Json = {
            "type": transaction["type"],
            "parent": parent["id"],
            "value": str(value),
            "reason": str(transaction.get("reason") or ""),
            "at": now_ms(),
        }
        if self.twin.behaves(order, LISTED_AT_ONCE):
            return response_of(order, self._add(order, request, "PENDING"))
        order["_requests"] = [*order.get("_requests", []), request]
        self.twin.keep(order)
        answer = dict.fromkeys(
            (
                "transactionId",
                "paymentNetworkResponseCode",
                "paymentNetworkResponseErrorMessage",
                "trazabilityCode",
                "authorizationCode",
                "responseCode",
                "errorCode",
                "transactionDate",
                "transactionTime",
                "operationDate",
                "referenceQuestionnaire",
                "extraParameters",
                "additionalInfo",
            )
        )
        told = {"state": "PENDING", "pendingReason": "PENDING_REVIEW", "responseMessage": str(order["id"])}
        return {"orderId": order["id"], **answer, **told}

    def decide(self, order: Json, state: str) -> int:
        """What is under review becomes APPROVED or DECLINED; how much of it there was. Final ones are confirmed."""
        requests, decided = order.get("_requests", []), []
        order["_requests"] = []
        for request in requests:
            if self.twin.behaves(order, RETRIED):
                self._add(order, request, "DECLINED", at=request["at"])
                self._add(order, request, "DECLINED", source="CANCELLATIONS_MODULE", manual="FALSE")
                made = self._add(order, request, state, source="CANCELLATIONS_MODULE", manual="TRUE")
            else:
                made = self._add(order, request, state)
            decided.append(made)
        for one in order["transactions"]:
            if one["type"] in REFUNDS and one["transactionResponse"]["state"] == "PENDING":
                one["transactionResponse"] |= {"state": state, "responseCode": _CODES[state]}
                decided.append(one)
        if state == "APPROVED" and any(one["type"] == "REFUND" for one in decided):
            order["status"] = "REFUNDED"
        self.twin.keep(order)
        for one in decided:
            self.twin.confirm(order, one)
        return len(decided)

    def by_hand(self, order: Json, value: Decimal, state: str, reason: str) -> Json:
        """A refund that the merchant makes in PayU's panel. Raises Refusal."""
        paid = next((one for one in order["transactions"] if one["type"] == "AUTHORIZATION_AND_CAPTURE"), None)
        captured, left = held(order)[0], self._left(order)
        if paid is None or not 0 < value <= left:
            raise Refusal(f"{left} is left to refund")
        kind = "PARTIAL_REFUND" if value < captured else "REFUND"
        return self._add(order, {"type": kind, "parent": paid["id"], "value": str(value), "reason": reason}, state)

    def _parent(self, transaction: Json, merchant: Json) -> tuple[Json, Json]:
        order = self.twin.order_by_id(str((transaction.get("order") or {}).get("id")), merchant["api_key"])
        parent_id = transaction.get("parentTransactionId")
        parent = next((one for one in (order or {}).get("transactions", []) if one["id"] == parent_id), None)
        if order is None or parent is None or parent["transactionResponse"]["state"] != "APPROVED":
            raise Refusal("The order or the parent transaction does not exist")
        if parent["paymentMethod"] != "VISA":
            raise Refusal("The payment method does not allow refunds")
        return order, parent

    def _value(self, order: Json, transaction: Json) -> Decimal:
        if order.get("_requests"):
            raise Refusal(f"The refund of order {order['id']} was already registered and is under review")
        value = held(order)[0]
        if transaction["type"] == "PARTIAL_REFUND":
            named = transaction.get("additionalValues") or transaction["order"].get("additionalValues") or {}
            value = amount_of(named.get("TX_VALUE") or {})
        several = self.twin.merchant_of_key(order["_api_key"]).get("several_refunds")
        if not several and any(_stands(one) for one in order["transactions"]):
            raise Refusal("The order allows one refund only")
        if not LEAST <= value <= self._left(order):
            raise Refusal("The amount of the refund is not valid")
        return value

    def _left(self, order: Json) -> Decimal:
        standing = [amount_of(one["additionalValues"]["TX_VALUE"]) for one in order["transactions"] if _stands(one)]
        asked = [Decimal(request["value"]) for request in order.get("_requests", [])]
        return held(order)[0] - sum((*standing, *asked), Decimal(0))

    def _add(
        self,
        order: Json,
        request: Json,
        state: str,
        *,
        source: str | None = None,
        manual: str | None = None,
        at: int | None = None,
    ) -> Json:
        parent = next(one for one in order["transactions"] if one["id"] == request["parent"])
        made: Json = {
            "id": str(uuid4()),
            "type": request["type"],
            "parentTransactionId": parent["id"],
            "paymentMethod": parent["paymentMethod"],
            "source": source,
            "reason": request["reason"],
            "transactionResponse": {"state": state, "responseCode": _CODES[state], "operationDate": at or now_ms()},
            "creditCard": None,
            "additionalValues": {"TX_VALUE": {"value": request["value"], "currency": held(order)[1]}},
            "extraParameters": {} if manual is None else {"MANUAL_REFUND": manual},
        }
        self.twin.add(order, made)
        return made


def _stands(one: Json) -> bool:
    return one["type"] in REFUNDS and one["transactionResponse"]["state"] in ("PENDING", "APPROVED")


def add_refund_controls(routes: APIRouter, twin: PayuTwin) -> None:
    """Refunds that the merchant makes in PayU's panel, and what PayU decides days later."""
    refunds = PayuRefunds(twin)

    def orders_of(body: Json) -> list[Json]:
        orders = twin.orders(str(body.get("reference")))
        if not orders:
            raise HTTPException(404, "no such order")
        return orders

    @routes.post("/sandbox/payu/refunds")
    async def refund_by_hand(body: Json) -> Json:
        """What the merchant does in PayU's panel: `reference`, `value`, and `state` (PENDING for days, as usual)."""
        order, state = orders_of(body)[0], str(body.get("state", "PENDING"))
        try:
            made = refunds.by_hand(
                order, amount_of({"value": body["value"]}), state, str(body.get("reason", "made in the panel"))
            )
        except Refusal as refusal:
            raise HTTPException(409, str(refusal)) from None
        return {"id": made["id"]}

    @routes.post("/sandbox/payu/refunds/settle")
    async def settle_refunds(body: Json) -> Json:
        state = str(body.get("state", "APPROVED"))
        return {"settled": sum(refunds.decide(order, state) for order in orders_of(body))}

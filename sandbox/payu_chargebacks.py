"""Chargebacks at PayU: what an order shows of them, and the disputes webhook, which nobody signs."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, HTTPException

from sandbox.payu_twin import PayuTwin, held, now_ms
from sandbox.state import Json

FOURTEEN_DAYS = 14 * 24 * 3600 * 1000


def add_chargeback_controls(routes: APIRouter, twin: PayuTwin) -> None:
    """What the payer's bank does."""

    def order_of(body: Json) -> Json:
        orders = [one for one in twin.orders(str(body.get("reference"))) if twin.paid(one)]
        if not orders:
            raise HTTPException(404, "no such payment")
        return orders[0]

    @routes.post("/sandbox/payu/chargebacks")
    async def take_back(body: Json) -> Json:
        """The bank takes a payment back: `reference`, and `at` (epoch milliseconds) where it was earlier."""
        order = order_of(body)
        paid = next(one for one in order["transactions"] if one["type"] == "AUTHORIZATION_AND_CAPTURE")
        made: Json = {
            "id": str(uuid4()),
            "type": "CHARGEBACK",
            "parentTransactionId": paid["id"],
            "paymentMethod": paid["paymentMethod"],
            "transactionResponse": {
                "state": "APPROVED",
                "responseCode": "APPROVED",
                "operationDate": int(body.get("at") or now_ms()),
            },
            "creditCard": None,
            "additionalValues": paid["additionalValues"],
            "extraParameters": {},
        }
        order["status"] = "CHARGEBACK"
        twin.add(order, made)
        _tell(twin, order, made, "NOTIFIED")
        return {"id": made["id"]}

    @routes.post("/sandbox/payu/chargebacks/decide")
    async def decide(body: Json) -> Json:
        """What the bank decides: `reference` and `state`, WON (the order is captured again) or LOST."""
        order, state = order_of(body), str(body.get("state", "WON"))
        made = next((one for one in order["transactions"] if one["type"] == "CHARGEBACK"), None)
        if made is None:
            raise HTTPException(404, "no chargeback")
        if state == "WON":
            made["transactionResponse"]["state"], order["status"] = "DECLINED", "CAPTURED"
            twin.keep(order)
        _tell(twin, order, made, state)
        return {"state": state}


def _tell(twin: PayuTwin, order: Json, chargeback: Json, state: str) -> None:
    """Send the disputes webhook, which the merchant points to the address of its confirmations."""
    if not order["_notify_url"]:
        return
    body = webhook_body(order, chargeback, state)
    twin.courier.send(
        owner=order["_api_key"],
        event_id=f"{body['id']}:{state}",
        event_type=f"dispute.{state}",
        url=order["_notify_url"],
        body=json.dumps(body).encode(),
        content_type="application/json",
    )


def webhook_body(order: Json, chargeback: Json, state: str) -> dict[str, Any]:
    """The webhook's JSON, in which much is said twice."""
    value, currency = held(order)
    began = chargeback["transactionResponse"]["operationDate"]
    said: dict[str, Any] = {
        "state": state,
        "reopenDate": None,
        "maxDeliveryDate": began + FOURTEEN_DAYS,
        "reference": order["referenceCode"],
        "creationDate": began,
        "comment": "",
        "origin": "BANK",
        "deliveryDate": None,
        "fee": 0,
        "currency": currency,
        "reason": "FRAUD",
        "buyerIpAddress": None,
        "value": float(value),
        "notificationDate": began,
    }
    return {
        "properties": said | {"isFrozen": state != "WON", "isAnalyzed": False},
        "id": chargeback["id"],
        "transactionId": chargeback["parentTransactionId"],
        "orderId": order["id"],
        "lease": now_ms(),
        "valueInOriginalCurrency": float(value),
        "originalCurrency": currency,
        "antifraudGuarantee": None,
        "evidenceSentToNetwork": None,
        "frozen": state != "WON",
        "analyzed": False,
        "wonBank": None,
        **said,
        "childProperties": None,
    }

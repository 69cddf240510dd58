"""PayU Latam's side of the wire (Colombia): payments and queries in JSON, the WebCheckout form, confirmations as forms.

Merchants need no set-up. Merchant 508029 has PayU's public sandbox key; any other merchant N has `sandbox-key-N`, or
the key that it first calls with, or the one given to POST /sandbox/payu/merchants (merchant_id, api_key, hmac_key,
algorithm, confirms_in_json, hides_reasons, several_refunds). A key or login with `invalid` in it is refused as PayU
refuses: HTTP 200 and `code: ERROR`. The algorithm is the one whose signature came first.

Operations for faults: `payu.submit`, `payu.refund`, `payu.banks`, `payu.ping`, `payu.query`.

Payers without a browser, all POST under /sandbox/payu and with `reference` in the body: `pay`, `decline`
(response_code), `expire`, `settle` (state: what is pending becomes APPROVED, DECLINED, EXPIRED or ERROR), `amount`
(value, currency: what PayU holds), `refunds` (value, state: a refund made in PayU's panel), `refunds/settle` (state:
what PayU decides of refunds), `chargebacks` and `chargebacks/decide` (state: WON or LOST). `pay` and `decline` make an
attempt where nothing waits.
"""

from __future__ import annotations

from uuid import uuid4

from fastapi import APIRouter, HTTPException, Request, Response

from sandbox.courier import Courier
from sandbox.faults import FaultPlan
from sandbox.payu_api import PayuApi
from sandbox.payu_chargebacks import add_chargeback_controls
from sandbox.payu_fields import MANDATORY
from sandbox.payu_pages import add_checkout, add_waiting_pages
from sandbox.payu_refunds import LISTED_AT_ONCE, RETRIED, PayuRefunds, add_refund_controls
from sandbox.payu_twin import FINAL, PayuTwin
from sandbox.state import Json, Store

VARIANTS = {
    LISTED_AT_ONCE: "a refund has an id and is in the order at once, with its reason: PayU's older examples",
    MANDATORY: "what lacks a field that PayU's pages mark as mandatory is refused: payments API and payment form, 2026",
    RETRIED: "PayU's cancellations module tries refunds again, each a transaction: PayU's page on refunds, 2026",
}
"""Other shapes of answers, by name: what each changes, and where it was seen."""


def router(store: Store, courier: Courier, faults: FaultPlan) -> APIRouter:
    """PayU's interfaces, pages and controls."""
    routes = APIRouter()
    twin = PayuTwin(store, courier)
    api = PayuApi(twin, faults, PayuRefunds(twin))
    _add_interfaces(routes, api)
    add_checkout(routes, twin)
    add_waiting_pages(routes, twin)
    _add_controls(routes, twin)
    add_refund_controls(routes, twin)
    add_chargeback_controls(routes, twin)
    return routes


def _add_interfaces(routes: APIRouter, api: PayuApi) -> None:
    @routes.post("/payments-api/4.0/service.cgi")
    async def payments(request: Request) -> Response:
        return await api.answer(request, queries=False)

    @routes.post("/reports-api/4.0/service.cgi")
    async def queries(request: Request) -> Response:
        return await api.answer(request, queries=True)


def _add_controls(routes: APIRouter, twin: PayuTwin) -> None:
    def orders_of(body: Json) -> list[Json]:
        orders = twin.orders(str(body.get("reference")))
        if not orders:
            raise HTTPException(404, "no such order")
        return orders

    def decide(body: Json, state: str, response_code: str) -> Json:
        """What waits becomes this; where nothing waits, another attempt is made."""
        orders = orders_of(body)
        waiting = twin.waiting(orders)
        if waiting is None:
            one = twin.attempt(orders[-1], "VISA", state, response_code)
        else:
            twin.decide(*waiting, state, response_code)
            one = waiting[1]
        return {"transaction_id": one["id"], "state": state}

    @routes.post("/sandbox/payu/merchants")
    async def keep_merchant(body: Json) -> Json:
        known = {
            "merchant_id",
            "api_key",
            "algorithm",
            "hmac_key",
            "confirms_in_json",
            "hides_reasons",
            "several_refunds",
        }
        return twin.keep_merchant({name: value for name, value in body.items() if name in known})

    @routes.post("/sandbox/payu/tokens")
    async def tokenise(body: Json) -> Json:
        """What PayU's library does in the payer's browser: a token of a Visa card, by the account's `api_key`."""
        token = str(uuid4())
        twin.store.put("payu_card", str(body["api_key"]), {"outcomes": []}, f"payu_card:{token}")
        return {"token": token, "brand": "VISA", "last4": "1111"}

    @routes.post("/sandbox/payu/tokens/{token}/outcomes")
    async def plan_outcomes(token: str, body: Json) -> Json:
        """The response codes of the token's next charges; APPROVED for success."""
        name = f"payu_card:{token}"
        card = twin.store.get("payu_card", name)
        if card is None:
            raise HTTPException(404, "no such token")
        twin.store.put("payu_card", twin.store.owner_of(name), card | {"outcomes": list(body["outcomes"])}, name)
        return {"planned": len(body["outcomes"])}

    @routes.post("/sandbox/payu/pay")
    async def pay(body: Json) -> Json:
        return decide(body, "APPROVED", "APPROVED")

    @routes.post("/sandbox/payu/decline")
    async def decline(body: Json) -> Json:
        return decide(body, "DECLINED", str(body.get("response_code", "ENTITY_DECLINED")))

    @routes.post("/sandbox/payu/expire")
    async def expire(body: Json) -> Json:
        return decide(body, "EXPIRED", "EXPIRED_TRANSACTION")

    @routes.post("/sandbox/payu/settle")
    async def settle(body: Json) -> Json:
        state = str(body.get("state", "APPROVED"))
        if state not in FINAL:
            raise HTTPException(422, f"state is one of {', '.join(FINAL)}")
        return decide(body, state, state if state == "APPROVED" else "ENTITY_DECLINED")

    @routes.post("/sandbox/payu/amount")
    async def change_amount(body: Json) -> Json:
        for order in orders_of(body):
            held = order["additionalValues"]["TX_VALUE"]
            changed = {"TX_VALUE": held | {name: body[name] for name in ("value", "currency") if name in body}}
            order["additionalValues"] = changed
            for one in order["transactions"]:
                if one["type"] == "AUTHORIZATION_AND_CAPTURE":
                    one["additionalValues"] = changed
            twin.keep(order)
        return {"changed": True}

    @routes.get("/sandbox/payu/orders")
    async def orders(reference: str) -> list[Json]:
        return twin.orders(reference)


TWIN = router

"""The sandbox's own controls, under /sandbox: faults, endpoints, what happened, and payers without a browser."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from sandbox import variants
from sandbox.courier import Courier
from sandbox.faults import Fault, FaultPlan, UnknownFault
from sandbox.state import Json, new_id
from sandbox.stripe_methods import StripeVault
from sandbox.stripe_objects import GOOD, StripeTwin, public
from sandbox.webhooks import API_VERSION


class NewFault(BaseModel):
    """A fault to plan; `operation` is one of the interface's, `*` or `webhooks`.

    With `only_with` it meets only what carries one of these texts, such as an account's key.
    """

    operation: str = "*"
    fault: str
    count: int = 1
    only_with: list[str] = []


class NewEndpoint(BaseModel):
    """Where events go; without `account_key` those of every account. `api_version` is the shape that they have."""

    url: str
    secret: str
    account_key: str | None = None
    api_version: str = API_VERSION
    enabled_events: list[str] = ["*"]


class Card(BaseModel):
    """How a payer without a browser pays; `approved` answers a 3DS challenge."""

    card: str = GOOD
    approved: bool | None = None


class Outcomes(BaseModel):
    """In order: `succeed`, or a decline such as insufficient_funds, stolen_card, authentication_required."""

    outcomes: list[str]


class Settlement(BaseModel):
    """What becomes of a payment that settles later."""

    succeeded: bool = True


class HandRefund(BaseModel):
    """A refund that is made in the dashboard."""

    amount: int | None = None
    status: str = "succeeded"


class Chosen(BaseModel):
    """How a provider's twin answers one account, beside the usual; `account_key` is what owns the account's objects."""

    provider: str
    account_key: str
    names: list[str]


class Restriction(BaseModel):
    """What a key may not do: names of the interface's operations."""

    account_key: str
    operations: list[str]


class Resend(BaseModel):
    """How often."""

    times: int = 1


def router(twin: StripeTwin, vault: StripeVault, courier: Courier, faults: FaultPlan) -> APIRouter:
    """The controls."""
    routes = APIRouter(prefix="/sandbox")
    _control_banks(routes, twin, vault)
    _control_variants(routes, twin)
    _control_keys(routes, twin)
    notices: list[Json] = []

    @routes.post("/faults")
    async def add_fault(body: NewFault) -> Json:
        try:
            faults.add(body.operation, Fault.parse(body.fault), body.count, body.only_with)
        except UnknownFault as error:
            raise HTTPException(422, str(error)) from None
        return {"planned": len(faults.planned)}

    @routes.delete("/faults")
    async def clear_faults() -> Json:
        faults.clear()
        return {"planned": 0}

    @routes.post("/webhook-endpoints")
    async def add_endpoint(body: NewEndpoint) -> Json:
        """The same address for the same account is kept once, with the newest secret."""
        for old in twin.store.all("webhook_endpoint"):
            if (old["url"], old["account_key"]) == (body.url, body.account_key):
                twin.store.remove(old["id"])
        endpoint = body.model_dump() | {"id": new_id("we"), "object": "webhook_endpoint"}
        return public(twin.store.put("webhook_endpoint", body.account_key or "", endpoint))

    @routes.delete("/webhook-endpoints")
    async def remove_endpoints() -> Json:
        for old in twin.store.all("webhook_endpoint"):
            twin.store.remove(old["id"])
        return {"left": 0}

    @routes.post("/sessions/{session_id}/pay")
    async def pay(session_id: str, body: Card) -> Json:
        session = _found(twin, "checkout.session", session_id)
        if session["mode"] == "setup":
            return {"outcome": vault.enter(session, body.card, approved=body.approved)}
        return {"outcome": twin.pay_session(session, body.card, approved=body.approved)}

    @routes.post("/sessions/{session_id}/pay-later")
    async def pay_later(session_id: str) -> Json:
        return {"outcome": twin.pay_session_later(_found(twin, "checkout.session", session_id))}

    @routes.post("/sessions/{session_id}/settle")
    async def settle(session_id: str, body: Settlement) -> Json:
        session = _found(twin, "checkout.session", session_id)
        twin.settle_later(session, succeeded=body.succeeded)
        return {"payment_status": session["payment_status"]}

    @routes.post("/sessions/{session_id}/expire-now")
    async def expire_now(session_id: str) -> Json:
        return {"status": twin.expire(_found(twin, "checkout.session", session_id))["status"]}

    @routes.post("/sessions/{session_id}/amount")
    async def change_amount(session_id: str, body: dict[str, Any]) -> Json:
        """Let the provider hold another amount or currency than was asked for."""
        session = _found(twin, "checkout.session", session_id)
        return public(twin.store.put("checkout.session", twin.store.owner_of(session_id), session | body))

    @routes.post("/payment_intents/{intent_id}/confirm")
    async def confirm(intent_id: str, body: Card) -> Json:
        return {"outcome": twin.confirm(_found(twin, "payment_intent", intent_id), body.card, approved=body.approved)}

    @routes.post("/events/{event_id}/resend")
    async def resend(event_id: str, body: Resend) -> Json:
        courier.resend(event_id, body.times)
        return {"times": body.times}

    @routes.get("/objects")
    async def objects(type: str) -> list[Json]:  # noqa: A002  (the query's name)
        return [public(thing) for thing in twin.store.all(type)]

    @routes.get("/deliveries")
    async def deliveries() -> list[Json]:
        return courier.deliveries

    @routes.get("/totals")
    async def totals() -> dict[str, Json]:
        """By our payment id: sessions, intents, succeeded charges and refunds, with their sums in minor units."""
        found: dict[str, Json] = defaultdict(
            lambda: dict.fromkeys(("sessions", "intents", "charges", "charged", "refunded"), 0)
        )
        for session in twin.store.all("checkout.session"):
            found[str(session["client_reference_id"])]["sessions"] += 1
        for intent in twin.store.all("payment_intent"):
            found[str(intent["metadata"].get("payment_id"))]["intents"] += 1
        for charge in twin.store.all("charge"):
            line = found[str(charge["metadata"].get("payment_id"))]
            line["charges"] += 1
            line["charged"] += charge["amount"]
            line["refunded"] += charge["amount_refunded"]
        return dict(found)

    @routes.post("/merchant/notifications")
    async def take_notice(body: Json) -> Json:
        """A stand-in for the merchant's order service, so that a demonstration shows what it is told."""
        notices.append(body)
        del notices[:-500]
        return {"taken": True}

    @routes.get("/merchant/notifications")
    async def read_notices() -> list[Json]:
        return notices

    return routes


def _control_variants(routes: APIRouter, twin: StripeTwin) -> None:
    @routes.post("/variants")
    async def choose_variants(body: Chosen) -> Json:
        try:
            return {"names": variants.choose(twin.store, body.provider, body.account_key, body.names)}
        except variants.UnknownVariant as error:
            raise HTTPException(422, str(error)) from None


def _control_keys(routes: APIRouter, twin: StripeTwin) -> None:
    @routes.post("/restrictions")
    async def restrict_key(body: Restriction) -> Json:
        twin.store.put("restriction", body.account_key, body.model_dump(), f"restriction:{body.account_key}")
        return {"refused": len(body.operations)}


def _control_banks(routes: APIRouter, twin: StripeTwin, vault: StripeVault) -> None:
    """What payers' banks do apart from the merchant: to charges of saved methods, to cards, to captured money."""

    @routes.post("/payment_intents/{intent_id}/authenticate")
    async def authenticate(intent_id: str, body: Card) -> Json:
        """The payer answers the bank about the charge of a saved method."""
        intent = _found(twin, "payment_intent", intent_id)
        return {"outcome": vault.authenticate(intent, approved=body.approved is not False)}

    @routes.post("/payment_methods/{method_id}/outcomes")
    async def plan_outcomes(method_id: str, body: Outcomes) -> Json:
        """What the next charges of a saved method do; afterwards it behaves as its card number says."""
        method = _found(twin, "payment_method", method_id)
        method["_outcomes"] = list(body.outcomes)
        twin.store.put("payment_method", twin.store.owner_of(method_id), method)
        return {"planned": len(body.outcomes)}

    @routes.post("/payment_methods/{method_id}/renew")
    async def renew_card(method_id: str, body: Json) -> Json:
        """The bank sends a new card: the body replaces `last4`, `exp_month`, `exp_year`."""
        return public(vault.renew(_found(twin, "payment_method", method_id), body))

    @routes.post("/payment_methods/{method_id}/mandate")
    async def change_mandate(method_id: str, body: Json) -> Json:
        """The payer's bank tells of the permission to debit a method: `status`, `type`."""
        return vault.change_mandate(_found(twin, "payment_method", method_id), body)

    @routes.post("/charges/{charge_id}/refund")
    async def refund_by_hand(charge_id: str, body: HandRefund) -> Json:
        """What the merchant does in the dashboard; amounts in minor units, all that is left without one."""
        charge = _found(twin, "charge", charge_id)
        intent = _found(twin, "payment_intent", charge["payment_intent"])
        left = charge["amount"] - charge["amount_refunded"]
        amount = body.amount or left
        if not 0 < amount <= left:
            raise HTTPException(409, f"{left} is left to refund")
        return twin.refund(twin.store.owner_of(charge_id), intent, amount, {"_status": body.status})

    @routes.post("/refunds/{refund_id}/settle")
    async def settle_refund(refund_id: str, body: Settlement) -> Json:
        """A refund that is pending succeeds or fails."""
        refund = _found(twin, "refund", refund_id)
        return twin.settle_refund(refund) if body.succeeded else twin.return_refund(refund, "declined")

    @routes.post("/refunds/{refund_id}/return")
    async def return_refund(refund_id: str) -> Json:
        """A refund that had succeeded comes back from the payer's bank."""
        return twin.return_refund(_found(twin, "refund", refund_id))

    @routes.post("/charges/{charge_id}/dispute")
    async def dispute(charge_id: str, body: Json | None = None) -> Json:
        """A dispute; the body replaces what a usual one holds, such as `amount`, `status` or `evidence_details`."""
        return twin.dispute(_found(twin, "charge", charge_id), body or {})

    @routes.post("/disputes/{dispute_id}/{status}")
    async def decide_dispute(dispute_id: str, status: str) -> Json:
        return twin.decide_dispute(_found(twin, "dispute", dispute_id), status)


def _found(twin: StripeTwin, kind: str, thing_id: str) -> Json:
    thing = twin.store.get(kind, thing_id)
    if thing is None:
        raise HTTPException(404, f"no such {kind}")
    return thing

"""Subscriptions that Stripe manages: renewed, failed, recovered and cancelled at the sandbox's controls.

Every change tells of itself by several events of the same second, in an order that chance decides.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from sandbox.state import Json, new_id
from sandbox.stripe_objects import GOOD, StripeTwin, public

MONTH_SECONDS = 30 * 24 * 3600
RETRY_SECONDS = 3 * 24 * 3600


class NewSubscription(BaseModel):
    """A subscription that the merchant made at the provider; amounts in minor units."""

    account_key: str
    amount: int = 9900
    currency: str = "ils"
    customer: str = "cus_sandbox"
    metadata: dict[str, str] = {}


class Renewal(BaseModel):
    """How the charge of the next period goes."""

    paid: bool = True


@dataclass(slots=True)
class StripeBilling:
    """The provider's own subscriptions."""

    twin: StripeTwin

    def create(self, wanted: NewSubscription) -> Json:
        """A subscription whose first period is paid."""
        now = int(time.time())
        item: Json = {
            "id": new_id("si"),
            "object": "subscription_item",
            "current_period_start": now,
            "current_period_end": now + MONTH_SECONDS,
            "price": {"id": new_id("price"), "unit_amount": wanted.amount, "nickname": "Sandbox plan"},
            "quantity": 1,
        }
        found: Json = {
            "id": new_id("sub"),
            "object": "subscription",
            "cancel_at_period_end": False,
            "canceled_at": None,
            "created": now,
            "currency": wanted.currency,
            "customer": wanted.customer,
            "description": None,
            "ended_at": None,
            "items": {"object": "list", "data": [item]},
            "livemode": False,
            "metadata": wanted.metadata,
            "status": "active",
            "trial_end": None,
        }
        self.twin.store.put("subscription", wanted.account_key, found)
        invoice = self._invoice(found, "subscription_create")
        self._tell(found, [("customer.subscription.created", found), *self._charge(found, invoice, paid=True)])
        return public(found)

    def renew(self, found: Json, *, paid: bool) -> Json:
        """The next period begins and is charged."""
        item = found["items"]["data"][0]
        start = item["current_period_end"]
        item |= {"current_period_start": start, "current_period_end": start + MONTH_SECONDS}
        invoice = self._invoice(found, "subscription_cycle")
        self._tell(found, [("invoice.created", public(invoice)), *self._charge(found, invoice, paid=paid)])
        return public(invoice)

    def retry(self, found: Json, *, paid: bool) -> Json:
        """The open invoice is charged once more."""
        owner = self.twin.store.owner_of(found["id"])
        unpaid = [
            one
            for one in self.twin.store.all("invoice", owner)
            if one["_of"] == found["id"] and one["status"] == "open"
        ]
        if not unpaid:
            raise HTTPException(409, "nothing is open")
        self._tell(found, self._charge(found, unpaid[0], paid=paid))
        return public(unpaid[0])

    def finalize(self, found: Json) -> Json:
        """The next period begins; its invoice is open, and is charged an hour or more later."""
        item = found["items"]["data"][0]
        start = item["current_period_end"]
        item |= {"current_period_start": start, "current_period_end": start + MONTH_SECONDS}
        invoice = self._invoice(found, "subscription_cycle")
        self._tell(found, [("invoice.finalized", public(invoice))])
        return public(invoice)

    def give_up(self, found: Json, status: str) -> Json:
        """The merchant gives the open invoice up at the desk: `void`, or `uncollectible`; the subscription goes on."""
        owner = self.twin.store.owner_of(found["id"])
        opened = [
            one
            for one in self.twin.store.all("invoice", owner)
            if one["_of"] == found["id"] and one["status"] == "open"
        ]
        if not opened:
            raise HTTPException(409, "nothing is open")
        invoice = opened[0] | {"status": status, "next_payment_attempt": None}
        self.twin.store.put("invoice", owner, invoice)
        found["status"] = "active"
        kind = {"void": "invoice.voided", "uncollectible": "invoice.marked_uncollectible"}[status]
        self._tell(found, [(kind, public(invoice))])
        return public(invoice)

    def cancel(self, found: Json) -> Json:
        """It ends now."""
        now = int(time.time())
        found |= {"status": "canceled", "canceled_at": now, "ended_at": now}
        self._tell(found, [("customer.subscription.deleted", found)])
        return public(found)

    def _invoice(self, found: Json, reason: str) -> Json:
        item, owner = found["items"]["data"][0], self.twin.store.owner_of(found["id"])
        amount = item["price"]["unit_amount"] * item["quantity"]
        line = {"period": {"start": item["current_period_start"], "end": item["current_period_end"]}, "amount": amount}
        invoice: Json = {
            "id": new_id("in"),
            "object": "invoice",
            "amount_due": amount,
            "amount_paid": 0,
            "attempt_count": 0,
            "billing_reason": reason,
            "created": int(time.time()),
            "currency": found["currency"],
            "customer": found["customer"],
            "lines": {"object": "list", "data": [line]},
            "livemode": False,
            "next_payment_attempt": None,
            "parent": {"type": "subscription_details", "subscription_details": {"subscription": found["id"]}},
            "payments": {"object": "list", "data": []},
            "status": "open",
            "status_transitions": {"paid_at": None},
            "total": amount,
            "_of": found["id"],
        }
        return self.twin.store.put("invoice", owner, invoice)

    def _charge(self, found: Json, invoice: Json, *, paid: bool) -> list[tuple[str, Json]]:
        owner, now = self.twin.store.owner_of(found["id"]), int(time.time())
        invoice["attempt_count"] += 1
        if paid:
            fields: Json = {"amount": invoice["amount_due"], "currency": found["currency"], "metadata": {}}
            intent = self.twin.new_intent(owner, fields)
            self.twin.confirm(intent, GOOD)
            payment = {"type": "payment_intent", "payment_intent": intent["id"]}
            invoice |= {
                "amount_paid": invoice["amount_due"],
                "next_payment_attempt": None,
                "payments": {"object": "list", "data": [{"status": "paid", "payment": payment}]},
                "status": "paid",
                "status_transitions": {"paid_at": now},
            }
            found["status"] = "active"
            kinds = ["invoice.paid", "invoice.payment_succeeded"]
        else:
            invoice["next_payment_attempt"] = now + RETRY_SECONDS
            found["status"] = "past_due"
            kinds = ["invoice.payment_failed"]
        self.twin.store.put("invoice", owner, invoice)
        self.twin.store.put("subscription", owner, found)
        told = [(kind, public(invoice)) for kind in kinds]
        return [*told, ("customer.subscription.updated", public(found))]

    def _tell(self, found: Json, events: list[tuple[str, Json]]) -> None:
        owner = self.twin.store.owner_of(found["id"])
        self.twin.store.put("subscription", owner, found)
        for kind, thing in random.sample(events, len(events)):
            self.twin.events.emit(owner, kind, thing)


def router(billing: StripeBilling) -> APIRouter:
    """The controls."""
    routes = APIRouter(prefix="/sandbox/subscriptions")

    def found(subscription_id: str) -> Json:
        thing = billing.twin.store.get("subscription", subscription_id)
        if thing is None:
            raise HTTPException(404, "no such subscription")
        return thing

    @routes.post("")
    async def create(body: NewSubscription) -> Any:
        return billing.create(body)

    @routes.post("/{subscription_id}/renew")
    async def renew(subscription_id: str, body: Renewal) -> Any:
        return billing.renew(found(subscription_id), paid=body.paid)

    @routes.post("/{subscription_id}/retry")
    async def retry(subscription_id: str, body: Renewal) -> Any:
        return billing.retry(found(subscription_id), paid=body.paid)

    @routes.post("/{subscription_id}/finalize")
    async def finalize(subscription_id: str) -> Any:
        return billing.finalize(found(subscription_id))

    @routes.post("/{subscription_id}/give-up/{status}")
    async def give_up(subscription_id: str, status: Literal["void", "uncollectible"]) -> Any:
        return billing.give_up(found(subscription_id), status)

    @routes.post("/{subscription_id}/cancel")
    async def cancel(subscription_id: str) -> Any:
        return billing.cancel(found(subscription_id))

    return routes

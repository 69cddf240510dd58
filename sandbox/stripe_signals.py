"""What Stripe tells of beside payments: fraud warnings and reviews of them, and payouts; by the sandbox's controls."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel

from sandbox.state import Json, new_id
from sandbox.stripe_objects import StripeTwin

REFUNDING = ("refunded", "refunded_as_fraud")


class NewPayout(BaseModel):
    """A payout to the merchant's bank account; minor units."""

    account_key: str
    amount: int = 1204450
    currency: str = "ils"


class Closed(BaseModel):
    """How somebody has decided on a review."""

    reason: str = "approved"


class PayoutChange(BaseModel):
    """What became of a payout."""

    failure_code: str | None = None


@dataclass(slots=True)
class StripeSignals:
    """Warnings and payouts."""

    twin: StripeTwin

    def warn(self, charge: Json, changes: Json) -> Json:
        """The payer's bank reports fraud."""
        warning: Json = {
            "id": new_id("issfr"),
            "object": "radar.early_fraud_warning",
            "actionable": is_actionable(charge),
            "charge": charge["id"],
            "created": int(time.time()),
            "fraud_type": "made_with_stolen_card",
            "livemode": False,
            "payment_intent": charge["payment_intent"],
        } | changes
        owner = self.twin.store.owner_of(charge["id"])
        self.twin.store.put("radar.early_fraud_warning", owner, warning)
        self.twin.events.emit(owner, "radar.early_fraud_warning.created", warning)
        return warning

    def review(self, charge: Json) -> Json:
        """A rule puts a payment aside for a person."""
        review: Json = {
            "id": new_id("prv"),
            "object": "review",
            "billing_zip": None,
            "charge": charge["id"],
            "closed_reason": None,
            "created": int(time.time()),
            "ip_address": "192.0.2.7",
            "ip_address_location": None,
            "livemode": False,
            "open": True,
            "opened_reason": "rule",
            "payment_intent": charge["payment_intent"],
            "reason": "rule",
            "session": None,
        }
        owner = self.twin.store.owner_of(charge["id"])
        self.twin.store.put("review", owner, review)
        self.twin.events.emit(owner, "review.opened", review)
        return review

    def close(self, review: Json, reason: str) -> Json:
        """The person has decided, and gives the money back where that was the decision."""
        owner = self.twin.store.owner_of(review["id"])
        charge = self.twin.must("charge", review["charge"])
        left = charge["amount"] - charge["amount_refunded"]
        if reason in REFUNDING and left:
            intent = self.twin.must("payment_intent", charge["payment_intent"])
            self.twin.refund(owner, intent, left, {"reason": "fraudulent"})
        review |= {"open": False, "closed_reason": reason, "reason": reason}
        self.twin.store.put("review", owner, review)
        self.twin.events.emit(owner, "review.closed", review)
        return review

    def pay_out(self, wanted: NewPayout) -> Json:
        """Money leaves for the bank account."""
        now = int(time.time())
        payout: Json = {
            "id": new_id("po"),
            "object": "payout",
            "amount": wanted.amount,
            "application_fee": None,
            "application_fee_amount": None,
            "arrival_date": now - now % 86400 + 2 * 86400,
            "automatic": True,
            "balance_transaction": new_id("txn"),
            "created": now,
            "currency": wanted.currency,
            "description": "STRIPE PAYOUT",
            "destination": new_id("ba"),
            "failure_balance_transaction": None,
            "failure_code": None,
            "failure_message": None,
            "livemode": False,
            "metadata": {},
            "method": "standard",
            "original_payout": None,
            "reconciliation_status": "in_progress",
            "reversed_by": None,
            "source_type": "card",
            "statement_descriptor": None,
            "status": "pending",
            "type": "bank_account",
        }
        self.twin.store.put("payout", wanted.account_key, payout)
        self.twin.events.emit(wanted.account_key, "payout.created", payout)
        return payout

    def change(self, payout: Json, status: str, failure_code: str | None) -> Json:
        """The bank has it, or sent it back."""
        owner = self.twin.store.owner_of(payout["id"])
        payout |= {"status": status, "failure_code": failure_code}
        self.twin.store.put("payout", owner, payout)
        kind = status if status in ("paid", "failed", "canceled") else "updated"
        self.twin.events.emit(owner, f"payout.{kind}", payout)
        return payout


def is_actionable(charge: Json) -> bool:
    """Neither disputed nor wholly refunded."""
    return not charge["disputed"] and charge["amount_refunded"] < charge["amount"]


def router(signals: StripeSignals) -> APIRouter:
    """The controls."""
    routes = APIRouter(prefix="/sandbox")

    def found(kind: str, thing_id: str) -> Json:
        thing = signals.twin.store.get(kind, thing_id)
        if thing is None:
            raise HTTPException(404, f"no such {kind}")
        return thing

    @routes.post("/charges/{charge_id}/fraud-warning")
    async def warn(charge_id: str, body: Json | None = None) -> Json:
        return signals.warn(found("charge", charge_id), body or {})

    @routes.post("/charges/{charge_id}/review")
    async def review(charge_id: str) -> Json:
        return signals.review(found("charge", charge_id))

    @routes.post("/reviews/{review_id}/close")
    async def close(review_id: str, body: Closed) -> Json:
        return signals.close(found("review", review_id), body.reason)

    @routes.post("/payouts")
    async def pay_out(body: NewPayout) -> Json:
        return signals.pay_out(body)

    @routes.post("/payouts/{payout_id}/{status}")
    async def change(payout_id: str, status: str, body: PayoutChange) -> Json:
        return signals.change(found("payout", payout_id), status, body.failure_code)

    return routes

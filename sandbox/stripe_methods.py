"""Stripe's customers, set-ups and saved methods: what is kept of a card, and how it behaves when it is charged.

Cards that decline when they are charged can be saved here, so that a renewal can fail by test card:
`4000000000000341` (declined), `…9995` (insufficient funds), `…9979` (stolen), `…0119` (processing error), `…0069`
(expired). `4000002500003155` is confirmed once, at the set-up; `4000002760003184` at every charge.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sandbox.state import Json, new_id
from sandbox.stripe_objects import CHALLENGE, DECLINES, StripeTwin, card_details, public

REFUSED_AT_SETUP = ("4000000000000002", "4000000000000127")
CONFIRMED_AT_SETUP = (CHALLENGE, "4000002500003155", "4000002760003184")
CONFIRMED_ALWAYS = (CHALLENGE, "4000002760003184")
DECLINED_WHEN_CHARGED = {
    **DECLINES,
    "4000000000000341": ("card_declined", "generic_decline", "Your card was declined."),
}
AUTHENTICATION = ("authentication_required", "authentication_required", "Your card requires authentication.")
OUTCOMES = {
    "expired_card": ("expired_card", None, "Your card has expired."),
    "processing_error": ("processing_error", None, "An error occurred while processing your card."),
    "authentication_required": AUTHENTICATION,
}


def outcome_named(name: str) -> tuple[str, str | None, str]:
    """The decline of a planned outcome: its own code, or one of the codes below `card_declined`."""
    return OUTCOMES.get(name, ("card_declined", name, "Your card was declined."))


@dataclass(slots=True)
class StripeVault:
    """Customers and the methods that they have saved."""

    twin: StripeTwin

    def __post_init__(self) -> None:
        """Save methods when payments that are to save them are paid."""
        self.twin.on_capture = self.save_with

    def save_with(self, owner: str, intent: Json, card: str) -> None:
        """A payment is paid: keep its card, where that was asked for and the customer is known."""
        if intent["payment_method"] is None and intent.get("setup_future_usage") and intent.get("customer"):
            intent["payment_method"] = self.save(owner, intent["customer"], card)["id"]

    def new_customer(self, owner: str, fields: Json) -> Json:
        """A customer."""
        customer: Json = {
            "id": new_id("cus"),
            "object": "customer",
            "created": int(time.time()),
            "email": fields.get("email"),
            "livemode": False,
            "metadata": fields.get("metadata", {}),
            "name": fields.get("name"),
        }
        self.twin.store.put("customer", owner, customer)
        self.twin.events.emit(owner, "customer.created", customer)
        return customer

    def delete_customer(self, customer: Json) -> Json:
        """A customer goes; the methods with it."""
        owner = self.twin.store.owner_of(customer["id"])
        for method in self.twin.store.all("payment_method", owner):
            if method["customer"] == customer["id"]:
                self.detach(method)
        self.twin.store.remove(customer["id"])
        self.twin.events.emit(owner, "customer.deleted", customer)
        return {"id": customer["id"], "object": "customer", "deleted": True}

    def save(self, owner: str, customer: str, card: str) -> Json:
        """A card becomes a method of a customer. The number stays in the sandbox, where it decides what happens."""
        card = "".join(card.split())
        method: Json = {
            "id": new_id("pm"),
            "object": "payment_method",
            "created": int(time.time()),
            "customer": customer,
            "livemode": False,
            "metadata": {},
            "type": "card",
            "card": card_details(card),
            "_card": card,
            "_outcomes": [],
        }
        self.twin.store.put("payment_method", owner, method)
        self.twin.events.emit(owner, "payment_method.attached", public(method))
        return method

    def detach(self, method: Json) -> Json:
        """A method belongs to nobody any more and cannot be charged."""
        owner = self.twin.store.owner_of(method["id"])
        method["customer"] = None
        self.twin.store.put("payment_method", owner, method)
        self.twin.events.emit(owner, "payment_method.detached", public(method))
        return method

    def change_mandate(self, method: Json, changes: Json) -> Json:
        """The payer's permission to debit a method is given, or taken back at the bank; `changes` say how it stands."""
        owner = self.twin.store.owner_of(method["id"])
        known = [one for one in self.twin.store.all("mandate", owner) if one["payment_method"] == method["id"]]
        mandate: Json = {
            "id": new_id("mandate"),
            "object": "mandate",
            "customer_acceptance": {"accepted_at": int(time.time()), "type": "offline", "offline": {}},
            "livemode": False,
            "multi_use": {},
            "payment_method": method["id"],
            "payment_method_details": {"type": method["type"], method["type"]: {}},
            "status": "active",
            "type": "multi_use",
        }
        mandate = (known[0] if known else mandate) | changes
        self.twin.store.put("mandate", owner, mandate)
        self.twin.events.emit(owner, "mandate.updated", mandate)
        return mandate

    def renew(self, method: Json, changes: Json) -> Json:
        """The bank has sent a new card: last digits and expiry change, the method stays."""
        owner = self.twin.store.owner_of(method["id"])
        method["card"] = method["card"] | changes
        self.twin.store.put("payment_method", owner, method)
        self.twin.events.emit(owner, "payment_method.automatically_updated", public(method))
        return method

    def new_setup(self, owner: str, base_url: str, fields: Json) -> Json:
        """An open session of mode `setup`; its setup intent waits for a card."""
        now = int(time.time())
        intent: Json = {
            "id": new_id("seti"),
            "object": "setup_intent",
            "created": now,
            "customer": fields.get("customer"),
            "last_setup_error": None,
            "livemode": False,
            "metadata": fields.get("setup_intent_data", {}).get("metadata", {}),
            "payment_method": None,
            "status": "requires_payment_method",
            "usage": "off_session",
        }
        self.twin.store.put("setup_intent", owner, intent)
        return self.twin.new_session(
            owner,
            base_url,
            mode="setup",
            amount_total=0,
            payment_status="no_payment_required",
            cancel_url=fields.get("cancel_url"),
            client_reference_id=fields.get("client_reference_id"),
            currency=str(fields.get("currency", "usd")).lower(),
            customer=fields.get("customer"),
            customer_email=None,
            expires_at=int(fields.get("expires_at", now + 24 * 3600)),
            metadata=fields.get("metadata", {}),
            setup_intent=intent["id"],
            success_url=fields.get("success_url"),
            _product="Save a payment method",
        )

    def enter(self, session: Json, card: str, *, approved: bool | None = None) -> str:
        """The customer submits a card on the page of a set-up. Returns paid, challenge, or the refusal's message."""
        owner, card = self.twin.store.owner_of(session["id"]), "".join(card.split())
        self.twin.expire_if_due(session)
        if session["status"] != "open":
            return "paid" if session["status"] == "complete" else "This page has expired."
        intent = self.twin.must("setup_intent", session["setup_intent"])
        if not (card.isdigit() and 12 <= len(card) <= 19):
            return "Your card number is invalid."
        if card in CONFIRMED_AT_SETUP and approved is None:
            intent |= {"status": "requires_action", "_card": card}
            self.twin.store.put("setup_intent", owner, intent)
            return "challenge"
        refusal: tuple[str, str | None, str] | None = None
        if card in REFUSED_AT_SETUP:
            refusal = DECLINES[card]
        elif approved is False:
            refusal = ("setup_intent_authentication_failure", None, "The bank could not confirm it was you.")
        if refusal is not None:
            intent |= {"status": "requires_payment_method", "last_setup_error": fault_of(refusal)}
            self.twin.store.put("setup_intent", owner, intent)
            self.twin.events.emit(owner, "setup_intent.setup_failed", public(intent))
            return refusal[2]
        customer = session["customer"] or self.new_customer(owner, {})["id"]
        method = self.save(owner, customer, card)
        intent |= {"status": "succeeded", "payment_method": method["id"], "customer": customer}
        self.twin.store.put("setup_intent", owner, intent | {"last_setup_error": None})
        session |= {"status": "complete", "url": None, "customer": customer}
        self.twin.store.put("checkout.session", owner, session)
        self.twin.events.emit(owner, "setup_intent.succeeded", public(intent))
        self.twin.events.emit(owner, "checkout.session.completed", public(session))
        return "paid"

    def charge(self, intent: Json, method: Json, *, off_session: bool, return_url: str | None, base_url: str) -> Json:
        """Confirm an intent with a saved method. The answer is the intent; a decline is in `last_payment_error`."""
        owner, card = self.twin.store.owner_of(intent["id"]), method["_card"]
        planned = method["_outcomes"].pop(0) if method["_outcomes"] else None
        intent |= {"payment_method": method["id"], "customer": method["customer"], "_return_url": return_url}
        wants_payer = planned == "authentication_required" or (planned is None and card in CONFIRMED_ALWAYS)
        decline = DECLINED_WHEN_CHARGED.get(card) if planned is None else None
        if planned not in (None, "succeed", "authentication_required"):
            decline = outcome_named(planned)
        self.twin.store.put("payment_method", owner, method)
        if wants_payer and off_session:
            if planned is not None:  # the same charge, with the payer there, meets the same bank
                method["_outcomes"].insert(0, planned)
            self.twin.decline(owner, intent, *AUTHENTICATION)
        elif wants_payer:
            url = f"{base_url}/pay/authenticate/{intent['id']}?client_secret={intent['client_secret']}"
            action = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": return_url}}
            if return_url is None:  # for the merchant's own page alone
                action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
            intent |= {"status": "requires_action", "next_action": action, "last_payment_error": None}
            self.twin.store.put("payment_intent", owner, intent)
            self.twin.events.emit(owner, "payment_intent.requires_action", public(intent))
        elif decline is not None:
            self.twin.decline(owner, intent, *decline)
        else:
            self.twin.capture(owner, intent, card)
        return intent

    def authenticate(self, intent: Json, *, approved: bool) -> str:
        """The payer answers the bank. Returns paid or the refusal's message."""
        owner = self.twin.store.owner_of(intent["id"])
        if intent["status"] != "requires_action":
            return "paid" if intent["status"] == "succeeded" else "This payment can no longer be confirmed."
        if not approved:
            code = "payment_intent_authentication_failure"
            return self.twin.decline(owner, intent, code, None, "The bank could not confirm it was you.")
        method = self.twin.must("payment_method", intent["payment_method"])
        self.twin.capture(owner, intent, method["_card"])
        return "paid"


def fault_of(decline: tuple[str, str | None, str], **more: Any) -> Json:
    """The error object of a decline."""
    code, decline_code, message = decline
    return {"type": "card_error", "code": code, "decline_code": decline_code, "message": message} | more

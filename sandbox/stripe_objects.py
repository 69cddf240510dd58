"""Stripe's objects and what payers do to them, apart from HTTP."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.state import Json, Store, new_id
from sandbox.webhooks import StripeEvents

DECLINES = {
    "4000000000000002": ("card_declined", "generic_decline", "Your card was declined."),
    "4000000000009995": ("card_declined", "insufficient_funds", "Your card has insufficient funds."),
    "4000000000000069": ("expired_card", None, "Your card has expired."),
    "4000000000000127": ("incorrect_cvc", None, "Your card's security code is incorrect."),
    "4000000000009979": ("card_declined", "stolen_card", "Your card was declined."),
    "4000000000000119": ("processing_error", None, "An error occurred while processing your card."),
}
CHALLENGE = "4000000000003220"
REFUNDS_LATER = "4000000000007726"
"""A card whose refunds are pending at first."""
GOOD = "4242424242424242"
SHOWN_REFUNDS = 10
"""As many refunds a charge shows of itself."""


def card_details(number: str) -> Json:
    """What Stripe tells of a card; the fingerprint is the same for the same number."""
    return {
        "brand": {"5": "mastercard", "3": "amex"}.get(number[:1], "visa"),
        "exp_month": 12,
        "exp_year": time.gmtime().tm_year + 2,
        "fingerprint": hashlib.sha256(f"sandbox:{number}".encode()).hexdigest()[:16],
        "last4": number[-4:],
    }


@dataclass(slots=True)
class StripeTwin:
    """The state machine of sessions, intents, charges and refunds."""

    store: Store
    events: StripeEvents
    on_capture: Callable[[str, Json, str], None] | None = None
    """Told of every capture before it happens: whoever saves methods does so then."""

    def new_intent(self, owner: str, fields: Json) -> Json:
        """A payment intent that waits for a card."""
        intent_id = new_id("pi")
        intent: Json = {
            "id": intent_id,
            "object": "payment_intent",
            "amount": fields["amount"],
            "amount_received": 0,
            "automatic_payment_methods": _automatic(fields.get("automatic_payment_methods")),
            "canceled_at": None,
            "client_secret": new_id(f"{intent_id}_secret"),
            "created": int(time.time()),
            "currency": fields["currency"],
            "description": fields.get("description"),
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": False,
            "metadata": fields.get("metadata", {}),
            "next_action": None,
            "customer": fields.get("customer"),
            "payment_method": None,
            "setup_future_usage": fields.get("setup_future_usage"),
            "status": "requires_payment_method",
        }
        self.store.put("payment_intent", owner, intent)
        self.events.emit(owner, "payment_intent.created", intent)
        return intent

    def new_session(self, owner: str, base_url: str, **fields: Any) -> Json:
        """An open checkout session."""
        session_id = new_id("cs_test")
        session: Json = {
            "id": session_id,
            "object": "checkout.session",
            "created": int(time.time()),
            "livemode": False,
            "mode": "payment",
            "payment_intent": None,
            "payment_link": None,
            "payment_status": "unpaid",
            "status": "open",
            "url": f"{base_url}/c/pay/{session_id}",
        }
        return self.store.put("checkout.session", owner, session | fields)

    def new_link(self, owner: str, base_url: str, amount: int, price: Json, fields: Json) -> Json:
        """A payment link; it has no moment of creation and no expiry."""
        link_id = new_id("plink")
        limit = fields.get("restrictions", {}).get("completed_sessions", {}).get("limit")
        link: Json = {
            "id": link_id,
            "object": "payment_link",
            "active": True,
            "after_completion": fields.get("after_completion", {"type": "hosted_confirmation"}),
            "currency": str(price["currency"]).lower(),
            "livemode": False,
            "metadata": fields.get("metadata", {}),
            "payment_intent_data": fields.get("payment_intent_data"),
            "restrictions": {"completed_sessions": {"count": 0, "limit": int(limit)}} if limit else None,
            "url": f"{base_url}/b/{link_id}",
            "_amount": amount,
            "_product": price.get("product_data", {}).get("name", "Payment"),
        }
        return self.store.put("payment_link", owner, link)

    def visit_link(self, link: Json, base_url: str, client_reference_id: str | None) -> Json | None:
        """Somebody opens a link: a fresh session, or None when the link takes no more payments."""
        if not link["active"] or self.is_used_up(link):
            return None
        redirect = link["after_completion"].get("redirect", {})
        return self.new_session(
            self.store.owner_of(link["id"]),
            base_url,
            amount_total=link["_amount"],
            cancel_url=None,
            client_reference_id=client_reference_id,
            currency=link["currency"],
            customer_email=None,
            expires_at=int(time.time()) + 24 * 3600,
            metadata=link["metadata"],
            payment_link=link["id"],
            success_url=redirect.get("url"),
            _intent_metadata=(link["payment_intent_data"] or {}).get("metadata", {}),
            _product=link["_product"],
        )

    def is_used_up(self, link: Json) -> bool:
        """Whether as many sessions are complete as the link allows."""
        completed = (link["restrictions"] or {}).get("completed_sessions")
        return completed is not None and completed["count"] >= completed["limit"]

    def _link_refuses(self, session: Json) -> bool:
        """Whether another session of the same link was complete first."""
        return session.get("payment_link") is not None and self.is_used_up(
            self.must("payment_link", session["payment_link"])
        )

    def _count_completion(self, session: Json) -> None:
        if session.get("payment_link") is None:
            return
        link = self.must("payment_link", session["payment_link"])
        if link["restrictions"] is not None:
            link["restrictions"]["completed_sessions"]["count"] += 1
            self.store.put("payment_link", self.store.owner_of(link["id"]), link)

    def pay_session(self, session: Json, card: str, *, approved: bool | None = None) -> str:
        """The payer submits a card on the hosted page. Returns paid, challenge, or the decline's message."""
        owner = self.store.owner_of(session["id"])
        self.expire_if_due(session)
        if session["status"] != "open":
            return "paid" if session["payment_status"] == "paid" else "This page has expired."
        if self._link_refuses(session):
            return "This link was paid already."
        if session["payment_intent"] is None:
            fields = {"amount": session["amount_total"], "currency": session["currency"]}
            fields |= {"customer": session.get("customer"), "setup_future_usage": session.get("_setup_future_usage")}
            intent = self.new_intent(owner, fields | {"metadata": session["_intent_metadata"]})
            self.store.put("checkout.session", owner, session | {"payment_intent": intent["id"]})
            session["payment_intent"] = intent["id"]
        intent = self.must("payment_intent", session["payment_intent"])
        outcome = self.confirm(intent, card, approved=approved)
        if outcome == "paid":
            session |= {"status": "complete", "payment_status": "paid", "url": None}
            session["customer_details"] = {"email": session.get("customer_email")}
            self.store.put("checkout.session", owner, session)
            self._count_completion(session)
            self.events.emit(owner, "checkout.session.completed", public(session))
        return outcome

    def pay_session_later(self, session: Json) -> str:
        """The payer chooses a bank debit: the page is complete, the money comes (or not) later."""
        owner = self.store.owner_of(session["id"])
        if session["mode"] != "payment":
            return "This page takes cards."
        if session["status"] != "open":
            return "This page has expired."
        if self._link_refuses(session):
            return "This link was paid already."
        fields = {"amount": session["amount_total"], "currency": session["currency"]}
        intent = self.new_intent(owner, fields | {"metadata": session["_intent_metadata"]})
        intent["status"] = "processing"
        self.store.put("payment_intent", owner, intent)
        session |= {"status": "complete", "payment_status": "unpaid", "url": None, "payment_intent": intent["id"]}
        self.store.put("checkout.session", owner, session)
        self._count_completion(session)
        self.events.emit(owner, "payment_intent.processing", intent)
        self.events.emit(owner, "checkout.session.completed", public(session))
        return "later"

    def settle_later(self, session: Json, *, succeeded: bool) -> None:
        """The bank debit of a complete session arrives or bounces."""
        owner, intent = self.store.owner_of(session["id"]), self.must("payment_intent", session["payment_intent"])
        if succeeded:
            self.capture(owner, intent, GOOD)
            session["payment_status"] = "paid"
        else:
            intent |= {
                "status": "requires_payment_method",
                "last_payment_error": {"code": "payment_intent_payment_attempt_failed"},
            }
            self.store.put("payment_intent", owner, intent)
            self.events.emit(owner, "payment_intent.payment_failed", intent)
        self.store.put("checkout.session", owner, session)
        self.events.emit(
            owner, f"checkout.session.async_payment_{'succeeded' if succeeded else 'failed'}", public(session)
        )

    def confirm(self, intent: Json, card: str, *, approved: bool | None = None) -> str:
        """Try a card on an intent. `approved` answers the 3DS challenge. Returns as `pay_session`."""
        owner, card = self.store.owner_of(intent["id"]), "".join(card.split())
        if intent["status"] in ("succeeded", "canceled", "processing"):
            return "paid" if intent["status"] == "succeeded" else "This payment can no longer be paid."
        if card == CHALLENGE and approved is None:
            intent |= {
                "status": "requires_action",
                "next_action": {"type": "use_stripe_sdk"},
                "last_payment_error": None,
            }
            self.store.put("payment_intent", owner, intent)
            self.events.emit(owner, "payment_intent.requires_action", intent)
            return "challenge"
        if card == CHALLENGE and not approved:
            return self.decline(
                owner, intent, "payment_intent_authentication_failure", None, "The bank could not confirm it was you."
            )
        if card in DECLINES:
            return self.decline(owner, intent, *DECLINES[card])
        if not (card.isdigit() and 12 <= len(card) <= 19):
            return "Your card number is invalid."
        self.capture(owner, intent, card)
        return "paid"

    def cancel_intent(self, intent: Json) -> Json:
        """Close an intent that was not paid."""
        owner = self.store.owner_of(intent["id"])
        intent |= {"status": "canceled", "canceled_at": int(time.time()), "next_action": None}
        self.store.put("payment_intent", owner, intent)
        self.events.emit(owner, "payment_intent.canceled", intent)
        return intent

    def expire(self, session: Json) -> Json:
        """Close a session; its intent, if any, is canceled with it."""
        owner = self.store.owner_of(session["id"])
        session |= {"status": "expired", "url": None}
        self.store.put("checkout.session", owner, session)
        if session.get("setup_intent") is not None:
            setup = self.must("setup_intent", session["setup_intent"])
            self.store.put("setup_intent", owner, setup | {"status": "canceled"})
        if session["payment_intent"] is not None:
            self.cancel_intent(self.must("payment_intent", session["payment_intent"]))
        self.events.emit(owner, "checkout.session.expired", public(session))
        return session

    def expire_if_due(self, session: Json) -> None:
        """A session closes by itself when its time is over."""
        if session["status"] == "open" and session["expires_at"] <= time.time():
            self.expire(session)

    def refund(self, owner: str, intent: Json, amount: int, fields: Json) -> Json:
        """Give back part of a captured intent."""
        charge = self.must("charge", intent["latest_charge"])
        status = fields.get("_status") or ("pending" if charge.get("_refunds_later") else "succeeded")
        refund: Json = {
            "id": new_id("re"),
            "object": "refund",
            "amount": amount,
            "charge": charge["id"],
            "created": int(time.time()),
            "currency": intent["currency"],
            "metadata": fields.get("metadata", {}),
            "payment_intent": intent["id"],
            "reason": fields.get("reason"),
            "status": status,
        }
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        self.store.put("charge", owner, charge)
        self.store.put("refund", owner, refund)
        self.events.emit(owner, "refund.created", refund)
        self.events.emit(owner, "charge.refunded", public(charge))
        return refund

    def settle_refund(self, refund: Json) -> Json:
        """A refund that was pending has reached the payer."""
        owner = self.store.owner_of(refund["id"])
        self.store.put("refund", owner, refund | {"status": "succeeded"})
        refund = self.must("refund", refund["id"])
        self.events.emit(owner, "refund.updated", refund)
        return refund

    def return_refund(self, refund: Json, reason: str = "expired_or_canceled_card") -> Json:
        """The payer's bank sends a refund back: it has failed after all, and the money is in the balance again."""
        owner = self.store.owner_of(refund["id"])
        charge = self.must("charge", refund["charge"])
        refund["status"], refund["failure_reason"] = "failed", reason
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
        self.store.put("charge", owner, charge)
        self.store.put("refund", owner, refund)
        self.events.emit(owner, "refund.updated", refund)
        self.events.emit(owner, "refund.failed", refund)
        return refund

    def dispute(self, charge: Json, changes: Json) -> Json:
        """The payer's bank takes the money back for now; `changes` replace what a usual dispute holds."""
        owner = self.store.owner_of(charge["id"])
        dispute: Json = {
            "id": new_id("dp"),
            "object": "dispute",
            "amount": charge["amount"],
            "charge": charge["id"],
            "created": int(time.time()),
            "currency": charge["currency"],
            "payment_intent": charge["payment_intent"],
            "evidence_details": {"due_by": int(time.time()) + 7 * 24 * 3600},
            "reason": "fraudulent",
            "status": "needs_response",
        } | changes
        self.store.put("dispute", owner, dispute)
        self.store.put("charge", owner, charge | {"disputed": True})
        self.events.emit(owner, "charge.dispute.created", dispute)
        return dispute

    def decide_dispute(self, dispute: Json, status: str) -> Json:
        """The bank's next word on a dispute."""
        owner = self.store.owner_of(dispute["id"])
        dispute["status"] = status
        self.store.put("dispute", owner, dispute)
        closed = status in ("won", "lost", "warning_closed")
        self.events.emit(owner, "charge.dispute.closed" if closed else "charge.dispute.updated", dispute)
        return dispute

    def charged_back(self, charge_id: str) -> bool:
        """Whether a bank holds a charge's money, for now or for good."""
        free = ("won", "warning_needs_response", "warning_under_review", "warning_closed")
        return any(one["charge"] == charge_id and one["status"] not in free for one in self.store.all("dispute"))

    def must(self, kind: str, thing_id: str) -> Json:
        """An object that exists because another refers to it."""
        found = self.store.get(kind, thing_id)
        if found is None:
            raise LookupError(thing_id)
        return found

    def expanded(self, thing: Json, paths: list[str]) -> Json:
        """The public form with the asked references replaced by their objects."""
        shown = public(thing)
        for path in paths:
            self._expand(shown, path.split("."))
        return shown

    def _expand(self, holder: Json, path: list[str]) -> None:
        name, rest = path[0], path[1:]
        value: Any = holder.get(name)
        kinds = {"payment_intent", "setup_intent", "payment_method"}
        kind = "charge" if name == "latest_charge" else name if name in kinds else None
        if name == "refunds" and holder.get("object") == "charge":
            made = [one for one in self.store.all("refund") if one["charge"] == holder["id"]]
            holder[name] = {"object": "list", "data": made[:SHOWN_REFUNDS], "has_more": len(made) > SHOWN_REFUNDS}
            return
        if isinstance(value, str) and kind is not None:
            found = self.store.get(kind, value)
            holder[name] = value = public(found) if found is not None else value
        if rest and isinstance(value, dict):
            self._expand(value, rest)

    def capture(self, owner: str, intent: Json, card: str) -> None:
        """Money arrives; where the intent is to be used again, what paid it is saved."""
        if self.on_capture is not None:
            self.on_capture(owner, intent, card)
        charge: Json = {
            "id": new_id("ch"),
            "object": "charge",
            "amount": intent["amount"],
            "amount_refunded": 0,
            "created": int(time.time()),
            "currency": intent["currency"],
            "metadata": intent["metadata"],
            "paid": True,
            "payment_intent": intent["id"],
            "payment_method": intent["payment_method"],
            "payment_method_details": {"type": "card", "card": card_details(card)},
            "disputed": False,
            "refunded": False,
            "status": "succeeded",
        }
        if card == REFUNDS_LATER:
            charge["_refunds_later"] = True
        if intent["payment_method"] is not None:
            known = self.store.get("payment_method", intent["payment_method"])
            charge["payment_method_details"] = {"type": "card", "card": dict(known["card"]) if known else {}}
        self.store.put("charge", owner, charge)
        intent |= {
            "status": "succeeded",
            "amount_received": intent["amount"],
            "latest_charge": charge["id"],
            "last_payment_error": None,
            "next_action": None,
        }
        self.store.put("payment_intent", owner, intent)
        self.events.emit(owner, "charge.succeeded", public(charge))
        self.events.emit(owner, "payment_intent.succeeded", intent)

    def decline(self, owner: str, intent: Json, code: str, decline_code: str | None, message: str) -> str:
        """The bank says no; the intent waits for another try."""
        error = {"type": "card_error", "code": code, "decline_code": decline_code, "message": message}
        intent |= {"status": "requires_payment_method", "last_payment_error": error, "next_action": None}
        self.store.put("payment_intent", owner, intent)
        self.events.emit(owner, "payment_intent.payment_failed", intent)
        return message


def _automatic(given: Json | None) -> Json | None:
    """Which methods an intent takes, as its answer shows it: redirects unless they are not wanted."""
    if given is None:
        return None
    return {"enabled": given.get("enabled") == "true", "allow_redirects": given.get("allow_redirects", "always")}


def public(thing: Json) -> Json:
    """Without what the sandbox keeps for itself."""
    return {name: value for name, value in thing.items() if not name.startswith("_")}

"""Stripe's HTTP interface: form bodies in, JSON out, idempotency keys, errors in Stripe's shape."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from sandbox import stripe_links, variants
from sandbox.faults import FaultPlan, Trouble, after_acting, before_acting
from sandbox.state import Json, new_id
from sandbox.stripe_methods import StripeVault
from sandbox.stripe_objects import StripeTwin, public
from sandbox.stripe_signals import is_actionable

MINIMUM = {
    "usd": 50, "eur": 50, "gbp": 30, "aed": 200, "aud": 50, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250,
    "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200, "nok": 300, "nzd": 50, "pln": 200,
    "ron": 200, "sek": 300, "sgd": 50, "thb": 1000, "ils": 50, "cop": 50, "zar": 50, "ars": 50, "krw": 50,
}  # fmt: skip
"""Smallest charges, in minor units."""
MAXIMUM = 99_999_999
THREE_DECIMAL = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
MIN_LIFE_SECONDS, MAX_LIFE_SECONDS = 30 * 60, 24 * 3600


RETURN_URL_ALWAYS = "return_url_always"
VARIANTS = {
    RETURN_URL_ALWAYS: "confirming an intent that allows redirects without a return_url gets 400 also off session;"
    " seen on session (opencollective/opencollective-frontend 12346, woocommerce/woocommerce-gateway-stripe 2982)",
}
"""Other answers of the real system: `sandbox.variants`."""


class StripeFault(Exception):
    """An error answer of the interface."""

    def __init__(self, status: int, kind: str, message: str, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"error": {"type": kind, "message": message, "code": code, "param": param}}


def invalid(message: str, code: str | None = None, param: str | None = None, status: int = 400) -> StripeFault:
    """A request that Stripe does not accept."""
    return StripeFault(status, "invalid_request_error", message, code, param)


def missing(kind: str, thing_id: str) -> StripeFault:
    """No such object of this account."""
    return invalid(f"No such {kind}: '{thing_id}'", "resource_missing", "id", 404)


def unflatten(pairs: list[tuple[str, str]]) -> Json:
    """`a[b][0]=c` to nested mappings and lists."""
    root: Json = {}
    for name, value in pairs:
        parts = [part for part in re.split(r"[\[\]]", name) if part]
        if name.endswith("[]"):
            root.setdefault(parts[0], []).append(value)
            continue
        node = root
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    shaped = _lists(root)
    return shaped if isinstance(shaped, dict) else {}


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    shaped = {name: _lists(value) for name, value in node.items()}
    if shaped and all(name.isdigit() for name in shaped):
        return [shaped[name] for name in sorted(shaped, key=int)]
    return shaped


@dataclass(slots=True)
class Call:
    """One request of one account."""

    owner: str
    fields: Json
    idempotency_key: str | None
    base_url: str

    @property
    def expand(self) -> list[str]:
        """Asked references."""
        return [str(path).removeprefix("data.") for path in self.fields.get("expand", [])]


Handler = Callable[[Call, str], Json]


@dataclass(slots=True)
class StripeApi:
    """The operations; `base_url` of the pages is taken from the request."""

    twin: StripeTwin
    faults: FaultPlan
    vault: StripeVault
    in_progress: set[str] = field(default_factory=set)

    def create_session(self, call: Call, _: str) -> Json:
        """POST /v1/checkout/sessions."""
        fields = call.fields
        items = fields.get("line_items") or []
        if fields.get("customer") and self.twin.store.get("customer", fields["customer"], call.owner) is None:
            raise invalid(f"No such customer: '{fields['customer']}'", "resource_missing", "customer")
        if fields.get("mode") == "setup":
            if not re.fullmatch(r"[a-z]{3}", str(fields.get("currency", ""))):
                raise invalid("Missing required param: currency.", "parameter_missing", "currency")
            return self.twin.expanded(self.vault.new_setup(call.owner, call.base_url, fields), call.expand)
        if fields.get("mode") != "payment":
            raise invalid("This sandbox takes the modes payment and setup.", param="mode")
        if not items:
            raise invalid("Missing required param: line_items.", "parameter_missing", "line_items")
        price = items[0].get("price_data", {})
        amount = sum(int(item["price_data"]["unit_amount"]) * int(item.get("quantity", 1)) for item in items)
        currency = str(price.get("currency", "")).lower()
        _check_amount(amount, currency, "line_items[0][price_data][unit_amount]")
        now = int(time.time())
        expires_at = int(fields.get("expires_at", now + MAX_LIFE_SECONDS))
        if not now + MIN_LIFE_SECONDS - 1 <= expires_at <= now + MAX_LIFE_SECONDS:
            raise invalid(
                "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.", param="expires_at"
            )
        session = self.twin.new_session(
            call.owner,
            call.base_url,
            amount_total=amount,
            cancel_url=fields.get("cancel_url"),
            client_reference_id=fields.get("client_reference_id"),
            currency=currency,
            customer=fields.get("customer"),
            customer_email=fields.get("customer_email"),
            expires_at=expires_at,
            metadata=fields.get("metadata", {}),
            success_url=fields.get("success_url"),
            _intent_metadata=fields.get("payment_intent_data", {}).get("metadata", {}),
            _product=price.get("product_data", {}).get("name", "Payment"),
            _setup_future_usage=fields.get("payment_intent_data", {}).get("setup_future_usage"),
        )
        return self.twin.expanded(session, call.expand)

    def read_session(self, call: Call, session_id: str) -> Json:
        """GET /v1/checkout/sessions/{id}."""
        return self.twin.expanded(self._session(call, session_id), call.expand)

    def list_sessions(self, call: Call, _: str) -> Json:
        """GET /v1/checkout/sessions."""
        return self._page(call, "checkout.session", "/v1/checkout/sessions")

    def expire_session(self, call: Call, session_id: str) -> Json:
        """POST /v1/checkout/sessions/{id}/expire."""
        session = self._session(call, session_id)
        if session["status"] != "open":
            raise invalid(
                f'Only Checkout Sessions with a status in ["open"] can be expired. This has {session["status"]}.'
            )
        return self.twin.expanded(self.twin.expire(session), call.expand)

    def create_link(self, call: Call, _: str) -> Json:
        """POST /v1/payment_links."""
        items = call.fields.get("line_items") or []
        if not items:
            raise invalid("Missing required param: line_items.", "parameter_missing", "line_items")
        price = items[0].get("price_data", {})
        amount = int(price.get("unit_amount", 0)) * int(items[0].get("quantity", 1))
        _check_amount(amount, str(price.get("currency", "")).lower(), "line_items[0][price_data][unit_amount]")
        return public(self.twin.new_link(call.owner, call.base_url, amount, price, call.fields))

    def read_link(self, call: Call, link_id: str) -> Json:
        """GET /v1/payment_links/{id}."""
        return public(self._link(call, link_id))

    def list_links(self, call: Call, _: str) -> Json:
        """GET /v1/payment_links."""
        return self._page(call, "payment_link", "/v1/payment_links")

    def update_link(self, call: Call, link_id: str) -> Json:
        """POST /v1/payment_links/{id}: closes it or opens it again."""
        link = self._link(call, link_id)
        if "active" in call.fields:
            link["active"] = call.fields["active"] == "true"
        return public(self.twin.store.put("payment_link", call.owner, link))

    def create_intent(self, call: Call, _: str) -> Json:
        """POST /v1/payment_intents."""
        amount, currency = int(call.fields.get("amount", 0)), str(call.fields.get("currency", "")).lower()
        _check_amount(amount, currency, "amount")
        method = self._chargeable(call) if call.fields.get("payment_method") else None
        intent = self.twin.new_intent(call.owner, call.fields | {"amount": amount, "currency": currency})
        if method is not None and call.fields.get("confirm") == "true":
            return self._charged(call, intent, method)
        return public(intent)

    def read_intent(self, call: Call, intent_id: str) -> Json:
        """GET /v1/payment_intents/{id}."""
        return self.twin.expanded(self._intent(call, intent_id), call.expand)

    def list_intents(self, call: Call, _: str) -> Json:
        """GET /v1/payment_intents."""
        return self._page(call, "payment_intent", "/v1/payment_intents")

    def search_intents(self, call: Call, _: str) -> Json:
        """GET /v1/payment_intents/search by metadata."""
        found = re.fullmatch(r"metadata\['(\w+)'\]:'([^']*)'", str(call.fields.get("query", "")))
        if found is None:
            raise invalid("This sandbox searches metadata['name']:'value'.", param="query")
        name, value = found.groups()
        intents = self.twin.store.all("payment_intent", call.owner)
        hits = [self.twin.expanded(one, call.expand) for one in intents if one["metadata"].get(name) == value]
        return {"object": "search_result", "data": hits, "has_more": False, "url": "/v1/payment_intents/search"}

    def confirm_intent(self, call: Call, intent_id: str) -> Json:
        """POST /v1/payment_intents/{id}/confirm with `payment_method`, or with the test field `card`."""
        intent = self._intent(call, intent_id)
        if call.fields.get("payment_method"):
            if intent["status"] not in ("requires_payment_method", "requires_confirmation"):
                message = f"This PaymentIntent's status is {intent['status']}; it cannot be confirmed."
                raise invalid(message, "payment_intent_unexpected_state")
            return self._charged(call, intent, self._chargeable(call, intent.get("customer")))
        self.twin.confirm(intent, str(call.fields.get("card", "4242424242424242")))
        return self.twin.expanded(intent, call.expand)

    def cancel_intent(self, call: Call, intent_id: str) -> Json:
        """POST /v1/payment_intents/{id}/cancel."""
        intent = self._intent(call, intent_id)
        if intent["status"] in ("succeeded", "canceled", "processing"):
            message = f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}."
            raise invalid(message, "payment_intent_unexpected_state")
        return self.twin.expanded(self.twin.cancel_intent(intent), call.expand)

    def create_refund(self, call: Call, _: str) -> Json:
        """POST /v1/refunds."""
        charge = self.twin.store.get("charge", str(call.fields.get("charge", "")), call.owner)
        intent_id = charge["payment_intent"] if charge else str(call.fields.get("payment_intent", ""))
        intent = self._intent(call, intent_id)
        if intent["latest_charge"] is None:
            raise invalid("This PaymentIntent does not have a successful charge to refund.")
        charge = self.twin.must("charge", intent["latest_charge"])
        if self.twin.charged_back(charge["id"]):
            raise invalid("This charge has been charged back.", "charge_disputed")
        left = charge["amount"] - charge["amount_refunded"]
        amount = int(call.fields.get("amount", left))
        if left == 0:
            raise invalid(f"Charge {charge['id']} has already been refunded.", "charge_already_refunded")
        if not 0 < amount <= left:
            raise invalid(
                f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).", param="amount"
            )
        return self.twin.refund(call.owner, intent, amount, call.fields)

    def read_refund(self, call: Call, refund_id: str) -> Json:
        """GET /v1/refunds/{id}."""
        refund = self.twin.store.get("refund", refund_id, call.owner)
        if refund is None:
            raise missing("refund", refund_id)
        return refund

    def list_refunds(self, call: Call, _: str) -> Json:
        """GET /v1/refunds."""
        return self._page(call, "refund", "/v1/refunds")

    def list_disputes(self, call: Call, _: str) -> Json:
        """GET /v1/disputes."""
        return self._page(call, "dispute", "/v1/disputes")

    def list_fraud_warnings(self, call: Call, _: str) -> Json:
        """GET /v1/radar/early_fraud_warnings."""
        for one in self.twin.store.all("radar.early_fraud_warning", call.owner):
            actionable = is_actionable(self.twin.must("charge", one["charge"]))
            self.twin.store.put("radar.early_fraud_warning", call.owner, one | {"actionable": actionable})
        return self._page(call, "radar.early_fraud_warning", "/v1/radar/early_fraud_warnings")

    def list_reviews(self, call: Call, _: str) -> Json:
        """GET /v1/reviews."""
        return self._page(call, "review", "/v1/reviews")

    def read_review(self, call: Call, review_id: str) -> Json:
        """GET /v1/reviews/{id}."""
        review = self.twin.store.get("review", review_id, call.owner)
        if review is None:
            raise missing("review", review_id)
        return review

    def read_subscription(self, call: Call, subscription_id: str) -> Json:
        """GET /v1/subscriptions/{id}."""
        found = self.twin.store.get("subscription", subscription_id, call.owner)
        if found is None:
            raise missing("subscription", subscription_id)
        return public(found)

    def list_invoices(self, call: Call, _: str) -> Json:
        """GET /v1/invoices of one subscription."""
        wanted = call.fields.get("subscription")
        things = [public(one) for one in self.twin.store.all("invoice", call.owner) if one["_of"] == wanted]
        limit = int(call.fields.get("limit", 10))
        more = len(things) > limit
        return {"object": "list", "url": "/v1/invoices", "data": things[:limit], "has_more": more}

    def list_endpoints(self, call: Call, _: str) -> Json:
        """GET /v1/webhook_endpoints."""
        mine = [one for one in self.twin.store.all("webhook_endpoint") if one["account_key"] in (None, call.owner)]
        shown = [
            {name: one.get(name) for name in ("id", "object", "url", "api_version", "enabled_events")}
            | {"status": "enabled"}
            for one in mine
        ]
        return {"object": "list", "url": "/v1/webhook_endpoints", "data": shown, "has_more": False}

    def list_events(self, call: Call, _: str) -> Json:
        """GET /v1/events."""
        return self._page(call, "event", "/v1/events")

    def account(self, call: Call, _: str) -> Json:
        """GET /v1/account."""
        return {
            "id": f"acct_{hashlib.sha256(call.owner.encode()).hexdigest()[:16]}",
            "object": "account",
            "charges_enabled": True,
            "business_profile": {"name": "Sandbox merchant"},
            "settings": {"dashboard": {"display_name": "Sandbox merchant"}},
        }

    def create_customer(self, call: Call, _: str) -> Json:
        """POST /v1/customers."""
        return public(self.vault.new_customer(call.owner, call.fields))

    def delete_customer(self, call: Call, customer_id: str) -> Json:
        """DELETE /v1/customers/{id}."""
        customer = self.twin.store.get("customer", customer_id, call.owner)
        if customer is None:
            raise missing("customer", customer_id)
        return self.vault.delete_customer(customer)

    def read_method(self, call: Call, method_id: str) -> Json:
        """GET /v1/payment_methods/{id}."""
        return public(self._method(call, method_id))

    def read_mandate(self, call: Call, mandate_id: str) -> Json:
        """GET /v1/mandates/{id}."""
        mandate = self.twin.store.get("mandate", mandate_id, call.owner)
        if mandate is None:
            raise missing("mandate", mandate_id)
        return mandate

    def detach_method(self, call: Call, method_id: str) -> Json:
        """POST /v1/payment_methods/{id}/detach."""
        method = self._method(call, method_id)
        if method["customer"] is None:
            raise invalid("The payment method you provided is not attached to a customer so detachment is impossible.")
        return public(self.vault.detach(method))

    def _method(self, call: Call, method_id: str) -> Json:
        method = self.twin.store.get("payment_method", method_id, call.owner)
        if method is None:
            raise missing("PaymentMethod", method_id)
        return method

    def _chargeable(self, call: Call, customer: str | None = None) -> Json:
        """The method that a charge names: attached, and to the customer that the charge names."""
        method = self._method(call, str(call.fields["payment_method"]))
        if method["customer"] is None:
            message = "The provided PaymentMethod was detached from a Customer and cannot be used again."
            raise invalid(message, "payment_method_unexpected_state", "payment_method")
        if method["customer"] != (customer or call.fields.get("customer")):
            raise invalid("The PaymentMethod belongs to a Customer; name it.", None, "payment_method")
        return method

    def _charged(self, call: Call, intent: Json, method: Json) -> Json:
        """Confirm with a saved method; a decline is an error of 402 that holds the intent."""
        fields = call.fields
        off_session = fields.get("off_session") == "true"
        wanted = intent.get("automatic_payment_methods") or {}
        redirects = wanted.get("enabled") is True and wanted.get("allow_redirects") != "never"
        exempt = off_session and not variants.chosen(self.twin.store, call.owner, RETURN_URL_ALWAYS)
        if redirects and not exempt and not fields.get("return_url"):
            # as recorded in confirm_without_return_url: a type and a message, neither code nor parameter
            raise StripeFault(
                400, "invalid_request_error", "A `return_url` must be specified, or no redirects allowed."
            )
        self.vault.charge(
            intent, method, off_session=off_session, return_url=fields.get("return_url"), base_url=call.base_url
        )
        fault = intent["last_payment_error"]
        if fault is not None:
            declined = StripeFault(402, "card_error", fault["message"], fault["code"])
            declined.body["error"] |= {"decline_code": fault["decline_code"], "payment_intent": public(intent)}
            raise declined
        return self.twin.expanded(intent, call.expand)

    def _session(self, call: Call, session_id: str) -> Json:
        session = self.twin.store.get("checkout.session", session_id, call.owner)
        if session is None:
            raise missing("checkout.session", session_id)
        self.twin.expire_if_due(session)
        return session

    def _link(self, call: Call, link_id: str) -> Json:
        link = self.twin.store.get("payment_link", link_id, call.owner)
        if link is None:
            raise missing("payment_link", link_id)
        return link

    def _intent(self, call: Call, intent_id: str) -> Json:
        intent = self.twin.store.get("payment_intent", intent_id, call.owner)
        if intent is None:
            raise missing("payment_intent", intent_id)
        return intent

    def _page(self, call: Call, kind: str, url: str) -> Json:
        """A list, newest first, filtered and cut as asked."""
        fields = call.fields
        things = [thing for thing in self.twin.store.all(kind, call.owner) if _matches(thing, fields)]
        after = fields.get("starting_after")
        if after is not None:
            ids = [thing["id"] for thing in things]
            things = things[ids.index(after) + 1 :] if after in ids else []
        limit = int(fields.get("limit", 10))
        shown = [self.twin.expanded(thing, call.expand) for thing in things[:limit]]
        return {"object": "list", "url": url, "data": shown, "has_more": len(things) > limit}

    async def answer(self, request: Request, operation: str, handler: Handler, thing_id: str) -> Response:
        """Authenticate, misbehave if asked to, act once per idempotency key, answer."""
        text = (await request.body()).decode() if request.method == "POST" else request.url.query
        headers = {"request-id": new_id("req")}
        try:
            owner = _authenticate(request.headers.get("authorization", ""))
            self._check_permission(owner, operation)
            fault = await self.faults.of(request, operation)
            await before_acting(fault)
            key = request.headers.get("idempotency-key")
            call = Call(
                owner, unflatten(parse_qsl(text, keep_blank_values=True)), key, str(request.base_url).rstrip("/")
            )
            status, body, replayed = self._once(call, f"{operation}:{thing_id}:{text}", lambda: handler(call, thing_id))
            if replayed:
                headers["idempotent-replayed"] = "true"
            await after_acting(fault)
        except StripeFault as error:
            return JSONResponse(error.body, error.status, headers=headers)
        except Trouble as trouble:
            return JSONResponse(_body_of(trouble.status), trouble.status, headers=headers | trouble.headers)
        return JSONResponse(body, status, headers=headers)

    def list_charges(self, call: Call, _: str) -> Json:
        """GET /v1/charges."""
        return self._page(call, "charge", "/v1/charges")

    def list_customers(self, call: Call, _: str) -> Json:
        """GET /v1/customers."""
        return self._page(call, "customer", "/v1/customers")

    def list_setup_intents(self, call: Call, _: str) -> Json:
        """GET /v1/setup_intents."""
        return self._page(call, "setup_intent", "/v1/setup_intents")

    def list_subscriptions(self, call: Call, _: str) -> Json:
        """GET /v1/subscriptions."""
        return self._page(call, "subscription", "/v1/subscriptions")

    def _check_permission(self, owner: str, operation: str) -> None:
        """A restricted key may do what it was given, and a full one everything."""
        refused = self.twin.store.get("restriction", f"restriction:{owner}")
        if refused is not None and operation in refused["operations"]:
            raise StripeFault(
                403, "invalid_request_error", "The provided key does not have the required permissions for this."
            )

    def _once(self, call: Call, identity: str, act: Callable[[], Json]) -> tuple[int, Json, bool]:
        """Act, or give the stored answer of the same key; another request under the key is an error."""
        if call.idempotency_key is None:
            return 200, act(), False
        slot = f"idem:{call.owner}:{call.idempotency_key}"
        digest = hashlib.sha256(identity.encode()).hexdigest()
        known = self.twin.store.get("idempotency", slot)
        if known is not None:
            if known["digest"] != digest:
                message = (
                    "Keys for idempotent requests can only be used with the same parameters they were first used with."
                )
                raise StripeFault(400, "idempotency_error", message)
            return known["status"], known["body"], True
        try:
            status, body = 200, act()
        except StripeFault as fault:
            if fault.status != 402:  # nothing is kept of a request that was not valid
                raise
            status, body = 402, fault.body
        stored = json.loads(json.dumps(public(body)))
        self.twin.store.put("idempotency", call.owner, {"digest": digest, "status": status, "body": stored}, slot)
        return status, body, False


def _authenticate(header: str) -> str:
    key = header.removeprefix("Bearer ").strip()
    if not re.match(r"[sr]k_(test|live)_", key) or "invalid" in key:
        raise StripeFault(401, "invalid_request_error", "Invalid API Key provided.")
    return key


def _body_of(status: int) -> Json:
    if status == 429:
        return {"error": {"type": "invalid_request_error", "message": "Too many requests.", "code": "rate_limit"}}
    return {"error": {"type": "api_error", "message": "An unknown error occurred."}}


def _check_amount(amount: int, currency: str, param: str) -> None:
    if not re.fullmatch(r"[a-z]{3}", currency):
        raise invalid(f"Invalid currency: {currency}.", param="currency")
    if amount < MINIMUM.get(currency, 1):
        raise invalid("Amount is below the minimum for this currency.", "amount_too_small", param)
    if amount > MAXIMUM:
        raise invalid("Amount must be no more than 99,999,999.", "amount_too_large", param)
    if currency in THREE_DECIMAL and amount % 10:
        raise invalid("The last digit of an amount in this currency must be 0.", param=param)


def _matches(thing: Json, fields: Json) -> bool:
    created = fields.get("created", {})
    bounds = created if isinstance(created, dict) else {}
    tests = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}
    in_time = all(tests[name](thing.get("created", 0), int(bound)) for name, bound in bounds.items() if name in tests)
    types = fields.get("types") or ([fields["type"]] if fields.get("type") else None)
    exact = ("payment_intent", "charge", "payment_link", "status")
    same = all(thing.get(name) == fields[name] for name in exact if name in fields)
    return in_time and same and (types is None or thing.get("type") in types)


ROUTES: tuple[tuple[str, str, str], ...] = (
    ("POST", "/v1/checkout/sessions", "create_session"),
    ("GET", "/v1/checkout/sessions", "list_sessions"),
    ("GET", "/v1/checkout/sessions/{thing_id}", "read_session"),
    ("POST", "/v1/checkout/sessions/{thing_id}/expire", "expire_session"),
    ("POST", "/v1/payment_links", "create_link"),
    ("GET", "/v1/payment_links", "list_links"),
    ("GET", "/v1/payment_links/{thing_id}", "read_link"),
    ("POST", "/v1/payment_links/{thing_id}", "update_link"),
    ("POST", "/v1/payment_intents", "create_intent"),
    ("GET", "/v1/payment_intents", "list_intents"),
    ("GET", "/v1/payment_intents/search", "search_intents"),
    ("GET", "/v1/payment_intents/{thing_id}", "read_intent"),
    ("POST", "/v1/payment_intents/{thing_id}/confirm", "confirm_intent"),
    ("POST", "/v1/payment_intents/{thing_id}/cancel", "cancel_intent"),
    ("GET", "/v1/charges", "list_charges"),
    ("GET", "/v1/setup_intents", "list_setup_intents"),
    ("GET", "/v1/subscriptions", "list_subscriptions"),
    ("GET", "/v1/customers", "list_customers"),
    ("POST", "/v1/customers", "create_customer"),
    ("DELETE", "/v1/customers/{thing_id}", "delete_customer"),
    ("GET", "/v1/payment_methods/{thing_id}", "read_method"),
    ("POST", "/v1/payment_methods/{thing_id}/detach", "detach_method"),
    ("GET", "/v1/mandates/{thing_id}", "read_mandate"),
    ("POST", "/v1/refunds", "create_refund"),
    ("GET", "/v1/refunds", "list_refunds"),
    ("GET", "/v1/refunds/{thing_id}", "read_refund"),
    ("GET", "/v1/disputes", "list_disputes"),
    ("GET", "/v1/radar/early_fraud_warnings", "list_fraud_warnings"),
    ("GET", "/v1/reviews", "list_reviews"),
    ("GET", "/v1/reviews/{thing_id}", "read_review"),
    ("GET", "/v1/subscriptions/{thing_id}", "read_subscription"),
    ("GET", "/v1/invoices", "list_invoices"),
    ("GET", "/v1/webhook_endpoints", "list_endpoints"),
    ("GET", "/v1/events", "list_events"),
    ("GET", "/v1/account", "account"),
)
"""Method, path and operation; the operation's name is also what faults are planned for."""


def router(api: StripeApi) -> APIRouter:
    """The interface as routes."""
    routes = APIRouter()
    for method, path, operation in ROUTES:
        routes.add_api_route(path, _endpoint(api, operation), methods=[method], name=operation)
    routes.include_router(stripe_links.router(api.twin))
    return routes


def _endpoint(api: StripeApi, operation: str) -> Callable[[Request], Awaitable[Response]]:
    handler: Handler = getattr(api, operation)

    async def endpoint(request: Request) -> Response:
        return await api.answer(request, operation, handler, request.path_params.get("thing_id", ""))

    return endpoint

"""Saved cards at Meshulam: the page that saves one, the charge of one, and how a charge is found again. Pure functions.

From Grow's pages: `chargeType` 3 with `saveCardToken` saves a card and takes nothing; `createTransactionWithToken`
charges one, at once and without a callback; `transactionUniqueIdentifier` is refused when it was used before, and
`getTokenTransactionsByExternalIdentifiers` finds a charge by card token and identifier. UNCONFIRMED, seen in public
clients only: the field `cardToken` in a process, the error id 1010 for a used identifier, and that an identifier is a
positive number of at most 31 bits. What a decline's error id means is nowhere stated: option `decline_codes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from domain.payment import PaymentStatus
from domain.setup import SetupStatus
from providers.base import (
    Charged,
    ChargeRequest,
    OutcomeUnknown,
    Payer,
    ProviderPayment,
    ProviderRejected,
    ProviderSetup,
    SetupRequest,
)
from providers.meshulam.amounts import to_wire
from providers.meshulam.errors import plain
from providers.meshulam.objects import (
    PAID,
    REFUNDED,
    Transaction,
    captured_at,
    read_transaction,
    saved_card,
    shown_card,
)
from providers.meshulam.requests import full_name, mobile_number, shown_text

SAVE_ONLY = "3"
ONE_PAYMENT = {"paymentType": "2", "paymentNum": "1"}
SETUP_SUM = "1"
"""A process must have a sum; one that only saves a card takes nothing."""
SETUP_MARK = "setup"
"""In `cField2` of a process that only saves a card."""
IDENTIFIERS = 3
"""How many identifiers are tried for one charge, should another charge's have the same 31 bits."""


def setup_form(request: SetupRequest, notify_url: str | None) -> dict[str, str]:
    """The form of a process that only saves a card. Raises ProviderRejected as `checkout_form` does."""
    form = {
        "sum": SETUP_SUM,
        "description": shown_text(request.description) or "Save a card",
        "chargeType": SAVE_ONLY,
        "saveCardToken": "1",
        "pageField[fullName]": full_name(request.payer.name),
        "pageField[phone]": mobile_number(request.payer.phone),
        "cField1": request.reference.hex,
        "cField2": SETUP_MARK,
    }
    optional = {
        "pageField[email]": request.payer.email,
        "successUrl": request.success_url,
        "cancelUrl": request.cancel_url or request.success_url,
        "notifyUrl": notify_url,
    }
    return form | {name: value for name, value in optional.items() if value}


def charge_form(request: ChargeRequest, salt: int) -> dict[str, str]:
    """The charge of a saved card, without the account's own fields. Raises ProviderRejected as `to_wire` does."""
    form = {
        "cardToken": request.token,
        "sum": to_wire(request.amount),
        "description": shown_text(request.description) or shown_text(request.order_id) or "Payment",
        "transactionUniqueIdentifier": identifier(request.reference, salt),
        "cField1": request.reference.hex,
    }
    return form | ONE_PAYMENT | _payer(request.payer)


def search_form(reference: UUID, token: str, salt: int) -> dict[str, str]:
    """getTokenTransactionsByExternalIdentifiers: exactly one identifier beside the card's token."""
    return {"cardToken": token, "transactionUniqueIdentifier": identifier(reference, salt)}


def identifier(reference: UUID, salt: int) -> str:
    """A positive number of 31 bits from our reference: the same on every try. `salt` makes another one."""
    digest = hashlib.sha256(f"{reference}:{salt}".encode()).digest()
    return str(int.from_bytes(digest[:4], "big") % 0x7FFFFFFF + 1)


def charge_made(data: Mapping[str, Any], *, mark: str) -> Charged:
    """The answer to a charge. Raises OutcomeUnknown when it does not say what was done."""
    one = read_transaction(data, mark)
    if not one.fields.get("transactionId") or one.status not in ("", PAID):
        raise OutcomeUnknown("unreadable_answer", "a charge without id or with another status")
    return Charged(one.fields["transactionId"], PaymentStatus.PAID, one.id, session_secret=one.token or None)


def charge_found(data: Mapping[str, Any], reference: UUID, *, mark: str) -> Transaction | None:
    """The charge of this reference among those of an identifier; None when there is none of it.

    An entry that names another reference is another charge's: two references may have the same identifier.
    """
    listed = data.get("transactions", data if data.get("transactionId") else [])
    entries = listed if isinstance(listed, list) else list(listed.values()) if _is_gapped(listed) else [listed]
    for entry in entries:
        if not isinstance(entry, Mapping) or not plain(entry.get("transactionId")):
            continue
        custom = entry.get("customFields")
        named = plain(entry.get("cField1")) or plain(custom.get("cField1") if isinstance(custom, Mapping) else None)
        one = read_transaction(entry, mark)
        if named.replace("-", "").lower() in ("", reference.hex) and one.status in ("", PAID, REFUNDED):
            return one
    return None


def payment_of_charge(one: Transaction) -> ProviderPayment:
    """What a charge of a card says now. Meshulam shows no parts of a refund here, only that all went back."""
    return ProviderPayment(
        PaymentStatus.PAID,
        session_id=one.fields.get("transactionId"),
        transaction_id=one.id,
        captured=one.sum,
        captured_at=captured_at(one),
        refunded=one.sum if one.status == REFUNDED else None,
        method="card",
        card_brand=shown_card(one)[0],
        card_last4=shown_card(one)[1],
        session_secret=one.token or None,
    )


def setup_of(data: Mapping[str, Any], process_id: str) -> ProviderSetup:
    """A process that only saves a card. PENDING until it shows a card's token."""
    if plain(data.get("processId")) not in ("", process_id):
        raise OutcomeUnknown("unreadable_answer", "another process")
    listed = data.get("transactions")
    entries = list(listed.values()) if isinstance(listed, Mapping) else listed if isinstance(listed, list) else []
    for entry in [*entries, data]:
        method = saved_card(read_transaction({**entry, "statusCode": ""}, "")) if isinstance(entry, Mapping) else None
        if method is not None:
            return ProviderSetup(SetupStatus.SUCCEEDED, process_id, method)
    return ProviderSetup(SetupStatus.PENDING, process_id)


def _is_gapped(listed: object) -> bool:
    """PHP writes a list with gaps as an object of objects."""
    return isinstance(listed, Mapping) and all(isinstance(one, Mapping) for one in listed.values())


def _payer(payer: Payer) -> dict[str, str]:
    """What is known of the payer, as far as Meshulam would take it: a renewal must not fail for a phone number."""
    known: dict[str, str] = {}
    for name, read, value in (
        ("pageField[fullName]", full_name, payer.name),
        ("pageField[phone]", mobile_number, payer.phone),
    ):
        try:
            known[name] = read(value)
        except ProviderRejected:
            continue
    return known | ({"pageField[email]": payer.email} if payer.email else {})

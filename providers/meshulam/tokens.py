"""Saved cards at Meshulam: the page that saves one, the charge of one, and how a charge is found again. Pure functions.

From Grow's pages: `chargeType` 3 with `saveCardToken` saves a card and takes nothing; `createTransactionWithToken`
charges one, at once and without a callback; `transactionUniqueIdentifier` is refused when it was used before, and
`getTokenTransactionsByExternalIdentifiers` finds a charge by card token and identifier; while it is at work it is
listed with its times alone. A page that only saves a card ends as a suspended transaction (11) with its `cardToken`.
UNCONFIRMED, seen in public clients only: the error id 1010 for a used identifier, and that an identifier is a positive
number of at most 31 bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from domain.payment import PaymentStatus
from domain.setup import SetupStatus
from providers.base import (
    Charged,
    ChargeRequest,
    OutcomeUnknown,
    ProviderPayment,
    ProviderSetup,
    SetupRequest,
)
from providers.meshulam.amounts import to_wire
from providers.meshulam.errors import plain
from providers.meshulam.objects import (
    PAID,
    REFUNDED,
    TIMES,
    Transaction,
    captured_at,
    read_transaction,
    saved_card,
    shown_card,
)
from providers.meshulam.requests import full_name, mobile_number, shown_text

SAVE_ONLY = "3"
REGULAR = {"paymentType": "2"}
"""In one payment; `paymentNum` is left out, because accounts for regular payments alone refuse it (740)."""
SETUP_SUM = "1"
"""A process must have a sum; one that only saves a card takes nothing."""
SETUP_MARK = "setup"
"""In `cField2` of a process that only saves a card."""
IDENTIFIERS = 3
"""How many identifiers are tried for one charge, should another charge's have the same 31 bits. One more is spare."""
RUNNING = "running-"
"""Before the identifier of a charge that has no transaction yet: by it and the card's token it is found again."""


class Found(NamedTuple):
    """What Grow lists under an identifier: the charge's transaction, or that one runs whose end is not known."""

    charge: Transaction | None = None
    running: bool = False


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


def charge_form(request: ChargeRequest, number: str) -> dict[str, str]:
    """The charge of a saved card under an identifier, without the account's own fields.

    Raises ProviderRejected as `checkout_form` does: Grow wants the payer's name and mobile number here too.
    """
    form = {
        "cardToken": request.token,
        "sum": to_wire(request.amount),
        "description": shown_text(request.description) or shown_text(request.order_id) or "Payment",
        "transactionUniqueIdentifier": number,
        "cField1": request.reference.hex,
        "pageField[fullName]": full_name(request.payer.name),
        "pageField[phone]": mobile_number(request.payer.phone),
    }
    return form | REGULAR | ({"pageField[email]": request.payer.email} if request.payer.email else {})


def search_form(number: str, token: str) -> dict[str, str]:
    """getTokenTransactionsByExternalIdentifiers: exactly one identifier beside the card's token."""
    return {"cardToken": token, "transactionUniqueIdentifier": number}


def identifier(reference: UUID, salt: int) -> str:
    """A positive number of 31 bits from our reference: the same on every try. `salt` makes another one."""
    digest = hashlib.sha256(f"{reference}:{salt}".encode()).digest()
    return str(int.from_bytes(digest[:4], "big") % 0x7FFFFFFF + 1)


def charge_made(data: Mapping[str, Any], *, mark: str) -> Charged:
    """The answer to a charge. Raises OutcomeUnknown when it does not say what was done."""
    one = read_transaction(data, mark)
    if one.status != PAID:
        raise OutcomeUnknown("unreadable_answer", "a charge without a status, or with another one")
    return Charged(one.fields["transactionId"], PaymentStatus.PAID, one.id, session_secret=one.token or None)


def charge_found(data: object, reference: UUID, *, mark: str) -> Found:
    """The charge of this reference among those of an identifier.

    An entry that names another reference is another charge's: two references may have the same identifier. Every
    other one that is not paid may still become money, whatever else it shows: it is running. Raises OutcomeUnknown
    for an answer that cannot be read, which is not the same as one that lists nothing.
    """
    running = False
    for entry in _listed(data):
        if not isinstance(entry, Mapping):
            raise OutcomeUnknown("unreadable_answer", "transactions of an identifier")
        custom = entry.get("customFields")
        named = plain(entry.get("cField1")) or plain(custom.get("cField1") if isinstance(custom, Mapping) else None)
        if named.replace("-", "").lower() not in ("", reference.hex):
            continue
        one = read_transaction(entry, mark)
        if one.status in (PAID, REFUNDED):
            return Found(one)
        running = True
    return Found(running=running)


def payment_of_charge(one: Transaction) -> ProviderPayment:
    """What a charge of a card says now. Meshulam shows no parts of a refund here, only that all went back.

    PENDING for a transaction that is neither paid nor refunded: no money has come.
    """
    if one.status not in (PAID, REFUNDED):
        return ProviderPayment(PaymentStatus.PENDING, session_id=one.fields.get("transactionId"), method="card")
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


def payment_running(number: str, token: str) -> ProviderPayment:
    """A charge under this identifier whose end Grow does not know yet."""
    return ProviderPayment(PaymentStatus.PENDING, session_id=f"{RUNNING}{number}", method="card", session_secret=token)


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


def _listed(data: object) -> list[object]:
    """The entries of an answer: below `transactions`, as the data itself, or as its only entry.

    PHP writes a list with gaps as an object of objects, and no entries as an empty text. Raises OutcomeUnknown.
    """
    listed = data
    if isinstance(data, Mapping):
        if "transactions" in data:
            listed = data["transactions"]
        elif any(name in data for name in ("transactionId", *TIMES)):
            return [data]
    if listed in (None, ""):
        return []
    if isinstance(listed, Mapping) and all(isinstance(one, Mapping) for one in listed.values()):
        return list(listed.values())
    if not isinstance(listed, list):
        raise OutcomeUnknown("unreadable_answer", "transactions of an identifier")
    return listed

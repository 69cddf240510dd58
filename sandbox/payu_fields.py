"""What PayU's pages want in a request: lengths that are always enforced, and fields that are marked as mandatory."""

from __future__ import annotations

from typing import Any

from sandbox.state import Json

MANDATORY = "mandatory_fields"
LONGEST = {"responseUrl": 255, "confirmationUrl": 255, "payerFullName": 50, "telephone": 20, "payerPhone": 20}
ALGORITHMS_IN_FORM = {"MD5": "MD5", "SHA": "SHA1", "SHA256": "SHA256", "HMAC-SHA256": "HMAC-SHA256"}
_FORM = (
    "telephone",
    "payerFullName",
    "payerEmail",
    "payerPhone",
    "payerDocumentType",
    "payerDocument",
    "buyerFullName",
)
_PERSON = ("fullName", "emailAddress", "contactPhone", "dniNumber")
_ADDRESS = ("country",)
"""Street and city are marked as well; a shop that does not know where the payer lives has none to send."""
_BROWSER = ("deviceSessionId", "ipAddress", "cookie", "userAgent")


def fault_of_form(form: Json, *, mandatory: bool) -> str | None:
    """What is wrong with a payment form, if anything is."""
    long = [name for name, longest in LONGEST.items() if len(form.get(name, "")) > longest]
    if long:
        return f"Too long: {', '.join(long)}"
    if form.get("algorithmSignature", "MD5") not in ALGORITHMS_IN_FORM:
        return "The signature's algorithm is not known"
    absent = [name for name in _FORM if mandatory and not form.get(name)]
    return f"Missing: {', '.join(absent)}" if absent else None


def missing_in(transaction: Json, *, mandatory: bool) -> list[str]:
    """Fields that a submitted payment lacks. A token wants a security code, or the word that there is none."""
    card = transaction.get("creditCard") or {}
    absent = []
    if transaction.get("creditCardTokenId") is not None:
        if not card.get("securityCode") and card.get("processWithoutCvv2") is not True:
            absent.append("creditCard.securityCode")
        if mandatory and not card.get("expirationDate"):
            absent.append("creditCard.expirationDate")
    if not mandatory:
        return absent
    order, payer = transaction.get("order") or {}, transaction.get("payer") or {}
    buyer = order.get("buyer") or {}
    browser: tuple[str, ...] = ("ipAddress",) if transaction.get("expirationDate") else _BROWSER
    if transaction.get("creditCardTokenId") is not None:  # the payer may not be there
        browser = tuple(name for name in _BROWSER if name != "ipAddress")
    groups: list[tuple[str, Any, tuple[str, ...]]] = [
        ("", transaction, browser),
        ("payer.", payer, _PERSON),
        ("payer.billingAddress.", payer.get("billingAddress"), _ADDRESS),
        ("buyer.", buyer, _PERSON),
        ("buyer.shippingAddress.", buyer.get("shippingAddress"), _ADDRESS),
    ]
    for name, part, fields in groups:
        absent += [f"{name}{field}" for field in fields if not (part or {}).get(field)]
    return absent

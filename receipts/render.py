"""Documents as PDF, by Typst. The same document always gives the same bytes."""

from __future__ import annotations

import json
import threading
from datetime import UTC, date, datetime, time
from functools import cache
from importlib import resources
from typing import Any

import typst

from domain.receipt import Dealer, DocumentKind, Party, ReceiptDocument, is_registered
from receipts.fonts import FAMILIES, typst_fonts
from receipts.text import directed, line, lines

TITLES = {
    DocumentKind.RECEIPT: ("קבלה", "Receipt"),
    DocumentKind.TAX_INVOICE: ("חשבונית מס", "Tax invoice"),
    DocumentKind.TAX_INVOICE_RECEIPT: ("חשבונית מס / קבלה", "Tax invoice / receipt"),
    DocumentKind.CREDIT_NOTE: ("חשבונית מס זיכוי", "Credit note"),
}
"""Of a seller who is registered for VAT in Israel."""
UNREGISTERED_TITLES = {
    DocumentKind.RECEIPT: ("קבלה", "Receipt"),
    DocumentKind.TAX_INVOICE: ("חשבונית עסקה", "Invoice"),
    DocumentKind.TAX_INVOICE_RECEIPT: ("קבלה", "Receipt"),
    DocumentKind.CREDIT_NOTE: ("הודעת זיכוי", "Credit note"),
}
"""Of all others, who may issue nothing that is called a tax invoice: neither one nor the credit of one."""
DEALERS = {
    Dealer.AUTHORIZED: ("עוסק מורשה", "Authorized dealer"),
    Dealer.EXEMPT: ("עוסק פטור", "Exempt dealer"),
    Dealer.COMPANY: ("ח.פ.", "Company no."),
    Dealer.FOREIGN: ("מס׳ עוסק", "Business no."),
}
SYMBOLS = {"ILS": "₪", "USD": "$", "EUR": "€", "GBP": "£"}
_compiling = threading.Lock()


def render_pdf(document: ReceiptDocument) -> bytes:
    """The document as PDF/A-3b, in its own language. Blocks for some milliseconds; safe to call from any thread.

    Data reaches the template as one JSON value, never as template text, so nothing in it can be markup.
    """
    data = json.dumps(_view(document), ensure_ascii=False)
    moment = datetime.combine(document.issued_on, time(12), tzinfo=UTC)
    with _compiling:  # the compiler's caches are shared; one document takes milliseconds
        return typst.compile(
            _template(),
            font_paths=typst_fonts(),
            sys_inputs={"data": data},
            pdf_standards="a-3b",
            timestamp=int(moment.timestamp()),
        )


@cache
def _template() -> bytes:
    return resources.files("receipts").joinpath("templates/receipt.typ").read_bytes()


def title_of(kind: DocumentKind, dealer: Dealer, language: str) -> str:
    """What a document is called, by who issues it and in which language."""
    titles = TITLES if is_registered(dealer) else UNREGISTERED_TITLES
    return titles[kind][0 if language == "he" else 1]


def _view(document: ReceiptDocument) -> dict[str, Any]:
    """What the template prints; every text cleaned and directed, every amount already formatted."""
    hebrew = document.language == "he"
    seller_name = (document.seller.name_he if hebrew else None) or document.seller.name

    def free(text: str | None) -> str:
        return directed(line(text or ""), hebrew=hebrew)

    def party(one: Party) -> dict[str, Any]:
        address = [directed(part, hebrew=hebrew) for part in lines(one.address or "")]
        return {"name": free(one.name), "number": free(one.number), "email": free(one.email), "address": address}

    return {
        "hebrew": hebrew,
        "fonts": FAMILIES,
        "issued": [document.issued_on.year, document.issued_on.month, document.issued_on.day],
        "title": title_of(document.kind, document.dealer, document.language),
        "author": line(seller_name),
        "dealer": DEALERS[document.dealer][0 if hebrew else 1],
        "number": document.display_number,
        "date": _day(document.issued_on, hebrew=hebrew),
        "paid_on": "" if document.paid_on is None else _day(document.paid_on, hebrew=hebrew),
        "seller": party(document.seller) | {"name": free(seller_name)},
        "customer": party(document.customer),
        "lines": [
            {
                "description": free(one.description),
                "quantity": one.quantity,
                "amount": _amount(str(one.gross), document),
            }
            for one in document.lines
        ],
        "net": _amount(str(document.net), document),
        "vat": _amount(str(document.vat), document),
        "vat_percent": format((document.vat_rate * 100).normalize(), "f"),
        "credit": document.kind is DocumentKind.CREDIT_NOTE,
        "has_vat": is_registered(document.dealer) or document.vat.minor != 0,
        "total": _amount(str(document.total), document),
        "paid_by": free(document.paid_by),
        "reference": free(document.provider_reference),
        "order": free(document.order_id),
        "refers_to": free(document.refers_to),
        "allocation": free((document.allocation_number or "")[-9:]),
    }


def _day(day: date, *, hebrew: bool) -> str:
    return f"{day:%d/%m/%Y}" if hebrew else f"{day:%Y-%m-%d}"


def _amount(text: str, document: ReceiptDocument) -> str:
    """Thousands separated, with the symbol where one is common; the digits are those of the exact amount."""
    whole, _, fraction = text.partition(".")
    grouped = f"{int(whole):,}" + (f".{fraction}" if fraction else "")
    symbol = SYMBOLS.get(document.total.currency)
    return f"{symbol}{grouped}" if symbol else f"{grouped} {document.total.currency}"

"""Documents as PDF, by Typst. The same document always gives the same bytes."""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from datetime import UTC, datetime, time
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import fontpkg_heebo
import typst
from fontTools.ttLib import TTFont

from domain.receipt import Dealer, DocumentKind, ReceiptDocument

TITLES = {
    DocumentKind.RECEIPT: ("קבלה", "Receipt"),
    DocumentKind.TAX_INVOICE: ("חשבונית מס", "Tax invoice"),
    DocumentKind.TAX_INVOICE_RECEIPT: ("חשבונית מס / קבלה", "Tax invoice / receipt"),
    DocumentKind.CREDIT_NOTE: ("חשבונית מס זיכוי", "Credit note"),
}
DEALERS = {
    Dealer.AUTHORIZED: ("עוסק מורשה", "Authorized dealer"),
    Dealer.EXEMPT: ("עוסק פטור", "Exempt dealer"),
    Dealer.COMPANY: ("ח.פ.", "Company no."),
    Dealer.FOREIGN: ("מס׳ עוסק", "Business no."),
}
SYMBOLS = {"ILS": "₪", "USD": "$", "EUR": "€", "GBP": "£"}
MAX_TEXT = 400
"""Longer texts are cut; the layout wraps what is shorter."""

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
            font_paths=_fonts(),
            sys_inputs={"data": data},
            pdf_standards="a-3b",
            timestamp=int(moment.timestamp()),
        )


@cache
def _template() -> bytes:
    return resources.files("receipts").joinpath("templates/receipt.typ").read_bytes()


@cache
def _fonts() -> typst.Fonts:
    return typst.Fonts(font_paths=[Path(fontpkg_heebo.__file__).parent], include_system_fonts=False)


@cache
def _drawable() -> frozenset[int]:
    """The code points that the font can show."""
    (file,) = Path(fontpkg_heebo.__file__).parent.rglob("*.ttf")
    return frozenset(TTFont(file, lazy=True).getBestCmap())


def _view(document: ReceiptDocument) -> dict[str, Any]:
    """What the template prints; every text cleaned, every amount already formatted."""
    hebrew = document.language == "he"
    side = 0 if hebrew else 1
    stored = document.to_json()
    seller_name = (document.seller.name_he if hebrew else None) or document.seller.name
    return {
        "hebrew": hebrew,
        "issued": [document.issued_on.year, document.issued_on.month, document.issued_on.day],
        "title": TITLES[document.kind][side],
        "dealer": DEALERS[document.dealer][side],
        "number": document.display_number,
        "date": f"{document.issued_on:%d/%m/%Y}" if hebrew else f"{document.issued_on:%Y-%m-%d}",
        "seller": _cleaned(stored["seller"] | {"name": seller_name}),
        "customer": _cleaned(stored["customer"]),
        "lines": [
            {
                "description": clean(line.description),
                "quantity": line.quantity,
                "amount": _amount(str(line.gross), document),
            }
            for line in document.lines
        ],
        "net": _amount(str(document.net), document),
        "vat": _amount(str(document.vat), document),
        "vat_percent": format((document.vat_rate * 100).normalize(), "f"),
        "credit": document.kind is DocumentKind.CREDIT_NOTE,
        "has_vat": document.kind is not DocumentKind.RECEIPT or document.vat.minor != 0,
        "total": _amount(str(document.total), document),
        "paid_by": clean(document.paid_by),
        "reference": clean(document.provider_reference or ""),
        "order": clean(document.order_id),
        "refers_to": clean(document.refers_to or ""),
        "allocation": clean((document.allocation_number or "")[-9:]),
    }


def _amount(text: str, document: ReceiptDocument) -> str:
    """Thousands separated, with the symbol where one is common; the digits are those of the exact amount."""
    whole, _, fraction = text.partition(".")
    grouped = f"{int(whole):,}" + (f".{fraction}" if fraction else "")
    symbol = SYMBOLS.get(document.total.currency)
    return f"{symbol}{grouped}" if symbol else f"{grouped} {document.total.currency}"


def _cleaned(party: dict[str, Any]) -> dict[str, str]:
    return {name: clean(value or "") for name, value in party.items()}


def clean(text: str) -> str:
    """Printable text: no control characters, none of the invisible ones that turn text around, cut to a sane length.

    What the font has no picture of becomes a question mark: an archival PDF may not hold text that cannot be shown.
    """
    kept = "".join(
        character
        for character in unicodedata.normalize("NFC", text)
        if unicodedata.category(character) not in ("Cc", "Cs", "Co", "Cn", "Cf")
    )
    shown = "".join(character if ord(character) in _drawable() else "?" for character in re.sub(r"\s+", " ", kept))
    return shown[:MAX_TEXT].strip()

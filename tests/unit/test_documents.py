"""A fiscal document, field by field: what a capture issues, what a refund issues, and how both are kept."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from domain.money import Money, MoneyError
from domain.receipt import (
    ISRAELI_CODE,
    Dealer,
    DocumentKind,
    Line,
    Party,
    ReceiptDocument,
    credit_note,
    document_of_capture,
    fiscal_year,
    kind_for_capture,
    vat_rate_for,
)

SELLER = Party("Clinic North Ltd", "514000009", "12 Herzl St, Haifa", "office@example.com", "מרפאת צפון בע״מ")
CUSTOMER = Party("Dana Levi", "012345678", "1 Sea Road", "dana@example.com", "דנה לוי")


def ils(text: str) -> Money:
    return Money.parse(text, "ILS")


def a_document(**changes: Any) -> ReceiptDocument:
    values: dict[str, Any] = {
        "dealer": Dealer.COMPANY,
        "workspace_rate": Decimal("0.18"),
        "number": 123,
        "issued_on": date(2026, 11, 21),
        "seller": SELLER,
        "customer": CUSTOMER,
        "description": "Consultation",
        "paid": ils("118.00"),
        "paid_by": "Visa •••• 4242",
        "provider_reference": "pi_123",
        "order_id": "A-1001",
        "language": "he",
    }
    return document_of_capture(**(values | changes))


DOCUMENT = ReceiptDocument(
    kind=DocumentKind.TAX_INVOICE_RECEIPT,
    number=123,
    fiscal_year=2026,
    issued_on=date(2026, 11, 21),
    dealer=Dealer.COMPANY,
    seller=SELLER,
    customer=CUSTOMER,
    lines=(Line("Consultation", 1, ils("118.00")),),
    net=ils("100.00"),
    vat=ils("18.00"),
    vat_rate=Decimal("0.18"),
    total=ils("118.00"),
    paid_by="Visa •••• 4242",
    provider_reference="pi_123",
    order_id="A-1001",
    language="he",
    refers_to=None,
    allocation_number=None,
)
STORED: dict[str, Any] = {
    "kind": "tax_invoice_receipt",
    "number": 123,
    "fiscal_year": 2026,
    "display_number": "2026-000123",
    "issued_on": "2026-11-21",
    "dealer": "company",
    "seller": {
        "name": "Clinic North Ltd",
        "number": "514000009",
        "address": "12 Herzl St, Haifa",
        "email": "office@example.com",
        "name_he": "מרפאת צפון בע״מ",
    },
    "customer": {
        "name": "Dana Levi",
        "number": "012345678",
        "address": "1 Sea Road",
        "email": "dana@example.com",
        "name_he": "דנה לוי",
    },
    "lines": [{"description": "Consultation", "quantity": 1, "gross": "118.00"}],
    "net": "100.00",
    "vat": "18.00",
    "vat_rate": "0.18",
    "total": "118.00",
    "currency": "ILS",
    "paid_by": "Visa •••• 4242",
    "provider_reference": "pi_123",
    "order_id": "A-1001",
    "language": "he",
    "refers_to": None,
    "allocation_number": None,
}
"""How a document lies in the database. Those of years ago must be read: a name that changes here needs both read."""


def test_the_document_of_a_capture() -> None:
    assert a_document() == DOCUMENT


@pytest.mark.parametrize(
    ("dealer", "kind", "rate"),
    [
        (Dealer.AUTHORIZED, DocumentKind.TAX_INVOICE_RECEIPT, "0.18"),
        (Dealer.COMPANY, DocumentKind.TAX_INVOICE_RECEIPT, "0.18"),
        (Dealer.EXEMPT, DocumentKind.RECEIPT, "0"),
        (Dealer.FOREIGN, DocumentKind.RECEIPT, "0.18"),
    ],
)
def test_what_each_dealer_issues_and_charges(dealer: Dealer, kind: DocumentKind, rate: str) -> None:
    assert kind_for_capture(dealer) is kind
    assert vat_rate_for(dealer, Decimal("0.18")) == Decimal(rate)
    document = a_document(dealer=dealer)
    assert (document.kind, document.dealer, document.vat_rate) == (kind, dealer, Decimal(rate))
    assert str(document.vat) == ("18.00" if Decimal(rate) else "0.00")


def test_the_document_of_a_refund_keeps_what_its_original_said() -> None:
    original = replace(DOCUMENT, dealer=Dealer.AUTHORIZED, vat_rate=Decimal("0.17"))
    note = credit_note(
        original,
        number=7,
        issued_on=date(2027, 1, 2),
        amount=ils("59.00"),
        vat=ils("9.00"),
        reason="One session less",
        provider_reference="re_1",
    )
    assert note == replace(
        original,
        kind=DocumentKind.CREDIT_NOTE,
        number=7,
        fiscal_year=2027,
        issued_on=date(2027, 1, 2),
        lines=(Line("One session less", 1, ils("59.00")),),
        net=ils("50.00"),
        vat=ils("9.00"),
        total=ils("59.00"),
        provider_reference="re_1",
        refers_to="2026-000123",
    )


def test_how_it_is_kept_and_read_again() -> None:
    assert {name: DOCUMENT.to_json()[name] for name in STORED} == STORED
    assert ReceiptDocument.from_json(STORED) == DOCUMENT
    full = replace(
        DOCUMENT,
        kind=DocumentKind.CREDIT_NOTE,
        refers_to="2026-000001",
        allocation_number="1234",
        provider_reference=None,
        lines=(Line("a", 2, ils("100.00")), Line("b", 1, ils("18.00"))),
    )
    assert ReceiptDocument.from_json(full.to_json()) == full
    assert full.to_json()["refers_to"] == "2026-000001"
    assert full.to_json()["allocation_number"] == "1234"


@pytest.mark.parametrize("name", ["refers_to", "allocation_number"])
def test_one_of_before_these_fields_is_read(name: str) -> None:
    old = {key: value for key, value in STORED.items() if key != name}
    assert ReceiptDocument.from_json(old) == DOCUMENT


def test_every_field_is_kept() -> None:
    assert {field.name for field in fields(ReceiptDocument)} <= set(DOCUMENT.to_json())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"net": ils("100.01")}, "net and VAT do not add up to the total"),
        ({"vat": ils("17.99")}, "net and VAT do not add up to the total"),
        ({"lines": ()}, "the lines do not add up to the total"),
        ({"lines": (Line("x", 1, ils("117.99")),)}, "the lines do not add up to the total"),
        ({"lines": (Line("x", 1, ils("118.00")), Line("y", 1, ils("0.01")))}, "the lines do not add up to the total"),
    ],
)
def test_sums_that_are_wrong_make_no_document(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(MoneyError, match=f"^{fault}$"):
        replace(DOCUMENT, **changes)


def test_numbers_years_and_codes() -> None:
    assert DOCUMENT.display_number == "2026-000123"
    assert replace(DOCUMENT, number=1_234_567).display_number == "2026-1234567"
    assert (fiscal_year(date(2026, 12, 31)), fiscal_year(date(2027, 1, 1))) == (2026, 2027)
    assert {kind.value: code for kind, code in ISRAELI_CODE.items()} == {
        "tax_invoice": 305,
        "tax_invoice_receipt": 320,
        "credit_note": 330,
        "receipt": 400,
    }

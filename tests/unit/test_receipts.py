"""Documents: what they must hold, and what may not get into them."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from domain.money import Money, MoneyError
from domain.receipt import Dealer, DocumentKind, Line, Party, ReceiptDocument, credit_note, document_of_capture
from receipts.render import render_pdf
from receipts.text import line


def a_document(
    description: str = "Consultation", name: str = "Dana Levi", language: str = "en", dealer: Dealer = Dealer.COMPANY
) -> ReceiptDocument:
    return document_of_capture(
        dealer=dealer,
        workspace_rate=Decimal("0.18"),
        number=123,
        issued_on=date(2026, 11, 21),
        seller=Party("Clinic North Ltd", "514000009", "12 Herzl St, Haifa", None, "מרפאת צפון בע״מ"),
        customer=Party(name, None, None, "dana@example.com"),
        description=description,
        paid=Money.parse("1129.90", "ILS"),
        paid_by="Visa •••• 4242",
        provider_reference="pi_123",
        order_id="A-1001",
        language=language,
    )


def text_of(document: ReceiptDocument) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(document))).pages)


@pytest.mark.parametrize(
    ("language", "title", "original"), [("en", "Tax invoice / receipt", "Original"), ("he", "קבלה", "מקור")]
)
def test_the_pdf_holds_what_must_be_printed(language: str, title: str, original: str) -> None:
    text = text_of(a_document(language=language))
    for expected in ("2026-000123", "957.54", "172.36", "1,129.90", "514000009", "A-1001", "4242", title, original):
        assert expected in text, expected


@pytest.mark.parametrize(("language", "due"), [("en", ("Total credited", "Refunded to")), ("he", ("הוחזר",))])
def test_a_credit_note_does_not_say_that_something_was_paid(language: str, due: tuple[str, ...]) -> None:
    text = text_of(
        credit_note(
            a_document(language=language),
            number=1,
            issued_on=date(2026, 11, 22),
            amount=Money.parse("59.00", "ILS"),
            vat=Money.parse("9.00", "ILS"),
            reason="One session less",
            provider_reference="re_1",
        )
    )
    assert "Total paid" not in text
    assert "שולם" not in text
    for expected in (*due, "59.00", "2026-000123"):
        assert expected in text, expected


def test_the_same_document_gives_the_same_bytes() -> None:
    assert render_pdf(a_document()) == render_pdf(a_document())


@pytest.mark.parametrize(
    "hostile",
    [
        "#set page(fill: red)",
        "$x^2$ *b* _i_ @ref",
        '"]; #panic("x")',
        "a" * 3000,
        "\u202eevil\x00\x07",
        "🙂 \u200fשלום",
    ],
)
def test_hostile_text_is_only_text(hostile: str) -> None:
    text = text_of(a_document(description=hostile, name=hostile))
    assert "1,129.90" in text
    if hostile.startswith("#set"):
        assert "#set" in text


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=200), st.text(max_size=60))
def test_any_text_can_be_printed(description: str, name: str) -> None:
    assert render_pdf(a_document(description, name)).startswith(b"%PDF")


@given(st.text())
def test_cleaning_leaves_no_invisible_controls(text: str) -> None:
    assert not set(line(text)) & {"\x00", "\u202e", "\u2066", "\n", "\t"}


def test_an_exempt_dealer_charges_no_vat_and_issues_a_receipt() -> None:
    document = a_document(dealer=Dealer.EXEMPT)
    assert (document.kind, document.vat.minor, document.net) == (DocumentKind.RECEIPT, 0, document.total)
    assert "VAT" not in text_of(document)


def test_a_document_round_trips_through_storage() -> None:
    document = a_document()
    assert ReceiptDocument.from_json(document.to_json()) == document


def test_parts_must_add_up() -> None:
    good = a_document()
    values = {name: getattr(good, name) for name in ReceiptDocument.__dataclass_fields__}
    with pytest.raises(MoneyError, match="net and VAT"):
        ReceiptDocument(**(values | {"net": Money(1, "ILS")}))
    with pytest.raises(MoneyError, match="lines"):
        ReceiptDocument(**(values | {"lines": (Line("x", 1, Money(1, "ILS")),)}))

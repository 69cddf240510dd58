"""Texts of people on documents: in every script, in order, on the page, and refused or visibly replaced where not."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from domain.money import Money
from domain.receipt import (
    Dealer,
    DocumentKind,
    Line,
    Party,
    ReceiptDocument,
    document_of_capture,
    is_registered,
    israeli_code,
)
from receipts.fonts import is_drawable
from receipts.render import render_pdf, title_of
from receipts.text import MAX_TEXT, REPLACEMENT, directed, line, lines, undrawable
from tests.support.pictures import MILLIMETRE, pages_of

NAMES = [
    "Ирина Петрова",
    "محمد أحمد",
    "مُحَمَّد",
    "می‌خواهم",
    "王小明",
    "張偉",
    "田中さくら",
    "김철수",
    "Nguyễn Thị Ánh",
    "Nguyễn Thị Ánh",
    "Ελένη Παπαδοπούλου",
    "Ἀθηνᾶ",
    "בן‑דוד",
    "Anne‐Marie O’Brien",
    "שָׁלוֹם בֶּן־דָּוִד",
    "Łukasz Żółć",
    "Şükrü Ğ İı",
    "José e\u0301",
    "สมชาย",
    "अमित कुमार",
    "Nino — “N.” …",
]
ORDER = "invoice-018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79"


def printed(language: str = "en", dealer: Dealer = Dealer.COMPANY, **changes: Any) -> ReceiptDocument:
    made = document_of_capture(
        dealer=dealer,
        workspace_rate=Decimal("0.18"),
        number=123,
        issued_on=date(2026, 11, 21),
        seller=Party("Clinic North Ltd", "514000009", "12 Herzl St\nFloor 3\nHaifa"),
        customer=Party("Dana Levi", "012345678", None, "dana@example.com"),
        description="Consultation",
        paid=Money.parse("1129.90", "ILS"),
        paid_by="Visa •••• 4242",
        provider_reference="pi_123",
        order_id="A-1001",
        language=language,
    )
    return replace(made, **changes)


def with_text(place: str, text: str, language: str) -> ReceiptDocument:
    """A document with a text in one of its places."""
    made = printed(language)
    party = place.partition(".")[2]
    if place.startswith("seller."):
        return replace(made, seller=replace(made.seller, **{party: text}))
    if place.startswith("customer."):
        return replace(made, customer=replace(made.customer, **{party: text}))
    if place == "description":
        return replace(made, lines=(Line(text, 1, made.total),))
    change: dict[str, Any] = {place: text}
    return replace(made, **change)


PLACES = [
    *("seller.name", "seller.number", "seller.address", "customer.name", "customer.number", "customer.email"),
    *("customer.address", "description", "paid_by", "provider_reference", "order_id", "refers_to"),
    "allocation_number",
]


def text_of(document: ReceiptDocument) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(document))).pages)


def letters(text: str) -> list[str]:
    """What is there, without the order, which a reader of PDFs guesses for letters that are read from the right."""
    return sorted(character for character in line(text) if character.isalnum())


@pytest.mark.parametrize("language", ["en", "he"])
@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_in_every_script(name: str, language: str) -> None:
    assert undrawable(name) is None
    pdf = render_pdf(with_text("customer.name", name, language))
    text = "".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    assert not {"?", REPLACEMENT} & set(text)
    if not re.search(
        "[\u0591-\u05c7\u0600-\u06ff\u0900-\u097f]", name
    ):  # joined and pointed letters are mapped as groups
        assert set(letters(name)) <= set(text)
    assert len(pdf) < 100_000, "only the letters that are used are in the file"


@pytest.mark.parametrize("place", PLACES)
def test_every_text_of_a_document_goes_the_same_way(place: str) -> None:
    text = text_of(with_text(place, "Ирина 王小明", "he"))
    found = "小明" if place != "allocation_number" else "明"
    assert found in text
    assert "?" not in text


@pytest.mark.parametrize(
    ("text", "shown", "place"),
    [
        ("Dana 🙂", f"Dana {REPLACEMENT}", 6),
        ("🙂", REPLACEMENT, 1),
        ("ab\ue000c", f"ab{REPLACEMENT}c", 3),
        ("a\ud800b", f"a{REPLACEMENT}b", 2),
        ("𒀀𒀁", REPLACEMENT * 2, 1),
        ("\u200b\u2060", "", 0),
        ("", "", 0),
        ("é", "é", None),
    ],
)
def test_what_no_font_has_is_told_and_replaced_visibly(text: str, shown: str, place: int | None) -> None:
    assert (line(text), undrawable(text)) == (shown, place)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("12 Herzl St\nFloor 3\nHaifa", ["12 Herzl St", "Floor 3", "Haifa"]),
        ("12 Herzl St\r\nFloor\t3\u2028\u2029Haifa\x85\n\n", ["12 Herzl St", "Floor 3", "Haifa"]),
        ("\u200bHaifa\u00a0\u3000North", ["Haifa North"]),
    ],
)
def test_an_address_keeps_its_lines(text: str, kept: list[str]) -> None:
    assert lines(text) == kept
    assert line(text) == " ".join(kept)
    shown = text_of(with_text("seller.address", text, "en"))
    assert all(one in shown.splitlines() for one in kept)


@pytest.mark.parametrize(
    "space", ["\n", "\r\n", "\t", "\x0b", "\x0c", "\x1f", "\x85", "\u2028", "\u2029", "\u00a0", "\u3000"]
)
def test_white_space_of_any_kind_keeps_words_apart(space: str) -> None:
    assert line(f"Floor 3{space}Haifa") == "Floor 3 Haifa"


@pytest.mark.parametrize(
    ("text", "hebrew", "english"),
    [
        ("SAP ישראל בע״מ", "\u2067SAP ישראל בע״מ\u2069", "\u2066SAP ישראל בע״מ\u2069"),
        ("ישראל SAP", "\u2067ישראל SAP\u2069", "\u2067ישראל SAP\u2069"),
        ("+972 54 123 4567", "\u2066+972 54 123 4567\u2069", "\u2066+972 54 123 4567\u2069"),
        (
            "+972 54 123 4567 (נייד)",
            "\u2067\u2066+972 54 123 4567\u2069 (נייד)\u2069",
            "\u2067\u2066+972 54 123 4567\u2069 (נייד)\u2069",
        ),
        ("נייד 054 123 4567", "\u2067נייד \u2066054 123 4567\u2069\u2069", "\u2067נייד \u2066054 123 4567\u2069\u2069"),
        ("הנחה -5.5", "\u2067הנחה \u2066-5.5\u2069\u2069", "\u2067הנחה \u2066-5.5\u2069\u2069"),
        ("הרצל 12, 3456", "\u2067הרצל 12, 3456\u2069", "\u2067הרצל 12, 3456\u2069"),
        ("12 Herzl St, Haifa.", "\u206612 Herzl St, Haifa.\u2069", "\u206612 Herzl St, Haifa.\u2069"),
        ("محمد, Haifa", "\u2067محمد, Haifa\u2069", "\u2067محمد, Haifa\u2069"),
        ("---", "\u2066---\u2069", "\u2066---\u2069"),
        ("", "", ""),
    ],
)
def test_a_text_stands_in_its_own_direction(text: str, hebrew: str, english: str) -> None:
    assert directed(text, hebrew=True) == hebrew
    assert directed(text, hebrew=False) == english


def drawn_at(name: str, part: str) -> float:
    """Where a part of a customer's name stands in a Hebrew document, in points from the left."""
    seen: list[float] = []

    def visit(text: str, matrix: list[float], *_: Any) -> None:
        seen.extend([matrix[4]] if part in text else [])

    page = PdfReader(io.BytesIO(render_pdf(with_text("customer.name", name, "he")))).pages[0]
    page.extract_text(visitor_text=visit)
    return seen[0]


def test_in_a_hebrew_document_a_name_that_begins_in_latin_is_read_from_the_right() -> None:
    assert drawn_at("SAP ישראל בע״מ", "SAP") > drawn_at("SAP ישראל", "SAP") - 1 > drawn_at("ישראל SAP", "SAP") + 20


@pytest.mark.parametrize("language", ["he", "en"])
def test_a_telephone_number_keeps_its_order(language: str) -> None:
    text = text_of(with_text("customer.name", "+972 54 123 4567 (נייד)", language))
    assert "+972 54 123 4567" in text


@pytest.mark.parametrize(("dealer", "kind", "language"), [*itertools.product(Dealer, DocumentKind, ["he", "en"])])
def test_only_who_is_registered_issues_what_is_called_a_tax_invoice(
    dealer: Dealer, kind: DocumentKind, language: str
) -> None:
    title = title_of(kind, dealer, language)
    taxing = "חשבונית מס" in title or "Tax" in title
    assert taxing is (
        is_registered(dealer) and kind is not DocumentKind.RECEIPT and (kind, language) != CREDIT_IN_ENGLISH
    )
    assert (israeli_code(kind, dealer) == 330) is (kind is DocumentKind.CREDIT_NOTE and is_registered(dealer))


CREDIT_IN_ENGLISH = (DocumentKind.CREDIT_NOTE, "en")
TITLES = {
    (Dealer.EXEMPT, DocumentKind.RECEIPT): ("קבלה", "Receipt"),
    (Dealer.EXEMPT, DocumentKind.CREDIT_NOTE): ("הודעת זיכוי", "Credit note"),
    (Dealer.FOREIGN, DocumentKind.RECEIPT): ("קבלה", "Receipt"),
    (Dealer.FOREIGN, DocumentKind.CREDIT_NOTE): ("הודעת זיכוי", "Credit note"),
    (Dealer.COMPANY, DocumentKind.TAX_INVOICE_RECEIPT): ("חשבונית מס / קבלה", "Tax invoice / receipt"),
    (Dealer.COMPANY, DocumentKind.CREDIT_NOTE): ("חשבונית מס זיכוי", "Credit note"),
    (Dealer.AUTHORIZED, DocumentKind.TAX_INVOICE_RECEIPT): ("חשבונית מס / קבלה", "Tax invoice / receipt"),
    (Dealer.AUTHORIZED, DocumentKind.CREDIT_NOTE): ("חשבונית מס זיכוי", "Credit note"),
}


@pytest.mark.parametrize(("profile", "titles"), [*TITLES.items()])
def test_what_each_seller_issues_is_called(profile: tuple[Dealer, DocumentKind], titles: tuple[str, str]) -> None:
    dealer, kind = profile
    assert (title_of(kind, dealer, "he"), title_of(kind, dealer, "en")) == titles


def test_the_credit_note_of_an_exempt_dealer_has_no_vat_on_it() -> None:
    document = printed(dealer=Dealer.EXEMPT, kind=DocumentKind.CREDIT_NOTE)
    assert "VAT" not in text_of(document)


def on_the_page(document: ReceiptDocument) -> bool:
    """Whether all ink is within the margins, to a dot: 22 mm at the sides and above; below is the foot of the page."""
    for page in pages_of(document):
        columns, rows = page.inked_columns(), page.inked_rows()
        left, right, top = 22 * MILLIMETRE - 1, page.width - 22 * MILLIMETRE + 1, 22 * MILLIMETRE - 1
        if int(left) > columns[0] or columns[-1] > right or int(top) > rows[0]:
            return False
    return True


LONG = ["x" * 100, "W" * 400, ORDER, "a" * 49 + "@" + "b" * 60 + ".com", "ש" * 300, "م" * 300, "王" * 300, "W " * 300]


@pytest.mark.parametrize(("text", "language"), [*itertools.product(LONG, ["en", "he"])])
def test_nothing_runs_off_the_page(text: str, language: str) -> None:
    party, made = Party(text, text, text, text), printed(language)
    line_of_it = Line(text, 1, made.total)
    texts: dict[str, Any] = dict.fromkeys(
        ("paid_by", "provider_reference", "order_id", "refers_to", "allocation_number"), text
    )
    assert on_the_page(replace(made, seller=party, customer=party, lines=(line_of_it,), **texts))


@pytest.mark.parametrize("language", ["en", "he"])
def test_an_order_of_a_subscription_stays_in_one_piece(language: str) -> None:
    document = with_text("order_id", ORDER, language)
    assert on_the_page(document)
    assert ORDER in text_of(document)


def test_the_greatest_amount_fits() -> None:
    for currency, amount in (("COP", "999999999999999.99"), ("KWD", "999999999999999.999")):
        made = printed("he")
        total = Money.parse(amount, currency)
        zero = Money.zero(currency)
        assert on_the_page(replace(made, net=total, vat=zero, total=total, lines=(Line("x", 1, total),)))


SCRIPTS = st.sampled_from("aW1 .-/שםءمЖ王กिあ가\u0301\u05b8\u0e31\u093f\u0651\u200d\u200c\n\t🙂\u202e+")
WORDS = (
    st.text(SCRIPTS, max_size=80) | st.text(max_size=60) | st.text(st.characters(categories=["L", "M"]), max_size=30)
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PLACES), WORDS, st.sampled_from(["en", "he"]))
def test_whatever_is_written_where_can_be_printed_and_stays_on_the_page(place: str, text: str, language: str) -> None:
    document = with_text(place, text, language)
    assert render_pdf(document).startswith(b"%PDF")
    assert on_the_page(document)


@given(st.text())
def test_what_is_printed_has_pictures_and_no_more_lines_than_it_should(text: str) -> None:
    shown = line(text)
    assert line(shown) == shown
    assert len(shown) <= MAX_TEXT
    assert not re.search(r"\s\s|[\n\r\t\x00\u202a-\u202e\u2066-\u2069]", shown)
    assert undrawable(shown) in (None, 0)
    assert all(is_drawable(one) or one in "\u200c\u200d" for one in shown if not one.isspace())


@given(st.text(max_size=40))
def test_a_text_that_is_taken_is_printed_as_it_is(text: str) -> None:
    if undrawable(text) is None:
        assert REPLACEMENT not in line(text).replace(REPLACEMENT, "", text.count(REPLACEMENT))

"""Fiscal documents: kinds, fiscal years, and everything that is printed on one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from domain.money import Money, MoneyError
from domain.vat import split_gross


class DocumentKind(StrEnum):
    """Kinds of document; each has its own number series."""

    TAX_INVOICE = "tax_invoice"
    TAX_INVOICE_RECEIPT = "tax_invoice_receipt"
    CREDIT_NOTE = "credit_note"
    RECEIPT = "receipt"


class Dealer(StrEnum):
    """The seller's tax standing."""

    AUTHORIZED = "authorized"
    EXEMPT = "exempt"
    COMPANY = "company"
    FOREIGN = "foreign"


ISRAELI_CODE = {
    DocumentKind.TAX_INVOICE: 305,
    DocumentKind.TAX_INVOICE_RECEIPT: 320,
    DocumentKind.CREDIT_NOTE: 330,
    DocumentKind.RECEIPT: 400,
}
"""Codes of the Israeli Tax Authority's unified file, appendix 1."""


def israeli_code(kind: DocumentKind, dealer: Dealer) -> int:
    """The code of a document. 330 is the credit of a tax invoice: who issues none takes a receipt (400) back."""
    if kind is DocumentKind.CREDIT_NOTE and not is_registered(dealer):
        return ISRAELI_CODE[DocumentKind.RECEIPT]
    return ISRAELI_CODE[kind]


def is_registered(dealer: Dealer) -> bool:
    """Whether the seller is registered for VAT in Israel, and so issues tax invoices and credits of them."""
    return dealer in (Dealer.AUTHORIZED, Dealer.COMPANY)


def kind_for_capture(dealer: Dealer) -> DocumentKind:
    """What a payment in full issues: a registered Israeli seller a tax invoice/receipt, all others a plain receipt."""
    return DocumentKind.TAX_INVOICE_RECEIPT if is_registered(dealer) else DocumentKind.RECEIPT


def vat_rate_for(dealer: Dealer, workspace_rate: Decimal) -> Decimal:
    """An exempt dealer charges no VAT, whatever the workspace says."""
    return Decimal(0) if dealer is Dealer.EXEMPT else workspace_rate


def fiscal_year(issued_on: date) -> int:
    """The calendar year of the legal date, which is the seller's own, not UTC's."""
    return issued_on.year


@dataclass(frozen=True, slots=True)
class Party:
    """Who sells or buys."""

    name: str
    number: str | None = None
    address: str | None = None
    email: str | None = None
    name_he: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `gross` is what was paid for it, VAT included."""

    description: str
    quantity: int
    gross: Money


@dataclass(frozen=True, slots=True)
class ReceiptDocument:
    """All that is printed, so that the same PDF can be derived again at any time.

    `issued_on` is a date in the seller's own zone. Raises MoneyError when the parts do not add up.
    """

    kind: DocumentKind
    number: int
    fiscal_year: int
    issued_on: date
    dealer: Dealer
    seller: Party
    customer: Party
    lines: tuple[Line, ...]
    net: Money
    vat: Money
    vat_rate: Decimal
    total: Money
    paid_by: str
    provider_reference: str | None
    order_id: str
    language: str = "en"
    refers_to: str | None = None
    allocation_number: str | None = None
    paid_on: date | None = None
    """The day on which the money came, where it is not the day of the document: the rate of VAT is of that day."""

    def __post_init__(self) -> None:
        """Check the sums."""
        if self.net + self.vat != self.total:
            raise MoneyError("net and VAT do not add up to the total")
        whole = Money.zero(self.total.currency)
        for line in self.lines:
            whole = whole + line.gross
        if whole != self.total:
            raise MoneyError("the lines do not add up to the total")

    @property
    def display_number(self) -> str:
        """As printed and searched for: year and number."""
        return f"{self.fiscal_year}-{self.number:06d}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for storage and for the template; amounts as decimal strings in major units."""
        return {
            "kind": self.kind.value,
            "number": self.number,
            "fiscal_year": self.fiscal_year,
            "display_number": self.display_number,
            "issued_on": self.issued_on.isoformat(),
            "dealer": self.dealer.value,
            "seller": _party_json(self.seller),
            "customer": _party_json(self.customer),
            "lines": [
                {"description": line.description, "quantity": line.quantity, "gross": str(line.gross)}
                for line in self.lines
            ],
            "net": str(self.net),
            "vat": str(self.vat),
            "vat_rate": str(self.vat_rate),
            "total": str(self.total),
            "currency": self.total.currency,
            "paid_by": self.paid_by,
            "provider_reference": self.provider_reference,
            "order_id": self.order_id,
            "language": self.language,
            "refers_to": self.refers_to,
            "allocation_number": self.allocation_number,
            "paid_on": None if self.paid_on is None else self.paid_on.isoformat(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """The reverse of `to_json`."""
        currency = str(stored["currency"])
        return cls(
            kind=DocumentKind(stored["kind"]),
            number=int(stored["number"]),
            fiscal_year=int(stored["fiscal_year"]),
            issued_on=date.fromisoformat(stored["issued_on"]),
            dealer=Dealer(stored["dealer"]),
            seller=Party(**stored["seller"]),
            customer=Party(**stored["customer"]),
            lines=tuple(
                Line(line["description"], int(line["quantity"]), Money.parse(line["gross"], currency))
                for line in stored["lines"]
            ),
            net=Money.parse(stored["net"], currency),
            vat=Money.parse(stored["vat"], currency),
            vat_rate=Decimal(stored["vat_rate"]),
            total=Money.parse(stored["total"], currency),
            paid_by=stored["paid_by"],
            provider_reference=stored["provider_reference"],
            order_id=stored["order_id"],
            language=stored["language"],
            refers_to=stored.get("refers_to"),
            allocation_number=stored.get("allocation_number"),
            paid_on=date.fromisoformat(stored["paid_on"]) if stored.get("paid_on") else None,
        )


def _party_json(party: Party) -> dict[str, str | None]:
    return {
        "name": party.name,
        "number": party.number,
        "address": party.address,
        "email": party.email,
        "name_he": party.name_he,
    }


def document_of_capture(  # noqa: PLR0913  (all that is printed)
    *,
    dealer: Dealer,
    workspace_rate: Decimal,
    number: int,
    issued_on: date,
    paid_on: date | None = None,
    seller: Party,
    customer: Party,
    description: str,
    paid: Money,
    paid_by: str,
    provider_reference: str | None,
    order_id: str,
    language: str,
) -> ReceiptDocument:
    """The document that a captured payment issues. `workspace_rate` is the rate of the day on which it was paid."""
    split = split_gross(paid, vat_rate_for(dealer, workspace_rate))
    return ReceiptDocument(
        kind=kind_for_capture(dealer),
        number=number,
        fiscal_year=fiscal_year(issued_on),
        issued_on=issued_on,
        dealer=dealer,
        seller=seller,
        customer=customer,
        lines=(Line(description, 1, paid),),
        net=split.net,
        vat=split.vat,
        vat_rate=split.rate,
        total=paid,
        paid_by=paid_by,
        provider_reference=provider_reference,
        order_id=order_id,
        language=language,
        paid_on=None if paid_on == issued_on else paid_on,
    )


def credit_note(
    original: ReceiptDocument,
    *,
    number: int,
    issued_on: date,
    amount: Money,
    vat: Money,
    reason: str,
    provider_reference: str | None,
) -> ReceiptDocument:
    """The document of a refund. It keeps seller, customer, language and above all the VAT rate of its original."""
    return ReceiptDocument(
        kind=DocumentKind.CREDIT_NOTE,
        number=number,
        fiscal_year=fiscal_year(issued_on),
        issued_on=issued_on,
        dealer=original.dealer,
        seller=original.seller,
        customer=original.customer,
        lines=(Line(reason, 1, amount),),
        net=amount - vat,
        vat=vat,
        vat_rate=original.vat_rate,
        total=amount,
        paid_by=original.paid_by,
        provider_reference=provider_reference,
        order_id=original.order_id,
        language=original.language,
        refers_to=original.display_number,
    )

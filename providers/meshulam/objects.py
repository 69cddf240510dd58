"""Read Meshulam's answers: a payment process and its transactions in our words. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from domain.money import Money, MoneyError
from domain.payment import PaymentStatus
from providers.base import OutcomeUnknown, ProviderPayment, ProviderRefund, RefundStatus, SavedMethod
from providers.meshulam.amounts import CURRENCY, from_wire
from providers.meshulam.errors import plain

PAID, REFUNDED, SUSPENDED = "2", "3", "11"
"""`statusCode`: paid, refunded, held without money. Others are not documented and mean that nothing is decided yet."""

NO_ID = "0"
"""The id, and the status, of a transaction that there is not yet."""
TIMES = ("received_time", "complete_time")
"""All that Grow lists of a charge while it is at work on it."""

METHOD_OF = {"1": "card", "5": "paybox", "6": "bit", "13": "apple_pay", "14": "google_pay", "15": "bank_transfer"}
"""`transactionTypeId` → how it was paid."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_TOKEN = 500
_EXPIRY = re.compile(r"(0[1-9]|1[0-2])[0-9]{2}")
_LAST4 = re.compile(r"[0-9]{4}")
_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/((?:20)?[0-9]{2})")
_ISRAEL = ZoneInfo("Asia/Jerusalem")
_BRAND = re.compile(r"[A-Za-z][A-Za-z ]{0,39}")


@dataclass(frozen=True, slots=True)
class Transaction:
    """One entry of a process. `fields` are all its scalars as trimmed text; they hold personal data."""

    id: str
    token: str = field(repr=False)
    status: str
    is_credit: bool
    """It names a transaction that it gives back."""
    fields: Mapping[str, str] = field(repr=False)
    _sum: object = field(repr=False)

    @property
    def sum(self) -> Money:
        """What it moved, without a sign. Raises OutcomeUnknown: money moved in an amount that cannot be held."""
        try:
            return from_wire(plain(self._sum).removeprefix("-"))
        except MoneyError:
            raise OutcomeUnknown("unreadable_answer", "sum") from None


@dataclass(frozen=True, slots=True)
class Process:
    """A payment process: at most one charge, as the page works, and what was given back of it.

    `untouched`: it shows no entry at all, neither money nor anything that may still become some. A placeholder, whose
    transaction id is 0, is no entry.

    How refunds show in getPaymentProcessInfo is not documented. All of these are understood: an entry of its own
    that names the charge in `refundedTransactionId`, an entry of its own that does not, and the charge itself turning
    to status 3 with nothing beside it, which is read as given back whole.
    """

    id: str
    charges: tuple[Transaction, ...]
    credits: tuple[Transaction, ...]
    untouched: bool = False

    @property
    def captured(self) -> Money | None:
        """The money that arrived, in all; None when none did."""
        return _total(self.charges) if self.charges else None

    @property
    def refunded(self) -> Money:
        """The money that went back, in all."""
        if self.credits:
            return _total(self.credits)
        return _total([charge for charge in self.charges if charge.status == REFUNDED])

    def transaction(self, transaction_id: str) -> Transaction | None:
        """A charge by its id."""
        return next((charge for charge in self.charges if charge.id == transaction_id), None)


def opened(data: Mapping[str, Any]) -> tuple[str, str, str]:
    """Process id, process token and address of a new checkout. Raises OutcomeUnknown when one is missing."""
    process_id, token, url = (plain(data.get(name)) for name in ("processId", "processToken", "url"))
    if not _ID.fullmatch(process_id) or not token or not url.startswith(("https://", "http://")):
        raise OutcomeUnknown("unreadable_answer", "process without id, token or address")
    return process_id, token, url


def process_of(data: Mapping[str, Any], process_id: str, *, mark: str = "") -> Process:
    """The data of getPaymentProcessInfo. Raises OutcomeUnknown when unreadable or another process's.

    `mark` is put before every transaction's id.
    """
    if plain(data.get("processId")) not in ("", process_id):
        raise OutcomeUnknown("unreadable_answer", "another process")
    listed = data.get("transactions")
    if listed in (None, ""):
        listed = []
    if isinstance(listed, Mapping):  # PHP writes a list with gaps as an object
        listed = list(listed.values())
    if not isinstance(listed, list):
        raise OutcomeUnknown("unreadable_answer", "transactions")
    entries = [one for one in (read_transaction(entry, mark) for entry in listed) if not is_placeholder(one)]
    paid = [entry for entry in entries if entry.status == PAID]
    returned = [entry for entry in entries if entry.status == REFUNDED]
    if returned and not paid:
        paid = [_first_of([entry for entry in returned if not entry.is_credit])]
    credits_ = tuple(entry for entry in returned if entry not in paid)
    return Process(process_id, tuple(paid), credits_, untouched=not entries)


def is_placeholder(one: Transaction) -> bool:
    """Whether it stands for a transaction that there is not yet: id and status are 0 or empty, nothing is at work."""
    named = one.fields.get("transactionId", NO_ID)
    at_work = any(name in one.fields for name in TIMES)
    return named == NO_ID and one.status in ("", NO_ID) and not at_work


def payment_of(process: Process) -> ProviderPayment:
    """The payment behind a process. PENDING while nothing arrived: an unpaid or declined process shows no entry."""
    captured = process.captured
    if captured is None:
        return ProviderPayment(PaymentStatus.PENDING, session_id=process.id)
    charge, refunded = min(process.charges, key=age), process.refunded
    brand, last4 = shown_card(charge)
    return ProviderPayment(
        PaymentStatus.PAID,
        session_id=process.id,
        transaction_id=charge.id,
        captured=captured,
        captured_at=captured_at(charge),
        refunded=refunded,
        method=METHOD_OF.get(charge.fields.get("transactionTypeId", "")),
        card_brand=brand,
        card_last4=last4,
        saved_method=saved_card(charge),
    )


def day_of(text: str) -> datetime | None:
    """The first moment, in Israel, of a day written dd/mm/yy."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    day, month, year = (int(part) for part in found.groups())
    try:
        return datetime(year % 100 + 2000, month, day, tzinfo=_ISRAEL).astimezone(UTC)
    except ValueError:
        return None


def captured_at(charge: Transaction) -> datetime | None:
    """Noon of the day on which a charge was made: Meshulam tells no hour."""
    day = day_of(charge.fields.get("paymentDate", ""))
    return None if day is None else day + timedelta(hours=12)


def saved_card(charge: Transaction) -> SavedMethod | None:
    """The card that was saved with the charge. Meshulam tells no fingerprint."""
    token, expiry = charge.fields.get("cardToken"), charge.fields.get("cardExp", "")
    if not token or len(token) > MAX_TOKEN:
        return None
    brand, last4 = shown_card(charge)
    month, year = (int(expiry[:2]), 2000 + int(expiry[2:])) if _EXPIRY.fullmatch(expiry) else (None, None)
    return SavedMethod(token=token, brand=brand, last4=last4, exp_month=month, exp_year=year)


def refund_of(data: Mapping[str, Any], *, mark: str = "") -> ProviderRefund:
    """The data of refundTransaction: the credit is a transaction of its own. Raises OutcomeUnknown without its id."""
    refund_id = plain(data.get("transactionId"))
    if not _ID.fullmatch(refund_id):
        raise OutcomeUnknown("unreadable_answer", "refund without id")
    return ProviderRefund(mark + refund_id, RefundStatus.SUCCEEDED)


def shown_card(one: Transaction) -> tuple[str | None, str | None]:
    """Brand and last four digits."""
    return _matching(_BRAND, one.fields.get("cardBrand")), _matching(_LAST4, one.fields.get("cardSuffix"))


def read_transaction(entry: object, mark: str) -> Transaction:
    """One transaction from its fields; `mark` is put before its id. Raises OutcomeUnknown for money without an id."""
    if not isinstance(entry, Mapping):
        raise OutcomeUnknown("unreadable_answer", "transaction")
    fields = {name: plain(value) for name, value in entry.items() if isinstance(name, str) and plain(value)}
    status, transaction_id = fields.get("statusCode", ""), fields.get("transactionId", "")
    if status in (PAID, REFUNDED) and (transaction_id == NO_ID or not _ID.fullmatch(transaction_id)):
        raise OutcomeUnknown("unreadable_answer", "transaction without id")
    return Transaction(
        id=mark + transaction_id,
        token=fields.get("transactionToken", ""),
        status=status,
        is_credit=fields.get("refundedTransactionId", "0") != "0",
        fields=fields,
        _sum=entry.get("sum"),
    )


def _first_of(entries: Sequence[Transaction]) -> Transaction:
    """The oldest: among refunded entries without any link, the charge itself."""
    if not entries:
        raise OutcomeUnknown("unreadable_answer", "a refund without its payment")
    return min(entries, key=age)


def age(entry: Transaction) -> tuple[int, str]:
    """Ids are numbers that grow."""
    return len(entry.id), entry.id


def _total(entries: Sequence[Transaction]) -> Money:
    return sum((entry.sum for entry in entries), Money.zero(CURRENCY))


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    return text if text is not None and pattern.fullmatch(text) else None

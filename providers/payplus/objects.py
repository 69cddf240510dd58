"""Read PayPlus's transactions, in every form in which they are seen, into one list. Pure functions.

A status query answers with flat fields, with `{"transaction": {…}, "data": {…}}`, or with a list of either; related
transactions hang below: the parts of a payment by several ways, and refunds where PayPlus shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.money import Money, MoneyError
from providers.base import OutcomeUnknown, SavedMethod
from providers.payplus.wire import JsonObject, code_of, first, id_of, money_of, part
from providers.reading import own_reference

APPROVED = "000"
_ISRAEL = ZoneInfo("Asia/Jerusalem")
CHARGE: Final = "charge"
APPROVAL: Final = "approval"
REFUND: Final = "refund"
MAX_DEPTH = 4
MAX_TRANSACTIONS = 500


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction. `amount` None when it cannot be read exactly; `type` lower case."""

    uid: str
    type: str
    status: str | None
    status_code: str | None
    amount: Money | None
    page_uid: str | None = None
    reference: UUID | None = None
    """The UUID in `more_info`: the payment's for a charge, the refund's for a refund of ours."""
    method: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    cancelled: bool = False
    further_reference: UUID | None = None
    """The UUID in `more_info_1`: ours where a token was charged, the shop's own order id elsewhere."""
    token: str | None = field(default=None, repr=False)
    customer_uid: str | None = field(default=None, repr=False)
    exp_month: int | None = None
    exp_year: int | None = None
    at: datetime | None = None
    line: str | None = field(default=None, repr=False)
    """`more_info` as it is: of a refund the line that PayPlus prints."""
    multiple: bool = False
    """A payment by several ways: `amount` is the total, and other transactions are its parts."""
    part_of: str | None = None
    """The uid of the transaction below which this one was shown."""

    @property
    def approved(self) -> bool:
        """`000` and, where a status is given, `approved`: neither alone is enough."""
        return self.status_code == APPROVED and self.status in (None, "approved") and not self.cancelled

    @property
    def saved(self) -> SavedMethod | None:
        """The token that it made; None where it made none. PayPlus tells no fingerprint."""
        if self.token is None:
            return None
        return SavedMethod(
            token=self.token,
            customer=self.customer_uid,
            brand=self.card_brand,
            last4=self.card_last4,
            exp_month=self.exp_month,
            exp_year=self.exp_year,
        )


def transactions_in(data: object) -> list[Transaction]:
    """Every transaction in an answer, the answer's own order kept, each once."""
    found: dict[str, Transaction] = {}
    for one in _walk(data, MAX_DEPTH, None):
        found.setdefault(one.uid, one)
        if len(found) > MAX_TRANSACTIONS:
            raise OutcomeUnknown("unreadable_answer", "too many transactions")
    return list(found.values())


def parts_in(found: Sequence[Transaction], whole: Transaction) -> list[Transaction]:
    """The approved charges that make up a payment by several ways; none where `whole` is one charge alone.

    PayPlus says `is_multiple_transaction` of the total and shows its parts below it. Where it does not say so, or shows
    all side by side, charges are parts if they add up to the total.
    """
    charges = [one for one in found if one.type == CHARGE and one.approved and one.uid != whole.uid]
    below = [one for one in charges if one.part_of == whole.uid]
    if whole.multiple and below:
        return below
    beside = below or [one for one in charges if one.part_of is None]
    if not (below or whole.multiple or len(beside) > 1):  # two charges of one amount are not a total and its part
        return []
    amounts = [one.amount for one in beside]
    total = sum(abs(one.minor) for one in amounts if one is not None and one.currency == _currency(whole))
    same = all(one is not None and one.currency == _currency(whole) for one in amounts)
    return beside if beside and same and whole.amount is not None and total == abs(whole.amount.minor) else []


def counted(charges: Sequence[Transaction]) -> list[Transaction]:
    """Approved charges without those that are parts of another one, the totals first."""
    parts = {one.uid: [part.uid for part in parts_in(charges, one)] for one in charges}
    inside = {uid for whole in parts for uid in parts[whole]}
    return sorted((one for one in charges if one.uid not in inside), key=lambda one: not parts[one.uid])


def read_transaction(source: JsonObject, kind: object = None, part_of: str | None = None) -> Transaction | None:
    """One transaction from its fields; `kind` where the type stands outside of it. None without an id."""
    uid = id_of(first(source, "transaction_uid", "uid"))
    if uid is None:
        return None
    kind = kind if isinstance(kind, str) else first(source, "transaction_type", "type")
    status = source.get("status")
    card = {**source, **part(source, "card_information")}
    return Transaction(
        uid=uid,
        type=kind.strip().lower() if isinstance(kind, str) else "",
        status=status.strip().lower() if isinstance(status, str) and status.strip() else None,
        status_code=code_of(source.get("status_code")),
        amount=_money(source.get("amount"), first(source, "currency", "currency_code")),
        page_uid=id_of(first(source, "page_request_uid", "payment_request_uid", "payment_page_request_uid")),
        reference=own_reference(source.get("more_info")),
        method=code_of(first(source, "alternative_method_name", "method")),
        card_brand=_label(card.get("brand_name")),
        card_last4=_last4(card.get("four_digits")),
        cancelled=source.get("transaction_is_cancelled") is True,
        further_reference=own_reference(source.get("more_info_1")),
        token=id_of(first(card, "token_uid", "token")),
        customer_uid=id_of(source.get("customer_uid")),
        exp_month=_number(card.get("expiry_month"), 1, 12),
        exp_year=_year(card.get("expiry_year")),
        at=_moment(source.get("date")),
        line=source["more_info"] if isinstance(source.get("more_info"), str) else None,
        multiple=source.get("is_multiple_transaction") in (True, "true"),
        part_of=part_of,
    )


def _moment(value: object) -> datetime | None:
    """A moment as PayPlus writes it. That it is Israel's time where it names no zone is UNCONFIRMED."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=_ISRAEL)


def _walk(data: object, depth: int, part_of: str | None) -> Iterator[Transaction]:
    if depth == 0:
        return
    if isinstance(data, list):
        for item in data:
            yield from _walk(item, depth - 1, part_of)
        return
    if not isinstance(data, dict):
        return
    inner = data.get("transaction")
    if isinstance(inner, dict):
        beside = part(data, "data")
        one = read_transaction({**beside, **inner}, data.get("transaction_type"), part_of)
        related = first(data, "related_transactions") or inner.get("related_transactions")
    else:
        one, related = read_transaction(data, None, part_of), data.get("related_transactions")
    if one is not None:
        yield one
    elif not isinstance(inner, dict):
        for name in ("data", "transactions"):
            yield from _walk(data.get(name), depth - 1, part_of)
    yield from _walk(related, depth - 1, part_of if one is None else one.uid)


def sum_of(transactions: Sequence[Transaction]) -> Money:
    """Amounts without their sign (a refund's may carry one), added. Raises OutcomeUnknown."""
    amounts = [one.amount for one in transactions if one.amount is not None]
    if len(amounts) != len(transactions):
        raise OutcomeUnknown("unreadable_amount")
    if len({amount.currency for amount in amounts}) != 1:
        raise OutcomeUnknown("mixed_currencies")
    return Money(sum(abs(amount.minor) for amount in amounts), amounts[0].currency)


def _currency(one: Transaction) -> str | None:
    return None if one.amount is None else one.amount.currency


def _money(amount: object, currency: object) -> Money | None:
    try:
        return money_of(amount, currency)
    except MoneyError:
        return None


def _number(value: object, least: int, most: int) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and least <= int(text[:4]) <= most else None


def _year(value: object) -> int | None:
    """A year of two digits or four."""
    year = _number(value, 0, 2199)
    return None if year is None else year + 2000 if year < 100 else year  # noqa: PLR2004


def _label(value: object) -> str | None:
    """A card brand's name: short, letters and spaces."""
    return value if isinstance(value, str) and 0 < len(value) <= 40 and value.isprintable() else None  # noqa: PLR2004


def _last4(value: object) -> str | None:
    text = str(value) if type(value) is int else value
    return text if isinstance(text, str) and len(text) == 4 and text.isascii() and text.isdigit() else None  # noqa: PLR2004

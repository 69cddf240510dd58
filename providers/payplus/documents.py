"""PayPlus's list of credit documents, as a second look at a refund whose answer was lost. Pure functions.

From one integration that asked PayPlus's support: `books/docs/list` knows the documents of refunds where the status
query does not, by `types` and the customer. Its items have a uuid, a number, an amount and the kind; whether they carry
the refund's printed line is UNCONFIRMED, and an amount alone is not taken for our refund.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from domain.money import Money, MoneyError
from providers.base import RefundRequest
from providers.payplus.wire import JsonObject, id_of, money_of

KIND = "inv_refund"
TAKE = 100
"""How many documents are asked for; as many may be more."""
_EARLIER = timedelta(days=1)
"""Dates have no time zone."""


def documents_query(request: RefundRequest, customer: str | None) -> dict[str, str]:
    """The credit documents since the payment, of one customer or of all."""
    query = {"types": KIND, "take": str(TAKE), "fromDate": f"{request.payment.created_at - _EARLIER:%Y-%m-%d}"}
    return query if customer is None else query | {"customer": customer}


def documents_in(data: object) -> list[JsonObject]:
    """The credit documents of an answer."""
    items = data.get("items", []) if isinstance(data, Mapping) else data
    found = [one for one in items if isinstance(one, Mapping)] if isinstance(items, list) else []
    return [one for one in found if one.get("entity_type_name") in (None, KIND)]


def document_of(found: Sequence[JsonObject], refund_id: UUID) -> str | None:
    """The id of the document that carries our refund's id in one of its texts."""
    for one in found:
        if any(str(refund_id) in text for text in _texts(one)):
            return id_of(one.get("uuid")) or f"document-{refund_id}"
    return None


def of_amount(found: Sequence[JsonObject], amount: Money) -> bool:
    """Whether a document may be of this amount: one that cannot be read may be."""
    for one in found:
        try:
            if abs(money_of(one.get("doc_amount"), amount.currency).minor) == amount.minor:
                return True
        except MoneyError:
            return True
    return False


def _texts(one: JsonObject) -> Iterator[str]:
    return (value for value in one.values() if isinstance(value, str))

"""The one table from Meshulam's error ids to what is known about the money.

Every answer is HTTP 200; `status` and `err` in the body decide. Messages are Hebrew prose that may repeat what we sent,
so only the ids are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from providers.base import NothingMoved, OutcomeUnknown, ProviderError, ProviderMisconfigured, ProviderRejected

ALREADY_DONE = "already_performed"
ALREADY_REFUNDED = "already_refunded"
EXCEEDS_PAYMENT = "refund_exceeds_payment"
LINK_EXPIRED = "link_expired"
MANUAL_APPROVAL = "refund_needs_manual_approval"
NOT_FOUND = "not_found"
UNKNOWN_PROCESS = "unknown_process"
UNKNOWN_TRANSACTION = "unknown_transaction"
NOT_PERFORMED = "not_performed"
IDENTIFIER_USED = "identifier_used"
UNNAMED = "err_"
"""Before the id of an error that is not in the table."""

GENERAL_ERROR = 12
"""Says nothing, so nothing is known."""


class _Meaning(NamedTuple):
    kind: type[NothingMoved]
    code: str


_MEANING: Mapping[int, _Meaning] = {
    54: _Meaning(ProviderRejected, "missing_field"),
    105: _Meaning(ProviderRejected, EXCEEDS_PAYMENT),
    110: _Meaning(ProviderRejected, MANUAL_APPROVAL),
    130: _Meaning(ProviderRejected, "same_day_partial_refund"),
    170: _Meaning(ProviderRejected, NOT_FOUND),
    190: _Meaning(ProviderRejected, EXCEEDS_PAYMENT),
    207: _Meaning(ProviderRejected, "same_day_partial_refund"),
    210: _Meaning(ProviderRejected, ALREADY_REFUNDED),
    218: _Meaning(ProviderRejected, EXCEEDS_PAYMENT),
    271: _Meaning(ProviderRejected, "bit_limit_exceeded"),
    300: _Meaning(ProviderMisconfigured, "no_api_access"),
    617: _Meaning(ProviderRejected, "sum_differs_from_products"),
    701: _Meaning(ProviderMisconfigured, "wrong_user_id_or_page_code"),
    707: _Meaning(ProviderRejected, "invalid_amount"),
    709: _Meaning(ProviderRejected, LINK_EXPIRED),
    712: _Meaning(ProviderRejected, ALREADY_DONE),
    714: _Meaning(ProviderMisconfigured, "blocked"),
    716: _Meaning(ProviderRejected, UNKNOWN_TRANSACTION),
    722: _Meaning(ProviderRejected, NOT_PERFORMED),
    723: _Meaning(ProviderMisconfigured, "wrong_api_key"),
    730: _Meaning(ProviderRejected, UNKNOWN_PROCESS),
    731: _Meaning(ProviderMisconfigured, "page_code_mismatch"),
    736: _Meaning(ProviderRejected, "conflicting_payment_counts"),
    743: _Meaning(ProviderMisconfigured, "no_business"),
    803: _Meaning(ProviderRejected, "hold_expired"),
    808: _Meaning(ProviderRejected, "already_settled"),
    814: _Meaning(ProviderRejected, "exceeds_hold"),
    1010: _Meaning(ProviderRejected, IDENTIFIER_USED),
}
_ID = re.compile(r"[0-9]{1,6}")


def data_of(answer: object, method: str) -> Mapping[str, Any]:
    """The `data` of a good answer; an empty mapping where it is a blank or an empty list.

    `status` and the error's id come as numbers or as text. Raises ProviderRejected or ProviderMisconfigured by the
    error's id, with code `err_<id>` for one that is not in the table, and OutcomeUnknown for everything unreadable
    and for the general error.
    """
    data = answered(answer, method)
    return data if isinstance(data, Mapping) else {}


def answered(answer: object, method: str) -> object:
    """The `data` of a good answer as it is. Raises as `data_of` does."""
    if not isinstance(answer, Mapping):
        raise OutcomeUnknown("unreadable_answer", f"not an object at {method}")
    if plain(answer.get("status")) == "1":
        return answer.get("data")
    raise _known_about(answer, method)


def plain(value: object) -> str:
    """A scalar as trimmed text, whether it came as a number or as text; empty for everything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return ""
    return str(value).strip()


def _known_about(answer: Mapping[str, Any], method: str) -> ProviderError:
    fault = answer.get("err")
    if fault == "unknown method":
        return ProviderMisconfigured("unknown_method", method)
    error_id = _error_id(fault)
    if error_id is None or plain(answer.get("status")) not in ("0", ""):
        return OutcomeUnknown("unreadable_answer", f"neither done nor refused at {method}")
    detail = f"err {error_id} at {method}"
    if error_id == GENERAL_ERROR:
        return OutcomeUnknown("general_error", detail)
    meaning = _MEANING.get(error_id, _Meaning(ProviderRejected, f"{UNNAMED}{error_id}"))
    return meaning.kind(meaning.code, detail)


def _error_id(fault: object) -> int | None:
    """`{"id": 707}`, `{"id": "707"}` or, by one method, `{"id": {"id": 707}}`."""
    found = fault.get("id") if isinstance(fault, Mapping) else None
    if isinstance(found, Mapping):
        found = found.get("id")
    text = plain(found)
    return int(text) if _ID.fullmatch(text) else None

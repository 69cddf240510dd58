"""What Grow's error answers mean, by the table in `error_ids.py`.

Every answer is HTTP 200; `status` and `err` in the body decide. Messages are Hebrew prose that may repeat what we sent,
so only the ids are kept, and of a message what it is told apart by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from providers.base import OutcomeUnknown, ProviderBusy, ProviderError, ProviderMisconfigured, ProviderRejected
from providers.meshulam.error_ids import DECLINED, DECLINED_BY_TEXT, MEANING, NO_BALANCE, SAYS_NOTHING, UNNAMED, Meaning

NO_BALANCE_FOR = timedelta(hours=1)
"""Money for a refund comes with the next payments; Grow says that it may take up to thirty days."""

_ID = re.compile(r"[0-9]{1,6}")
_FIELD_NAME = re.compile(r"(paymentNum|maxPaymentNum|fullName|phone|cardToken|userId|pageCode)\b")


def data_of(answer: object, method: str) -> Mapping[str, Any]:
    """The `data` of a good answer; an empty mapping where it is a blank or an empty list.

    `status` and the error's id come as numbers or as text. Raises ProviderError subclasses by the error's id:
    ProviderRejected with code `err_<id>` for one that is not in the table, and OutcomeUnknown for everything unreadable
    and for errors that say nothing.
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
    error_id, message = _error_of(fault)
    if error_id is None or plain(answer.get("status")) not in ("0", ""):
        return OutcomeUnknown("unreadable_answer", f"neither done nor refused at {method}")
    detail = f"err {error_id} at {method}"
    if error_id in SAYS_NOTHING:
        return OutcomeUnknown("general_error", detail)
    if error_id == NO_BALANCE:
        return ProviderBusy("refund_no_balance", detail, retry_after=NO_BALANCE_FOR)
    if error_id == DECLINED:
        kind, code = MEANING[DECLINED]
        return kind(next((ours for words, ours in DECLINED_BY_TEXT if words in message.lower()), code), detail)
    meaning = MEANING.get(error_id, Meaning(ProviderRejected, f"{UNNAMED}{error_id}"))
    named = _FIELD_NAME.search(message)
    return meaning.kind(meaning.code, detail if named is None else f"{detail}: {named.group(1)}")


def _error_of(fault: object) -> tuple[int | None, str]:
    """Id and message of `{"id": 707}`, `{"id": "707"}` or, by one method, `{"id": {"id": 707, "content": …}}`."""
    found = fault if isinstance(fault, Mapping) else {}
    message = found.get("message")
    if isinstance(found.get("id"), Mapping):
        found = found["id"]
        message = found.get("content") or message
    text = plain(found.get("id"))
    return (int(text) if _ID.fullmatch(text) else None), message if isinstance(message, str) else ""

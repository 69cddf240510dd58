"""Grow's error ids: which are declines of a card, and which are faults of the request or of the account.

From Grow's pages "Errors" and "Token" (2026-11), and from public clients: 104, 140, 743 and 808. A fault of the request
or the account says nothing about the customer's card. An id that is not here is no decline: that a charge with such an
answer took nothing is looked up, and the account's option `decline_codes` may call it a decline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from providers.base import NothingMoved, ProviderDeclined, ProviderMisconfigured, ProviderRejected

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
MISSING_FIELD = "missing_field"
NO_PAYMENT_COUNT = "payment_count_not_allowed"
REFUND_FAILED = "refund_failed"
PAYER_DATA = "payer_name_or_phone_invalid"
UNNAMED = "err_"
"""Before the id of an error that is not in the table."""

SAYS_NOTHING = frozenset({12, 276, 718})
"""General errors: nothing is known after them."""
NO_BALANCE = 115
"""The business has no money left for a refund; the same refund is possible later."""
DECLINED = 103
"""A charge that was declined; only the message tells whether the card is lost for good."""
DECLINED_BY_TEXT = (
    ("פג תוקף", "expired_card"),
    ("גנוב", "stolen_card"),
    ("אבוד", "lost_card"),
    ("חסום", "restricted_card"),
    ("חסמה", "restricted_card"),
    ("אשרה", "do_not_honor"),
    ("אישרה", "do_not_honor"),
    ("expired", "expired_card"),
    ("stolen", "stolen_card"),
    ("lost", "lost_card"),
    ("blocked", "restricted_card"),
    ("not approve", "do_not_honor"),
)
"""Words of a message, in lower case, and what they mean in the words of domain/declines.py; the first that is found."""


class Meaning(NamedTuple):
    """What is known after an error: the type, and a stable code."""

    kind: type[NothingMoved]
    code: str


def _all(kind: type[NothingMoved], codes: Mapping[int, str]) -> dict[int, Meaning]:
    return {error_id: Meaning(kind, code) for error_id, code in codes.items()}


DECLINES: Mapping[int, str] = {
    DECLINED: f"{UNNAMED}{DECLINED}",
    140: "token_not_found",
    451: "expired_card",
    452: "restricted_card",
    453: "do_not_try_again",
    811: "processing_error",
    819: "try_again_later",
}
"""What the payer's bank or Grow says of the card; the codes are of domain/declines.py."""

OF_THE_ACCOUNT: Mapping[int, str] = {
    104: "wrong_user_id_or_page_code",
    300: "no_api_access",
    305: "terminal_not_allowed",
    316: "transaction_not_allowed_to_account",
    403: "api_key_missing",
    701: "wrong_user_id_or_page_code",
    703: "direct_debit_not_allowed",
    704: "method_not_allowed",
    710: "page_misconfigured",
    713: "page_inactive",
    714: "blocked",
    715: "transaction_not_allowed_to_account",
    720: "holds_not_allowed",
    721: "page_misconfigured",
    723: "wrong_api_key",
    724: "wrong_user_id_or_page_code",
    731: "page_code_mismatch",
    733: "credit_not_allowed",
    743: "no_business",
    801: "no_business",
    806: "payment_type_not_allowed",
    812: "wrong_api_key",
}
"""What an operator must settle with Grow."""

OF_THE_REQUEST: Mapping[int, str] = {
    10: REFUND_FAILED,
    54: MISSING_FIELD,
    105: EXCEEDS_PAYMENT,
    107: REFUND_FAILED,
    109: "invalid_field",
    110: MANUAL_APPROVAL,
    130: "same_day_partial_refund",
    170: NOT_FOUND,
    180: "record_not_found",
    190: EXCEEDS_PAYMENT,
    207: "same_day_partial_refund",
    210: ALREADY_REFUNDED,
    215: "invalid_amount",
    218: EXCEEDS_PAYMENT,
    271: "bit_limit_exceeded",
    272: "not_possible_by_bit",
    274: "bit_cancel_failed",
    275: "bit_cancel_failed",
    310: "invalid_identification",
    617: "sum_differs_from_products",
    702: "amount_not_allowed",
    705: "invalid_payment_count",
    706: "invalid_link",
    707: "invalid_amount",
    708: "invalid_link",
    709: LINK_EXPIRED,
    711: MISSING_FIELD,
    712: ALREADY_DONE,
    716: UNKNOWN_TRANSACTION,
    717: PAYER_DATA,
    719: "payments_do_not_add_up",
    722: NOT_PERFORMED,
    730: UNKNOWN_PROCESS,
    734: "invalid_payment_count",
    735: "invalid_payment_count",
    736: "conflicting_payment_counts",
    738: "too_many_attempts",
    739: NO_PAYMENT_COUNT,
    740: NO_PAYMENT_COUNT,
    741: "credit_not_possible",
    763: "invalid_products",
    802: UNKNOWN_TRANSACTION,
    803: "hold_expired",
    804: "exceeds_hold",
    805: "amount_not_allowed",
    807: NO_PAYMENT_COUNT,
    808: "already_settled",
    809: "settle_failed",
    810: "settle_not_possible",
    813: NOT_PERFORMED,
    814: "exceeds_hold",
    871: "invalid_products",
    872: "invalid_products",
    873: "invalid_products",
    878: "invalid_products",
    890: "invalid_amount",
    1010: IDENTIFIER_USED,
    1012: "search_refused",
    1013: "invalid_identifier",
}
"""What another request may mend, and what the state of the payment does not allow."""

MEANING: Mapping[int, Meaning] = (
    _all(ProviderDeclined, DECLINES)
    | _all(ProviderMisconfigured, OF_THE_ACCOUNT)
    | _all(ProviderRejected, OF_THE_REQUEST)
)

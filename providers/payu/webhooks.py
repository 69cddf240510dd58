"""PayU's confirmations: one for each attempt, form or JSON, signed in the body by the field `sign`.

Not covered by the signature: `transaction_id`, `test` and everything else that is not in signatures.py. A confirmation
is a reason to look, nothing more.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime
from types import MappingProxyType

from domain.money import Money, MoneyError
from providers.base import EventKind, ProviderEvent, Rejection, WebhookRejected
from providers.payu.account import PayuAccount
from providers.payu.amounts import money_from
from providers.payu.bodies import Fields, read_fields, required, text
from providers.payu.chargebacks import is_hint, read_hint
from providers.payu.objects import CHARGEBACK, REFUNDS
from providers.payu.requests import COLOMBIA
from providers.payu.signatures import check_sign
from providers.reading import own_reference

_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}", re.ASCII)
_STATE = re.compile(r"[0-9]{1,4}", re.ASCII)

_KINDS = MappingProxyType(
    {
        "4": EventKind.CAPTURED,
        "5": EventKind.EXPIRED,
        "6": EventKind.ATTEMPT_FAILED,
        "104": EventKind.ATTEMPT_FAILED,
        **dict.fromkeys(("7", "10", "12", "14", "15", "18"), EventKind.PROCESSING),
    }
)
"""`state_pol` → what it claims. After a declined attempt (6) or an error (104) another may follow."""
_OTHER_TRANSACTIONS = MappingProxyType(
    {**dict.fromkeys(REFUNDS, EventKind.REFUND), CHARGEBACK: EventKind.DISPUTE},
)
"""What is confirmed beside attempts to pay, by `transaction_type`; the end of a refund, say."""
_TYPES = MappingProxyType({"4": "approved", "5": "expired", "6": "declined", "7": "pending", "104": "error"})


def read_confirmation(body: bytes, account: PayuAccount) -> ProviderEvent:
    """Authenticate and read a confirmation. Raises WebhookRejected, nothing else.

    One event for each transaction and state, as PayU's page says how to tell repeats. Refused, although signed: another
    merchant's confirmation, and a test's one on a live account or the reverse. What the disputes webhook sends has no
    signature: it is a hint.
    """
    fields = read_fields(body)
    if is_hint(fields):
        return read_hint(fields)
    check_sign(fields, account.signing)
    _check_owner(fields, account)
    state = required(fields, "state_pol")
    transaction_id = text(fields, "transaction_id") or required(fields, "reference_pol")
    if not _STATE.fullmatch(state) or not _ID.fullmatch(transaction_id):
        raise WebhookRejected(Rejection.MALFORMED, "state_pol or transaction_id")
    return ProviderEvent(
        event_id=f"{transaction_id}:{state}",
        type=f"confirmation.{_TYPES.get(state, state)}",
        kind=_OTHER_TRANSACTIONS.get(text(fields, "transaction_type") or "", _KINDS.get(state, EventKind.OTHER)),
        reference=own_reference(required(fields, "reference_sale")),
        transaction_id=text(fields, "transaction_id"),
        amount=_amount(fields),
        occurred_at=_moment(text(fields, "transaction_date") or text(fields, "date")),
    )


def _check_owner(fields: Fields, account: PayuAccount) -> None:
    merchant_id = required(fields, "merchant_id")
    if not hmac.compare_digest(merchant_id.encode(), account.merchant_id.encode()):
        raise WebhookRejected(Rejection.MALFORMED, "another merchant's")
    test = fields.get("test")
    if test is None or test == "":
        return
    if test not in ("0", "1", "true", "false", True, False):
        raise WebhookRejected(Rejection.MALFORMED, "test")
    if (test in ("1", "true", True)) is not account.test_flag:
        raise WebhookRejected(Rejection.MALFORMED, "a test on a live account, or the reverse")


def _amount(fields: Fields) -> Money:
    try:
        return money_from(required(fields, "value"), required(fields, "currency"))
    except MoneyError:
        raise WebhookRejected(Rejection.MALFORMED, "value or currency") from None


def _moment(value: str | None) -> datetime | None:
    """`2015-05-27 13:04:37` or `2015.05.27 01:04:37` on PayU's clock."""
    for form in ("%Y-%m-%d %H:%M:%S", "%Y.%m.%d %H:%M:%S"):
        try:
            return datetime.strptime(value or "", form).replace(tzinfo=COLOMBIA).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None

"""What a notification and a row of a settlement file have in common: fields as text, read into one event."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from domain.money import Money, MoneyError
from providers.base import EventKind, ProviderEvent
from providers.efecty.agreement import CURRENCY, Agreement

_TRANSACTION = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_STATUS = re.compile(r"[a-z0-9][a-z0-9 _-]{0,39}")
_SECONDS = re.compile(r"[0-9]{9,11}")
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


class UnreadableClaim(ValueError):
    """`code` says what is wrong; it holds nothing of what was claimed."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def event_of(claim: Mapping[str, str], agreement: Agreement, *, date_format: str = "") -> ProviderEvent:
    """The event behind the named fields (agreement.FIELDS); '' is a missing one. Amounts are major units.

    The event's id is the network's transaction id and the code when money arrived, so that a notification and the
    file's row about it are one event; for every other status the status comes behind. Numbers may be counted anew at
    each till and for each agreement, so the transaction's id in our books has agreement and code before the number:
    it settles one payment in the whole installation. Raises UnreadableClaim: our agreement is judged first, then the
    code, so that nothing of another company's is read any further.
    """
    check_agreement(claim.get("agreement", ""), agreement)
    code = checked_code(claim.get("reference", ""), agreement)
    status = claim.get("status", "").strip().casefold()
    if status and not _STATUS.fullmatch(status):
        raise UnreadableClaim("bad_status")
    kind = agreement.statuses.get(status, EventKind.OTHER) if status else EventKind.CAPTURED
    if claim.get("currency", "") not in ("", CURRENCY):
        raise UnreadableClaim("bad_currency")
    captured = kind is EventKind.CAPTURED
    transaction = claim.get("transaction_id", "")
    if (transaction or captured) and not _TRANSACTION.fullmatch(transaction):
        raise UnreadableClaim("bad_transaction_id")
    return ProviderEvent(
        event_id=":".join(part for part in (transaction, code, "" if captured else status) if part),
        type=f"cash.{(status or 'paid').replace(' ', '_')}",
        kind=kind,
        session_id=code,
        transaction_id=f"{agreement.number}-{code}-{transaction}" if transaction else None,
        amount=_amount(claim.get("amount", ""), required=captured),
        occurred_at=_moment(claim.get("paid_at", ""), agreement, date_format),
    )


def check_agreement(number: str, agreement: Agreement) -> None:
    """Raises UnreadableClaim unless the number is this agreement's."""
    if not hmac.compare_digest(number.encode("utf-8", "replace"), agreement.number.encode()):
        raise UnreadableClaim("other_agreement")


def checked_code(code: str, agreement: Agreement) -> str:
    """The code, if we could have made it. Raises UnreadableClaim."""
    if not agreement.code.has_form(code):
        raise UnreadableClaim("bad_code")
    if not agreement.code.has_good_check_digit(code):
        raise UnreadableClaim("bad_check_digit")
    return code


def _amount(text: str, *, required: bool) -> Money | None:
    if not text and not required:
        return None
    try:
        amount = Money.parse(text, CURRENCY)
    except MoneyError:
        raise UnreadableClaim("bad_amount") from None
    if amount.minor < 0 or (required and not amount.minor):
        raise UnreadableClaim("bad_amount")
    return amount if amount.minor else None


def _moment(text: str, agreement: Agreement, date_format: str) -> datetime | None:
    if not text:
        return None
    try:
        if date_format:
            moment = datetime.strptime(text, date_format)  # noqa: DTZ007  (the zone follows)
        elif _SECONDS.fullmatch(text):
            moment = datetime.fromtimestamp(int(text), UTC)
        elif _ISO.fullmatch(text):
            moment = datetime.fromisoformat(text)
        else:
            raise UnreadableClaim("bad_moment")
        return (moment if moment.tzinfo else moment.replace(tzinfo=agreement.zone)).astimezone(UTC)
    except (ValueError, OverflowError, OSError, re.error):
        raise UnreadableClaim("bad_moment") from None

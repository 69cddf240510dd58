"""Meshulam's server updates: which address they came to, and what they claim.

Meshulam signs nothing: no HMAC, no signature, no timestamp header. What stands for it: an unguessable token as the last
part of the callback address (checked here), the process token inside the body (given to the caller as `proof`), and
the look that follows every callback.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from domain.money import Money, MoneyError
from providers.base import EventKind, ProviderEvent, ProviderMisconfigured, Rejection, WebhookRejected
from providers.meshulam.amounts import from_wire
from providers.meshulam.bodies import Fields, read_fields
from providers.meshulam.objects import NO_ID, PAID, REFUNDED, SUSPENDED, day_of
from providers.meshulam.tokens import SETUP_MARK
from providers.webhook_signatures import (
    DEFAULT_OPTIONS,
    CannotSign,
    RequestSigner,
    SignatureOptions,
    SignatureVerdict,
    WebhookTools,
)

UNSIGNED = (
    "Meshulam signs nothing, so no callback can be called authentic by its bytes. Checked instead: the token at the "
    "end of the callback address, the process token in the body against the stored one, and the payment itself by "
    "asking Meshulam (getPaymentProcessInfo)"
)

_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,200}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PROOF = re.compile(r"[\x21-\x7e]{1,500}")
_STATUS = re.compile(r"[0-9]{1,4}")
_KINDS = {PAID: EventKind.CAPTURED, REFUNDED: EventKind.REFUND, SUSPENDED: EventKind.PROCESSING}


def split_tokens(text: str) -> tuple[str, ...]:
    """The callback tokens of one account, newest first: a comma separated list during a rotation.

    Raises ProviderMisconfigured for one that is too short or cannot stand in an address.
    """
    tokens = tuple(piece.strip() for piece in text.split(",") if piece.strip())
    if not tokens or not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ProviderMisconfigured("credential_invalid", "callback_token: 8 to 200 letters, digits, - or _")
    return tokens


def check_token(shown: str | None, tokens: Sequence[str]) -> None:
    """Compare the last part of the address, in constant time. Raises WebhookRejected `wrong_token`."""
    given = (shown or "").encode("utf-8", errors="replace")
    fits = [hmac.compare_digest(given, token.encode()) for token in tokens]
    if not any(fits):
        raise WebhookRejected(Rejection.WRONG_TOKEN, "the callback address does not end in the account's token")


def read_event(body: bytes, content_type: str, user_id: str, *, mark: str = "") -> ProviderEvent:
    """What a server update claims. Call `check_token` first.

    Reads `data[...]` form fields (urlencoded or multipart) and nested JSON alike, values trimmed. Every update names
    its process and shows the process's token, else it is none. The sum is shekels in major units. `mark` is put before
    the transaction's id. Raises WebhookRejected, also for an update of another business (`userId`, where it has one).
    """
    fields = read_fields(body, content_type)
    process_id, process_token = _data(fields, "processId"), _data(fields, "processToken")
    if not _ID.fullmatch(process_id) or not _PROOF.fullmatch(process_token):
        raise WebhookRejected(Rejection.MALFORMED, "a server update has a process id and a process token")
    named = _data(fields, "userId") or user_id
    if not hmac.compare_digest(named.encode("utf-8", errors="replace"), user_id.encode()):
        raise WebhookRejected(Rejection.WRONG_TOKEN, "a server update of another business")
    transaction_id, status = _data(fields, "transactionId"), _data(fields, "statusCode")
    done = fields.get(("status",), "1") == "1"
    if (transaction_id, status) == (NO_ID, NO_ID):  # a placeholder: of no transaction, and about this process alone
        transaction_id = ""
    elif done and not (_ID.fullmatch(transaction_id) and _STATUS.fullmatch(status)):
        raise WebhookRejected(Rejection.MALFORMED, "a server update has a transaction id and a status code")
    if not done:
        transaction_id, status = _matching(_ID, transaction_id), "failed"
    return ProviderEvent(
        event_id=f"{transaction_id or f'process-{process_id}'}:{status}",
        type=f"server_update.{status}",
        kind=_kind(fields, status, done=done),
        reference=_reference(_data(fields, "customFields", "cField1") or _data(fields, "cField1")),
        session_id=process_id,
        transaction_id=mark + transaction_id if transaction_id else None,
        amount=_amount(_data(fields, "sum")),
        occurred_at=day_of(_data(fields, "paymentDate")),
        proof=process_token,
        method_token=_matching(_PROOF, _data(fields, "cardToken")) or None,
        secrets=tuple(filter(None, (_matching(_PROOF, _data(fields, "transactionToken")),))),
    )


class _MeshulamWebhookTools:
    """Tools that say what there is not: nobody can sign for Meshulam, and nothing is authentic by its bytes alone."""

    request_signers: Mapping[str, RequestSigner] = MappingProxyType({})

    def explain_signature(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secret: str,  # noqa: ARG002  (the callback token is in the address, which is not shown here)
        now: datetime,  # noqa: ARG002
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> SignatureVerdict:
        try:
            fields = read_fields(body, headers.get("content-type", ""))
            whole = bool(_data(fields, "processId") and _data(fields, "processToken"))
        except WebhookRejected as rejected:
            return SignatureVerdict(valid=False, why=f"{UNSIGNED}. This body: {rejected}", signed_string_masked="")
        found = "has a process id and a process token to compare" if whole else "is no server update"
        return SignatureVerdict(valid=False, why=f"{UNSIGNED}. This body {found}", signed_string_masked="")

    def sign_webhook(
        self,
        secret: str,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
        timestamp: int,  # noqa: ARG002
        options: SignatureOptions = DEFAULT_OPTIONS,  # noqa: ARG002
    ) -> Mapping[str, str]:
        raise CannotSign(UNSIGNED)


WEBHOOK_TOOLS: WebhookTools = _MeshulamWebhookTools()


def _kind(fields: Fields, status: str, *, done: bool) -> EventKind:
    if SETUP_MARK in (_data(fields, "customFields", "cField2"), _data(fields, "cField2")):
        return EventKind.SETUP
    return _KINDS.get(status, EventKind.OTHER) if done else EventKind.ATTEMPT_FAILED


def _data(fields: Fields, *path: str) -> str:
    return fields.get(("data", *path), "")


def _matching(pattern: re.Pattern[str], text: str) -> str:
    return text if pattern.fullmatch(text) else ""


def _reference(text: str) -> UUID | None:
    """Our reference, if it is one: as 32 hexadecimal digits, or with hyphens."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if text.lower() in (found.hex, str(found)) else None


def _amount(text: str) -> Money | None:
    try:
        return from_wire(text)
    except MoneyError:
        return None

"""Callbacks of providers: verify, store, signal, answer."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Member, Services, ServicesDep, limit_rate, member
from api.media import takes
from api.problems import Problem, answers, unusable_credentials
from api.strangers import SEEN_SECONDS
from dispatch.inbox import Handover, settled_already
from dispatch.methods import MethodHandover
from dispatch.owners import Owner, Subject, names_of, owner_of
from dispatch.subscriptions import SubscriptionHandover
from domain.payment import PaymentStatus, ProviderTrigger
from domain.review import ReviewReason
from engine.payments import EngineUnavailable, NoSuchWorkflow
from providers.base import Callback, EventKind, ProviderEvent, ProviderMisconfigured, Rejection, WebhookRejected
from providers.registry import PROVIDERS, capabilities_of
from storage import attempts, audit, inbox, outbox, provider_payouts, setups, workspaces
from storage.attempts import SETTLED
from storage.models import Attempt, Payment, ProviderAccount
from storage.sealing import SealingError
from storage.session import is_outage

router = APIRouter(tags=["webhooks"])
log = structlog.get_logger()

DISPATCHER_WAITS = timedelta(seconds=5)
"""The dispatcher leaves a new event to this route for so long."""

AS_SENT = takes("*/*", description="As the provider sends it.")
REFUSALS = answers("provider_misconfigured", "rate_limited", "signature_invalid", "timestamp_out_of_range")
MAX_EVENT_ID = 255
"""Characters that are kept of a provider's name for an event."""

_PROBLEM_OF = {
    Rejection.BAD_SIGNATURE: ("signature_invalid", "The signature does not fit; check the account's webhook secret."),
    Rejection.WRONG_TOKEN: ("signature_invalid", "The callback does not show the token of this account or payment."),
    Rejection.STALE_TIMESTAMP: ("timestamp_out_of_range", "The callback is too old; the provider sends it again."),
    Rejection.FUTURE_TIMESTAMP: ("timestamp_out_of_range", "The callback comes from the future; check the clocks."),
    Rejection.MALFORMED: ("malformed_body", "The body is signed but cannot be read."),
}


class Latency(BaseModel):
    """Milliseconds from receipt to the outcome, of the events of the last day; null where there was none to measure."""

    p50: int | None
    p95: int | None


class InboxHealth(BaseModel):
    """Provider events: how many in each status, with which outcome, repeats, what waits, and what was refused."""

    counts: dict[str, int]
    outcomes: dict[str, int]
    repeated: int
    oldest_waiting_since: datetime | None
    last_handled_received_at: datetime | None
    handled_within_ms: Latency
    refused: dict[str, int] = Field(description="By reason, such as bad_signature.")


class OutboxHealth(BaseModel):
    """Order notifications: how many in each status, and those that fail now."""

    counts: dict[str, int]
    failing: int
    oldest_failing_since: datetime | None
    last_error: str | None


class WebhookHealth(BaseModel):
    """Both directions of one workspace."""

    callbacks: InboxHealth
    order_notifications: OutboxHealth


@router.post(
    "/webhooks/{provider}/{account_id}",
    summary="Callback of one provider account",
    responses=REFUSALS,
    response_class=Response,
    openapi_extra=AS_SENT,
)
async def receive_for_account(provider: str, account_id: str, request: Request, services: ServicesDep) -> Response:
    """Answers 200 once the event is verified and committed to the inbox; a repeat gets 200 and changes nothing."""
    return await _receive(services, request, provider, account_id)


@router.post(
    "/webhooks/{provider}/{account_id}/{path_token}",
    summary="Callback with a secret address",
    responses=REFUSALS,
    response_class=Response,
    openapi_extra=AS_SENT,
)
async def receive_with_token(
    provider: str, account_id: str, path_token: str, request: Request, services: ServicesDep
) -> Response:
    """The same for a provider that signs nothing: the last part of the address is the account's callback token."""
    return await _receive(services, request, provider, account_id, path_token)


@router.post(
    "/webhooks/{provider}",
    summary="Callback of the provider's default account",
    responses=REFUSALS,
    response_class=Response,
    openapi_extra=AS_SENT,
)
async def receive_for_default(provider: str, request: Request, services: ServicesDep) -> Response:
    """The same for the account that was marked as the default."""
    return await _receive(services, request, provider, None)


@router.get("/webhooks/health", summary="How callbacks and notifications are doing")
async def webhook_health(
    services: ServicesDep, caller: Annotated[Member, Depends(member("payments:read"))]
) -> WebhookHealth:
    """Counts by status, what waits since when, latencies, refusals by reason; the same for order notifications."""
    await services.refused_webhooks.flush()
    async with services.database.transaction() as session:
        accounts = await workspaces.accounts_of(session, caller.workspace.id)
        return WebhookHealth(
            callbacks=InboxHealth(**await inbox.health(session, [account.id for account in accounts])),
            order_notifications=OutboxHealth(**await outbox.health(session, caller.workspace.id)),
        )


async def _receive(
    services: Services, request: Request, provider: str, account_id: str | None, path_token: str | None = None
) -> Response:
    sender = services.addresses.of(request.scope)
    account = await _account(services, provider, account_id, sender)
    of_account = f"webhook:{account.id}"
    await services.strangers.admit(of_account, sender)

    async def refuse(reason: str) -> None:
        await services.strangers.refused(of_account, sender)
        _count_refusal(services, provider, str(account.id), reason)

    body = await _read(request, services, refuse)
    try:
        event = services.pool.of(account).verify_webhook(Callback(request.headers, body, services.now(), path_token))
    except (ProviderMisconfigured, SealingError):
        await refuse("account_misconfigured")
        raise unusable_credentials() from None
    except WebhookRejected as error:
        await refuse(error.reason.value)
        code, detail = _PROBLEM_OF[error.reason]
        raise Problem(code, detail) from None
    if event.proof is not None and not await _proven(services, account, event):
        await refuse(Rejection.WRONG_TOKEN.value)
        raise Problem(*_PROBLEM_OF[Rejection.WRONG_TOKEN])
    if event.unsigned and not await _is_about_ours(services, account, event):
        await refuse(Rejection.BAD_SIGNATURE.value)
        raise Problem(*_PROBLEM_OF[Rejection.BAD_SIGNATURE])
    await limit_rate(services, of_account, services.limits.webhook_rate_limit_per_minute)
    taken = await _store(services, account, Told(event, body))
    if taken.handover is not None:
        await _signal(services, taken.handover)
    return Response(status_code=200)


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What became of a verified event: `new` unless it was known; `outcome` when no workflow has to be told.

    `differs`: it was known, and told of another amount.
    """

    new: bool
    payment_id: UUID | None
    outcome: str | None
    handover: Handover | MethodHandover | SubscriptionHandover | None
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A verified event with what is kept of its wording."""

    event: ProviderEvent
    body: bytes


async def _read(request: Request, services: Services, refuse: Callable[[str], Awaitable[None]]) -> bytes:
    """The raw body, never more than the limit: what is beyond is not read."""
    limit = services.limits.webhook_max_body_bytes
    parts: list[bytes] = []
    size = 0
    declared = request.headers.get("content-length", "0")
    too_large = declared.isascii() and declared.isdigit() and int(declared) > limit
    if not too_large:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                too_large = True
                break
            parts.append(part)
    if too_large:
        await refuse("body_too_large")
        raise Problem("body_too_large", f"A callback has at most {limit} bytes.")
    return b"".join(parts)


async def _account(services: Services, provider: str, account_id: str | None, sender: str) -> ProviderAccount:
    """The account that the address names. Who asks for many that there are not is not listened to for a while."""
    account, name, strangers = None, f"{provider}/{account_id}", services.strangers
    if not strangers.good.has(name, SEEN_SECONDS):
        await strangers.admit("account", sender)
    if provider in PROVIDERS:
        async with services.database.statement() as session:
            if account_id is None:
                account = await workspaces.default_webhook_account(session, provider)
            elif (parsed := _uuid(account_id)) is not None:
                account = await workspaces.account(session, parsed, provider)
    if account is None:
        await strangers.refused("account", sender)
        _count_refusal(services, provider if provider in PROVIDERS else "unknown", "unknown", "unknown_account")
        raise Problem("not_found", "No provider account has this callback address.")
    strangers.good.put(name)
    return account


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _count_refusal(services: Services, provider: str, account: str, reason: str) -> None:
    """Names are those of accounts that exist, or `unknown`: nobody can fill the table with others."""
    services.refused_webhooks.add(account=account, provider=provider, reason=reason, day=services.now().date())


async def _store(services: Services, account: ProviderAccount, told: Told) -> TakenIn:
    """Commit the event to the inbox, and say whether a workflow has to be told about it."""
    event, now = told.event, services.now()
    async with services.database.transaction() as session:
        owner = await _owner(session, account, event, now=now)
        payment, outcome = owner.payment, _outcome_without_workflow(owner, event)
        values = _inbox_values(account, told, owner, outcome, now=now)
        answered_with = (
            payment is not None
            and outcome is None
            and event.kind is EventKind.CAPTURED
            and await inbox.capture_is_being_looked_at(session, payment, values["reference"])
        )
        row = await inbox.store(session, values)
        if event.payout is not None and row.new:
            await provider_payouts.record(session, account, event.payout, at=event.occurred_at or now)
        if row.new and payment is not None:
            _audit_report(session, account, payment, owner.attempt, event)
    log.info(
        "callback stored",
        payment_id=str(payment.id) if payment else None,
        event_id=event.event_id,
        type=event.type,
        repeat=not row.new,
    )
    if owner.why_not is not None or outcome is not None or not row.new or answered_with:
        return TakenIn(row.new, None if payment is None else payment.id, outcome, None)
    trigger = ProviderTrigger(inbox_id=row.inbox_id, event_id=event.event_id, kind=event.kind.value)
    return TakenIn(row.new, None if payment is None else payment.id, outcome, _handover(event, owner, trigger))


def _handover(
    event: ProviderEvent, owner: Owner, trigger: ProviderTrigger
) -> Handover | MethodHandover | SubscriptionHandover:
    """What tells the owner's workflow."""
    if owner.payment is not None:
        return Handover(owner.payment.id, PaymentStatus(owner.payment.status), trigger)
    assert owner.reference is not None  # noqa: S101  (an owner has one of the two)
    kind = SubscriptionHandover if event.kind is EventKind.SUBSCRIPTION else MethodHandover
    return kind(owner.reference, trigger)


async def store_many(
    session: AsyncSession, account: ProviderAccount, told: Sequence[Told], *, now: datetime
) -> list[TakenIn]:
    """The same for many events of one account, in their order; the dispatcher tells the workflows."""
    subjects = await _subjects(session, account, [one.event for one in told])
    outcomes = [_outcome_without_workflow(owner, one.event) for one, owner in zip(told, subjects, strict=True)]
    rows: dict[str, dict[str, Any]] = {}
    for one, owner, outcome in zip(told, subjects, outcomes, strict=True):
        row = _inbox_values(account, one, owner, outcome, now=now) | {"next_attempt_at": now}
        rows.setdefault(row["event_id"], row)
    unseen = await inbox.store_many(session, list(rows.values()))
    before = await inbox.claims_of(session, account.id, [name for name in rows if name not in unseen])
    taken = []
    for one, owner, outcome in zip(told, subjects, outcomes, strict=True):
        payment = owner.payment
        event_id = one.event.event_id[:MAX_EVENT_ID]
        if event_id in unseen and payment is not None:
            _audit_report(session, account, payment, owner.attempt, one.event)
        differs = event_id in before and one.event.amount not in (None, before[event_id])
        taken.append(TakenIn(event_id in unseen, None if payment is None else payment.id, outcome, None, differs))
        unseen.discard(event_id)  # whoever tells of it once more in these same rows repeats it
    return taken


async def _subjects(session: AsyncSession, account: ProviderAccount, events: Sequence[ProviderEvent]) -> list[Owner]:
    """What each event is about, as `dispatch.owners.owner_of` finds it, for events of payments by the thousand."""
    sessions = [event.session_id for event in events if event.session_id is not None]
    transactions = [event.transaction_id for event in events if event.transaction_id is not None]
    by_session = await attempts.by_provider_ids(session, account, Attempt.session_id, sessions)
    by_transaction = await attempts.by_provider_ids(session, account, Attempt.transaction_id, transactions)
    found: list[Owner] = []
    for event in events:
        known = by_session.get(event.session_id or "") or by_transaction.get(event.transaction_id or "")
        if event.reference is not None:
            payment, attempt, foreign = await attempts.payment_of_event(
                session, account, reference=event.reference, session_id=None, transaction_id=None
            )
        else:
            payment, attempt, foreign = (None, None, False) if known is None else (*known, False)
        why_not = "no such payment in this account" if event.reference is not None else "no payment of ours"
        reference = event.reference if attempt is None else attempt.reference
        found.append(Owner(payment, attempt, reference, None if payment else why_not, foreign))
    return found


def _audit_report(
    session: AsyncSession, account: ProviderAccount, payment: Payment, attempt: Attempt | None, event: ProviderEvent
) -> None:
    kind = EventKind.DISPUTE if _takes_back(account, payment, attempt, event) else event.kind
    if kind in (EventKind.REFUND, EventKind.DISPUTE):
        audit.record(
            session,
            payment.workspace_id,
            actor=f"provider:{account.provider}",
            action=f"payment.{kind.value}_reported",
            subject=("payment", payment.id),
            details={"event": event.event_id, "type": event.type},
        )


def _takes_back(account: ProviderAccount, payment: Payment, attempt: Attempt | None, event: ProviderEvent) -> bool:
    """Whether a provider that cannot be asked cancels what it had reported as money: nothing else would show it."""
    if event.kind is not EventKind.CANCELED or capabilities_of(account.provider).status_call or attempt is None:
        return False
    return attempt.status in SETTLED or payment.flag == ReviewReason.AMOUNT_UNCONFIRMED


async def _is_about_ours(services: Services, account: ProviderAccount, event: ProviderEvent) -> bool:
    """Whether what nobody has signed names a payment of this account; about others nothing is even stored."""
    async with services.database.statement() as session:
        payment, _, foreign = await attempts.payment_of_event(
            session, account, reference=event.reference, session_id=None, transaction_id=None
        )
    return payment is not None and not foreign


async def _proven(services: Services, account: ProviderAccount, event: ProviderEvent) -> bool:
    """Whether the callback shows the session secret that the provider gave us when it opened this page."""
    if event.kind is EventKind.SETUP:
        async with services.database.statement() as session:
            row = await setups.of_event(session, account, reference=event.reference, session_id=event.session_id)
        return row is not None and _shows(services, row.session_id, row.session_secret, event)
    async with services.database.statement() as session:
        _, attempt, _ = await attempts.payment_of_event(
            session,
            account,
            reference=event.reference,
            session_id=event.session_id,
            transaction_id=None,
        )
    return attempt is not None and _shows(services, attempt.session_id, attempt.session_secret, event)


def _shows(services: Services, session_id: str | None, secret: bytes | None, event: ProviderEvent) -> bool:
    if secret is None or event.proof is None:
        return False
    if event.session_id is not None and event.session_id != session_id:
        return False
    return hmac.compare_digest(services.sealer.open(secret).encode(), event.proof.encode())


async def _owner(session: AsyncSession, account: ProviderAccount, event: ProviderEvent, *, now: datetime) -> Owner:
    """Whom of ours it is about; nobody where it is to be ignored, whomever it names."""
    if event.ignored is not None:
        return Owner(why_not=event.ignored, foreign=True)
    if event.payout is not None:  # it is about the account itself, and kept as it comes
        return Owner()
    return await owner_of(session, account, Subject.of(event), now=now)


def _outcome_without_workflow(owner: Owner, event: ProviderEvent) -> str | None:
    if event.unreadable is not None:
        return f"unreadable: {event.unreadable}"
    if event.payout is not None:
        return f"payout {event.payout.status.value}"
    if owner.payment is None:
        return owner.why_not
    return settled_already(event.kind, PaymentStatus(owner.payment.status), owner.attempt, event.transaction_id)


def _status(owner: Owner, event: ProviderEvent, outcome: str | None) -> str:
    """As `WebhookEvent.status` says. Whom an event names may still become known; one that names nobody is lost."""
    if outcome is None:
        return "received"
    if event.unreadable is not None:
        return "unreadable"
    if owner.why_not is None:
        return "handled"
    return "ignored" if owner.foreign or event.kind is EventKind.OTHER else "unmatched"


def _inbox_values(
    account: ProviderAccount, told: Told, owner: Owner, outcome: str | None, *, now: datetime
) -> dict[str, Any]:
    event, body = told.event, told.body
    names = names_of(event)
    if not names and event.kind is not EventKind.OTHER and event.unreadable is None and owner.why_not is not None:
        event = replace(event, unreadable="it does not say what it is about")
        outcome = f"unreadable: {event.unreadable}"
    return {
        "provider_account_id": account.id,
        "provider": account.provider,
        "event_id": event.event_id[:MAX_EVENT_ID],
        "type": event.type[:100],
        "kind": event.kind.value,
        "payment_id": None if owner.payment is None else owner.payment.id,
        "reference": owner.reference if owner.why_not is None else None,
        "session_id": None if event.session_id is None else event.session_id[:255],
        "transaction_id": None if event.transaction_id is None else event.transaction_id[:255],
        "named": names,
        "claimed_amount": None if event.amount is None else event.amount.to_decimal(),
        "claimed_currency": None if event.amount is None else event.amount.currency,
        "body": _without_secrets(body, event),
        "status": _status(owner, event, outcome),
        "outcome": outcome,
        "received_at": now,  # by the clock of the line below: what is decided on arrival has taken no time
        "handled_at": None if outcome is None else now,
        "next_attempt_at": now + DISPATCHER_WAITS,
        "occurred_at": event.occurred_at,
    }


def _without_secrets(body: bytes, event: ProviderEvent) -> bytes:
    """The body as it is kept: what proves a callback, or moves money, is not left lying about."""
    named = [(event.proof, b"[session secret]"), (event.method_token, b"[token]")]
    for secret, instead in (*named, *((one, b"[secret]") for one in event.secrets)):
        if secret:
            body = _however_written(secret).sub(instead, body)
    return body


def _however_written(secret: str) -> re.Pattern[bytes]:
    """Each byte plainly, percent-encoded as forms have it, or escaped as JSON has it."""
    plain = rb"(?:\\?%b|%%(?i:%02x)|\\u00(?i:%02x))"
    return re.compile(
        b"".join(plain % (re.escape(bytes([byte])), byte, byte) for byte in secret.encode(errors="surrogatepass"))
    )


async def _signal(services: Services, handover: Handover | MethodHandover | SubscriptionHandover) -> None:
    """Best effort: what fails here the dispatcher does later, because the row stays as it is."""
    inbox_id = handover.trigger.inbox_id
    try:
        if isinstance(handover, MethodHandover):
            await services.dispatcher.hand_over_methods(handover)
        elif isinstance(handover, SubscriptionHandover):
            await services.dispatcher.hand_over_subscription(handover)
        else:
            await services.dispatcher.hand_over(handover)
    except (NoSuchWorkflow, EngineUnavailable) as error:
        log.warning("signal postponed", inbox_id=inbox_id, error=type(error).__name__)
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("signal not recorded", inbox_id=inbox_id, error=type(error).__name__)

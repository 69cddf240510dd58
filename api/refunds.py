"""Refunds: preview, request, read, list."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid5

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from activities.refunds import settle_refund
from activities.returned_refunds import NotReturned, settle_outside
from activities.settlement import ORDER_PAID_TWICE
from api.context import Member, ServicesDep, cut_page, decode_cursor, member
from api.effects import DryRun, EffectsOut, effects_out
from api.fields import AmountText, Cursor, Id, PageSize, PlainText, RequestBody
from api.idempotency import IdempotencyKey, answer_once, fingerprint_of
from api.payments import existing_payment
from api.problems import Problem, answers, key_reused, unusable_credentials
from api.routing import check_step
from domain.credit import Source
from domain.idempotency import is_repeat
from domain.money import Money, MoneyError
from domain.payment import CAPTURED, PaymentStatus
from domain.refund import RefundState, StartRefund
from domain.steps import cut
from engine.payments import EngineUnavailable
from providers.base import Capabilities, ProviderMisconfigured
from providers.pool import ProviderPool
from storage import credit, payments, receipts, refunds, surplus, workspaces
from storage.models import Payment, Refund
from storage.rehearsal import rehearsal
from storage.sealing import SealingError
from storage.session import Database

router = APIRouter(tags=["refunds"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Refunder = Annotated[Member, Depends(member("refunds:write"))]
FIRST_ANSWER = timedelta(seconds=20)


class NewRefund(RequestBody):
    """A refund to be made. Without an amount all that is left goes back. Amounts are strings in major units."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "payment_id": "736bceb7-640b-57b9-bccf-02bb69b2f788",
                "amount": "29.90",
                "reason": "one of three sessions was cancelled",
            }
        },
    )

    payment_id: Id
    amount: AmountText | None = None
    reason: str | None = Field(None, max_length=300, description="Printed on the credit note.")


class RefundEffects(EffectsOut):
    """What a refund would do once the provider has made it. Amounts are major units."""

    amount: str
    net: str
    vat: str
    commission_clawed_back: str
    fee_returned: str
    credit_taken_back: str = Field(description="Unused credit that comes from this payment, and goes with the refund.")
    left_to_refund: str
    currency: str
    payment_status: PaymentStatus


class RefundOut(BaseModel):
    """A refund as callers see it. `unknown`: the provider was asked and has not answered; it is asked again."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "f7c2d7ba-43c7-54cb-94f0-3a1593680467",
                "payment_id": "736bceb7-640b-57b9-bccf-02bb69b2f788",
                "status": "succeeded",
                "amount": "29.90",
                "currency": "ILS",
                "reason": "one of three sessions was cancelled",
                "origin": "merchant",
                "provider": "stripe",
                "provider_refund_id": "re_b43f480b65cbf263227263fc",
                "failure_code": None,
                "outside_reference": None,
                "vat": "4.56",
                "commission_clawed_back": "2.99",
                "fee_returned": "0.00",
                "credit_taken_back": "0.00",
                "credit_note_id": "fc13fe01-8862-5493-9b7a-8cb5eb58d68d",
                "created_at": "2026-11-21T16:52:52.933943Z",
                "finished_at": "2026-11-21T16:52:53.686746Z",
            }
        }
    )

    id: UUID
    payment_id: UUID
    status: RefundState
    amount: str
    currency: str
    reason: str | None
    origin: str
    provider: str
    provider_refund_id: str | None
    failure_code: str | None
    outside_reference: str | None = Field(
        None, description="The payment by other means that settled it after it had come back."
    )
    vat: str | None
    commission_clawed_back: str | None
    fee_returned: str | None = Field(description="What the provider gives back of its fee, by the account's schedule.")
    credit_taken_back: str | None = Field(
        None, description="The customer's unused credit that comes from this payment, and went with the refund."
    )
    credit_note_id: UUID | None = None
    created_at: datetime
    finished_at: datetime | None


class SettleOutside(RequestBody):
    """How a refund that came back was paid to the payer after all."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"reference": "SEPA 2026-11-20 / 4711"}},
    )

    reference: PlainText = Field(
        min_length=1, max_length=200, description="Your name for the outside payment, such as the bank transfer's."
    )


class RefundPage(BaseModel):
    """A page of refunds, newest first."""

    data: list[RefundOut]
    next_cursor: str | None


@router.post(
    "/refunds/preview",
    summary="What a refund would do",
    responses=answers(
        "amount_not_representable",
        "credit_already_used",
        "not_found",
        "payment_not_refundable",
        "provider_misconfigured",
        "refund_exceeds_payment",
        "refund_not_supported",
    ),
)
async def preview_refund(body: NewRefund, caller: Refunder, services: ServicesDep) -> RefundEffects:
    """The same as POST /refunds with `dry_run`."""
    return await rehearse(services.database, services.pool, caller.workspace.id, body, actor=caller.actor)


@router.post(
    "/refunds",
    status_code=201,
    summary="Refund a payment",
    responses=answers(
        "amount_not_representable",
        "credit_already_used",
        "idempotency_key_reused",
        "not_found",
        "payment_not_refundable",
        "provider_misconfigured",
        "refund_exceeds_payment",
        "refund_not_supported",
    )
    | {
        200: {"model": RefundOut | RefundEffects, "description": "A repeat, or a dry run"},
        202: {"model": RefundOut},
    },
)
async def create_refund(
    body: NewRefund,
    caller: Refunder,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> RefundOut | RefundEffects:
    """Start the refund's workflow and answer with what the provider said first.

    202 means that the provider has it pending or has not answered yet: the refund goes on, read it again. With
    `dry_run`: the split, the commission effect, the documents and the notices, and nothing is done.
    """
    if dry_run:
        response.status_code = 200
        return await rehearse(services.database, services.pool, caller.workspace.id, body, actor=caller.actor)
    async with services.database.transaction() as session:
        await existing_payment(session, caller, body.payment_id)
        refund, created = await accept(
            session,
            services.pool,
            caller.workspace.id,
            body,
            actor=caller.actor,
            key=idempotency_key,
        )
    if not created:
        response.status_code = 200
    with suppress(EngineUnavailable):  # it is on record; the dispatcher starts it
        await services.engine.start_refund(StartRefund(refund.id, refund.payment_id), wait=FIRST_ANSWER)
    async with services.database.transaction() as session:
        out = await read_out(session, refund.id)
    if created and out.status in (RefundState.REQUESTED, RefundState.PENDING, RefundState.UNKNOWN):
        response.status_code = 202
    response.headers["location"] = f"/api/v1/refunds/{refund.id}"
    return out


@router.get("/refunds/{refund_id}", summary="Read a refund")
async def read_refund(refund_id: UUID, caller: Reader, services: ServicesDep) -> RefundOut:
    """The refund as it is on record."""
    async with services.database.transaction() as session:
        if await refunds.get(session, refund_id, caller.workspace.id) is None:
            raise Problem("not_found", "This workspace has no such refund.")
        return await read_out(session, refund_id)


@router.get("/refunds", summary="List refunds")
async def list_refunds(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    payment_id: UUID | None = None,
    status: RefundState | None = None,
) -> RefundPage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await refunds.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            payment_id=payment_id,
            status=None if status is None else status.value,
        )
        shown, more = cut_page(rows, limit)
        notes = await receipts.of_refunds(session, shown)
    return RefundPage(data=[_out(row, notes.get(row.id)) for row in shown], next_cursor=more)


@router.post(
    "/refunds/{refund_id}/settle-outside",
    summary="Settle a returned refund outside the provider",
    responses=answers("idempotency_key_reused", "refund_not_returned")
    | {200: {"model": RefundOut | EffectsOut, "description": "The refund, or what a dry run would write"}},
)
async def settle_refund_outside(
    refund_id: UUID,
    body: SettleOutside,
    caller: Refunder,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> RefundOut | EffectsOut:
    """Record that a refund which came back was paid to the payer by other means, such as a bank transfer.

    Nothing is asked of the provider. The ledger owes the payer nothing any more, the flag `refund_returned` goes, and
    the order service is told `refund.settled_outside`. A repeat with the same reference changes nothing.
    """
    if dry_run:
        return await rehearse_settling(
            services.database, caller.workspace.id, refund_id, body, actor=caller.actor, at=services.now()
        )

    async def work(session: AsyncSession) -> RefundOut:
        await settle(session, caller.workspace.id, refund_id, body, actor=caller.actor, at=services.now())
        return await read_out(session, refund_id)

    return await answer_once(
        services,
        route="POST /refunds/{refund_id}/settle-outside",
        scope=f"{caller.workspace.id}:refunds:{refund_id}:settle-outside",
        key=idempotency_key,
        request=body,
        answer=RefundOut,
        work=work,
    )


async def settle(
    session: AsyncSession, workspace_id: UUID, refund_id: UUID, body: SettleOutside, *, actor: str, at: datetime
) -> Refund:
    """Settle a returned refund in the caller's transaction. Raises Problem."""
    found = await refunds.get(session, refund_id, workspace_id)
    if found is None:
        raise Problem("not_found", "This workspace has no such refund.")
    payment, workspace = await payments.lock(session, found.payment_id)
    row = await refunds.lock(session, refund_id)
    await session.refresh(row)
    try:
        await settle_outside(session, payment, workspace, row, reference=body.reference, actor=actor, at=at)
    except NotReturned as error:
        raise Problem("refund_not_returned", str(error), status_now=row.status) from None
    return row


async def rehearse_settling(
    database: Database, workspace_id: UUID, refund_id: UUID, body: SettleOutside, *, actor: str, at: datetime
) -> EffectsOut:
    """Settle it and undo it. Raises Problem as `settle` does."""
    async with rehearsal(database) as (session, effects):
        await settle(session, workspace_id, refund_id, body, actor=actor, at=at)
    return effects_out(effects)


async def accept(
    session: AsyncSession,
    pool: ProviderPool,
    workspace_id: UUID,
    body: NewRefund,
    *,
    actor: str,
    key: str | None,
) -> tuple[Refund, bool]:
    """Reserve the amount and put the refund on record, or find the one that the key made. Raises Problem.

    The payment's row lock orders concurrent requests; its constraint refuses what would exceed the capture.
    """
    asked = fingerprint_of("POST /refunds", body)
    if key is not None:
        await refunds.hold_key(session, workspace_id, key)
    payment, _ = await payments.lock(session, body.payment_id)
    if key is not None:
        known = await refunds.by_key(session, workspace_id, key)
        if known is not None:
            if not is_repeat(known.fingerprint, asked):
                raise key_reused()
            return known, False
    amount = await _checked_amount(session, pool, payment, body.amount)
    try:
        refund = await refunds.request(
            session,
            payment,
            {
                "id": uuid7() if key is None else uuid5(workspace_id, f"refund:{key}"),
                "amount": amount.to_decimal(),
                "reason": body.reason,
                "origin": "merchant",
                "idempotency_key": key,
                "fingerprint": asked,
            },
            actor=actor,
        )
    except refunds.OverRefund as error:  # checked above, under the same locks
        raise Problem("refund_exceeds_payment", f"Only {error}.") from None
    return refund, True


async def rehearse(
    database: Database, pool: ProviderPool, workspace_id: UUID, body: NewRefund, *, actor: str
) -> RefundEffects:
    """Request this refund, book it as made, and undo both. Raises Problem as `accept` does."""
    async with rehearsal(database) as (session, effects):
        payment = await payments.get(session, workspace_id, body.payment_id)
        if payment is None:
            raise Problem("not_found", "This workspace has no such payment.")
        refund, _ = await accept(session, pool, workspace_id, body, actor=actor, key=None)
        payment, workspace = await payments.lock(session, body.payment_id)
        await settle_refund(session, payment, workspace, refund, at=datetime.now(UTC))
        out = _out(refund)
        left = (await credit.source_of(session, payment)).refundable
        net = refund.money - Money.from_decimal(refund.vat or Decimal(0), refund.currency)
        status = PaymentStatus(payment.status)
    return RefundEffects(
        **asdict(effects),
        amount=out.amount,
        net=str(net),
        vat=out.vat or "",
        commission_clawed_back=out.commission_clawed_back or "",
        fee_returned=out.fee_returned or "",
        credit_taken_back=out.credit_taken_back or "",
        left_to_refund=str(left),
        currency=out.currency,
        payment_status=status,
    )


async def _checked_amount(session: AsyncSession, pool: ProviderPool, payment: Payment, text: str | None) -> Money:
    if payment.flag == ORDER_PAID_TWICE or await surplus.is_whole(session, payment.id):
        raise Problem("payment_not_refundable", "All of it is surplus: POST /api/v1/surplus/{id}/refund.")
    if payment.status not in CAPTURED or payment.status == PaymentStatus.REFUNDED:
        raise Problem("payment_not_refundable", f"The payment is {payment.status}.", status_now=payment.status)
    source, sheet = await credit.source_of(session, payment), await sheet_of(session, pool, payment)
    left = source.refundable
    amount = _rest_of(payment, source, sheet) if text is None else _read_amount(text, payment)
    if left < amount <= source.left:
        raise _used_already(source)
    if left < amount:
        raise Problem("refund_exceeds_payment", f"Only {left} {payment.currency} is left.")
    _check_provider(payment, sheet, amount)
    made = await refunds.made_by_provider(session, payment)
    if sheet.max_refunds is not None and made >= sheet.max_refunds:
        times = "one refund" if sheet.max_refunds == 1 else f"{sheet.max_refunds} refunds"
        words = f"{payment.provider} makes {times} of a payment; pay the rest back by other means."
        raise Problem("refund_not_supported", words, refunds_made=made)
    return amount


def _rest_of(payment: Payment, source: Source, sheet: Capabilities) -> Money:
    """All that can go back. What is below the provider's step stays, unless it is all there is: that is refused."""
    left = source.refundable
    if left.minor <= 0 < source.left.minor:
        raise _used_already(source)
    if left.minor <= 0:
        raise Problem("refund_exceeds_payment", f"Nothing is left: {_taken_by(payment)} all of it.")
    amount = cut(left, sheet.step(left.currency)).whole
    return amount if amount.minor else left


def _read_amount(text: str, payment: Payment) -> Money:
    try:
        amount = Money.parse(text, payment.currency)
    except MoneyError as error:
        raise Problem("validation_failed", f"amount: {error}") from None
    if amount.minor <= 0:
        raise Problem("validation_failed", "amount: a refund is greater than zero.")
    return amount


def _used_already(source: Source) -> Problem:
    """A change of plan gave a part of this payment as credit, and invoices were paid by it."""
    left, used, currency = source.refundable, source.used, source.left.currency
    much = f"Only {left} {currency} of it can be refunded" if left.minor else "Nothing of it can be refunded"
    words = f"{much}: {used} {currency} was given as credit, and has paid other invoices."
    return Problem("credit_already_used", words, refundable=str(left), credit_used=str(used), currency=currency)


def _taken_by(payment: Payment) -> str:
    if not payment.dispute_held:
        return "refunds under way take"
    return "refunds under way and disputes hold" if payment.refund_reserved else "disputes hold"


async def sheet_of(session: AsyncSession, pool: ProviderPool, payment: Payment) -> Capabilities:
    """What the payment's provider can do. Raises Problem where its credentials cannot be used."""
    account = await workspaces.account(session, payment.provider_account_id)
    assert account is not None  # noqa: S101  (a foreign key)
    try:
        return pool.of(account).capabilities
    except (ProviderMisconfigured, SealingError):
        raise unusable_credentials() from None


def _check_provider(payment: Payment, sheet: Capabilities, amount: Money) -> None:
    method = sheet.method(payment.method)
    if not sheet.refund or (method is not None and not method.refundable):
        how = payment.method or "this payment"
        raise Problem("refund_not_supported", f"{payment.provider} cannot refund {how}; pay it back by other means.")
    if amount != payment.money and not sheet.partial_refund:
        raise Problem("refund_not_supported", f"{payment.provider} refunds the whole payment only.")
    window = sheet.refund_window
    if window is not None and payment.paid_at is not None and window.is_over(payment.paid_at, datetime.now(UTC)):
        when = f"up to {window.days} days after the payment" if window.days else "on the day of the payment"
        words = (
            f"{payment.provider} takes a refund by call {when} only ({window.zone}); have it made {window.afterwards}."
        )
        raise Problem("refund_not_supported", words)
    check_step(payment.provider, sheet, amount)


async def read_out(session: AsyncSession, refund_id: UUID) -> RefundOut:
    """A refund that is on record, as callers see it."""
    row = await refunds.get(session, refund_id)
    assert row is not None  # noqa: S101  (written or read by the caller)
    document = await receipts.of_refund(session, refund_id)
    return _out(row, None if document is None else document.id)


def _out(row: Refund, credit_note_id: UUID | None = None) -> RefundOut:
    return RefundOut(
        id=row.id,
        payment_id=row.payment_id,
        status=RefundState(row.status),
        amount=str(row.money),
        currency=row.currency,
        reason=row.reason,
        origin=row.origin,
        provider=row.provider,
        provider_refund_id=row.provider_refund_id,
        failure_code=row.failure_code,
        outside_reference=row.outside_reference,
        vat=_part(row, row.vat),
        commission_clawed_back=_part(row, row.commission),
        fee_returned=_part(row, row.fee),
        credit_taken_back=_part(row, row.credit_taken),
        credit_note_id=credit_note_id,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _part(row: Refund, value: Decimal | None) -> str | None:
    return None if value is None else str(Money.from_decimal(value, row.currency))

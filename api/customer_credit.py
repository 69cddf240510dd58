"""Customers' credit: read it, pay it out, withdraw it, and bear the loss of what was used without money behind it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from activities import credit as decisions
from activities.refunds import settle_refund
from api.context import Member, Services, ServicesDep, member
from api.effects import DryRun, EffectsOut, effects_out
from api.fields import AmountText, Id, PlainText, RequestBody
from api.idempotency import IdempotencyKey, answer_once
from api.problems import Problem, answers
from api.refunds import FIRST_ANSWER, NewRefund, RefundOut, accept, read_out, sheet_of
from domain.credit import Source
from domain.money import Money, MoneyError
from domain.refund import StartRefund
from domain.steps import cut
from engine.payments import EngineUnavailable
from providers.pool import ProviderPool
from storage import audit, credit, payments, refunds
from storage.credit import Owner
from storage.models import Refund, Workspace
from storage.rehearsal import rehearsal
from storage.session import Database

router = APIRouter(tags=["credit"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Decider = Annotated[Member, Depends(member("refunds:write"))]
CustomerId = Annotated[PlainText, Field(min_length=1, max_length=128)]
Reason = Annotated[PlainText, Field(min_length=1, max_length=300)]
ENTRIES = 100
NO_SOURCE = "credit_without_source"


class CreditSourceOut(BaseModel):
    """One payment's credit. Without `payment_id` it is from before sources were kept, and cannot be paid out."""

    payment_id: UUID | None
    unused: str
    used: str = Field(description="What has paid invoices; it cannot be refunded as well.")
    overdrawn: str = Field(description="What was used and has no money behind it, because that went back.")


class CreditEntryOut(BaseModel):
    """One turn of it. `unused` and `used` say how both changed."""

    kind: str
    payment_id: UUID | None
    invoice_id: UUID | None
    unused: str
    used: str
    reason: str | None
    created_at: datetime


class CreditOut(BaseModel):
    """A customer's credit in one currency, with where it comes from and its last turns, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer_id": "cust-77",
                "currency": "ILS",
                "balance": "1096.71",
                "sources": [
                    {
                        "payment_id": "736bceb7-640b-57b9-bccf-02bb69b2f788",
                        "unused": "1096.71",
                        "used": "0.00",
                        "overdrawn": "0.00",
                    }
                ],
                "entries": [
                    {
                        "kind": "granted",
                        "payment_id": "736bceb7-640b-57b9-bccf-02bb69b2f788",
                        "invoice_id": None,
                        "unused": "1096.71",
                        "used": "0.00",
                        "reason": None,
                        "created_at": "2026-11-21T16:52:52.933943Z",
                    }
                ],
            }
        }
    )

    customer_id: str
    currency: str
    balance: str
    sources: list[CreditSourceOut]
    entries: list[CreditEntryOut]


class CreditList(BaseModel):
    """A customer's credits, one a currency; empty for one who never had any."""

    data: list[CreditOut]


class CreditPayout(RequestBody):
    """Whose credit goes back to the payer, and how much; all that can, if no amount is given."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"customer_id": "cust-77", "amount": "1000.00", "reason": "moved away"}}
    )

    customer_id: CustomerId
    amount: AmountText | None = None
    reason: PlainText | None = Field(None, max_length=300, description="Printed on the credit notes.")


class CreditWithdrawal(RequestBody):
    """Whose credit is taken, how much (all, if no amount is given), and why."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"customer_id": "cust-77", "amount": "50.00", "reason": "granted by mistake"}}
    )

    customer_id: CustomerId
    amount: AmountText | None = None
    reason: Reason


class CreditWriteOff(RequestBody):
    """Of which payment the overdrawn credit is given up, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "payment_id": "736bceb7-640b-57b9-bccf-02bb69b2f788",
                "reason": "dispute lost",
            }
        }
    )

    payment_id: Id
    reason: Reason


class NotPaidOut(BaseModel):
    """Credit that stays, and why: a problem's `code`, or `credit_without_source`."""

    payment_id: UUID | None
    amount: str
    code: str
    detail: str


class CreditPayoutOut(BaseModel):
    """The refunds that pay it out, one for each payment that it comes from, and what could not be paid out."""

    customer_id: str
    currency: str
    amount: str
    refunds: list[RefundOut]
    not_paid_out: list[NotPaidOut]


class CreditPayoutEffects(EffectsOut):
    """What a payout would do once the provider has made its refunds. Amounts are major units."""

    amount: str
    currency: str
    not_paid_out: list[NotPaidOut]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The refunds of a payout on record, not started yet, and what stays."""

    owner: Owner
    refunds: list[Refund]
    stays: list[NotPaidOut]

    @property
    def amount(self) -> Money:
        """What is paid out."""
        return sum((one.money for one in self.refunds), self.owner.zero)


@router.get("/credits", summary="Read a customer's credit")
async def read_credit(
    caller: Reader, services: ServicesDep, customer_id: Annotated[str, Query(min_length=1, max_length=128)]
) -> CreditList:
    """What the customer has left over, by the payments that it comes from, and what happened to it."""
    async with services.database.transaction() as session:
        owners = await credit.owners(session, caller.workspace.id, customer_id)
        return CreditList(data=[await shown(session, owner) for owner in owners])


@router.post(
    "/credits/payout",
    status_code=201,
    summary="Pay a customer's credit out",
    responses=answers(
        "amount_not_representable",
        "credit_already_used",
        "credit_exceeded",
        "credit_not_payable",
        "idempotency_key_reused",
        "payment_not_refundable",
        "provider_misconfigured",
        "refund_exceeds_payment",
        "refund_not_supported",
    )
    | {200: {"model": CreditPayoutEffects, "description": "A dry run"}},
)
async def pay_credit_out(
    body: CreditPayout,
    caller: Decider,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> CreditPayoutOut | CreditPayoutEffects:
    """Refund the payments that the credit comes from, each by its part. The credit is gone at once.

    A refund that the provider refuses gives its part back. What cannot be refunded stays, and `not_paid_out` says why;
    with an `amount` it is all of it or nothing.
    """
    if dry_run:
        response.status_code = 200
        return await rehearse_payout(services.database, services.pool, caller.workspace, body, actor=caller.actor)

    async def work(session: AsyncSession) -> CreditPayoutOut:
        done = await pay_out(session, services.pool, caller.workspace, body, actor=caller.actor)
        return CreditPayoutOut(
            customer_id=body.customer_id,
            currency=done.owner.currency,
            amount=str(done.amount),
            refunds=[await read_out(session, one.id) for one in done.refunds],
            not_paid_out=done.stays,
        )

    scope = f"{caller.workspace.id}:credits:payout"
    out = await answer_once(
        services,
        route="POST /credits/payout",
        scope=scope,
        key=idempotency_key,
        request=body,
        answer=CreditPayoutOut,
        work=work,
    )
    return out.model_copy(update={"refunds": await _started(services, out.refunds)})


@router.post(
    "/credits/withdraw",
    summary="Withdraw a customer's credit",
    responses=answers("credit_exceeded", "idempotency_key_reused")
    | {200: {"model": CreditOut | EffectsOut, "description": "The credit, or what a dry run would write"}},
)
async def withdraw_credit(
    body: CreditWithdrawal,
    caller: Decider,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> CreditOut | EffectsOut:
    """Take credit from a customer, the oldest first; nobody is paid. The order service is told `credit.withdrawn`."""
    if dry_run:
        return await rehearse_withdrawal(
            services.database, caller.workspace, body, actor=caller.actor, at=services.now()
        )

    async def work(session: AsyncSession) -> CreditOut:
        return await withdraw(session, caller.workspace, body, actor=caller.actor, at=services.now())

    scope = f"{caller.workspace.id}:credits:withdraw"
    return await answer_once(
        services,
        route="POST /credits/withdraw",
        scope=scope,
        key=idempotency_key,
        request=body,
        answer=CreditOut,
        work=work,
    )


@router.post(
    "/credits/write-off",
    summary="Bear the loss of overdrawn credit",
    responses=answers("credit_not_overdrawn", "idempotency_key_reused", "not_found")
    | {200: {"model": CreditOut | EffectsOut, "description": "The credit, or what a dry run would write"}},
)
async def write_off_credit(
    body: CreditWriteOff,
    caller: Decider,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> CreditOut | EffectsOut:
    """Give up credit that was used before its money went back: the customer keeps what it has paid.

    The flag `credit_overdrawn` goes, and the order service is told `credit.written_off`.
    """
    if dry_run:
        return await rehearse_write_off(
            services.database, caller.workspace, body, actor=caller.actor, at=services.now()
        )

    async def work(session: AsyncSession) -> CreditOut:
        return await write_off(session, caller.workspace, body, actor=caller.actor, at=services.now())

    scope = f"{caller.workspace.id}:credits:write-off"
    return await answer_once(
        services,
        route="POST /credits/write-off",
        scope=scope,
        key=idempotency_key,
        request=body,
        answer=CreditOut,
        work=work,
    )


async def shown(session: AsyncSession, owner: Owner) -> CreditOut:
    """A customer's credit as callers see it."""
    found = await credit.sources(session, owner, held=False)
    return CreditOut(
        customer_id=owner.customer_id,
        currency=owner.currency,
        balance=str(await credit.balance(session, owner)),
        sources=[_source_out(one) for one in found.values() if one.unused.minor or one.used.minor],
        entries=[
            CreditEntryOut(
                kind=one.kind,
                payment_id=one.payment_id,
                invoice_id=one.invoice_id,
                unused=str(owner.money(one.unused)),
                used=str(owner.money(one.used)),
                reason=one.reason,
                created_at=one.created_at,
            )
            for one in await credit.entries(session, owner, limit=ENTRIES)
        ],
    )


async def pay_out(
    session: AsyncSession, pool: ProviderPool, workspace: Workspace, body: CreditPayout, *, actor: str
) -> Accepted:
    """Put a refund on record for each payment that the credit comes from. Raises Problem."""
    owner = Owner(workspace.id, body.customer_id, workspace.currency)
    for payment_id in sorted(await credit.payments_behind(session, owner)):  # their locks come before the credit's
        await payments.lock(session, payment_id)
    found = [one for one in (await credit.sources(session, owner)).values() if one.unused.minor]
    wanted = _wanted(sum((one.unused for one in found), owner.zero), body.amount)
    left, made, stays = wanted, list[Refund](), list[NotPaidOut]()
    for source in found:
        amount = min(source.unused, left)
        if not amount.minor:
            break
        try:
            part = await _part(session, pool, source, amount)
            refund = NewRefund(payment_id=part[0], amount=str(part[1]), reason=body.reason)
            made.append((await accept(session, pool, workspace.id, refund, actor=actor, key=None))[0])
            left = left - part[1]
        except Problem as problem:
            stays.append(_stays(source, amount, problem.code, problem.detail))
    if not made or (body.amount is not None and left.minor):
        most = wanted - left
        because = f" {stays[0].detail}" if stays else " The rest is below what the provider takes."
        raise Problem("credit_not_payable", f"{most} {owner.currency} of it can be paid out.{because}")
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action="credit.paid_out",
        subject=("customer_credit", uuid5(workspace.id, owner.customer_id)),
        details={"amount": str(wanted - left), "refunds": [str(one.id) for one in made]},
    )
    return Accepted(owner, made, stays)


async def withdraw(
    session: AsyncSession, workspace: Workspace, body: CreditWithdrawal, *, actor: str, at: datetime
) -> CreditOut:
    """Take it in the caller's transaction. Raises Problem."""
    owner = Owner(workspace.id, body.customer_id, workspace.currency)
    amount = _wanted(await credit.lock(session, owner), body.amount)
    await decisions.withdraw(session, workspace, owner, amount, cause=uuid4(), reason=body.reason, actor=actor, at=at)
    return await shown(session, owner)


async def write_off(
    session: AsyncSession, workspace: Workspace, body: CreditWriteOff, *, actor: str, at: datetime
) -> CreditOut:
    """Give it up in the caller's transaction. Raises Problem."""
    if await payments.get(session, workspace.id, body.payment_id) is None:
        raise Problem("not_found", "This workspace has no such payment.")
    payment, _ = await payments.lock(session, body.payment_id)
    try:
        await decisions.write_off(session, workspace, payment, cause=uuid4(), reason=body.reason, actor=actor, at=at)
    except decisions.NothingOverdrawn as error:
        raise Problem("credit_not_overdrawn", str(error)) from None
    return await shown(session, credit.owner_of(payment, payment.currency))


async def rehearse_payout(
    database: Database, pool: ProviderPool, workspace: Workspace, body: CreditPayout, *, actor: str
) -> CreditPayoutEffects:
    """Put its refunds on record, book them as made, and undo both. Raises Problem as `pay_out` does."""
    async with rehearsal(database) as (session, effects):
        done = await pay_out(session, pool, workspace, body, actor=actor)
        for one in done.refunds:
            payment, held = await payments.lock(session, one.payment_id)
            await settle_refund(session, payment, held, await refunds.lock(session, one.id), at=datetime.now(UTC))
        amount, currency, stays = str(done.amount), done.owner.currency, done.stays
    return CreditPayoutEffects(
        **effects_out(effects).model_dump(), amount=amount, currency=currency, not_paid_out=stays
    )


async def rehearse_withdrawal(
    database: Database, workspace: Workspace, body: CreditWithdrawal, *, actor: str, at: datetime
) -> EffectsOut:
    """Withdraw it and undo it. Raises Problem as `withdraw` does."""
    async with rehearsal(database) as (session, effects):
        await withdraw(session, workspace, body, actor=actor, at=at)
    return effects_out(effects)


async def rehearse_write_off(
    database: Database, workspace: Workspace, body: CreditWriteOff, *, actor: str, at: datetime
) -> EffectsOut:
    """Give it up and undo it. Raises Problem as `write_off` does."""
    async with rehearsal(database) as (session, effects):
        await write_off(session, workspace, body, actor=actor, at=at)
    return effects_out(effects)


async def _started(services: Services, made: list[RefundOut]) -> list[RefundOut]:
    """Start the refunds' workflows, and read what the provider said first; what is not started yet is started later."""
    for one in made:
        with suppress(EngineUnavailable):  # it is on record; the dispatcher starts it
            await services.engine.start_refund(StartRefund(one.id, one.payment_id), wait=FIRST_ANSWER)
    async with services.database.transaction() as session:
        return [await read_out(session, one.id) for one in made]


async def _part(session: AsyncSession, pool: ProviderPool, source: Source, amount: Money) -> tuple[UUID, Money]:
    """What of a source can be refunded: whole steps of the provider's. Raises Problem."""
    if source.payment_id is None:
        raise Problem(NO_SOURCE, "It is from before the payments behind credit were kept; it can be withdrawn.")
    payment, _ = await payments.lock(session, source.payment_id)
    sheet = await sheet_of(session, pool, payment)
    part = cut(amount, sheet.step(amount.currency)).whole
    if not part.minor:
        raise Problem("amount_not_representable", f"{payment.provider} takes nothing so small.")
    return payment.id, part


def _wanted(balance: Money, text: str | None) -> Money:
    if not balance.minor:
        raise Problem("credit_exceeded", "The customer has no credit.")
    if text is None:
        return balance
    try:
        amount = Money.parse(text, balance.currency)
    except MoneyError as error:
        raise Problem("validation_failed", f"amount: {error}") from None
    if amount.minor <= 0:
        raise Problem("validation_failed", "amount: greater than zero.")
    if balance < amount:
        raise Problem("credit_exceeded", f"The customer has {balance} {balance.currency}.")
    return amount


def _stays(source: Source, amount: Money, code: str, detail: str) -> NotPaidOut:
    return NotPaidOut(payment_id=source.payment_id, amount=str(amount), code=code, detail=detail)


def _source_out(source: Source) -> CreditSourceOut:
    return CreditSourceOut(
        payment_id=source.payment_id,
        unused=str(source.unused),
        used=str(source.used),
        overdrawn=str(source.overdrawn),
    )

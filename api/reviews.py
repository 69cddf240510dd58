"""Reviews: what a person decides on a payment that waits for it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from activities.confirmation import ConfirmationActivities
from activities.fraud import FraudGuards
from activities.guard import ProviderGuard
from activities.reviews import Decided, Decision, Facts, NotOpen, decide, facts_of
from api.context import Member, ServicesDep, member
from api.effects import DryRun, EffectsOut
from api.fields import AmountText, OneOf, PlainText, RequestBody
from api.idempotency import IdempotencyKey, answer_once
from api.payments import existing_payment
from api.problems import Problem, answers
from domain.money import Money, MoneyError
from domain.payment import PaymentStatus, ProviderTrigger
from domain.refund import StartRefund
from domain.review import REVIEWS, ReviewAction, ReviewReason, ReviewRefused
from engine.payments import EngineUnavailable, NoSuchWorkflow, PaymentEngine
from providers.pool import ProviderPool
from storage import attempts, payments
from storage.models import Payment, Workspace
from storage.rehearsal import rehearsal
from storage.sealing import Sealer
from storage.session import Database

router = APIRouter(tags=["payments"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Decider = Annotated[Member, Depends(member("refunds:write"))]


class PaymentDecision(RequestBody):
    """What is decided. Which acts a reason takes: GET /payments/{id}/review."""

    model_config = ConfigDict(json_schema_extra={"example": {"action": "accept", "note": "agreed with Dana by phone"}})

    action: OneOf[ReviewAction]
    amount: AmountText | None = Field(
        None, description="With accept: how much came, where the provider vouches for no amount; elsewhere a check."
    )
    reference: PlainText | None = Field(
        None, min_length=1, max_length=200, description="With close: your name for the payment by other means."
    )
    note: PlainText | None = Field(None, max_length=300, description="Why; kept on the audit log.")


class ReviewAct(BaseModel):
    """An act that ends the review, and what it does."""

    action: ReviewAction
    does: str


class ReviewOut(BaseModel):
    """What waits for a person, and the acts that end it; without a reason nothing does."""

    payment_id: UUID
    status: PaymentStatus
    review_reason: ReviewReason | None
    meaning: str | None = None
    acts: list[ReviewAct] = []


class ReviewDone(ReviewOut):
    """What was decided. `refunding`: overpayments on their way back; the review ends when the provider is done."""

    reviewed_reason: ReviewReason
    action: ReviewAction
    refunding: list[UUID] = []
    refunds: list[UUID] = Field([], description="Refunds whose end was decided.")


class ReviewEffects(EffectsOut):
    """What the decision would do."""

    payment_status: PaymentStatus
    review_reason: ReviewReason | None


@router.get("/payments/{payment_id}/review", summary="What waits for a decision")
async def read_review(payment_id: UUID, caller: Reader, services: ServicesDep) -> ReviewOut:
    """Why a person has to decide on the payment, and how each act ends that."""
    async with services.database.transaction() as session:
        payment = await existing_payment(session, caller, payment_id)
    return ReviewOut(**_open_review(payment.id, payment.status, payment.flag))


@router.post(
    "/payments/{payment_id}/review",
    summary="Decide on a payment",
    responses=answers("idempotency_key_reused", "review_not_open", "review_refused")
    | {
        200: {"model": ReviewDone | ReviewEffects, "description": "Decided, or what a dry run would do"},
        202: {"model": ReviewDone},
    },
)
async def review_payment(
    payment_id: UUID,
    body: PaymentDecision,
    caller: Decider,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> ReviewDone | ReviewEffects:
    """Accept what came, send it back, or close the review. The provider is asked first, so that it fits the facts.

    202 means that a refund is under way: the review ends when the provider has made it.
    """
    async with services.database.transaction() as session:
        await existing_payment(session, caller, payment_id)
    desk = Desk(services.database, services.pool, services.sealer)
    if dry_run:
        return await desk.rehearse(payment_id, body, actor=caller.actor, at=services.now())
    facts = await desk.facts(payment_id, at=services.now())

    async def work(session: AsyncSession) -> ReviewDone:
        return await desk.decide(session, payment_id, body, facts, actor=caller.actor, at=services.now())

    done = await answer_once(
        services,
        route="POST /payments/{payment_id}/review",
        scope=f"{caller.workspace.id}:payments:{payment_id}:review",
        key=idempotency_key,
        request=body,
        answer=ReviewDone,
        work=work,
    )
    await set_off(services.engine, done)
    response.status_code = 202 if done.refunding else 200
    return done


class Desk:
    """Where decisions are made, by the API and by the operator's tool."""

    def __init__(self, database: Database, pool: ProviderPool, sealer: Sealer) -> None:
        self._database = database
        self._pool = pool
        self._sealer = sealer
        self._guards = FraudGuards(sealer)

    async def facts(self, payment_id: UUID, *, at: datetime) -> Facts:
        """What the providers say now. Money that may be booked is made ready for the fraud guards."""
        async with self._database.transaction() as session:
            loaded = await attempts.load(session, payment_id)
        assert loaded is not None  # noqa: S101  (read by the caller)
        guard = ProviderGuard(self._database, self._pool, lambda: at)
        facts = await facts_of(ConfirmationActivities(self._database, guard, self._sealer, lambda: at), loaded)
        await self._guards.make_ready(self._database, loaded.payment)
        return facts

    async def decide(
        self, session: AsyncSession, payment_id: UUID, body: PaymentDecision, facts: Facts, *, actor: str, at: datetime
    ) -> ReviewDone:
        """Decide in the caller's transaction. Raises Problem."""
        payment, workspace = await payments.lock(session, payment_id)
        decision = Decision(body.action, actor, _amount(body, payment.currency), body.reference, body.note)
        decided = await _decided(session, payment, workspace, decision, facts, self._guards, at)
        return ReviewDone(
            **_open_review(payment.id, payment.status, payment.flag),
            reviewed_reason=decided.reason,
            action=body.action,
            refunding=decided.to_refund,
            refunds=decided.refunds,
        )

    async def rehearse(self, payment_id: UUID, body: PaymentDecision, *, actor: str, at: datetime) -> ReviewEffects:
        """Ask the providers, decide, and undo it. Raises Problem as `decide` does."""
        facts = await self.facts(payment_id, at=at)
        async with rehearsal(self._database) as (session, effects):
            done = await self.decide(session, payment_id, body, facts, actor=actor, at=at)
        return ReviewEffects(**asdict(effects), payment_status=done.status, review_reason=done.review_reason)


async def _decided(
    session: AsyncSession,
    payment: Payment,
    workspace: Workspace,
    decision: Decision,
    facts: Facts,
    guards: FraudGuards,
    at: datetime,
) -> Decided:
    try:
        return await decide(session, payment, workspace, decision, facts, guards, at=at)
    except NotOpen as error:
        raise Problem("review_not_open", f"{_sentence(error)}", status_now=payment.status) from None
    except ReviewRefused as error:
        raise Problem("review_refused", f"{_sentence(error)}", review_reason=payment.flag) from None


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


async def set_off(engine: PaymentEngine, done: ReviewDone) -> bool:
    """Start what follows from a decision. Returns whether Temporal has it; if not, the dispatcher and polls do."""
    event = f"review-{uuid4()}"
    try:
        for surplus_id in done.refunding:
            await engine.return_surplus(surplus_id)
        for refund_id in done.refunds:
            await engine.sync_refund(StartRefund(refund_id, done.payment_id))
        # no event of the inbox: the workflow takes up what is on record, and refunds that waited for these
        trigger = ProviderTrigger(0, event, "refund" if done.refunds else "review")
        try:
            await engine.signal(done.payment_id, trigger)
        except NoSuchWorkflow:
            await engine.signal_afterlife(done.payment_id, trigger)
    except EngineUnavailable:
        return False
    return True


def _open_review(payment_id: UUID, status: str, flag: str | None) -> dict[str, object]:
    reason = None if flag is None else ReviewReason(flag)
    review = None if reason is None else REVIEWS[reason]
    acts = [] if review is None else [ReviewAct(action=act, does=does) for act, does in review.acts.items()]
    return {
        "payment_id": payment_id,
        "status": PaymentStatus(status),
        "review_reason": reason,
        "meaning": None if review is None else review.meaning,
        "acts": acts,
    }


def _amount(body: PaymentDecision, currency: str) -> Money | None:
    if body.amount is None:
        return None
    try:
        amount = Money.parse(body.amount, currency)
    except MoneyError as error:
        raise Problem("validation_failed", f"amount: {error}") from None
    if amount.minor <= 0:
        raise Problem("validation_failed", "amount: must be greater than zero.")
    return amount

"""Changes of a subscription: cancel, plan, pause, resume, and what is charged. Each can be rehearsed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, HttpUrl
from sqlalchemy.ext.asyncio import AsyncSession

from activities import billing
from activities.subscription_changes import Refused, apply, change_id_for
from api.context import Member, Services, ServicesDep
from api.effects import DryRun, EffectsOut, effects_out
from api.fields import Id, Moment, RequestBody, Whole
from api.idempotency import IdempotencyKey, fingerprint_of
from api.payment_methods import MethodOwner, NewSetup, SetupOut, begin_setup, check_subscriber
from api.problems import Problem, answers, key_reused, try_again
from api.subscriptions import WAIT, Reader, SubscriptionAnswer, Writer, existing_subscription, subscription_out
from dispatch.inbox import subscription_command
from domain.idempotency import is_repeat
from domain.setup import setup_id_for
from domain.subscription import ChangeKind, SubscriptionChange
from engine.payments import EngineUnavailable
from engine.subscriptions import SubscriptionEngine
from storage import plans, setups, subscriptions
from storage.rehearsal import rehearsal

router = APIRouter(tags=["subscriptions"])


class ChangeOut(BaseModel):
    """What a change did, or with `dry_run` would do: `effects` in short, `would_write` in full."""

    dry_run: bool
    effects: dict[str, str | None]
    would_write: EffectsOut | None = None
    subscription: SubscriptionAnswer


class CancelSubscription(RequestBody):
    """When it ends."""

    at: Literal["now", "period_end"] = "period_end"
    reason: str | None = Field(None, max_length=300)


class ChangePlan(RequestBody):
    """To which plan, and when. The quantity stays unless it is given."""

    plan: str | None = Field(None, min_length=1, max_length=64, description="Code; the present plan if not given.")
    plan_version: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Of `plan`: to move to the present price of a code that the subscription has already.",
    )
    quantity: int | None = Field(None, ge=1, le=1_000_000)
    at: Literal["now", "period_end"] = "now"
    preview: bool = Field(default=False, description="The same as ?dry_run=true.")
    reason: str | None = Field(None, max_length=300)


class Pause(RequestBody):
    """Until when; until it is resumed if not given."""

    resume_at: Moment | None = Field(None, description="In the future, at most ten years ahead.")
    reason: str | None = Field(None, max_length=300)


class Resume(RequestBody):
    """Go on: after a pause, or after a cancel to the period's end."""

    reason: str | None = Field(None, max_length=300)


class ChangeMethod(RequestBody):
    """Which saved method is charged from now on; without one the answer has a page where the customer saves one."""

    payment_method_id: Id | None = None
    success_url: HttpUrl | None = None
    cancel_url: HttpUrl | None = None


class MethodLink(BaseModel):
    """A page where the customer saves a method; it becomes the default, and what is overdue is charged at once."""

    setup: SetupOut


@router.post(
    "/subscriptions/{subscription_id}/cancel",
    summary="Cancel a subscription",
    responses=answers("idempotency_key_reused", "subscription_not_changeable"),
)
async def cancel_subscription(
    subscription_id: UUID,
    caller: Writer,
    services: ServicesDep,
    body: CancelSubscription | None = None,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> ChangeOut:
    """End it at the end of the paid period, or now. What is not paid is not collected any more, from this moment on.

    A charge under way is closed; money that was faster goes back.
    """
    wanted = body or CancelSubscription()
    kind = ChangeKind.CANCEL if wanted.at == "now" else ChangeKind.CANCEL_AT_PERIOD_END
    wish = _wish(subscription_id, kind, caller, idempotency_key, wanted, reason=wanted.reason)
    return await _change(services, caller, wish, dry_run=dry_run)


@router.post(
    "/subscriptions/{subscription_id}/change-plan",
    summary="Change the plan",
    responses=answers(
        "amount_not_representable",
        "idempotency_key_reused",
        "plan_not_available",
        "subscription_cancel_scheduled",
        "subscription_not_changeable",
    ),
)
async def change_plan(
    subscription_id: UUID,
    body: ChangePlan,
    caller: Writer,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> ChangeOut:
    """Change plan or quantity, now with the unused part given back and the rest of the period charged, or later.

    What a change leaves over is carried forward to the next invoices. `preview` shows the amounts beforehand.
    """
    kind = ChangeKind.CHANGE_PLAN if body.at == "now" else ChangeKind.CHANGE_PLAN_AT_PERIOD_END
    wish = _wish(subscription_id, kind, caller, idempotency_key, body, quantity=body.quantity, reason=body.reason)
    return await _change(services, caller, wish, plan=(body.plan, body.plan_version), dry_run=dry_run or body.preview)


@router.get(
    "/subscriptions/{subscription_id}/change-plan/preview",
    summary="What a change of plan would do",
    responses=answers(
        "amount_not_representable",
        "plan_not_available",
        "subscription_cancel_scheduled",
        "subscription_not_changeable",
    ),
)
async def preview_change(
    subscription_id: UUID,
    caller: Reader,
    services: ServicesDep,
    plan: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    plan_version: Annotated[Whole | None, Query(ge=1, le=1_000_000)] = None,
    quantity: Annotated[Whole | None, Query(ge=1, le=1_000_000)] = None,
    at: Literal["now", "period_end"] = "now",
) -> ChangeOut:
    """Credit, charge and what would be due at this moment; nothing is done."""
    kind = ChangeKind.CHANGE_PLAN if at == "now" else ChangeKind.CHANGE_PLAN_AT_PERIOD_END
    wish = _wish(subscription_id, kind, caller, None, quantity=quantity)
    return await _change(services, caller, wish, plan=(plan, plan_version), dry_run=True)


@router.post(
    "/subscriptions/{subscription_id}/pause",
    summary="Pause a subscription",
    responses=answers("idempotency_key_reused", "subscription_not_changeable"),
)
async def pause_subscription(
    subscription_id: UUID,
    caller: Writer,
    services: ServicesDep,
    body: Pause | None = None,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> ChangeOut:
    """Charge nothing until it is resumed; the paid time that is left then is what is left now."""
    wanted = body or Pause()
    wish = _wish(
        subscription_id,
        ChangeKind.PAUSE,
        caller,
        idempotency_key,
        wanted,
        resume_at=wanted.resume_at,
        reason=wanted.reason,
    )
    return await _change(services, caller, wish, dry_run=dry_run)


@router.post(
    "/subscriptions/{subscription_id}/resume",
    summary="Resume a subscription",
    responses=answers("idempotency_key_reused", "subscription_not_changeable"),
)
async def resume_subscription(
    subscription_id: UUID,
    caller: Writer,
    services: ServicesDep,
    body: Resume | None = None,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> ChangeOut:
    """Go on after a pause, or withdraw a cancel to the period's end."""
    wanted = body or Resume()
    wish = _wish(subscription_id, ChangeKind.RESUME, caller, idempotency_key, wanted, reason=wanted.reason)
    return await _change(services, caller, wish, dry_run=dry_run)


@router.post(
    "/subscriptions/{subscription_id}/payment-method",
    summary="Change what is charged",
    responses=answers(
        "idempotency_key_reused",
        "method_unavailable",
        "no_provider_account",
        "payer_data_missing",
        "payment_method_not_active",
        "provider_misconfigured",
        "provider_rejected",
        "subscription_not_changeable",
        "unknown_provider",
    ),
)
async def change_method(
    subscription_id: UUID,
    caller: Writer,
    services: ServicesDep,
    body: ChangeMethod | None = None,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> ChangeOut | MethodLink:
    """Charge another saved method from now on, at once where something is overdue.

    Without `payment_method_id` the answer is a page of the provider's where the customer saves a card.
    """
    wanted = body or ChangeMethod()
    async with services.database.transaction() as session:
        row = await existing_subscription(session, caller, subscription_id)
        if idempotency_key is not None:
            await _must_ask_the_same(session, caller, row.id, idempotency_key, link=wanted.payment_method_id is None)
        if wanted.payment_method_id is not None:
            await check_subscriber(session, services, caller.workspace.id, wanted.payment_method_id, row)
    if wanted.payment_method_id is None:
        if dry_run:
            raise Problem("validation_failed", "payment_method_id: name one; a page has no dry run.")
        setup = NewSetup(
            customer=MethodOwner(
                id=row.customer_id, name=row.customer_name, email=row.customer_email, phone=row.customer_phone
            ),
            success_url=wanted.success_url,
            cancel_url=wanted.cancel_url,
        )
        key = None if idempotency_key is None else _key_of_link(subscription_id, idempotency_key)
        asked = _asked(ChangeKind.PAYMENT_METHOD, subscription_id, wanted)
        made = await begin_setup(setup, caller, services, Response(), key, asked=asked, subscription_id=row.id)
        return MethodLink(setup=made)
    wish = _wish(
        subscription_id,
        ChangeKind.PAYMENT_METHOD,
        caller,
        idempotency_key,
        wanted,
        payment_method_id=wanted.payment_method_id,
    )
    return await _change(services, caller, wish, dry_run=dry_run)


def _key_of_link(subscription_id: UUID, key: str) -> str:
    """The key of the set-up that is made for a key here: another one than the same key has at POST /payment-methods."""
    return str(uuid5(subscription_id, f"payment-method:{key}"))


async def _must_ask_the_same(
    session: AsyncSession, caller: Member, subscription_id: UUID, key: str, *, link: bool
) -> None:
    """A key that has made a page changes no method, and the other way round. Raises Problem."""
    if link:
        used: object = await subscriptions.answered(
            session, change_id_for(subscription_id, ChangeKind.PAYMENT_METHOD, key)
        )
    else:
        setup_id = setup_id_for(caller.workspace.id, _key_of_link(subscription_id, key))
        used = await setups.get(session, caller.workspace.id, setup_id)
    if used is not None:
        raise key_reused()


ROUTES = {
    ChangeKind.CANCEL: "cancel",
    ChangeKind.CANCEL_AT_PERIOD_END: "cancel",
    ChangeKind.CHANGE_PLAN: "change-plan",
    ChangeKind.CHANGE_PLAN_AT_PERIOD_END: "change-plan",
    ChangeKind.PAUSE: "pause",
    ChangeKind.RESUME: "resume",
    ChangeKind.PAYMENT_METHOD: "payment-method",
}
"""The last part of the path by which each change is asked for."""


def _asked(kind: ChangeKind, subscription_id: UUID, body: BaseModel) -> bytes:
    route = f"POST /subscriptions/{{subscription_id}}/{ROUTES[kind]}"
    return fingerprint_of(route, body, subscription_id=subscription_id)


def _wish(
    subscription_id: UUID,
    kind: ChangeKind,
    caller: Member,
    key: str | None,
    body: BaseModel | None = None,
    **more: Any,
) -> SubscriptionChange:
    if key is None:
        return SubscriptionChange(subscription_id, uuid4(), kind, caller.actor, **more)
    asked = None if body is None else _asked(kind, subscription_id, body).hex()
    change_id = change_id_for(subscription_id, kind, key)
    return SubscriptionChange(subscription_id, change_id, kind, caller.actor, **more, fingerprint=asked)


async def _answered(services: Services, caller: Member, wish: SubscriptionChange) -> ChangeOut | None:
    """What a repeat was answered the first time, also where it could not be asked for any more. Raises Problem."""
    async with services.database.transaction() as session:
        known = await subscriptions.answered(session, wish.change_id)
    if known is None or wish.fingerprint is None:
        return None
    first, kept = known
    if not is_repeat(None if kept is None else bytes.fromhex(kept), bytes.fromhex(wish.fingerprint)):
        raise key_reused()
    subscription = await subscription_out(services, caller, wish.subscription_id)
    return ChangeOut(dry_run=False, effects=first.effects, subscription=subscription)


async def _change(
    services: Services,
    caller: Member,
    wish: SubscriptionChange,
    *,
    plan: tuple[str | None, int | None] = (None, None),
    dry_run: bool,
) -> ChangeOut:
    """Have a change made, to the plan of a code and version if one is named. Raises Problem."""
    async with services.database.transaction() as session:
        row = await existing_subscription(session, caller, wish.subscription_id)
    repeated = None if dry_run else await _answered(services, caller, wish)
    if repeated is not None:
        return repeated
    at: Literal["now", "period_end"] = "now" if wish.kind is ChangeKind.CHANGE_PLAN else "period_end"
    wish = replace(wish, plan_id=await _plan_id(services, caller, row.id, *plan, at=at))
    if dry_run:
        return await _rehearse(services, caller, wish)
    try:
        command = subscription_command(row, services.poll)
        done = await SubscriptionEngine.beside(services.engine).change(command, wish, wait=WAIT)
    except EngineUnavailable:
        done = None
    if done is None:
        raise try_again()
    if done.refusal is not None:
        raise Problem(done.refusal, done.detail or done.refusal, status_now=done.status.value)
    return ChangeOut(dry_run=False, effects=done.effects, subscription=await subscription_out(services, caller, row.id))


async def _rehearse(services: Services, caller: Member, wish: SubscriptionChange) -> ChangeOut:
    """The same code in a transaction that is rolled back."""
    before = await subscription_out(services, caller, wish.subscription_id)
    async with rehearsal(services.database) as (session, effects):
        held = await billing.hold(session, wish.subscription_id, at=services.now(), actor=wish.actor)
        assert held is not None  # noqa: S101  (read one line above)
        try:
            done = await apply(held, wish)
        except Refused as refused:
            raise Problem(refused.code, refused.detail, status_now=held.status.value) from None
    return ChangeOut(dry_run=True, effects=done.effects, would_write=effects_out(effects), subscription=before)


async def _plan_id(
    services: Services,
    caller: Member,
    subscription_id: UUID,
    code: str | None,
    version: int | None,
    *,
    at: Literal["now", "period_end"],
) -> UUID | None:
    """The plan of a code: the version that the subscription has, or has agreed on, unless another is named.

    Raises Problem where there is no such version that can be taken.
    """
    if code is None:
        if version is not None:
            raise Problem("validation_failed", "plan_version: name the plan that it is a version of.")
        return None
    async with services.database.transaction() as session:
        row = await existing_subscription(session, caller, subscription_id)
        agreed = [row.plan_id] if at == "now" else [row.pending_plan_id, row.plan_id]
        known = [await plans.get(session, caller.workspace.id, one) for one in agreed if one is not None]
        active = await plans.active(session, caller.workspace.id, code)
    for plan in (*known, active):
        if plan is not None and plan.code == code and version in (None, plan.version):
            return plan.id
    words = f"There is no active plan {code}"
    raise Problem("plan_not_available", f"{words}." if version is None else f"{words} of version {version}.")

"""Subscriptions: begin, read, list. What changes one is in subscription_changes.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field, HttpUrl
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from activities import billing
from api.context import Member, Services, ServicesDep, cut_page, decode_cursor, member
from api.effects import DryRun
from api.fields import Cursor, Id, PageSize, PlainText, RequestBody, SmallTexts
from api.idempotency import IdempotencyKey, fingerprint_of
from api.invoices import InvoiceOut, invoice_outs
from api.payment_methods import MethodOwner, NewSetup, begin_setup, chargeable, check_payer
from api.payments import Customer
from api.plans import PlanOut, plan_out
from api.printing import check_names
from api.problems import Problem, answers, key_reused
from api.routing import Wanted, check_step, route
from dispatch.inbox import subscription_command
from domain.idempotency import is_repeat
from domain.money import Money
from domain.subscription import NextCharge, NoCharge, SubscriptionStatus
from engine.payments import EngineUnavailable
from engine.subscriptions import SubscriptionEngine
from providers.base import CheckoutMode
from storage import audit, credit, plans, subscriptions
from storage.models import Plan, Subscription
from storage.rehearsal import rehearsal

router = APIRouter(tags=["subscriptions"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Writer = Annotated[Member, Depends(member("payments:write"))]
WAIT = timedelta(seconds=20)


class Subscriber(Customer):
    """Who subscribes. The `id` is what the subscription is found by, and whose payment methods are charged."""

    id: PlainText = Field(min_length=1, max_length=128, examples=["cust-77"])


class NewSubscription(RequestBody):
    """A subscription to begin. With a saved method it is charged at once; without one there is a page to pay at."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "plan": "clinic-monthly",
                "customer": {"id": "cust-77", "name": "Dana Levi", "email": "dana@example.com"},
                "success_url": "https://shop.example/welcome",
            }
        },
    )

    plan: str = Field(min_length=1, max_length=64, description="Code of an active plan.", examples=["clinic-monthly"])
    customer: Subscriber
    quantity: int = Field(1, ge=1, le=1_000_000)
    payment_method_id: Id | None = None
    trial_days: int | None = Field(None, ge=0, le=730, description="In place of the plan's own; 0 for none.")
    referrer_id: PlainText | None = Field(None, min_length=1, max_length=128)
    provider: str | None = Field(None, max_length=32)
    provider_account_id: Id | None = None
    success_url: HttpUrl | None = None
    cancel_url: HttpUrl | None = None
    language: str | None = Field(None, pattern=r"^(he|en)$")
    metadata: SmallTexts = Field(default_factory=dict, max_length=20)


class SubscriptionOut(BaseModel):
    """A subscription as callers see it."""

    id: UUID
    status: SubscriptionStatus
    customer_id: str
    plan: PlanOut | None
    quantity: int
    pending_plan_id: UUID | None = Field(description="The plan from the next period on, if another one is planned.")
    pending_quantity: int | None = Field(description="The quantity from the next period on, if another one is planned.")
    current_period_start: datetime
    current_period_end: datetime
    period: int
    timezone: str
    trial_end: datetime | None
    cancel_at_period_end: bool
    cancelled_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None
    paused_at: datetime | None
    charging_paused_at: datetime | None = Field(description="Since when nothing is charged: a payment is disputed.")
    resume_at: datetime | None
    payment_method_id: UUID | None
    referrer_id: str | None
    managed_by: Literal["us", "provider"]
    provider_subscription_id: str | None
    credit_balance: str | None
    deferred: str | None = Field(description="Below the provider's step and not charged yet; the next invoice has it.")
    next_action_at: datetime | None
    latest_invoice: InvoiceOut | None = None
    setup_url: str | None = Field(None, description="Trial without a method: where the customer saves one.")
    metadata: dict[str, Any]
    created_at: datetime


class NextChargeOut(BaseModel):
    """The next charge that falls due by itself, if nothing changes until then. Amounts are major units."""

    at: datetime
    amount: str
    currency: str
    credit_applied: str = Field(description="What the customer's credit pays of the invoice.")
    deferred: str = Field(description="Below the provider's step: what it leaves to the charge after it.")
    plan: str
    quantity: int
    payment_method_id: UUID | None = Field(description="What is charged; null: the customer is sent a link.")


class SubscriptionAnswer(SubscriptionOut):
    """A subscription with its next charge, or the reason why there is none; one of the two is null."""

    next_charge: NextChargeOut | None
    no_charge_because: NoCharge | None


class SubscriptionDetails(SubscriptionAnswer):
    """A subscription with its next charge and all invoices, first to last."""

    invoices: list[InvoiceOut]


class SubscriptionPage(BaseModel):
    """A page of subscriptions, newest first."""

    data: list[SubscriptionOut]
    next_cursor: str | None


class SubscriptionEffects(BaseModel):
    """What a new subscription would cost and when; nothing is done."""

    dry_run: Literal[True] = True
    plan: PlanOut
    status: SubscriptionStatus
    charge_now: str
    currency: str
    credit_balance: str
    first_charge_at: datetime
    current_period_end: datetime
    next_charge: NextChargeOut = Field(description="The one after `charge_now`.")


@router.post(
    "/subscriptions",
    status_code=201,
    summary="Begin a subscription",
    responses=answers(
        "amount_not_representable",
        "amount_out_of_range",
        "currency_not_of_provider",
        "idempotency_key_reused",
        "method_unavailable",
        "name_not_printable",
        "no_provider_account",
        "not_found",
        "payer_data_missing",
        "payment_method_not_active",
        "payments_disabled",
        "plan_not_available",
        "provider_misconfigured",
        "provider_rejected",
        "unknown_provider",
    )
    | {
        200: {"model": SubscriptionAnswer | SubscriptionEffects, "description": "A repeat, or a dry run"},
        202: {"model": SubscriptionAnswer},
    },
)
async def create_subscription(
    body: NewSubscription,
    caller: Writer,
    services: ServicesDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
    *,
    dry_run: DryRun = False,
) -> SubscriptionAnswer | SubscriptionEffects:
    """Start the subscription's workflow and answer with its first charge, its first page, or its trial.

    `latest_invoice.checkout_url` is where the first payment is made when no saved method was named. 202 means that the
    provider is slow: the subscription goes on, read it again.
    """
    now = services.now()
    if dry_run:
        response.status_code = 200
        return await _would_begin(services, caller, body, now)
    row, created = await _accept(services, caller, body, idempotency_key, now)
    ready = None
    with suppress(EngineUnavailable):  # it is on record; the dispatcher starts it
        command = subscription_command(row, services.poll)
        ready = await SubscriptionEngine.beside(services.engine).start(command, wait=WAIT)
    out = await subscription_out(services, caller, row.id)
    if out.status is SubscriptionStatus.TRIALING and out.payment_method_id is None:
        out.setup_url = await _setup_url(services, caller, body, row)
    response.status_code = (201 if ready is not None else 202) if created else 200
    response.headers["location"] = f"/api/v1/subscriptions/{row.id}"
    return out


@router.get("/subscriptions", summary="List subscriptions")
async def list_subscriptions(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    customer_id: Annotated[str | None, Query(max_length=128)] = None,
    status: SubscriptionStatus | None = None,
) -> SubscriptionPage:
    """Newest first."""
    async with services.database.transaction() as session:
        rows = await subscriptions.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            customer_id=customer_id,
            status=None if status is None else status.value,
        )
        shown, more = cut_page(rows, limit)
        data = await _outs(session, caller, shown)
    return SubscriptionPage(data=data, next_cursor=more)


@router.get("/subscriptions/{subscription_id}", summary="Read a subscription")
async def read_subscription(subscription_id: UUID, caller: Reader, services: ServicesDep) -> SubscriptionDetails:
    """The subscription as it is on record, with its invoices."""
    async with services.database.transaction() as session:
        row = await existing_subscription(session, caller, subscription_id)
        out = await _answer(session, caller, row, services.now())
        invoices = await invoice_outs(session, caller, await subscriptions.invoices_of(session, row.id))
    return SubscriptionDetails(**out.model_dump(), invoices=invoices)


async def _accept(
    services: Services, caller: Member, body: NewSubscription, key: str | None, now: datetime
) -> tuple[Subscription, bool]:
    """Put the subscription on record, or find the one that the key made. Raises Problem."""
    workspace, asked = caller.workspace, fingerprint_of("POST /subscriptions", body)
    subscription_id = uuid7() if key is None else uuid5(workspace.id, f"subscription:{key}")
    async with services.database.transaction() as session:
        known = None if key is None else await subscriptions.by_key(session, workspace.id, key)
        if known is None:
            values = await _values(session, services, caller, body, now)
            values |= {"id": subscription_id, "idempotency_key": key, "fingerprint": asked}
            created = await subscriptions.insert_new(session, values)
            known = await subscriptions.get(session, subscription_id, workspace.id)
            assert known is not None  # noqa: S101  (this statement's or another's)
            if created:
                audit.record(
                    session,
                    workspace.id,
                    actor=caller.actor,
                    action="subscription.created",
                    subject=("subscription", known.id),
                    details={"plan": body.plan, "quantity": body.quantity, "status": known.status},
                )
                return known, True
    if not is_repeat(known.fingerprint, asked):
        raise key_reused()
    return known, False


async def _values(
    session: AsyncSession, services: Services, caller: Member, body: NewSubscription, now: datetime
) -> dict[str, Any]:
    """The columns of a new subscription. Raises Problem when it cannot be taken as it is."""
    workspace, customer = caller.workspace, body.customer
    if not workspace.payments_enabled:
        raise Problem("payments_disabled", "An administrator switches them on: PATCH /api/v1/workspaces/{id}.")
    check_names({"customer.name": customer.name})
    plan = await plans.active(session, workspace.id, body.plan)
    if plan is None:
        raise Problem("plan_not_available", f"There is no active plan {body.plan}; POST /api/v1/plans makes one.")
    if not billing.price_of(plan, body.quantity).is_storable:
        raise Problem("validation_failed", "quantity: the price of a period has too many digits.")
    account_id = await _account_id(session, services, caller, body, plan)
    zone = ZoneInfo(workspace.timezone)
    days = plan.trial_days if body.trial_days is None else body.trial_days
    success_url = body.success_url or f"{services.limits.public_base_url}/paid"
    return subscriptions.first_values(plan=plan, zone=zone, at=now, trial_days=days, quantity=body.quantity) | {
        "workspace_id": workspace.id,
        "customer_id": customer.id,
        "customer_name": customer.name,
        "customer_email": customer.email,
        "customer_tax_id": customer.tax_id,
        "customer_phone": customer.phone,
        "customer_document_type": customer.document_type,
        "customer_document": customer.document,
        "language": body.language or workspace.language,
        "payment_method_id": body.payment_method_id,
        "provider_account_id": account_id,
        "referrer_id": body.referrer_id,
        "success_url": str(success_url),
        "cancel_url": None if body.cancel_url is None else str(body.cancel_url),
        "metadata": body.metadata,
    }


async def _account_id(
    session: AsyncSession, services: Services, caller: Member, body: NewSubscription, plan: Plan
) -> UUID:
    """Whose page takes a payment without a saved method; one that saves the method if there is one. Raises Problem."""
    workspace, customer = caller.workspace, body.customer
    if body.payment_method_id is not None:
        _, account, sheet = await chargeable(session, services, workspace, body.payment_method_id, customer.id)
        check_payer(account.provider, sheet, customer)
        check_step(account.provider, sheet, billing.price_of(plan, body.quantity))
        return account.id
    amount = billing.price_of(plan, body.quantity)
    payer = replace(customer.payer, ip=None)  # renewals come without one: it is not kept
    refusal: Problem | None = None
    for save in (True, False):
        wanted = Wanted(amount, CheckoutMode.HOSTED, None, {}, payer, save)
        if amount.minor == 0:  # nothing to be paid: the account's limits do not matter
            wanted = Wanted(Money(100, amount.currency), CheckoutMode.HOSTED, None, {}, payer, save)
        try:
            fitting = await route(
                session,
                services,
                workspace,
                wanted,
                provider=body.provider,
                account_id=body.provider_account_id,
            )
        except Problem as problem:
            refusal = refusal or problem
        else:
            return fitting[0].account.id
    assert refusal is not None  # noqa: S101  (both have failed)
    raise refusal


async def _would_begin(services: Services, caller: Member, body: NewSubscription, now: datetime) -> SubscriptionEffects:
    """Begin it, take its first payment as made, and undo both."""
    async with rehearsal(services.database) as (session, _):
        values = await _values(session, services, caller, body, now) | {"id": uuid7()}
        await subscriptions.insert_new(session, values)
        held = await billing.hold(session, values["id"], at=now, actor=caller.actor)
        assert held is not None  # noqa: S101  (inserted two lines above)
        plan = await held.plan()
        due, owner = Money.zero(plan.currency), credit.owner_of(held.row, plan.currency)
        left_over = await credit.balance(session, owner)
        if held.status is SubscriptionStatus.INCOMPLETE:
            due = (await billing.issue(held, plan, kind="first")).money
            billing.set_status(held, SubscriptionStatus.ACTIVE, reason="dry run")
        upcoming = _next_charge_out(await billing.next_charge(held))
        assert upcoming is not None  # noqa: S101  (it runs, and nothing is planned)
        return SubscriptionEffects(
            plan=plan_out(plan),
            status=SubscriptionStatus(values["status"]),
            charge_now=str(due),
            currency=plan.currency,
            credit_balance=str(left_over),
            first_charge_at=values["anchor"],
            current_period_end=values["current_period_end"],
            next_charge=upcoming,
        )


async def _setup_url(services: Services, caller: Member, body: NewSubscription, row: Subscription) -> str | None:
    """A page where the customer saves a method for the end of the trial; None where no account has one."""
    customer = body.customer
    setup = NewSetup(
        customer=MethodOwner(id=customer.id, name=customer.name, email=customer.email, phone=customer.phone),
        success_url=body.success_url,
        cancel_url=body.cancel_url,
    )
    key, asked = f"subscription-{row.id}", fingerprint_of("POST /subscriptions", body)
    with suppress(Problem):
        made = await begin_setup(setup, caller, services, Response(), key, asked=asked, subscription_id=row.id)
        return made.url
    return None


async def existing_subscription(session: AsyncSession, caller: Member, subscription_id: UUID) -> Subscription:
    """The caller's subscription. Raises Problem not_found, also for another workspace's."""
    row = await subscriptions.get(session, subscription_id, caller.workspace.id)
    if row is None:
        raise Problem("not_found", "This workspace has no such subscription.")
    return row


async def subscription_out(services: Services, caller: Member, subscription_id: UUID) -> SubscriptionAnswer:
    """The subscription as callers see it. Raises Problem not_found."""
    async with services.database.transaction() as session:
        row = await existing_subscription(session, caller, subscription_id)
        return await _answer(session, caller, row, services.now())


async def _answer(session: AsyncSession, caller: Member, row: Subscription, at: datetime) -> SubscriptionAnswer:
    (out,) = await _outs(session, caller, [row])
    charge = await billing.next_charge(billing.Held(session, caller.workspace, row, at, caller.actor))
    none = charge if isinstance(charge, NoCharge) else None
    return SubscriptionAnswer(**out.model_dump(), next_charge=_next_charge_out(charge), no_charge_because=none)


def _next_charge_out(charge: NextCharge | NoCharge) -> NextChargeOut | None:
    if isinstance(charge, NoCharge):
        return None
    return NextChargeOut(
        at=charge.at,
        amount=str(charge.amount),
        currency=charge.amount.currency,
        credit_applied=str(charge.credit_applied),
        deferred=str(charge.deferred),
        plan=charge.plan,
        quantity=charge.quantity,
        payment_method_id=charge.payment_method_id,
    )


async def _outs(session: AsyncSession, caller: Member, rows: Sequence[Subscription]) -> list[SubscriptionOut]:
    """Subscriptions as callers see them, in as many statements for a page as for one."""
    workspace_id = caller.workspace.id
    theirs = await plans.named(session, workspace_id, {row.plan_id for row in rows if row.plan_id is not None})
    left_over = await credit.balances(session, workspace_id, {row.customer_id for row in rows})
    latest = await subscriptions.latest_invoices(session, [row.id for row in rows])
    shown = {out.subscription_id: out for out in await invoice_outs(session, caller, list(latest.values()))}
    return [
        _out(row, None if row.plan_id is None else theirs[row.plan_id], left_over, shown.get(row.id)) for row in rows
    ]


def _out(
    row: Subscription, plan: Plan | None, left_over: Mapping[tuple[str, str], Money], latest: InvoiceOut | None
) -> SubscriptionOut:
    theirs = None
    if plan is not None:
        theirs = left_over.get((row.customer_id, plan.currency), Money.zero(plan.currency))
    return SubscriptionOut(
        id=row.id,
        status=SubscriptionStatus(row.status),
        customer_id=row.customer_id,
        plan=None if plan is None else plan_out(plan),
        quantity=row.quantity,
        pending_plan_id=row.pending_plan_id,
        pending_quantity=row.pending_quantity,
        current_period_start=row.current_period_start,
        current_period_end=row.current_period_end,
        period=row.period,
        timezone=row.timezone,
        trial_end=row.trial_end,
        cancel_at_period_end=row.cancel_at_period_end,
        cancelled_at=row.cancelled_at,
        ended_at=row.ended_at,
        end_reason=row.end_reason,
        paused_at=row.paused_at,
        charging_paused_at=row.charging_paused_at,
        resume_at=row.resume_at,
        payment_method_id=row.payment_method_id,
        referrer_id=row.referrer_id,
        managed_by="provider" if row.managed_by == "provider" else "us",
        provider_subscription_id=row.provider_subscription_id,
        credit_balance=None if theirs is None else str(theirs),
        deferred=None if plan is None else str(Money.from_decimal(row.deferred, plan.currency)),
        next_action_at=row.next_action_at,
        latest_invoice=latest,
        metadata=row.extra,
        created_at=row.created_at,
    )

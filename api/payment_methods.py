"""Customers' saved payment methods: set up, list, default, detach. A token or a card number never passes here."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, EmailStr, Field, HttpUrl, SecretStr, field_validator
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from activities.confirmation import new_method
from activities.method_news import MethodNews
from api.context import Member, Services, ServicesDep, cut_page, decode_cursor, member
from api.fields import Cursor, Id, PageSize, PlainText, RequestBody
from api.idempotency import IdempotencyKey, fingerprint_of
from api.problems import Problem, answers, key_reused
from api.routing import sheet_of
from dispatch.methods import start_setup_command
from domain.idempotency import is_repeat
from domain.setup import SETUP_OPEN, MethodStatus, OpenedSetup, SetupStatus, setup_id_for
from engine.payments import EngineUnavailable
from engine.setups import SetupEngine
from providers.base import Capabilities, ImportsTokens, Payer, ProviderRejected, SavedMethod
from providers.registry import PROVIDERS
from storage import audit, payment_methods, setups, workspaces
from storage.models import MethodSetup, PaymentMethod, ProviderAccount, Subscription, Workspace

router = APIRouter(tags=["payment methods"])

Reader = Annotated[Member, Depends(member("payments:read"))]
Writer = Annotated[Member, Depends(member("payments:write"))]
DETACH_WAIT = timedelta(seconds=10)
SETUP_LIFETIME = timedelta(hours=1)
_CARD_NUMBER = re.compile(r"[0-9 -]{12,23}")


class MethodOwner(RequestBody):
    """Whose method it is. `id` is the merchant's own id of the customer."""

    id: PlainText = Field(min_length=1, max_length=128, examples=["cust-77"])
    name: PlainText | None = Field(None, max_length=200, examples=["Dana Levi"])
    email: EmailStr | None = Field(None, examples=["dana@example.com"])
    phone: PlainText | None = Field(None, max_length=32, examples=["0541234567"])


class NewSetup(RequestBody):
    """A method to be saved. The customer enters it on the provider's page; nothing is charged."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "customer": {"id": "cust-77", "email": "dana@example.com"},
                "success_url": "https://shop.example/account",
            }
        },
    )

    customer: MethodOwner
    provider: str | None = Field(None, max_length=32, examples=["stripe"])
    provider_account_id: Id | None = None
    make_default: bool = Field(default=True, description="Charge this method from now on.")
    success_url: HttpUrl | None = None
    cancel_url: HttpUrl | None = None
    language: str | None = Field(None, pattern=r"^(he|en)$")
    expires_in_seconds: int | None = Field(None, ge=60, le=24 * 3600)


class NewToken(RequestBody):
    """A token that the provider's own library made in your page. Never a card number: those are refused."""

    customer: MethodOwner
    provider: str | None = Field(None, max_length=32, examples=["payu"])
    provider_account_id: Id | None = None
    token: SecretStr = Field(min_length=8, max_length=500, examples=["f6f1b1b6-0b1f-4b1e-9f0a-2a6d3c1e5b7d"])
    brand: str | None = Field(None, max_length=32, examples=["VISA"])
    last4: str | None = Field(None, pattern=r"^\d{4}$")
    exp_month: int | None = Field(None, ge=1, le=12)
    exp_year: int | None = Field(None, ge=2000, le=2199)
    make_default: bool = True

    @field_validator("token")
    @classmethod
    def _no_card(cls, value: SecretStr) -> SecretStr:
        if _CARD_NUMBER.fullmatch(value.get_secret_value()):
            raise ValueError("this looks like a card number; send the provider's token of it")
        return value


class SetupOut(BaseModel):
    """A set-up as callers see it. `url` is where the customer enters the method, while it is open."""

    id: UUID
    status: SetupStatus
    customer_id: str
    provider: str
    provider_account_id: UUID
    url: str | None
    payment_method_id: UUID | None
    error_code: str | None
    expires_at: datetime
    created_at: datetime


class PaymentMethodOut(BaseModel):
    """A saved method. What charges it is never shown."""

    id: UUID
    customer_id: str
    provider: str
    provider_account_id: UUID
    kind: str
    brand: str | None
    last4: str | None
    exp_month: int | None
    exp_year: int | None
    status: MethodStatus
    is_default: bool
    created_at: datetime
    detached_at: datetime | None


class PaymentMethodPage(BaseModel):
    """A page of methods, newest first."""

    data: list[PaymentMethodOut]
    next_cursor: str | None


@router.post(
    "/payment-methods",
    status_code=201,
    summary="Save a payment method",
    responses=answers(
        "idempotency_key_reused",
        "method_unavailable",
        "no_provider_account",
        "payer_data_missing",
        "provider_misconfigured",
        "provider_rejected",
        "unknown_provider",
    )
    | {200: {"model": SetupOut, "description": "A repeat"}, 202: {"model": SetupOut}},
)
async def create_setup(
    body: NewSetup, caller: Writer, services: ServicesDep, response: Response, idempotency_key: IdempotencyKey = None
) -> SetupOut:
    """Start a set-up and answer with the address where the customer enters the method.

    202 without an address means that the provider is slow: the set-up goes on, read it again. The method is there as
    soon as the set-up's status is `succeeded`.
    """
    asked = fingerprint_of("POST /payment-methods", body)
    return await begin_setup(body, caller, services, response, idempotency_key, asked=asked)


async def begin_setup(
    body: NewSetup,
    caller: Member,
    services: Services,
    response: Response,
    idempotency_key: str | None,
    *,
    asked: bytes,
    subscription_id: UUID | None = None,
) -> SetupOut:
    """Begin a set-up, for a subscription of the customer if one is named. Raises Problem.

    `asked` is the fingerprint of the request that it is begun for.
    """
    row, created = await _accept(services, caller, body, idempotency_key, asked, subscription_id)
    opened = await _start(services, row) if created or row.status == SetupStatus.CREATED else None
    if opened is not None and opened.status is SetupStatus.FAILED:
        raise _opening_failed(row, opened)
    async with services.database.transaction() as session:
        fresh = await setups.get(session, caller.workspace.id, row.id)
    out = _setup_out(fresh or row)
    if not created:
        response.status_code = 200
    elif out.url is None:
        response.status_code = 202
    response.headers["location"] = f"/api/v1/payment-methods/setups/{row.id}"
    return out


@router.post(
    "/payment-methods/tokens",
    status_code=201,
    summary="Take over a provider's token",
    responses=answers(
        "method_unavailable", "no_provider_account", "provider_misconfigured", "provider_rejected", "unknown_provider"
    ),
)
async def import_token(body: NewToken, caller: Writer, services: ServicesDep) -> PaymentMethodOut:
    """Put a token on record that the provider's library made in your page. The same token again is the same method."""
    async with services.database.transaction() as session:
        account = await _account(session, services, caller.workspace, body, "imports_tokens")
        provider = services.pool.of(account)
        assert isinstance(provider, ImportsTokens)  # noqa: S101  (what the sheet says)
        given = SavedMethod(
            body.token.get_secret_value(),
            brand=body.brand,
            last4=body.last4,
            exp_month=body.exp_month,
            exp_year=body.exp_year,
        )
        try:
            method = provider.import_token(given)
        except ProviderRejected as rejected:
            raise Problem("provider_rejected", f"{rejected.code}: {rejected.detail}".rstrip(": ")) from None
        kept = await payment_methods.keep(
            session,
            services.sealer,
            account,
            body.customer.id,
            new_method(method),
            make_default=body.make_default,
            at=services.now(),
            actor=caller.actor,
        )
    if kept.news:
        await _tell(services, kept.method)
    return _out(kept.method)


@router.get("/payment-methods/setups/{setup_id}", summary="Read a set-up")
async def read_setup(setup_id: UUID, caller: Reader, services: ServicesDep) -> SetupOut:
    """The set-up as it is on record; `payment_method_id` once it has succeeded."""
    async with services.database.transaction() as session:
        row = await setups.get(session, caller.workspace.id, setup_id)
    if row is None:
        raise Problem("not_found", "This workspace has no such set-up.")
    return _setup_out(row)


@router.get("/payment-methods", summary="List payment methods")
async def list_payment_methods(
    caller: Reader,
    services: ServicesDep,
    limit: PageSize = 20,
    cursor: Cursor = None,
    customer_id: Annotated[str | None, Query(max_length=128)] = None,
    status: MethodStatus | None = None,
) -> PaymentMethodPage:
    """Newest first; detached ones too, unless a status is asked for."""
    async with services.database.transaction() as session:
        rows = await payment_methods.page(
            session,
            caller.workspace.id,
            limit=limit + 1,
            before=decode_cursor(cursor),
            customer_id=customer_id,
            status=None if status is None else status.value,
        )
    shown, more = cut_page(rows, limit)
    return PaymentMethodPage(data=[_out(row) for row in shown], next_cursor=more)


@router.get("/payment-methods/{method_id}", summary="Read a payment method")
async def read_payment_method(method_id: UUID, caller: Reader, services: ServicesDep) -> PaymentMethodOut:
    """The method as it is on record."""
    async with services.database.transaction() as session:
        return _out(await existing_method(session, caller.workspace.id, method_id))


@router.post(
    "/payment-methods/{method_id}/default",
    summary="Charge this method from now on",
    responses=answers("payment_method_not_active"),
)
async def make_default(method_id: UUID, caller: Writer, services: ServicesDep) -> PaymentMethodOut:
    """Make it the customer's default. A repeat changes nothing.

    Renewals of subscriptions that have no method of their own are charged to it, and what is overdue is, at once.
    """
    async with services.database.transaction() as session:
        await existing_method(session, caller.workspace.id, method_id)
        row = await payment_methods.lock(session, method_id)
        assert row is not None  # noqa: S101  (read one line above)
        if row.status != MethodStatus.ACTIVE:
            raise _not_chargeable(row)
        news = await payment_methods.set_default(session, row, at=services.now(), actor=caller.actor)
    if news:
        await _tell(services, row)
    return _out(row)


@router.delete(
    "/payment-methods/{method_id}", summary="Detach a payment method", responses={202: {"model": PaymentMethodOut}}
)
async def detach_method(method_id: UUID, caller: Writer, services: ServicesDep, response: Response) -> PaymentMethodOut:
    """Never charge it again: with us from this moment, then at the provider too.

    202 when the provider has not answered yet: it is asked until it has. A repeat asks again.
    """
    async with services.database.transaction() as session:
        await existing_method(session, caller.workspace.id, method_id)
        row = await payment_methods.lock(session, method_id)
        assert row is not None  # noqa: S101  (read one line above)
        values = {"status": MethodStatus.DETACHED.value}
        news = await payment_methods.change(session, row, values, at=services.now(), actor=caller.actor)
    if news:
        await _tell(services, row)
    done = False
    with suppress(EngineUnavailable):
        done = await SetupEngine.beside(services.engine).detach(method_id, wait=DETACH_WAIT)
    if not done:
        response.status_code = 202
    return _out(row)


async def existing_method(session: AsyncSession, workspace_id: UUID, method_id: UUID) -> PaymentMethod:
    """A workspace's method. Raises Problem not_found, also for another workspace's."""
    row = await payment_methods.get(session, workspace_id, method_id)
    if row is None:
        raise Problem("not_found", "This workspace has no such payment method.")
    return row


async def chargeable(
    session: AsyncSession, services: Services, workspace: Workspace, method_id: UUID, customer_id: str | None
) -> tuple[PaymentMethod, ProviderAccount, Capabilities]:
    """A method that can be charged now, with its account. Raises Problem saying what is wrong."""
    row = await existing_method(session, workspace.id, method_id)
    if customer_id not in (None, row.customer_id):
        raise Problem("validation_failed", "customer.id: the payment method belongs to another customer.")
    if row.status != MethodStatus.ACTIVE:
        raise _not_chargeable(row)
    account = await workspaces.account(session, row.provider_account_id)
    assert account is not None  # noqa: S101  (a foreign key)
    if not account.enabled:
        raise Problem(
            "no_provider_account", f"The method's account is disabled: payment-cli account enable {account.id}."
        )
    sheet = sheet_of(services, account)
    if not sheet.off_session:
        raise Problem("method_unavailable", f"{account.provider} cannot charge saved methods.")
    if sheet.currencies is not None and workspace.currency not in sheet.currencies:
        raise Problem("currency_not_of_provider", f"{account.provider} does not take {workspace.currency}.")
    return row, account, sheet


def check_payer(provider: str, sheet: Capabilities, payer: object) -> None:
    """Whether all is there that the provider wants to know of who is charged. Raises Problem."""
    missing = [f"customer.{name}" for name in sheet.charge_payer_fields if not getattr(payer, name)]
    if missing:
        raise Problem("payer_data_missing", f"{provider} charges no saved method without {', '.join(missing)}.")


async def check_subscriber(
    session: AsyncSession, services: Services, workspace_id: UUID, method_id: UUID, subscription: Subscription
) -> None:
    """`check_payer` for the method that a subscription is to be charged to, if there is such a method."""
    row = await payment_methods.get(session, workspace_id, method_id)
    account = None if row is None else await workspaces.account(session, row.provider_account_id)
    if account is not None:
        payer = Payer(
            id=subscription.customer_id,
            name=subscription.customer_name,
            email=subscription.customer_email,
            phone=subscription.customer_phone,
            document_type=subscription.customer_document_type,
            document=subscription.customer_document or subscription.customer_tax_id,
        )
        check_payer(account.provider, sheet_of(services, account), payer)


async def _accept(
    services: Services,
    caller: Member,
    body: NewSetup,
    idempotency_key: str | None,
    asked: bytes,
    subscription_id: UUID | None,
) -> tuple[MethodSetup, bool]:
    """Put the set-up on record, or find the one that the key names. Raises Problem."""
    workspace, now = caller.workspace, services.now()
    setup_id = uuid7() if idempotency_key is None else setup_id_for(workspace.id, idempotency_key)
    async with services.database.transaction() as session:
        known = None if idempotency_key is None else await setups.get(session, workspace.id, setup_id)
        if known is None:
            account = await _account(session, services, workspace, body, "sets_up_methods")
            check_payer(account.provider, sheet_of(services, account), body.customer)
            lives = SETUP_LIFETIME if body.expires_in_seconds is None else timedelta(seconds=body.expires_in_seconds)
            lives = max(lives, sheet_of(services, account).min_checkout_lifetime)
            success_url = body.success_url or f"{services.limits.public_base_url}/saved"
            values = {
                "id": setup_id,
                "workspace_id": workspace.id,
                "provider_account_id": account.id,
                "provider": account.provider,
                "customer_id": body.customer.id,
                "customer_name": body.customer.name,
                "customer_email": body.customer.email,
                "customer_phone": body.customer.phone,
                "subscription_id": subscription_id,
                "make_default": body.make_default,
                "language": body.language or workspace.language,
                "success_url": str(success_url),
                "cancel_url": None if body.cancel_url is None else str(body.cancel_url),
                "idempotency_key": idempotency_key,
                "fingerprint": asked,
                "expires_at": now + lives,
                "created_at": now,
                "updated_at": now,
            }
            created = await setups.insert_new(session, values)
            if created:
                audit.record(
                    session,
                    workspace.id,
                    actor=caller.actor,
                    action="payment_method_setup.created",
                    subject=("payment_method_setup", setup_id),
                    details={"provider": account.provider},
                )
            known = await setups.get(session, workspace.id, setup_id)
            assert known is not None  # noqa: S101  (this statement's or another's)
            if created:
                return known, True
    if not is_repeat(known.fingerprint, asked) or known.subscription_id not in (None, subscription_id):
        raise key_reused()
    return known, False


async def _account(
    session: AsyncSession,
    services: Services,
    workspace: Workspace,
    body: NewSetup | NewToken,
    wanted: Literal["sets_up_methods", "imports_tokens"],
) -> ProviderAccount:
    """The first enabled account that fits and can do what is wanted. Raises Problem."""
    if body.provider is not None and body.provider not in PROVIDERS:
        raise Problem("unknown_provider", f"Use one of: {', '.join(sorted(PROVIDERS))}.")
    accounts = [
        account
        for account in await workspaces.accounts_of(session, workspace.id)
        if account.enabled
        and body.provider in (None, account.provider)
        and body.provider_account_id in (None, account.id)
    ]
    if not accounts:
        raise Problem("no_provider_account", "Connect an account first, or enable the one that is named.")
    for account in accounts:
        if getattr(sheet_of(services, account), wanted):
            return account
    what = "has no page to save a method" if wanted == "sets_up_methods" else "takes no tokens over"
    raise Problem("method_unavailable", f"{accounts[0].provider} {what}.")


async def _start(services: Services, row: MethodSetup) -> OpenedSetup | None:
    """The page, or None when it is not there yet; the set-up is on record and is started later if need be."""
    wait = timedelta(seconds=services.limits.checkout_wait_seconds)
    try:
        return await SetupEngine.beside(services.engine).start(start_setup_command(row, services.poll), wait=wait)
    except EngineUnavailable:
        return None


async def _tell(services: Services, row: PaymentMethod) -> None:
    await MethodNews(services.database, services.engine.client).method_changed(row.workspace_id, row.customer_id)


def _opening_failed(row: MethodSetup, opened: OpenedSetup) -> Problem:
    code = opened.error_code or "provider_unavailable"
    problem = "provider_misconfigured" if opened.error_type == "ProviderMisconfigured" else "provider_rejected"
    return Problem(problem, f"The provider answered {code}.", setup_id=str(row.id), provider_code=code)


def _not_chargeable(row: PaymentMethod) -> Problem:
    return Problem("payment_method_not_active", f"The method is {row.status}; save another one.", status_now=row.status)


def _setup_out(row: MethodSetup) -> SetupOut:
    status = SetupStatus(row.status)
    return SetupOut(
        id=row.id,
        status=status,
        customer_id=row.customer_id,
        provider=row.provider,
        provider_account_id=row.provider_account_id,
        url=row.checkout_url if status in SETUP_OPEN else None,
        payment_method_id=row.payment_method_id,
        error_code=row.error_code,
        expires_at=row.expires_at,
        created_at=row.created_at,
    )


def _out(row: PaymentMethod) -> PaymentMethodOut:
    return PaymentMethodOut(
        id=row.id,
        customer_id=row.customer_id,
        provider=row.provider,
        provider_account_id=row.provider_account_id,
        kind=row.kind,
        brand=row.brand,
        last4=row.last4,
        exp_month=row.exp_month,
        exp_year=row.exp_year,
        status=MethodStatus(row.status),
        is_default=row.is_default,
        created_at=row.created_at,
        detached_at=row.detached_at,
    )

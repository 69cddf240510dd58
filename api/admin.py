"""Administration: workspaces and API keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import httpx
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field, SecretStr, field_validator
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Administrator, ServicesDep, acting_workspace
from api.fields import AnyOrder, Id, OneOf, RequestBody, SameNumber
from api.idempotency import IdempotencyKey, answer_once
from api.printing import check_names
from api.problems import Problem, answers
from domain.dunning import FinalAction
from domain.money import minor_digits
from domain.receipt import Dealer
from domain.risk import FraudWarningAction
from providers.network import leads_inside
from storage import administration, workspaces
from storage.models import ApiKey, Workspace
from storage.sealing import Sealer

router = APIRouter(tags=["administration"])

SECRET_BYTES = (24, 64)
"""Least and most, as the standard has it."""
MOST_SECRETS = 2
_INSIDE = (".svc", ".localhost", ".local", ".internal", ".lan", ".home.arpa")
_DOTTED = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
"""Four parts, as an address is usually written; the other spellings are 127.1, 0x7f000001, 2130706433."""
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?")


def rate_text(value: object) -> object:
    """A fraction as text, checked. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError('a rate is a string with a fraction, such as "0.18"')  # noqa: TRY004
    try:
        rate = Decimal(value)
    except InvalidOperation:
        raise ValueError('a rate is a fraction, such as "0.18"') from None
    if not rate.is_finite() or not (0 <= rate < 1) or -int(rate.as_tuple().exponent) > 6:  # noqa: PLR2004
        raise ValueError("a rate is a fraction from 0 to below 1 with at most six digits")
    return value


def signing_secrets(text: str) -> list[str]:
    """The secrets of notifications, newest first. Raises ValueError unless they are as Standard Webhooks has them."""
    secrets = [part.strip() for part in text.split(",")]
    if len(secrets) > MOST_SECRETS:
        raise ValueError("at most two secrets, the newest first; the older one goes when the receiver has the new one")
    for secret in secrets:
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            raise ValueError("a Standard Webhooks secret is whsec_ and base64") from None
        if not SECRET_BYTES[0] <= len(key) <= SECRET_BYTES[1]:
            raise ValueError(f"a Standard Webhooks secret has {SECRET_BYTES[0]} to {SECRET_BYTES[1]} bytes in base64")
    if len(set(secrets)) < len(secrets):
        raise ValueError("two secrets that are the same")
    return secrets


class WorkspaceSettings(RequestBody):
    """What a workspace prints, taxes and pays. Rates are fractions as strings: "0.18" is eighteen percent."""

    name: str = Field(max_length=200, examples=["Clinic North"])
    country: str = Field("IL", pattern=r"^[A-Z]{2}$")
    timezone: str = Field("Asia/Jerusalem", examples=["Asia/Jerusalem"])
    language: str = Field("en", pattern=r"^(he|en)$")
    dealer: OneOf[Dealer] = Dealer.COMPANY
    legal_name: str | None = Field(None, max_length=200)
    legal_name_he: str | None = Field(None, max_length=200)
    business_number: str | None = Field(None, max_length=32)
    address: str | None = Field(None, max_length=300)
    vat_rate: Annotated[str, SameNumber()] = Field("0", examples=["0.18"])
    commission_rate: Annotated[str, SameNumber()] = Field("0", examples=["0.10"])
    commission_minimum: Annotated[str, SameNumber()] = Field("1.00", pattern=r"^\d{1,12}(\.\d{1,4})?$")
    commission_holding_days: int = Field(
        30, ge=0, le=730, description="Days in which orders may be refunded or disputed: commissions vest after them."
    )
    payout_minimum: Annotated[str, SameNumber()] = Field(
        "0", pattern=r"^\d{1,12}(\.\d{1,4})?$", description="Smallest balance that a payout batch pays."
    )
    payout_approval: Literal["any", "another_key"] = Field(
        "any", description="Who approves a batch: any key that may, or another than the one that prepared it."
    )
    velocity_limit: int = Field(
        0, ge=0, le=1_000_000, description="Commissions of one referrer within the window; more wait for a person."
    )
    velocity_hours: int = Field(24, ge=1, le=24 * 366, description="The window.")
    payments_enabled: bool = Field(default=True, description="Whether new payments are taken.")
    one_capture_per_order: bool = Field(
        default=True, description="A second captured payment of an order id is surplus; false where orders are split."
    )
    surplus_policy: Literal["propose", "refund"] = Field(
        "propose", description="Money beyond the obligation: refund at once, or propose it to a person."
    )
    dunning_retry_days: list[Annotated[int, Field(ge=1, le=60)]] = Field(
        default_factory=lambda: [2, 5, 7, 7],
        max_length=10,
        description="Days to wait before each retry of a renewal that was declined softly.",
    )
    dunning_grace_days: int = Field(21, ge=0, le=180, description="How long a renewal may stay unpaid.")
    dunning_final_action: OneOf[FinalAction] = Field(
        FinalAction.CANCEL, description="What the end of the grace does: cancel, expire, or keep it past due."
    )
    cancel_on_full_refund: bool = Field(
        default=True, description="The full refund of the current period's payment cancels its subscription."
    )
    dispute_lost_action: Literal["cancel", "keep"] = Field(
        "cancel", description="What a lost dispute of its payment does to a subscription that is charged here."
    )
    dispute_open_action: Literal["pause", "charge"] = Field(
        "pause", description="A subscription's charges while a bank decides about a payment of it."
    )
    fraud_warning_action: OneOf[FraudWarningAction] = Field(
        FraudWarningAction.TELL,
        description="An early fraud warning of the payer's bank: tell, or also refund all that is left of the payment.",
    )
    provider_order: list[Id] = Field(
        default_factory=list, max_length=10, description="Accounts to try in turn for payments that name none."
    )
    order_webhook_url: str | None = Field(None, max_length=2000, examples=["https://shop.example/hooks/payments"])
    order_webhook_secret: SecretStr | None = Field(
        None,
        description="Standard Webhooks secret (whsec_ and base64 of 24 to 64 bytes); signs what you receive. Two, "
        "separated by a comma, while it is rotated, the newest first: then each notification is signed with both.",
    )

    _rates = field_validator("vat_rate", "commission_rate", mode="before")(rate_text)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("use an IANA time zone such as Asia/Jerusalem")
        ZoneInfo(value)
        return value

    @field_validator("order_webhook_secret")
    @classmethod
    def _signing_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(",".join(signing_secrets(value.get_secret_value())))


class NewWorkspace(WorkspaceSettings):
    """A tenant to create; slug and currency are for ever."""

    slug: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", examples=["clinic-north"])
    currency: str = Field(pattern=r"^[A-Z]{3}$", examples=["ILS"])

    @field_validator("currency")
    @classmethod
    def _known_currency(cls, value: str) -> str:
        minor_digits(value)
        return value


class WorkspaceChanges(WorkspaceSettings):
    """What to change of a workspace; everything may be left out."""

    name: str = Field("", max_length=200, examples=["Clinic North"])


class WorkspaceOut(BaseModel):
    """A tenant."""

    id: UUID
    slug: str
    name: str
    currency: str
    country: str
    timezone: str
    language: str
    dealer: Dealer
    legal_name: str
    vat_rate: str
    commission_rate: str
    commission_minimum: str
    commission_holding_days: int
    payout_minimum: str
    payout_approval: str
    velocity_limit: int
    velocity_hours: int
    payments_enabled: bool
    one_capture_per_order: bool
    surplus_policy: str
    dunning_retry_days: list[int]
    dunning_grace_days: int
    dunning_final_action: str
    cancel_on_full_refund: bool
    dispute_lost_action: str
    dispute_open_action: str
    fraud_warning_action: FraudWarningAction
    provider_order: list[UUID]
    order_webhook_url: str | None
    created_at: datetime | None


class NewKey(RequestBody):
    """An API key to make."""

    workspace_id: Id | None = None
    name: str = Field(min_length=1, max_length=100, examples=["shop backend"])
    scopes: Annotated[list[str], AnyOrder()] = Field(min_length=1, examples=[["payments:write", "payments:read"]])


class KeyOut(BaseModel):
    """An API key; `key` is there only in the answer that made it."""

    id: UUID
    workspace_id: UUID | None
    name: str
    hint: str
    scopes: list[str]
    key: str | None = None
    revoked_at: datetime | None = None


@router.post(
    "/workspaces",
    status_code=201,
    summary="Create a workspace",
    responses=answers("already_exists", "idempotency_key_reused", "name_not_printable"),
)
async def create_workspace(
    body: NewWorkspace, caller: Administrator, services: ServicesDep, idempotency_key: IdempotencyKey = None
) -> WorkspaceOut:
    """Platform administrators only."""
    if caller.workspace is not None:
        raise Problem("forbidden", "Only a platform key creates workspaces.")
    check_names(printed_names(body, body.model_fields_set))

    async def work(session: AsyncSession) -> WorkspaceOut:
        plain = services.limits.allow_plain_http_notices
        values = workspace_values(services.sealer, body, allow_plain_http=plain)
        values |= {"slug": body.slug, "currency": body.currency}
        return _workspace_out(await administration.create_workspace(session, values, actor=caller.actor))

    try:
        return await answer_once(
            services,
            route="POST /workspaces",
            scope=f"{caller.key_id}:workspaces",
            key=idempotency_key,
            request=body,
            answer=WorkspaceOut,
            work=work,
        )
    except IntegrityError:
        raise Problem("already_exists", f"The slug {body.slug} is taken.") from None


@router.patch("/workspaces/{workspace_id}", summary="Change a workspace", responses=answers("name_not_printable"))
async def change_workspace(
    workspace_id: UUID, body: WorkspaceChanges, caller: Administrator, services: ServicesDep
) -> WorkspaceOut:
    """What is not given stays. Documents that were issued before keep what they were printed with."""
    changes = body.model_fields_set
    check_names(printed_names(body, changes))
    async with services.database.transaction() as session:
        row = await workspaces.get(session, await acting_workspace(session, caller, workspace_id))
        if row is None:
            raise Problem("not_found", "There is no such workspace.")
        wanted = body.model_copy(update={} if "name" in changes else {"name": row.name})
        if caller.workspace is not None and not services.limits.allow_plain_http_notices:
            _check_public(body.order_webhook_url)
        values = workspace_values(
            services.sealer,
            wanted,
            allow_plain_http=services.limits.allow_plain_http_notices,
            has_secret=row.order_webhook_secret is not None,
        )
        await _check_order(session, row.id, body.provider_order)
        changed = {name: values[name] for name in changes}
        after = {"url": row.order_webhook_url, "secret": row.order_webhook_secret} | {
            name.removeprefix("order_webhook_"): value for name, value in changed.items()
        }
        if after["url"] is not None and after["secret"] is None:
            raise Problem("validation_failed", "order_webhook_secret: needed as long as there is an order_webhook_url.")
        await administration.update_workspace(session, row, changed, actor=caller.actor)
    services.keys.forget()
    return _workspace_out(row)


@router.get("/workspaces", summary="List workspaces")
async def list_workspaces(caller: Administrator, services: ServicesDep) -> list[WorkspaceOut]:
    """All for a platform key, its own for a workspace's."""
    if caller.workspace is not None:
        return [_workspace_out(caller.workspace)]
    async with services.database.transaction() as session:
        return [_workspace_out(row) for row in await workspaces.all_workspaces(session)]


@router.post(
    "/api-keys", status_code=201, summary="Make an API key", responses=answers("idempotency_key_reused", "not_found")
)
async def create_key(
    body: NewKey, caller: Administrator, services: ServicesDep, idempotency_key: IdempotencyKey = None
) -> KeyOut:
    """The key itself is in this answer only."""

    async def work(session: AsyncSession) -> KeyOut:
        workspace_id = body.workspace_id if caller.workspace is None else None
        if caller.workspace is not None or workspace_id is not None:
            workspace_id = await acting_workspace(session, caller, body.workspace_id)
        made = administration.create_api_key(
            session, workspace_id=workspace_id, name=body.name, scopes=body.scopes, actor=caller.actor
        )
        return _key_out(made.row, made.key)

    try:
        return await answer_once(
            services,
            route="POST /api-keys",
            scope=f"{caller.key_id}:api-keys",
            key=idempotency_key,
            request=body,
            answer=KeyOut,
            work=work,
        )
    except ValueError as error:
        raise Problem("validation_failed", f"scopes: {error}") from None


@router.get("/api-keys", summary="List API keys")
async def list_keys(caller: Administrator, services: ServicesDep) -> list[KeyOut]:
    """Those of the caller's workspace, or the platform's own."""
    async with services.database.transaction() as session:
        rows = await workspaces.keys_of(session, None if caller.workspace is None else caller.workspace.id)
    return [_key_out(row) for row in rows]


@router.delete("/api-keys/{key_id}", status_code=204, summary="Revoke an API key")
async def revoke_key(key_id: UUID, caller: Administrator, services: ServicesDep) -> Response:
    """Takes effect within seconds on every replica."""
    async with services.database.transaction() as session:
        done = await administration.revoke_api_key(
            session,
            key_id,
            workspace_id=None if caller.workspace is None else caller.workspace.id,
            at=services.now(),
            actor=caller.actor,
        )
    if not done:
        raise Problem("not_found", "There is no such live key.")
    services.keys.forget()
    return Response(status_code=204)


async def _check_order(session: AsyncSession, workspace_id: UUID, order: list[UUID]) -> None:
    """Only the workspace's own accounts can be tried. Raises Problem."""
    own = {account.id for account in await workspaces.accounts_of(session, workspace_id)}
    if not own.issuperset(order):
        raise Problem("validation_failed", "provider_order: names an account that the workspace does not have.")
    if len(set(order)) != len(order):
        raise Problem("validation_failed", "provider_order: names an account twice.")


def _check_public(url: str | None) -> None:
    """A tenant's order service is on the Internet. Raises Problem for an address that is plainly inside.

    What a name leads to is judged when it is connected to (`providers.network`).
    """
    if url is None:
        return
    try:
        host = httpx.URL(url).raw_host.decode("ascii").rstrip(".")  # as it will be looked up: U+3002 is a dot too
    except (httpx.InvalidURL, UnicodeError):
        inside = True
    else:
        is_address = host.startswith("[") or ":" in host
        plain = not is_address and ("." not in host or host.endswith(_INSIDE) or _NUMERIC.fullmatch(host) is not None)
        inside = leads_inside(host) or (plain and not _DOTTED.fullmatch(host))
    if inside:
        raise Problem("validation_failed", "order_webhook_url: use a public host name.")


def printed_names(body: WorkspaceSettings, given: Collection[str]) -> dict[str, str | None]:
    """The names among what was given that documents carry; `name` stands for a legal name that is not given."""
    names = {"legal_name": body.legal_name, "legal_name_he": body.legal_name_he}
    if body.legal_name is None:
        names["name"] = body.name
    return {name: value for name, value in names.items() if name in given}


def workspace_values(
    sealer: Sealer, body: WorkspaceSettings, *, allow_plain_http: bool, has_secret: bool = False
) -> dict[str, Any]:
    """The columns of a workspace. Raises Problem when notifications would be unsigned, or in clear in production."""
    secret, url = body.order_webhook_secret, body.order_webhook_url
    if url is not None:
        if not (url.startswith("https://") or (allow_plain_http and url.startswith("http://"))):
            raise Problem("validation_failed", "order_webhook_url: use https.")
        if secret is None and not has_secret:
            raise Problem("validation_failed", "order_webhook_secret: needed with order_webhook_url.")
    return {
        "name": body.name,
        "country": body.country,
        "timezone": body.timezone,
        "language": body.language,
        "dealer": body.dealer.value,
        "legal_name": body.legal_name or body.name,
        "legal_name_he": body.legal_name_he,
        "business_number": body.business_number,
        "address": body.address,
        "vat_rate": Decimal(body.vat_rate),
        "commission_rate": Decimal(body.commission_rate),
        "commission_minimum": Decimal(body.commission_minimum),
        "commission_holding_days": body.commission_holding_days,
        "payout_minimum": Decimal(body.payout_minimum),
        "payout_approval": body.payout_approval,
        "velocity_limit": body.velocity_limit,
        "velocity_hours": body.velocity_hours,
        "payments_enabled": body.payments_enabled,
        "one_capture_per_order": body.one_capture_per_order,
        "surplus_policy": body.surplus_policy,
        "dunning_retry_days": body.dunning_retry_days,
        "dunning_grace_days": body.dunning_grace_days,
        "dunning_final_action": body.dunning_final_action.value,
        "cancel_on_full_refund": body.cancel_on_full_refund,
        "dispute_lost_action": body.dispute_lost_action,
        "dispute_open_action": body.dispute_open_action,
        "fraud_warning_action": body.fraud_warning_action.value,
        "provider_order": body.provider_order,
        "order_webhook_url": url,
        "order_webhook_secret": None if secret is None else sealer.seal(secret.get_secret_value()),
    }


def _workspace_out(row: Workspace) -> WorkspaceOut:
    return WorkspaceOut(
        id=row.id,
        slug=row.slug,
        name=row.name,
        currency=row.currency,
        country=row.country,
        timezone=row.timezone,
        language=row.language,
        dealer=Dealer(row.dealer),
        legal_name=row.legal_name,
        vat_rate=format(workspaces.vat_rate_at(row).normalize(), "f"),
        commission_rate=format(row.commission_rate.normalize(), "f"),
        commission_minimum=format(row.commission_minimum, f".{minor_digits(row.currency)}f"),
        commission_holding_days=row.commission_holding_days,
        payout_minimum=format(row.payout_minimum, f".{minor_digits(row.currency)}f"),
        payout_approval=row.payout_approval,
        velocity_limit=row.velocity_limit,
        velocity_hours=row.velocity_hours,
        payments_enabled=row.payments_enabled,
        one_capture_per_order=row.one_capture_per_order,
        surplus_policy=row.surplus_policy,
        dunning_retry_days=list(row.dunning_retry_days),
        dunning_grace_days=row.dunning_grace_days,
        dunning_final_action=row.dunning_final_action,
        cancel_on_full_refund=row.cancel_on_full_refund,
        dispute_lost_action=row.dispute_lost_action,
        dispute_open_action=row.dispute_open_action,
        fraud_warning_action=FraudWarningAction(row.fraud_warning_action),
        provider_order=list(row.provider_order),
        order_webhook_url=row.order_webhook_url,
        created_at=row.created_at,
    )


def _key_out(row: ApiKey, key: str | None = None) -> KeyOut:
    return KeyOut(
        id=row.id,
        workspace_id=row.workspace_id,
        name=row.name,
        hint=row.hint,
        scopes=row.scopes,
        key=key,
        revoked_at=row.revoked_at,
    )

"""Provider accounts: connecting, testing, changing. Credentials go in and never come out."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, Field, SecretStr, field_validator
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Administrator, Caller, Services, ServicesDep, acting_workspace
from api.fields import Id, RequestBody
from api.idempotency import IdempotencyKey, answer_once
from api.problems import Problem, answers
from api.routing import OF_EVERY_ACCOUNT, faults_of
from domain.fees import FeeSchedule
from domain.money import Money, MoneyError
from providers.base import (
    AccountConfig,
    ProviderError,
    ProviderMisconfigured,
)
from providers.registry import PROVIDERS, build_provider, capabilities_of, known_options, required_credentials
from storage import administration, workspaces
from storage.models import ProviderAccount, Workspace
from storage.sealing import SealingError

router = APIRouter(tags=["administration"])
log = structlog.get_logger()

CALLBACK_TOKEN = "callback_token"  # noqa: S105  (a credential's name)
_SECRET = re.compile(r"secret|password|token|private|api_?key|_login", re.IGNORECASE)
UNREADABLE = "CREDENTIALS_KEYS cannot open the stored credentials: put the key back, or connect the account anew."
MAX_OPTION_DEPTH, MAX_OPTIONS_LENGTH = 4, 20_000
MAX_CREDENTIALS, MAX_NAME_LENGTH, MAX_SECRET_LENGTH = 20, 64, 10_000
SHOWN_ADDRESSES = frozenset({"voucher_url"})
"""Options with addresses that we never open ourselves: they are shown to payers."""


def _bounded(options: dict[str, Any] | None) -> dict[str, Any] | None:
    """Options as any provider may need them, and not a megabyte. Raises ValueError."""
    level: list[Any] = [options]
    for _ in range(MAX_OPTION_DEPTH):
        level = [part for one in level for part in _parts(one)]
    if level or len(json.dumps(options, allow_nan=False)) > MAX_OPTIONS_LENGTH:
        raise ValueError(f"at most {MAX_OPTION_DEPTH} levels and {MAX_OPTIONS_LENGTH} characters of JSON")
    return options


def _parts(value: object) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _few(credentials: dict[str, SecretStr]) -> dict[str, SecretStr]:
    """Credentials without the space that copying adds around them. Raises ValueError."""
    if any(
        not 0 < len(name) <= MAX_NAME_LENGTH or len(value.get_secret_value()) > MAX_SECRET_LENGTH
        for name, value in credentials.items()
    ):
        raise ValueError(f"names have at most {MAX_NAME_LENGTH} characters, values {MAX_SECRET_LENGTH}")
    return {name: SecretStr(value.get_secret_value().strip()) for name, value in credentials.items()}


class NewAccount(RequestBody):
    """A provider's credentials. They are encrypted at rest and never returned."""

    workspace_id: Id | None = Field(None, description="For platform keys; a workspace's key uses its own.")
    provider: str = Field(max_length=32, examples=["stripe"])
    name: str = Field("default", min_length=1, max_length=100)
    credentials: dict[str, SecretStr] = Field(
        max_length=MAX_CREDENTIALS, examples=[{"secret_key": "sk_test_…", "webhook_secret": "whsec_…"}]
    )
    options: dict[str, Any] = Field(default_factory=dict, max_length=20)
    receives_default_webhook: bool = False

    _bounded = field_validator("options")(_bounded)
    _few = field_validator("credentials")(_few)

    def secrets(self) -> dict[str, str]:
        """The credentials in clear."""
        given = {name: value.get_secret_value().strip() for name, value in self.credentials.items()}
        return with_callback_token(self.provider, given)


class Fees(RequestBody):
    """What the provider keeps of each capture, as agreed with it: `fixed + rate × amount`. Later captures only."""

    rate: str = Field("0", pattern=r"^0(\.[0-9]{1,6})?$", examples=["0.029"], description="A fraction below 1.")
    fixed: str = Field("0", pattern=r"^[0-9]{1,9}(\.[0-9]{1,4})?$", examples=["1.20"], description="Major units.")
    returned: bool = Field(default=False, description="It gives the fee back in proportion with each refund.")


class AccountOut(BaseModel):
    """A connected provider."""

    id: UUID
    workspace_id: UUID
    provider: str
    name: str
    hint: str
    options: dict[str, Any]
    fees: Fees
    enabled: bool
    receives_default_webhook: bool
    webhook_path: str


class AccountCheckOut(BaseModel):
    """The connection test's answer."""

    ok: bool
    account_name: str | None = None
    live: bool | None = None
    detail: str = ""
    differences: list[str] = Field(default_factory=list)
    """Where the provider tells how it sends its events: what is otherwise than this service expects."""


class AccountChanges(RequestBody):
    """What to change; what is left out stays."""

    enabled: bool | None = None
    credentials: dict[str, SecretStr] = Field(default_factory=dict, max_length=MAX_CREDENTIALS)
    options: dict[str, Any] | None = Field(None, max_length=20)
    fees: Fees | None = None

    _bounded = field_validator("options")(_bounded)
    _few = field_validator("credentials")(_few)


@router.post(
    "/provider-accounts",
    status_code=201,
    summary="Connect a provider account",
    responses=answers("already_exists", "idempotency_key_reused", "not_found", "unknown_provider"),
)
async def create_account(
    body: NewAccount, caller: Administrator, services: ServicesDep, idempotency_key: IdempotencyKey = None
) -> AccountOut:
    """Store credentials, encrypted. Then point the provider's webhooks at `webhook_path`."""
    credentials = body.secrets()
    _check_credentials(body.provider, credentials)
    _check_privileges(caller, services, body.options, {}, default_webhook=body.receives_default_webhook)
    check_form(body.provider, credentials, body.options)

    async def work(session: AsyncSession) -> AccountOut:
        workspace_id = await acting_workspace(session, caller, body.workspace_id)
        account = await administration.create_account(
            session,
            services.sealer,
            workspace_id=workspace_id,
            provider=body.provider,
            name=body.name,
            credentials=credentials,
            options=body.options,
            receives_default_webhook=body.receives_default_webhook,
            actor=caller.actor,
            hint_of=required_credentials(body.provider)[0],
        )
        return account_out(account)

    try:
        return await answer_once(
            services,
            route="POST /provider-accounts",
            scope=f"{caller.key_id}:provider-accounts",
            key=idempotency_key,
            request=body,
            answer=AccountOut,
            work=work,
        )
    except IntegrityError:
        raise Problem("already_exists", "The workspace has an account of this provider and name.") from None


@router.get("/provider-accounts", summary="List provider accounts")
async def list_accounts(caller: Administrator, services: ServicesDep) -> list[AccountOut]:
    """Never their credentials."""
    async with services.database.transaction() as session:
        if caller.workspace is None:
            rows = await workspaces.all_accounts(session)
        else:
            rows = await workspaces.accounts_of(session, caller.workspace.id)
    return [account_out(row) for row in rows]


@router.post("/provider-accounts/{account_id}/check", summary="Test a provider account")
async def check_account(account_id: UUID, caller: Administrator, services: ServicesDep) -> AccountCheckOut:
    """Ask the provider with the stored credentials."""
    async with services.database.transaction() as session:
        account = await owned_account(session, caller, account_id)
    try:
        found = await services.pool.of(account).check_account()
    except ProviderError as error:
        return AccountCheckOut(ok=False, detail=f"{account.provider} {error.what_happened}: {error}")
    except SealingError:
        return AccountCheckOut(ok=False, detail=UNREADABLE)
    return AccountCheckOut(
        ok=True,
        account_name=found.account_name,
        live=found.live,
        detail=found.detail,
        differences=list(found.differences),
    )


@router.patch(
    "/provider-accounts/{account_id}", summary="Change a provider account", responses=answers("provider_misconfigured")
)
async def change_account(
    account_id: UUID, body: AccountChanges, caller: Administrator, services: ServicesDep
) -> AccountOut:
    """Replace some credentials or the options, or stop and start taking new payments through the account."""
    at = services.now()
    async with services.database.transaction() as session:
        account = await owned_account(session, caller, account_id)
        given = {name: value.get_secret_value().strip() for name, value in body.credentials.items()}
        if body.options is not None:
            _check_privileges(caller, services, body.options, account.options)
        if given or body.options is not None:
            try:
                stored = services.sealer.open_mapping(account.credentials)
            except SealingError:
                raise Problem("provider_misconfigured", UNREADABLE) from None
            changed = _or(body.options, account.options)
            check_form(account.provider, {**stored, **given}, changed, kept=account.options)
        if given:
            await administration.replace_credentials(
                session, services.sealer, account, given, at=at, actor=caller.actor
            )
        if body.options is not None:
            administration.replace_options(session, account, body.options, at=at, actor=caller.actor)
        if body.fees is not None:
            await _set_fees(session, account, body.fees, at=at, actor=caller.actor)
        if body.enabled is not None:
            await administration.switch_account(session, account, enabled=body.enabled, at=at, actor=caller.actor)
    return account_out(account)


async def _set_fees(session: AsyncSession, account: ProviderAccount, fees: Fees, *, at: datetime, actor: str) -> None:
    workspace = await session.get_one(Workspace, account.workspace_id)
    try:
        fixed = Money.from_decimal(Decimal(fees.fixed), workspace.currency)
    except MoneyError as error:
        raise Problem("validation_failed", f"fees.fixed: {error}") from None
    schedule = FeeSchedule(Decimal(fees.rate), fixed.to_decimal(), fees.returned)
    administration.set_fees(session, account, schedule, at=at, actor=actor)


async def owned_account(session: AsyncSession, caller: Caller, account_id: UUID) -> ProviderAccount:
    """An account that this caller may administer. Raises Problem."""
    account = await workspaces.account(session, account_id)
    if account is None or (caller.workspace is not None and account.workspace_id != caller.workspace.id):
        raise Problem("not_found", "There is no such account.")
    return account


def _check_privileges(
    caller: Caller,
    services: Services,
    options: Mapping[str, Any],
    before: Mapping[str, Any],
    *,
    default_webhook: bool = False,
) -> None:
    """What one tenant could use against others is the platform's to set.

    The default callback address is shared by all, and an address of its own choosing would let a tenant reach hosts
    that only our network can. What the platform has set there, a tenant's change of other options must leave as it is.
    """
    if caller.workspace is None:
        return
    if default_webhook:
        raise Problem("forbidden", "Only a platform key chooses the account of the default callback address.")
    if not services.limits.allow_plain_http_notices and _addresses(options) != _addresses(before):
        raise Problem("forbidden", "Only a platform key sets or changes an address among the options.")


def _addresses(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say where something is, whatever they are called; pages that only payers open do not count."""
    return {
        name: value
        for name, value in options.items()
        if name not in SHOWN_ADDRESSES and (name.endswith(("_base", "_url")) or "://" in json.dumps(value))
    }


def with_callback_token(provider: str, given: dict[str, str]) -> dict[str, str]:
    """The credentials with a callback token where the provider needs one and nobody gave it."""
    if provider in PROVIDERS and CALLBACK_TOKEN in required_credentials(provider):
        given.setdefault(CALLBACK_TOKEN, secrets.token_urlsafe(32))
    return given


def check_form(
    provider: str, credentials: Mapping[str, str], options: Mapping[str, Any], *, kept: Collection[str] = ()
) -> None:
    """Build the adapter, which judges the form of credentials and options without any call. Raises Problem.

    Options are shown to whoever may see the account, so nothing may stand there that should have been a credential.
    A name that the provider does not have is refused, unless it is `kept` from before: new credentials must not wait
    for it.
    """
    misplaced = sorted(name for name in options if name in required_credentials(provider) or _SECRET.search(name))
    if misplaced:
        raise Problem("validation_failed", f"options are not secret: give {', '.join(misplaced)} as a credential.")
    known = known_options(provider) | OF_EVERY_ACCOUNT
    if unknown := sorted(options.keys() - known - set(kept)):
        named = ", ".join(name[:MAX_NAME_LENGTH] for name in unknown)
        raise Problem("validation_failed", f"options: {provider} has no {named}; it has {', '.join(sorted(known))}.")
    if faults := faults_of(options, capabilities_of(provider)):
        raise Problem("validation_failed", f"options: {'; '.join(faults)}.")
    try:
        build_provider(provider, AccountConfig(uuid4(), credentials, options))
    except ProviderMisconfigured as error:
        raise Problem("validation_failed", f"{provider} cannot be used like this: {error}.") from None


def _or(given: dict[str, Any] | None, stored: dict[str, Any]) -> dict[str, Any]:
    return stored if given is None else given


def _check_credentials(provider: str, given: Mapping[str, str]) -> None:
    if provider not in PROVIDERS:
        raise Problem("unknown_provider", f"Use one of: {', '.join(sorted(PROVIDERS))}.")
    missing = [name for name in required_credentials(provider) if not given.get(name)]
    if missing:
        raise Problem("validation_failed", f"credentials: {provider} needs {', '.join(missing)}.")


def _plain(number: Decimal | None) -> str:
    return "0" if not number else format(number.normalize(), "f")


def account_out(row: ProviderAccount) -> AccountOut:
    """An account without its secrets."""
    return AccountOut(
        id=row.id,
        workspace_id=row.workspace_id,
        provider=row.provider,
        name=row.name,
        hint=row.hint,
        options=row.options,
        fees=Fees(rate=_plain(row.fee_rate), fixed=_plain(row.fee_fixed), returned=bool(row.fee_returned)),
        enabled=True if row.enabled is None else row.enabled,
        receives_default_webhook=row.receives_default_webhook,
        webhook_path=f"/api/v1/webhooks/{row.provider}/{row.id}",
    )

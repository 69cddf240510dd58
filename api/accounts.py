"""Provider accounts: connecting, testing, changing. Credentials go in and never come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Administrator, Caller, Services, ServicesDep, acting_workspace
from api.idempotency import IdempotencyKey, answer_once
from api.problems import Problem
from providers.base import NothingMoved, ProviderError
from providers.registry import PROVIDERS, required_credentials
from storage import administration, workspaces
from storage.models import ProviderAccount
from storage.sealing import SealingError

router = APIRouter(tags=["administration"])


class NewAccount(BaseModel):
    """A provider's credentials. They are encrypted at rest and never returned."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    workspace_id: UUID | None = Field(None, description="For platform keys; a workspace's key uses its own.")
    provider: str = Field(max_length=32, examples=["stripe"])
    name: str = Field("default", min_length=1, max_length=100)
    credentials: dict[str, SecretStr] = Field(examples=[{"secret_key": "sk_test_…", "webhook_secret": "whsec_…"}])
    options: dict[str, Any] = Field(default_factory=dict, max_length=20)
    receives_default_webhook: bool = False

    def secrets(self) -> dict[str, str]:
        """The credentials in clear."""
        return {name: value.get_secret_value().strip() for name, value in self.credentials.items()}


class AccountOut(BaseModel):
    """A connected provider."""

    id: UUID
    workspace_id: UUID
    provider: str
    name: str
    hint: str
    options: dict[str, Any]
    enabled: bool
    receives_default_webhook: bool
    webhook_path: str


class AccountCheckOut(BaseModel):
    """The connection test's answer."""

    ok: bool
    account_name: str | None = None
    live: bool | None = None
    detail: str = ""


class AccountChanges(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    enabled: bool | None = None
    credentials: dict[str, SecretStr] = Field(default_factory=dict)
    options: dict[str, Any] | None = Field(None, max_length=20)


@router.post("/provider-accounts", status_code=201, summary="Connect a provider account")
async def create_account(
    body: NewAccount, caller: Administrator, services: ServicesDep, idempotency_key: IdempotencyKey = None
) -> AccountOut:
    """Store credentials, encrypted. Then point the provider's webhooks at `webhook_path`."""
    _check_credentials(body.provider, body.secrets())
    _check_privileges(caller, services, body.options, default_webhook=body.receives_default_webhook)

    async def work(session: AsyncSession) -> AccountOut:
        workspace_id = await acting_workspace(session, caller, body.workspace_id)
        account = await administration.create_account(
            session,
            services.sealer,
            workspace_id=workspace_id,
            provider=body.provider,
            name=body.name,
            credentials=body.secrets(),
            options=body.options,
            receives_default_webhook=body.receives_default_webhook,
            actor=caller.actor,
            hint_of=required_credentials(body.provider)[0],
        )
        return _account_out(account)

    try:
        return await answer_once(
            services,
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
    return [_account_out(row) for row in rows]


@router.post("/provider-accounts/{account_id}/check", summary="Test a provider account")
async def check_account(account_id: UUID, caller: Administrator, services: ServicesDep) -> AccountCheckOut:
    """Ask the provider with the stored credentials."""
    async with services.database.transaction() as session:
        account = await _owned(session, caller, account_id)
    try:
        found = await services.pool.of(account).check_account()
    except ProviderError as error:
        what = "refused" if isinstance(error, NothingMoved) else "did not answer"
        return AccountCheckOut(ok=False, detail=f"{account.provider} {what}: {error.code}")
    except SealingError:
        return AccountCheckOut(ok=False, detail="CREDENTIALS_KEYS cannot open the stored credentials; replace them")
    return AccountCheckOut(ok=True, account_name=found.account_name, live=found.live, detail=found.detail)


@router.patch("/provider-accounts/{account_id}", summary="Change a provider account")
async def change_account(
    account_id: UUID, body: AccountChanges, caller: Administrator, services: ServicesDep
) -> AccountOut:
    """Replace some credentials or the options, or stop and start taking new payments through the account."""
    at = services.now()
    async with services.database.transaction() as session:
        account = await _owned(session, caller, account_id)
        if body.credentials:
            given = {name: value.get_secret_value().strip() for name, value in body.credentials.items()}
            await administration.replace_credentials(
                session, services.sealer, account, given, at=at, actor=caller.actor
            )
        if body.options is not None:
            _check_privileges(caller, services, body.options)
            administration.replace_options(session, account, body.options, at=at, actor=caller.actor)
        if body.enabled is not None:
            await administration.switch_account(session, account, enabled=body.enabled, at=at, actor=caller.actor)
    return _account_out(account)


async def _owned(session: AsyncSession, caller: Caller, account_id: UUID) -> ProviderAccount:
    account = await workspaces.account(session, account_id)
    if account is None or (caller.workspace is not None and account.workspace_id != caller.workspace.id):
        raise Problem("not_found", "There is no such account.")
    return account


def _check_privileges(
    caller: Caller, services: Services, options: Mapping[str, Any], *, default_webhook: bool = False
) -> None:
    """What one tenant could use against others is the platform's to set.

    The default callback address is shared by all, and an address of its own choosing would let a tenant reach hosts
    that only our network can.
    """
    if caller.workspace is None:
        return
    if default_webhook:
        raise Problem("forbidden", "Only a platform key chooses the account of the default callback address.")
    if not services.limits.allow_plain_http_notices and any(name.endswith("_base") for name in options):
        raise Problem("forbidden", "Only a platform key sets a provider's address.")


def _check_credentials(provider: str, given: Mapping[str, str]) -> None:
    if provider not in PROVIDERS:
        raise Problem("unknown_provider", f"Use one of: {', '.join(sorted(PROVIDERS))}.")
    missing = [name for name in required_credentials(provider) if not given.get(name)]
    if missing:
        raise Problem("validation_failed", f"credentials: {provider} needs {', '.join(missing)}.")


def _account_out(row: ProviderAccount) -> AccountOut:
    return AccountOut(
        id=row.id,
        workspace_id=row.workspace_id,
        provider=row.provider,
        name=row.name,
        hint=row.hint,
        options=row.options,
        enabled=True if row.enabled is None else row.enabled,
        receives_default_webhook=row.receives_default_webhook,
        webhook_path=f"/api/v1/webhooks/{row.provider}/{row.id}",
    )

"""Creating workspaces, provider accounts and API keys; the API and the CLI share these."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from domain.fees import FeeSchedule
from domain.vat import DatedRate, with_rate_from
from storage import audit, workspaces
from storage.models import (
    ApiKey,
    ProviderAccount,
    Workspace,
)
from storage.sealing import Sealer

SCOPES = (
    "payments:write",
    "payments:read",
    "refunds:write",
    "reports:read",
    "commissions:write",
    "payouts:write",
    "payouts:approve",
    "admin",
)


def _hint(secret: str) -> str:
    """The last four characters: all that is ever shown of a secret again."""
    return f"…{secret[-4:]}"


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made; `key` is shown this once."""

    row: ApiKey
    key: str


async def create_workspace(session: AsyncSession, values: Mapping[str, Any], *, actor: str) -> Workspace:
    """Add a tenant. Raises IntegrityError when the slug is taken."""
    workspace = Workspace(id=uuid7(), **values)
    session.add(workspace)
    await session.flush()
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action="workspace.created",
        subject=("workspace", workspace.id),
        details={"slug": workspace.slug, "currency": workspace.currency},
    )
    return workspace


async def update_workspace(
    session: AsyncSession, workspace: Workspace, changes: Mapping[str, Any], *, actor: str
) -> None:
    """Change settings of a tenant; the audit log keeps their names, not secret values.

    Another rate of VAT holds from today on: the days before, whose captures may still come in, keep what they had.
    """
    if "vat_rate" in changes and changes["vat_rate"] != workspaces.vat_rate_at(workspace):
        today = workspaces.legal_day(workspace, datetime.now(UTC))
        rates = with_rate_from(today, changes["vat_rate"], workspaces.vat_rates_of(workspace), workspace.vat_rate)
        workspace.vat_rates = [one.to_json() for one in rates]
    for name, value in changes.items():
        setattr(workspace, name, value)
    session.add(workspace)
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action="workspace.updated",
        subject=("workspace", workspace.id),
        details={"changed": sorted(changes)},
    )


async def set_vat_rates(session: AsyncSession, workspace: Workspace, rates: Sequence[DatedRate], *, actor: str) -> None:
    """Replace the rates of VAT of all days; documents that were issued keep what they carry."""
    before = workspace.vat_rates
    workspace.vat_rates = [one.to_json() for one in sorted(rates, key=lambda one: one.from_day)]
    workspace.vat_rate = workspaces.vat_rate_at(workspace)
    session.add(workspace)
    audit.record(
        session,
        workspace.id,
        actor=actor,
        action="workspace.vat_rates_set",
        subject=("workspace", workspace.id),
        details={"before": before, "after": workspace.vat_rates},
    )


async def create_account(  # noqa: PLR0913  (the columns of an account)
    session: AsyncSession,
    sealer: Sealer,
    *,
    workspace_id: UUID,
    provider: str,
    name: str,
    credentials: Mapping[str, str],
    options: Mapping[str, Any],
    receives_default_webhook: bool,
    actor: str,
    hint_of: str,
) -> ProviderAccount:
    """Connect a provider. Credentials are sealed; of the one named `hint_of` the last four characters stay readable."""
    if receives_default_webhook:
        await session.execute(
            update(ProviderAccount).where(ProviderAccount.provider == provider).values(receives_default_webhook=False)
        )
    account = ProviderAccount(
        id=uuid7(),
        workspace_id=workspace_id,
        provider=provider,
        name=name,
        credentials=sealer.seal_mapping(credentials),
        hint=_hint(credentials[hint_of]),
        options=dict(options),
        receives_default_webhook=receives_default_webhook,
    )
    session.add(account)
    await session.flush()
    audit.record(
        session,
        workspace_id,
        actor=actor,
        action="provider_account.created",
        subject=("provider_account", account.id),
        details={"provider": provider, "name": name},
    )
    return account


def set_fees(
    session: AsyncSession, account: ProviderAccount, schedule: FeeSchedule, *, at: datetime, actor: str
) -> None:
    """Agree on what the provider keeps of later captures."""
    account.fee_rate, account.fee_fixed, account.fee_returned = schedule.rate, schedule.fixed, schedule.returned
    account.updated_at = at
    audit.record(
        session,
        account.workspace_id,
        actor=actor,
        action="provider_account.fees_set",
        subject=("provider_account", account.id),
        details={"rate": str(schedule.rate), "fixed": str(schedule.fixed), "returned": schedule.returned},
    )


async def replace_credentials(
    session: AsyncSession,
    sealer: Sealer,
    account: ProviderAccount,
    credentials: Mapping[str, str],
    *,
    at: datetime,
    actor: str,
) -> None:
    """Overwrite some of an account's credentials; the rest stays. The hint follows the secret that it is of."""
    await session.refresh(account, with_for_update={"key_share": True})  # two at once must not undo each other
    stored = sealer.open_mapping(account.credentials)
    merged = stored | dict(credentials)
    account.credentials = sealer.seal_mapping(merged)
    hinted = next((name for name, secret in stored.items() if _hint(secret) == account.hint), None)
    account.hint = account.hint if hinted is None else _hint(merged[hinted])
    account.updated_at = at
    session.add(account)
    audit.record(
        session,
        account.workspace_id,
        actor=actor,
        action="provider_account.credentials_replaced",
        subject=("provider_account", account.id),
        details={"names": sorted(credentials)},
    )


def replace_options(
    session: AsyncSession, account: ProviderAccount, options: Mapping[str, Any], *, at: datetime, actor: str
) -> None:
    """Overwrite an account's options."""
    account.options = dict(options)
    account.updated_at = at
    audit.record(
        session,
        account.workspace_id,
        actor=actor,
        action="provider_account.options_replaced",
        subject=("provider_account", account.id),
        details={"names": sorted(options)},
    )


async def switch_account(
    session: AsyncSession, account: ProviderAccount, *, enabled: bool, at: datetime, actor: str
) -> None:
    """Take new payments through an account, or no longer."""
    account.enabled = enabled
    account.updated_at = at
    audit.record(
        session,
        account.workspace_id,
        actor=actor,
        action="provider_account.enabled" if enabled else "provider_account.disabled",
        subject=("provider_account", account.id),
    )


def create_api_key(
    session: AsyncSession, *, workspace_id: UUID | None, name: str, scopes: Sequence[str], actor: str
) -> NewApiKey:
    """Make a key of 256 random bits. Raises ValueError on a scope that does not exist."""
    unknown = set(scopes) - set(SCOPES)
    if unknown:
        raise ValueError(f"unknown scope {', '.join(sorted(unknown))}; use {', '.join(SCOPES)}")
    key = f"dp_live_{secrets.token_urlsafe(32)}"
    row = ApiKey(
        id=uuid7(),
        workspace_id=workspace_id,
        name=name,
        hint=_hint(key),
        key_hash=workspaces.hash_key(key),
        scopes=list(scopes),
    )
    session.add(row)
    if workspace_id is not None:
        audit.record(
            session,
            workspace_id,
            actor=actor,
            action="api_key.created",
            subject=("api_key", row.id),
            details={"name": name, "scopes": sorted(scopes)},
        )
    return NewApiKey(row, key)


async def revoke_api_key(
    session: AsyncSession, key_id: UUID, *, workspace_id: UUID | None, at: datetime, actor: str
) -> bool:
    """Revoke one key; with a workspace only that workspace's. Returns whether there was such a key."""
    statement = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)).values(revoked_at=at)
    if workspace_id is not None:
        statement = statement.where(ApiKey.workspace_id == workspace_id)
    row = (await session.execute(statement.returning(ApiKey.workspace_id))).first()
    if row is None:
        return False
    if row[0] is not None:
        audit.record(session, row[0], actor=actor, action="api_key.revoked", subject=("api_key", key_id))
    return True

"""A demo workspace that pays through the sandbox, made once."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import httpx

from embedded.stack import Stack, read_env, write_env
from storage import administration, workspaces
from storage.models import Workspace
from storage.sealing import Sealer
from storage.session import Database

SLUG = "demo-clinic"
SCOPES = ("payments:write", "payments:read", "refunds:write", "reports:read", "commissions:write", "admin")


@dataclass(frozen=True, slots=True)
class Demo:
    """How a caller reaches the demo workspace."""

    api_key: str
    account_id: str


async def ensure_demo(stack: Stack) -> Demo:
    """Create the workspace, its Stripe account at the sandbox and its API key, or find them."""
    sealer, database = Sealer([stack.env["CREDENTIALS_KEYS"]]), Database(stack.database_url)
    try:
        async with database.transaction() as session:
            workspace = await workspaces.by_slug(session, SLUG)
            if workspace is None:
                workspace = await administration.create_workspace(session, _values(stack, sealer), actor="make up")
            notice_url = f"{stack.sandbox_url}/sandbox/merchant/notifications"
            if workspace.order_webhook_url != notice_url:
                await administration.update_workspace(
                    session, workspace, {"order_webhook_url": notice_url}, actor="make up"
                )
        account_id = await _ensure_account(database, sealer, stack, workspace)
        api_key = await _ensure_key(database, stack, workspace)
    finally:
        await database.close()
    await _point_webhooks(stack, account_id)
    return Demo(api_key, account_id)


def _values(stack: Stack, sealer: Sealer) -> dict[str, object]:
    return {
        "slug": SLUG,
        "name": "Demo Clinic",
        "currency": "ILS",
        "country": "IL",
        "timezone": "Asia/Jerusalem",
        "language": "he",
        "dealer": "company",
        "legal_name": "Demo Clinic Ltd",
        "legal_name_he": "מרפאת הדגמה בע״מ",
        "business_number": "514000009",
        "address": "הרצל 12, חיפה",
        "vat_rate": Decimal("0.18"),
        "commission_rate": Decimal("0.10"),
        "commission_minimum": Decimal("1.00"),
        "order_webhook_url": f"{stack.sandbox_url}/sandbox/merchant/notifications",
        "order_webhook_secret": sealer.seal(stack.env["DEMO_NOTICE_SECRET"]),
    }


async def _ensure_account(database: Database, sealer: Sealer, stack: Stack, workspace: Workspace) -> str:
    async with database.transaction() as session:
        for account in await workspaces.accounts_of(session, workspace.id):
            if account.options.get("api_base") != stack.sandbox_url:  # the sandbox moved to another port
                account.options = {**account.options, "api_base": stack.sandbox_url}
                account.updated_at = workspace.created_at.now(workspace.created_at.tzinfo)
            return str(account.id)
        made = await administration.create_account(
            session,
            sealer,
            workspace_id=workspace.id,
            provider="stripe",
            name="sandbox",
            credentials={
                "secret_key": stack.env["DEMO_PROVIDER_KEY"],
                "webhook_secret": stack.env["DEMO_WEBHOOK_SECRET"],
            },
            options={"api_base": stack.sandbox_url},
            receives_default_webhook=True,
            actor="make up",
            hint_of="secret_key",
        )
        return str(made.id)


async def _ensure_key(database: Database, stack: Stack, workspace: Workspace) -> str:
    path = stack.state / "dev.env"
    known = read_env(path)
    if "DEMO_API_KEY" in known:
        return known["DEMO_API_KEY"]
    async with database.transaction() as session:
        made = administration.create_api_key(
            session, workspace_id=workspace.id, name="demo", scopes=SCOPES, actor="make up"
        )
        admin = administration.create_api_key(
            session, workspace_id=None, name="platform", scopes=["admin"], actor="make up"
        )
    write_env(path, known | {"DEMO_API_KEY": made.key, "ADMIN_API_KEY": admin.key})
    return made.key


async def _point_webhooks(stack: Stack, account_id: str) -> None:
    async with httpx.AsyncClient(base_url=stack.sandbox_url) as http:
        await http.delete("/sandbox/webhook-endpoints")
        answer = await http.post(
            "/sandbox/webhook-endpoints",
            json={
                "url": f"{stack.api_url}/api/v1/webhooks/stripe/{account_id}",
                "secret": stack.env["DEMO_WEBHOOK_SECRET"],
                "account_key": stack.env["DEMO_PROVIDER_KEY"],
            },
        )
        answer.raise_for_status()

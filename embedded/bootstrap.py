"""Demo workspaces that pay through the sandbox, made once: an Israeli clinic and a Colombian marketplace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from embedded.parts import StartFailed
from embedded.places import CLINIC, PLACES, WORKSPACES, Place
from embedded.stack import Stack, read_env, write_env
from providers.registry import required_credentials
from settings import listed
from storage import administration, workspaces
from storage.models import ProviderAccount, Workspace
from storage.sealing import Sealer, SealingError
from storage.session import Database

ACCOUNT = "sandbox"
"""Name of the accounts that are made here. Others that somebody connects to these workspaces are left alone."""
ACTOR = "make up"
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
KEY_SETTINGS = {slug: f"{slug.replace('-', '_').upper()}_API_KEY" for slug in WORKSPACES} | {CLINIC: "DEMO_API_KEY"}
"""Where `dev.env` keeps each workspace's API key."""


@dataclass(frozen=True, slots=True)
class Demo:
    """How callers reach the demo workspaces: API keys by workspace, accounts by provider."""

    api_keys: Mapping[str, str]
    accounts: Mapping[str, str]

    @property
    def api_key(self) -> str:
        """The clinic's."""
        return self.api_keys[CLINIC]

    @property
    def account_id(self) -> str:
        """The clinic's account at Stripe."""
        return self.accounts["stripe"]


@dataclass(frozen=True, slots=True)
class _Callbacks:
    """One account's callback address, to be registered with the provider."""

    url: str
    secret: str
    account_key: str


async def ensure_demo(stack: Stack) -> Demo:
    """Create the workspaces, their accounts at the sandbox and their API keys, or find them. Raises StartFailed."""
    keys = listed(stack.env["CREDENTIALS_KEYS"])  # several while one replaces another
    sealer, database = Sealer(keys), Database(stack.database_url)
    registered: list[_Callbacks] = []
    accounts: dict[str, str] = {}
    try:
        found = {slug: await _ensure_workspace(database, sealer, stack, slug) for slug in WORKSPACES}
        for provider, place in PLACES.items():
            account, credentials = await _ensure_account(
                database, sealer, stack, found[place.workspace], provider, place
            )
            accounts[provider] = str(account.id)
            if place.account.callbacks is not None:
                key, secret = (credentials[name] for name in place.account.callbacks)
                registered.append(
                    _Callbacks(f"{stack.api_url}/api/v1/webhooks/{provider}/{account.id}", secret, account_key=key)
                )
        api_keys = {slug: await _ensure_key(database, stack, workspace) for slug, workspace in found.items()}
    finally:
        await database.close()
    await _register(stack, registered)
    return Demo(api_keys, accounts)


async def _ensure_workspace(database: Database, sealer: Sealer, stack: Stack, slug: str) -> Workspace:
    notice_url = f"{stack.sandbox_url}/sandbox/merchant/notifications"
    async with database.transaction() as session:
        workspace = await workspaces.by_slug(session, slug)
        if workspace is None:
            values = {
                **WORKSPACES[slug],
                "slug": slug,
                "order_webhook_url": notice_url,
                "order_webhook_secret": sealer.seal(stack.env["DEMO_NOTICE_SECRET"]),
            }
            return await administration.create_workspace(session, values, actor=ACTOR)
        if workspace.order_webhook_url != notice_url:  # the sandbox moved to another port
            await administration.update_workspace(session, workspace, {"order_webhook_url": notice_url}, actor=ACTOR)
    return workspace


async def _ensure_account(
    database: Database, sealer: Sealer, stack: Stack, workspace: Workspace, provider: str, place: Place
) -> tuple[ProviderAccount, Mapping[str, str]]:
    """The account and its credentials in clear, its options pointing at the sandbox as it runs now."""
    options = place.account.options(stack.sandbox_url)
    async with database.transaction() as session:
        for account in await workspaces.accounts_of(session, workspace.id):
            if (account.provider, account.name) == (provider, ACCOUNT):
                if any(account.options.get(name) != value for name, value in options.items()):
                    administration.replace_options(
                        session, account, {**account.options, **options}, at=datetime.now(UTC), actor=ACTOR
                    )
                return account, _opened(sealer, account, stack)
        credentials = place.account.credentials(stack.env)
        made = await administration.create_account(
            session,
            sealer,
            workspace_id=workspace.id,
            provider=provider,
            name=ACCOUNT,
            credentials=credentials,
            options=options,
            receives_default_webhook=provider == "stripe",
            actor=ACTOR,
            hint_of=required_credentials(provider)[0],
        )
    return made, credentials


def _opened(sealer: Sealer, account: ProviderAccount, stack: Stack) -> Mapping[str, str]:
    try:
        return sealer.open_mapping(account.credentials)
    except SealingError:
        raise StartFailed(
            f"The accounts in {stack.state} were sealed with keys that its dev.env no longer holds. "
            f"Put that file back, or delete {stack.state} to begin anew."
        ) from None


async def _ensure_key(database: Database, stack: Stack, workspace: Workspace) -> str:
    path, setting = stack.state / "dev.env", KEY_SETTINGS[workspace.slug]
    known = read_env(path)
    if setting in known:
        return known[setting]
    async with database.transaction() as session:
        made = administration.create_api_key(
            session, workspace_id=workspace.id, name="demo", scopes=SCOPES, actor=ACTOR
        )
        new = {setting: made.key}
        if "ADMIN_API_KEY" not in known:
            platform = administration.create_api_key(
                session, workspace_id=None, name="platform", scopes=["admin"], actor=ACTOR
            )
            new["ADMIN_API_KEY"] = platform.key
    write_env(path, known | new)
    return made.key


async def _register(stack: Stack, callbacks: list[_Callbacks]) -> None:
    """Tell the sandbox where the callbacks go now, and nowhere else."""
    async with httpx.AsyncClient(base_url=stack.sandbox_url) as http:
        await http.delete("/sandbox/webhook-endpoints")
        for one in callbacks:
            answer = await http.post(
                "/sandbox/webhook-endpoints",
                json={"url": one.url, "secret": one.secret, "account_key": one.account_key},
            )
            answer.raise_for_status()

"""`workspace`, `account`, `api-key`, `audit`, and keys to put into settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, get_origin
from uuid import UUID

import click
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

import wiring
from api.account_payouts import payout_out
from api.accounts import check_form, with_callback_token
from api.admin import NewWorkspace, WorkspaceSettings, printed_names, workspace_values
from api.printing import check_names
from api.problems import Problem, words_of
from api.vat_rates import VatRates, vat_rates_out
from cli.context import ACTOR, ID, ShortText, as_json, fail, in_database, table, with_database, workspace_named
from domain.provider_payout import ProviderPayoutStatus
from domain.risk import FraudWarningAction
from providers.base import ProviderError
from providers.registry import PROVIDERS, required_credentials
from settings import Settings
from storage import administration, provider_payouts, rotation, workspaces
from storage.models import ProviderAccount, Workspace
from storage.session import Database

MOST_PAYOUTS = 100
_NAME = ShortText(100)
_SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--country", {"help": "ISO 3166, two capital letters."}),
    ("--timezone", {"help": "IANA zone; dates of documents are this zone's."}),
    ("--language", {"type": click.Choice(["he", "en"])}),
    ("--dealer", {"type": click.Choice(["authorized", "exempt", "company", "foreign"])}),
    ("--legal-name", {}),
    ("--legal-name-he", {}),
    ("--business-number", {}),
    ("--address", {}),
    ("--vat-rate", {"help": "A fraction: 0.18."}),
    ("--commission-rate", {"help": "A fraction: 0.10."}),
    ("--commission-minimum", {"help": "Smallest commission that is accrued."}),
    ("--commission-holding-days", {"help": "Commissions vest so many days after the payment."}),
    ("--payout-minimum", {"help": "Smallest balance that a payout batch pays."}),
    ("--payout-approval", {"type": click.Choice(["any", "another_key"]), "help": "Who approves a payout batch."}),
    ("--velocity-limit", {"help": "Commissions of a referrer in the window; more wait for a person. 0: no limit."}),
    ("--velocity-hours", {"help": "The window."}),
    ("--dunning-retry-days", {"help": "Days before each retry of a declined renewal: 2,5,7,7."}),
    ("--dunning-grace-days", {"help": "How long a renewal may stay unpaid."}),
    ("--dunning-final-action", {"type": click.Choice(["cancel", "expire", "keep"]), "help": "At the grace's end."}),
    ("--cancel-on-full-refund", {"type": click.Choice(["true", "false"]), "help": "A refund ends a subscription."}),
    ("--dispute-lost-action", {"type": click.Choice(["cancel", "keep"]), "help": "What a lost dispute does."}),
    ("--dispute-open-action", {"type": click.Choice(["pause", "charge"]), "help": "While a bank decides."}),
    (
        "--fraud-warning-action",
        {"type": click.Choice([one.value for one in FraudWarningAction]), "help": "What a bank's warning does."},
    ),
    ("--order-webhook-url", {"help": "Where the order service listens."}),
    ("--order-webhook-secret", {"help": "Standard Webhooks secret, or new,old while it is rotated; '-' asks for it."}),
)


def _with_settings(command: Any) -> Any:
    for name, options in reversed(_SETTINGS):
        command = click.option(name, **options)(command)
    return command


@click.group()
def workspace() -> None:
    """Tenants."""


@workspace.command("create")
@click.argument("slug")
@click.option("--name", required=True)
@click.option("--currency", required=True, help="ISO 4217; for ever.")
@_with_settings
def create_workspace(slug: str, name: str, currency: str, **chosen: str | None) -> None:
    """Create a workspace."""
    typed = _given(chosen) | {"slug": slug, "name": name, "currency": currency}
    wanted = _checked(NewWorkspace, typed, typed)

    async def work(session: AsyncSession, settings: Settings) -> dict[str, Any]:
        values = _columns(settings, wanted) | {"slug": wanted.slug, "currency": wanted.currency}
        try:
            return _workspace_row(await administration.create_workspace(session, values, actor=ACTOR))
        except IntegrityError:
            fail(f"The slug {wanted.slug} is taken.")

    table("Workspace", [in_database(work)])


@workspace.command("update")
@click.argument("slug")
@click.option("--name")
@_with_settings
def update_workspace(slug: str, **chosen: str | None) -> None:
    """Change what was given; the rest stays."""
    changes = _given(chosen)
    if not changes:
        raise click.UsageError("say what to change")

    async def work(session: AsyncSession, settings: Settings) -> dict[str, Any]:
        row = await workspace_named(session, slug)
        wanted = _checked(WorkspaceSettings, {"name": row.name, **changes}, changes)
        values = _columns(settings, wanted, has_secret=row.order_webhook_secret is not None)
        await administration.update_workspace(session, row, {name: values[name] for name in changes}, actor=ACTOR)
        return _workspace_row(row)

    table("Workspace", [in_database(work)])


@workspace.command("vat-rates")
@click.argument("slug")
@click.option("--set", "pairs", multiple=True, help="DAY=RATE, such as 2025-01-01=0.18. Repeatable; replaces all.")
@click.option("--json", "json_output", is_flag=True)
def vat_rates(slug: str, pairs: tuple[str, ...], *, json_output: bool) -> None:
    """The rates of VAT by the days from which they hold: shown, or set."""
    wanted = _dated_rates(pairs) if pairs else None

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        row = await workspace_named(session, slug)
        if wanted is not None:
            await administration.set_vat_rates(session, row, [one.dated for one in wanted.rates], actor=ACTOR)
        return [one.model_dump(mode="json", by_alias=True) for one in vat_rates_out(row).rates]

    rows = in_database(work)
    as_json(rows) if json_output else table("VAT rates", rows)


@workspace.command("list")
@click.option("--json", "json_output", is_flag=True)
def list_workspaces(*, json_output: bool) -> None:
    """All workspaces."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        return [_workspace_row(row) for row in await workspaces.all_workspaces(session)]

    rows = in_database(work)
    as_json(rows) if json_output else table("Workspaces", rows)


@click.group()
def account() -> None:
    """Provider accounts."""


@account.command("create")
@click.option("--workspace", "slug", required=True)
@click.option("--provider", required=True, type=click.Choice(sorted(PROVIDERS)))
@click.option("--name", default="default", show_default=True, type=_NAME)
@click.option(
    "--credential",
    "credentials",
    multiple=True,
    help="name=value; name=- asks for it; name=@VARIABLE takes it from the environment. Repeatable.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    help="name=value, not secret; a value that is JSON (true, 10, a list) is read as such, others as text. Repeatable.",
)
@click.option("--default-webhook", is_flag=True, help="Also receives the callback address without an account.")
def create_account(
    slug: str,
    provider: str,
    name: str,
    credentials: tuple[str, ...],
    options: tuple[str, ...],
    *,
    default_webhook: bool,
) -> None:
    """Connect a provider; prints the address for its webhooks."""
    given, chosen = with_callback_token(provider, _credentials(credentials)), _options(options)
    missing = [needed for needed in required_credentials(provider) if not given.get(needed)]
    if missing:
        raise click.UsageError(f"{provider} needs: " + " ".join(f"--credential {needed}=…" for needed in missing))
    try:
        check_form(provider, given, chosen)
    except Problem as problem:
        hint = " A text that looks like a number is written name='\"123\"'." if "option" in problem.detail else ""
        raise click.UsageError(problem.detail + hint) from None

    async def work(session: AsyncSession, settings: Settings) -> dict[str, Any]:
        owner = await workspace_named(session, slug)
        try:
            row = await administration.create_account(
                session,
                wiring.sealer(settings),
                workspace_id=owner.id,
                provider=provider,
                name=name,
                credentials=given,
                options=chosen,
                receives_default_webhook=default_webhook,
                actor=ACTOR,
                hint_of=required_credentials(provider)[0],
            )
        except IntegrityError:
            fail(f"{slug} has a {provider} account named {name}; choose another --name.")
        address = f"{settings.public_base_url.rstrip('/')}/api/v1/webhooks/{provider}/{row.id}"
        return _account_row(row) | {"webhook_address": address}

    table("Account", [in_database(work)])


@account.command("list")
@click.option("--json", "json_output", is_flag=True)
def list_accounts(*, json_output: bool) -> None:
    """All accounts; of credentials only the last four characters."""

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        return [_account_row(row) for row in await workspaces.all_accounts(session)]

    rows = in_database(work)
    as_json(rows) if json_output else table("Accounts", rows)


@account.command("check")
@click.argument("account_id", type=ID)
def check_account(account_id: UUID) -> None:
    """Ask the provider with the stored credentials, and compare how it sends its events where it tells that."""

    async def work(database: Database, settings: Settings) -> str:
        async with database.transaction() as session:  # over before the provider is asked: it may take its time
            row = await _account(session, account_id)
        pool = wiring.provider_pool(settings, wiring.sealer(settings))
        try:
            found = await pool.of(row).check_account()
        except ProviderError as error:
            fail(f"{row.provider} {error.what_happened}: {error}")
        finally:
            await pool.close()
        said = f"{row.provider}: {found.account_name} ({'live' if found.live else 'test'}) {found.detail}".rstrip()
        return "\n".join([said, *(f"differs: {one}" for one in found.differences)])

    click.echo(with_database(work))


@account.command("payouts")
@click.argument("account_id", type=ID)
@click.option("--status", type=click.Choice([one.value for one in ProviderPayoutStatus]))
@click.option("--json", "json_output", is_flag=True, help="Machine-readable.")
def list_payouts(account_id: UUID, status: str | None, *, json_output: bool) -> None:
    """What the provider has paid out to the bank, as it told; the newest hundred. Amounts are minor units."""
    wanted = None if status is None else ProviderPayoutStatus(status)

    async def work(session: AsyncSession, _: Settings) -> list[dict[str, Any]]:
        row = await _account(session, account_id)
        found = await provider_payouts.page(session, row.id, limit=MOST_PAYOUTS, status=wanted)
        return [payout_out(one).model_dump(mode="json") for one in found]

    rows = in_database(work)
    as_json(rows) if json_output else table("Payouts of the provider", rows)


@account.command("replace-credentials")
@click.argument("account_id", type=ID)
@click.option("--credential", "credentials", multiple=True, required=True, help="As for create. Repeatable.")
def replace_credentials(account_id: UUID, credentials: tuple[str, ...]) -> None:
    """Overwrite some credentials or add new ones; the rest stays. Prints which were replaced and which added."""
    given = _credentials(credentials)

    async def work(session: AsyncSession, settings: Settings) -> list[str]:
        row = await _account(session, account_id)
        sealer = wiring.sealer(settings)
        stored = sealer.open_mapping(row.credentials)
        await administration.replace_credentials(session, sealer, row, given, at=datetime.now(UTC), actor=ACTOR)
        # a mistyped name would else look like success
        done = {"replaced": sorted(given.keys() & stored), "added": sorted(given.keys() - stored)}
        return [f"{what}: {', '.join(names)}" for what, names in done.items() if names]

    click.echo("\n".join(in_database(work)))


@account.command("enable")
@click.argument("account_id", type=ID)
def enable_account(account_id: UUID) -> None:
    """Take new payments through this account."""
    _switch(account_id, enabled=True)


@account.command("disable")
@click.argument("account_id", type=ID)
def disable_account(account_id: UUID) -> None:
    """Take no new payments; running ones and callbacks go on."""
    _switch(account_id, enabled=False)


@account.command("rotate-keys")
def rotate_keys() -> None:
    """Seal every stored secret under the first key of CREDENTIALS_KEYS; then the old key can go."""

    async def work(database: Database, settings: Settings) -> int:
        return await rotation.rotate(database, wiring.sealer(settings), actor=ACTOR)

    click.echo(f"sealed the secrets of {with_database(work)} accounts again")


def _switch(account_id: UUID, *, enabled: bool) -> None:
    async def work(session: AsyncSession, _: Settings) -> str:
        row = await _account(session, account_id)
        await administration.switch_account(session, row, enabled=enabled, at=datetime.now(UTC), actor=ACTOR)
        return f"{row.provider} account {row.name}: {'enabled' if enabled else 'disabled'}"

    click.echo(in_database(work))


async def _account(session: AsyncSession, account_id: UUID) -> ProviderAccount:
    row = await workspaces.account(session, account_id)
    if row is None:
        fail(f"There is no account {account_id}; see payment-cli account list.")
    return row


def _given(chosen: dict[str, str | None]) -> dict[str, str]:
    given = {name: value for name, value in chosen.items() if value is not None}
    if given.get("order_webhook_secret") == "-":
        given["order_webhook_secret"] = click.prompt("order webhook secret", hide_input=True)
    return given


def _dated_rates(pairs: tuple[str, ...]) -> VatRates:
    """Pairs of DAY=RATE. Raises UsageError."""
    given = [pair.partition("=") for pair in pairs]
    try:
        return VatRates.model_validate({"rates": [{"from": day, "rate": rate} for day, _, rate in given]})
    except ValidationError as error:
        raise click.UsageError(f"--set: {words_of(dict(error.errors()[0]))}") from None


def _checked(model: type[WorkspaceSettings], values: dict[str, str], given: Collection[str]) -> Any:
    """Validate as the API does. Raises UsageError naming the option."""
    try:
        wanted = model.model_validate({name: _typed(model, name, value) for name, value in values.items()})
        check_names(printed_names(wanted, given))
        return wanted  # noqa: TRY300  (what both raise is told)
    except Problem as problem:
        raise click.UsageError(f"--{problem.detail.replace('_', '-', 2)}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        field = str(fault["loc"][0]).replace("_", "-")
        label = "SLUG" if field == "slug" else f"--{field}"
        raise click.UsageError(f"{label}: {words_of(fault)}") from None


def _typed(model: type[WorkspaceSettings], name: str, text: str) -> object:
    """An option's text as the JSON type of its field; what does not fit stays text, and is refused as such."""
    kind = model.model_fields[name].annotation
    if kind is bool:
        return {"true": True, "false": False}.get(text, text)
    if kind is int:
        return _number(text)
    return [_number(part) for part in text.split(",") if part.strip()] if get_origin(kind) is list else text


def _number(text: str) -> object:
    return int(text) if re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else text


def _columns(settings: Settings, wanted: WorkspaceSettings, *, has_secret: bool = False) -> dict[str, Any]:
    """A workspace's columns, under the API's rules. Raises UsageError with the API's words, and SealingError."""
    plain = settings.environment != "production"
    try:
        return workspace_values(wiring.sealer(settings), wanted, allow_plain_http=plain, has_secret=has_secret)
    except Problem as problem:
        raise click.UsageError(problem.detail) from None


def _named(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """Pairs of name=value. Raises UsageError without what was given: it may be a secret in the wrong form."""
    found = {}
    for pair in pairs:
        name, separator, value = (part.strip() for part in pair.partition("="))
        if not (separator and name and value):
            raise click.UsageError(f"{option} takes name=value")
        found[name] = value
    return found


def _options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Options of any type: true and 10 are no texts. A number with a fraction stays the text that it was."""
    found: dict[str, Any] = {}
    for name, value in _named(pairs, "--option").items():
        try:
            found[name] = json.loads(value, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _credentials(pairs: tuple[str, ...]) -> dict[str, str]:
    """Secrets from the command line, a hidden prompt or the environment, without spaces or line ends around them."""
    return {name: _credential(name, value) for name, value in _named(pairs, "--credential").items()}


def _credential(name: str, value: str) -> str:
    if value == "-":
        return str(click.prompt(name, hide_input=True)).strip()
    if not value.startswith("@"):
        return value
    secret = os.environ.get(value[1:], "").strip()
    if not secret:
        raise click.UsageError(f"{value[1:]} is not set in the environment")
    return secret


def _workspace_row(row: Workspace) -> dict[str, Any]:
    return {
        "id": row.id,
        "slug": row.slug,
        "name": row.name,
        "currency": row.currency,
        "timezone": row.timezone,
        "dealer": row.dealer,
        "vat_rate": format(workspaces.vat_rate_at(row).normalize(), "f"),
        "commission_rate": format(row.commission_rate.normalize(), "f"),
        "order_webhook": row.order_webhook_url,
    }


def _account_row(row: ProviderAccount) -> dict[str, Any]:
    return {
        "id": row.id,
        "workspace": row.workspace_id,
        "provider": row.provider,
        "name": row.name,
        "key_ends_with": row.hint,
        "enabled": row.enabled,
        "options": row.options,
    }

"""`verify-webhook` and `sign`: signatures by hand, without a database and without settings."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import IO

import click

from providers.registry import WEBHOOK_TOOLS, webhook_tools


def _provider(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value not in WEBHOOK_TOOLS:
        raise click.BadParameter(f"there is no provider {value}; known: {', '.join(sorted(WEBHOOK_TOOLS))}")
    return value


def _pairs(values: tuple[str, ...], separator: str, what: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, found, content = value.partition(separator)
        if not found:
            raise click.UsageError(f"{what} is given as name{separator}value, not {value!r}")
        pairs[name.strip()] = content.strip() if separator == ":" else content
    return pairs


@click.command("verify-webhook")
@click.argument("provider", callback=_provider)
@click.option("--secret", required=True, help="The account's webhook secret.")
@click.option("--header", "headers", multiple=True, help="A header of the callback, as 'Name: value'. Repeatable.")
@click.option("--at", type=int, help="Unix time at which it arrived; now, if not given.")
@click.option("--body", type=click.File("rb"), required=True, help="The raw body; - for standard input.")
@click.option("--explain", is_flag=True, help="Show the string that was signed, with the secret masked.")
def verify_webhook(
    provider: str, secret: str, headers: tuple[str, ...], at: int | None, body: IO[bytes], *, explain: bool
) -> None:
    """Print `valid` (exit 0) or `invalid: <why>` (exit 1)."""
    named = {name.lower(): value for name, value in _pairs(headers, ":", "a header").items()}
    now = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    verdict = webhook_tools(provider).explain_signature(named, body.read(), secret, now)
    click.echo("valid" if verdict.valid else f"invalid: {verdict.why}")
    if explain:
        click.echo(f"signed string: {verdict.signed_string_masked}")
    if not verdict.valid:
        raise click.exceptions.Exit(1)


@click.command("sign")
@click.argument("provider", callback=_provider)
@click.argument("kind")
@click.option("--field", "fields", multiple=True, help="A field of the request, as name=value. Repeatable.")
@click.option("--secret", required=True, help="The API key or secret that signs.")
@click.option("--at", type=int, help="Unix time to sign for; now, if not given.")
@click.option("--body", type=click.File("rb"), help="The raw body; - for standard input.")
def sign(
    provider: str, kind: str, fields: tuple[str, ...], secret: str, at: int | None, body: IO[bytes] | None
) -> None:
    """Print a signature, alone. Stripe: kind `webhook` gives the Stripe-Signature header of a body."""
    if kind != "webhook":
        raise click.UsageError(f"{provider} has no signature {kind!r}; known: webhook")
    if fields:
        raise click.UsageError("a webhook's signature takes --body, not --field")
    if body is None:
        raise click.UsageError("name the body to sign: --body FILE")
    made = webhook_tools(provider).sign_webhook(secret, body.read(), int(time.time()) if at is None else at)
    click.echo("\n".join(made.values()))

"""`verify-webhook` and `sign`: signatures by hand, without a database and without settings."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

import click

from providers.registry import WEBHOOK_TOOLS
from providers.webhook_signatures import CannotSign, RequestSigner, SignatureOptions, SignatureVerdict

_UNIX_TIME = click.IntRange(0, 253_402_300_799)
"""Seconds since 1970, to the end of the year 9999."""


def _provider(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value not in WEBHOOK_TOOLS:
        raise click.BadParameter(f"there is no provider {value}; known: {', '.join(sorted(WEBHOOK_TOOLS))}")
    return value


def _headers(values: tuple[str, ...]) -> dict[str, str]:
    """Values by lower-case name."""
    headers = {}
    for value in values:
        name, found, content = value.partition(":")
        if not found:
            raise click.UsageError("--header takes 'Name: value'")
        headers[name.strip().lower()] = content.strip()
    return headers


def _fields(values: tuple[str, ...]) -> dict[str, str]:
    fields = {}
    for value in values:
        name, found, content = value.partition("=")
        if not found:
            raise click.UsageError("--field takes name=value")
        if name in fields:
            raise click.UsageError(f"--field {name} is given twice")
        fields[name] = content
    return fields


def _fault_of(secret: str) -> str | None:
    """Why nothing can be signed with a secret: what came of an unset variable must not look like a signature."""
    if not secret.strip():
        return "the secret is empty"
    try:
        secret.encode()
    except UnicodeEncodeError:
        return "the secret is not UTF-8 text"
    return None


def _secret(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    fault = _fault_of(value)
    if fault is not None:
        raise click.BadParameter(fault)
    return value


def _with_options(command: Any) -> Any:
    for option in (
        click.option("--hmac-key", help="The key, where the account signs with one of its own."),
        click.option("--algorithm", help="The account's algorithm, where the provider offers several."),
    ):
        command = option(command)
    return command


@click.command("verify-webhook")
@click.argument("provider", callback=_provider)
@click.option("--secret", required=True, help="The account's webhook secret.")
@click.option("--header", "headers", multiple=True, help="A header of the callback, as 'Name: value'. Repeatable.")
@click.option("--at", type=_UNIX_TIME, help="Unix time at which it arrived; now, if not given.")
@click.option("--body", type=click.File("rb"), required=True, help="The raw body; - for standard input.")
@click.option("--explain", is_flag=True, help="Show the string that was signed, with the secret masked.")
@_with_options
def verify_webhook(
    provider: str,
    *,
    secret: str,
    headers: tuple[str, ...],
    at: int | None,
    body: IO[bytes],
    algorithm: str | None,
    hmac_key: str | None,
    explain: bool,
) -> None:
    """Print `valid` (exit 0) or `invalid: <why>` (exit 1)."""
    now = datetime.fromtimestamp(_now(at), UTC)
    options = SignatureOptions(algorithm, hmac_key)
    fault = _fault_of(secret)
    if fault is not None:
        verdict = SignatureVerdict(valid=False, why=fault, signed_string_masked="")
    else:
        verdict = WEBHOOK_TOOLS[provider].explain_signature(_headers(headers), body.read(), secret, now, options)
    click.echo("valid" if verdict.valid else f"invalid: {verdict.why}")
    if explain:
        click.echo(f"signed string: {verdict.signed_string_masked}")
    if not verdict.valid:
        raise click.exceptions.Exit(1)


@click.command("sign")
@click.argument("provider", callback=_provider)
@click.argument("kind")
@click.option("--field", "fields", multiple=True, help="A field of the request, as name=value. Repeatable.")
@click.option("--secret", required=True, callback=_secret, help="The API key or secret that signs.")
@click.option("--at", type=_UNIX_TIME, help="Unix time to sign a callback for; now, if not given.")
@click.option("--body", type=click.File("rb"), help="The raw body of a callback; - for standard input.")
@_with_options
def sign(
    provider: str,
    kind: str,
    *,
    fields: tuple[str, ...],
    secret: str,
    at: int | None,
    body: IO[bytes] | None,
    algorithm: str | None,
    hmac_key: str | None,
) -> None:
    """Print a signature and nothing else. Of a request's fields, or of a callback (kind `webhook`).

    A callback that is signed in several headers gives them as 'name: value', one a line.
    """
    tools, options = WEBHOOK_TOOLS[provider], SignatureOptions(algorithm, hmac_key)
    signer = tools.request_signers.get(kind)
    try:
        if signer is not None:
            if body is not None or at is not None:
                raise click.UsageError(f"the signature {kind} takes --field, not --body or --at")
            made = [_of_request(signer, _fields(fields), secret, options)]
        elif kind == "webhook":
            if body is None or fields:
                raise click.UsageError("a callback's signature takes --body FILE, not --field")
            made = _lines(tools.sign_webhook(secret, body.read(), _now(at), options))
        else:
            known = ", ".join([*sorted(tools.request_signers), "webhook"])
            raise click.UsageError(f"{provider} has no signature {kind!r}; known: {known}")
    except CannotSign as error:
        raise click.UsageError(str(error)) from None
    except UnicodeDecodeError:
        raise click.UsageError("--body: the body is not UTF-8 text") from None
    click.echo("\n".join(made))


def _of_request(signer: RequestSigner, fields: dict[str, str], secret: str, options: SignatureOptions) -> str:
    try:
        return signer(fields, secret, options)
    except CannotSign as error:
        names = ", ".join([*signer.required, *(f"[{name}]" for name in signer.optional)])
        raise click.UsageError(f"{error} (fields: {names})") from None


def _lines(headers: Mapping[str, str]) -> list[str]:
    return list(headers.values()) if len(headers) == 1 else [f"{name}: {value}" for name, value in headers.items()]


def _now(at: int | None) -> int:
    return int(time.time()) if at is None else at

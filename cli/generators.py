"""`generate-key` and `generate-codec-key`: keys to put into settings."""

from __future__ import annotations

import base64
import re
import secrets
from datetime import UTC, datetime

import click
from cryptography.fernet import Fernet


@click.command("generate-key")
def generate_key() -> None:
    """A new key for CREDENTIALS_KEYS."""
    click.echo(Fernet.generate_key().decode())


@click.command("generate-codec-key")
@click.option("--name", default=lambda: f"k{datetime.now(UTC):%Y%m%d}", help="How payloads refer to it.")
def generate_codec_key(name: str) -> None:
    """A new key for TEMPORAL_CODEC_KEYS."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise click.UsageError("--name: letters, digits, '.', '_' and '-', at most 64")
    click.echo(f"{name}:{base64.b64encode(secrets.token_bytes(32)).decode()}")

"""Every setting, with its unit and meaning. Only entry points read them; all else gets values passed.

`python -m settings` prints the table for the README.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read from the environment (upper-case names), then from the file of `make up`, where there is one."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    environment: Literal["development", "production"] = Field(
        "development", description="Production insists on HTTPS for notifications and logs JSON"
    )
    database_url: str = Field(description="PostgreSQL, as postgresql://user:password@host/name")
    db_pool_size: int = Field(
        10, ge=1, le=200, description="Connections kept per process; as many more may open under load"
    )
    credentials_keys: SecretStr = Field(
        SecretStr(""), description="Fernet keys for secrets at rest, comma separated, newest first"
    )
    redis_url: str | None = Field(
        None, description="Shared store of the rate limits; without it each process counts alone"
    )

    temporal_address: str = Field("127.0.0.1:7233", description="host:port of the Temporal frontend")
    temporal_namespace: str = Field("default", description="Temporal namespace")
    temporal_task_queue: str = Field("payments", description="Task queue that workers poll")
    temporal_api_key: SecretStr | None = Field(None, description="API key of Temporal Cloud")
    temporal_tls_cert_path: Path | None = Field(None, description="Client certificate (PEM) for mTLS")
    temporal_tls_key_path: Path | None = Field(None, description="Its private key (PEM)")
    temporal_tls_ca_path: Path | None = Field(None, description="Authority of the server's certificate (PEM)")
    temporal_codec_keys: SecretStr = Field(
        SecretStr(""), description="name:base64 of 32 bytes, comma separated, newest first; seals all workflow data"
    )

    api_host: str = Field("127.0.0.1", description="Address that the API listens on")
    api_port: int = Field(8000, description="Port of the API")
    public_base_url: str = Field(
        "http://127.0.0.1:8000",
        description="How payers and providers reach the API: callback addresses and the pages that it shows itself",
    )
    rate_limit_per_minute: int = Field(6000, ge=1, description="Requests a minute for each API key")
    webhook_rate_limit_per_minute: int = Field(
        6000, ge=1, description="Authentic webhooks a minute for each provider account; the provider sends again"
    )
    refusals_per_minute: int = Field(
        120,
        ge=1,
        description="Unknown keys, or refused webhooks of one account, after which an address waits for a minute",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks, comma separated, whose X-Forwarded-For names the client",
    )
    key_cache_seconds: float = Field(
        5.0, ge=0, description="How long a good API key is remembered; a revoked one may work so long"
    )
    checkout_wait_seconds: float = Field(
        20.0, gt=0, description="How long POST /payments waits for the checkout before it answers 202"
    )
    checkout_expires_seconds: int = Field(
        3600, ge=60, description="Life of a checkout, unless the request says otherwise"
    )
    webhook_max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest callback that is read")
    webhook_tolerance_seconds: int = Field(300, ge=1, description="Oldest callback that is accepted")
    webhook_future_tolerance_seconds: int = Field(
        60, ge=0, description="How far a callback's clock may be ahead of ours"
    )

    provider_timeout_seconds: float = Field(10.0, gt=0, le=18, description="One HTTP call to a provider")
    poll_first_seconds: float = Field(
        60.0, gt=0, description="First own look at the provider after the checkout opened"
    )
    poll_growth: float = Field(2.0, ge=1, description="Each wait is so many times the one before")
    poll_max_seconds: float = Field(3600.0, gt=0, description="Longest wait between two looks")
    poll_jitter: float = Field(0.1, ge=0, le=1, description="Share of a wait that is random")

    dispatch_interval_seconds: float = Field(
        0.5, gt=0, description="How often inbox and outbox are checked for due work"
    )
    private_networks: str = Field(
        "",
        description="Networks inside, comma separated, that notifications and calls to providers may reach; "
        "this machine's own may be in development",
    )
    outbox_timeout_seconds: float = Field(10.0, gt=0, description="One delivery to the order service")
    outbox_first_retry_seconds: float = Field(5.0, gt=0, description="Wait after the first failed delivery")
    outbox_retry_growth: float = Field(2.0, ge=1, description="Each wait is so many times the one before")
    outbox_max_retry_seconds: float = Field(3600.0, gt=0, description="Longest wait between two deliveries")
    outbox_give_up_after_seconds: float = Field(
        432_000.0, gt=0, description="Age at which a notification is given up, visibly (5 days)"
    )

    ready_file: Path | None = Field(None, description="The worker touches this file once it polls")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: JSON in production, readable in development"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe line that is written"
    )

    @property
    def credentials_key_list(self) -> list[str]:
        """The Fernet keys, newest first."""
        return listed(self.credentials_keys.get_secret_value())

    @property
    def trusted_proxy_list(self) -> list[str]:
        """The proxies' addresses and networks."""
        return listed(self.trusted_proxies)

    @property
    def private_network_list(self) -> list[str]:
        """The networks inside that may be reached."""
        return listed(self.private_networks)

    @property
    def temporal_codec_key_list(self) -> list[str]:
        """The codec's keys, newest first."""
        return listed(self.temporal_codec_keys.get_secret_value())

    @property
    def log_style(self) -> Literal["json", "console"]:
        """How lines are written."""
        if self.log_format == "auto":
            return "json" if self.environment == "production" else "console"
        return self.log_format


def listed(text: str) -> list[str]:
    """The items of a setting that holds several, in their order."""
    return [item.strip() for item in text.split(",") if item.strip()]


def async_url(url: str) -> str:
    """The same address for SQLAlchemy's asynchronous driver.

    Hosts of PostgreSQL hand out addresses in libpq's words; the driver has another name for `sslmode`, and settles
    channel binding and time-outs by itself.
    """
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            url = "postgresql+asyncpg://" + url.removeprefix(prefix)
    address, mark, query = url.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    kept = [f"{_DRIVERS_NAME.get(name, name)}={value}" for name, _, value in pairs if name not in _NEEDLESS]
    return address + (mark + "&".join(kept) if kept else "")


_DRIVERS_NAME = {"sslmode": "ssl"}
_NEEDLESS = frozenset({"channel_binding", "gssencmode", "application_name", "connect_timeout"})


DEVELOPMENT_FILE = Path(".local/dev.env")
"""Written by `make up`; read when the environment does not say otherwise, so that commands find the local service."""


def load_settings() -> Settings:
    """Read and check all settings. Ends the process with what to do when one is missing or wrong."""
    try:
        settings = Settings(_env_file=DEVELOPMENT_FILE if DEVELOPMENT_FILE.exists() else None)
    except ValidationError as error:
        faults = [
            f"  {'.'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}" for fault in error.errors()
        ]
        hint = "Set them in the environment (README, Settings), or run `make up` for a local service."
        raise SystemExit("\n".join(["Settings are missing or wrong:", *faults, hint])) from None
    return settings.model_copy(update={"database_url": async_url(settings.database_url)})


def markdown_table() -> str:
    """The README's settings table."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        shown = "required" if field.is_required() else "" if default in (None, "") else f"`{default}`"
        lines.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the table. Returns the exit code."""
    argparse.ArgumentParser(prog="python -m settings", description=__doc__).parse_args()
    sys.stdout.write(markdown_table())
    return 0


if __name__ == "__main__":
    sys.exit(main())

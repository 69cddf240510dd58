"""One merchant's keys and options, checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from providers.base import AccountConfig, ProviderMisconfigured
from providers.http import base_address
from providers.reading import split_secrets

SANDBOX_API = "https://sandbox.wompi.co/v1"
PRODUCTION_API = "https://production.wompi.co/v1"
CHECKOUT = "https://checkout.wompi.co"

EVENT_MAX_AGE_SECONDS = 102_600
"""28.5 hours. An event is sent again after 30 minutes, 3 hours and 24 hours; whether its timestamp is renewed then is
not documented, so the oldest that an honest retry can have is taken, with an hour for slow networks."""

REQUIRED = ("public_key", "private_key", "events_secret", "integrity_secret")

_ENVIRONMENT = re.compile(r"(?:pub|prv)_(test|prod)_|(test|prod)_(?:events|integrity)_")
_FIELD = re.compile(r"[a-z_]{0,64}")

Environment = Literal["test", "prod"]


@dataclass(frozen=True, slots=True)
class Account:
    """Keys, addresses and choices of one merchant. `environment` is None where the keys do not say."""

    public_key: str
    private_key: str = field(repr=False)
    events_secrets: tuple[str, ...] = field(repr=False)
    integrity_secret: str = field(repr=False)
    environment: Environment | None
    api_base: str
    checkout_base: str
    event_max_age_seconds: int
    transactions_key: Literal["either", "private", "public"]
    personal_auth_field: str

    @property
    def live(self) -> bool:
        """Whether real money moves."""
        return self.environment == "prod"


def account_of(config: AccountConfig) -> Account:
    """Read keys and options.

    Raises ProviderMisconfigured: `credential_missing`, `credential_environments` (keys of test and production
    together, which Wompi would refuse one by one), `option_invalid`.
    """
    keys = {name: config.credential(name) for name in REQUIRED}
    events_secrets = split_secrets(keys["events_secret"])
    if not events_secrets:
        raise ProviderMisconfigured("credential_missing", "events_secret")
    environment = _environment(keys["public_key"], keys["private_key"], keys["integrity_secret"], *events_secrets)
    default_api = PRODUCTION_API if environment == "prod" else SANDBOX_API
    return Account(
        public_key=keys["public_key"],
        private_key=keys["private_key"],
        events_secrets=events_secrets,
        integrity_secret=keys["integrity_secret"],
        environment=environment,
        api_base=base_address(config.options, "api_base") or default_api,
        checkout_base=base_address(config.options, "checkout_base") or CHECKOUT,
        event_max_age_seconds=_seconds(config.options, "event_max_age_seconds", EVENT_MAX_AGE_SECONDS),
        transactions_key=_which_key(config.options),
        personal_auth_field=_field_name(config.options),
    )


def _environment(*keys: str) -> Environment | None:
    found: set[Environment] = set()
    for match in map(_ENVIRONMENT.match, keys):
        if match is not None:
            found.add("prod" if "prod" in match.groups() else "test")
    if len(found) > 1:
        raise ProviderMisconfigured("credential_environments", "keys of test and of production together")
    return next(iter(found), None)


def _seconds(options: Mapping[str, object], name: str, default: int) -> int:
    value = options.get(name, default)
    if type(value) is not int or value <= 0:
        raise ProviderMisconfigured("option_invalid", name)
    return value


def _which_key(options: Mapping[str, object]) -> Literal["either", "private", "public"]:
    match options.get("transactions_key", "either"):
        case "either":
            return "either"
        case "private":
            return "private"
        case "public":
            return "public"
    raise ProviderMisconfigured("option_invalid", "transactions_key")


def _field_name(options: Mapping[str, object]) -> str:
    value = options.get("personal_auth_field", "accept_personal_auth")
    if not isinstance(value, str) or not _FIELD.fullmatch(value):
        raise ProviderMisconfigured("option_invalid", "personal_auth_field")
    return value

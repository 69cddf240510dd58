"""For pytest: the suites of tests/providers with one account, and without the powers that only the sandbox gives.

`--contract PROVIDER` takes the account from the environment; with `--contract-fake` it is one at the sandbox. Whatever
needs somebody to pay, or a fault to be planned, is skipped where it needs that: what comes before it has run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from providers.base import AccountConfig
from providers.registry import required_credentials
from tests.contract.exchanges import Exchanges, KeepingNetwork
from tests.providers.payers import CONTRACT, SandboxPayer, payer_class

ACCOUNT_ID = UUID(int=9)


class NotRun(Exception):
    """The environment has no account of this provider. The text says what is missing."""


def variable(provider: str, name: str) -> str:
    """The environment's name for a credential, or for `options`."""
    return f"CONTRACT_{provider}_{name}".upper()


def account_of(provider: str, environment: Mapping[str, str]) -> AccountConfig:
    """The account that the environment describes. Raises NotRun."""
    names = {name: variable(provider, name) for name in required_credentials(provider)}
    missing = [named for named in names.values() if not environment.get(named)]
    if missing:
        raise NotRun(f"set {', '.join(missing)}")
    options = json.loads(environment.get(variable(provider, "options"), "{}"))
    return AccountConfig(ACCOUNT_ID, {name: environment[named] for name, named in names.items()}, options)


class _Nobody:
    """Stands where the sandbox's controls would be."""

    def __getattr__(self, name: str) -> Any:
        pytest.skip("nobody pays and nothing fails on demand here")


def payer_without_powers(provider: str, exchanges: Exchanges, account: AccountConfig | None) -> type[SandboxPayer]:
    """The provider's payer who can open and look, and do nothing else; at the sandbox where no account is given."""
    usual = payer_class(provider)

    class Powerless(usual):  # type: ignore[misc, valid-type]
        def __init__(self, address: str) -> None:
            super().__init__(address)
            self._sandbox: httpx.AsyncClient = self.__dict__.pop("http")
            self.http: Any = _Nobody()

        def account(self, *, timeout_seconds: float = 20.0, **credentials: str) -> AccountConfig:
            made: AccountConfig = super().account(**credentials) if account is None else account
            own = {**made.credentials, **credentials}
            network = KeepingNetwork(exchanges)
            return replace(made, credentials=own, timeout_seconds=timeout_seconds, network=network)

        async def aclose(self) -> None:
            await self._sandbox.aclose()

    return Powerless


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which provider, whose answers, and where they are kept."""
    parser.addoption("--contract", help="the provider")
    parser.addoption("--contract-fake", action="store_true", help="the sandbox's account instead of the environment's")
    parser.addoption("--contract-keep", type=Path, help="the file for the exchanges")


def pytest_configure(config: pytest.Config) -> None:
    """Let the suites have one payer."""
    provider = config.getoption("--contract")
    account = None if config.getoption("--contract-fake") else account_of(provider, os.environ)
    exchanges = Exchanges(provider, () if account is None else account.credentials.values())
    config.stash[CONTRACT] = (provider, payer_without_powers(provider, exchanges, account))
    config.stash[_KEPT] = exchanges


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Put the exchanges where they are wanted."""
    session.config.stash[_KEPT].write(session.config.getoption("--contract-keep"))


_KEPT = pytest.StashKey[Exchanges]()

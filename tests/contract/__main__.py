"""`make contract PROVIDER=…`: the conformance suite against the provider's own test system.

The keys of a test account come from the environment: CONTRACT_<PROVIDER>_<CREDENTIAL> for each of its credentials, and
CONTRACT_<PROVIDER>_OPTIONS, a JSON object, for its options. Exchanges are kept without secrets and values, and compared
with the sandbox's own, in build/contract/<provider>.

Exit code 0: the suite passed (differences of shape are told). 1: it failed, or the keys are refused or live. 77: not
run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import process
from providers.base import AccountCheck, AccountConfig, ProviderError
from providers.registry import NAMES, build_provider
from tests.contract.exchanges import Exchanges, KeepingNetwork, differences
from tests.contract.plugin import NotRun, account_of

NOT_RUN = 77
"""What build tools take for *skipped*."""
FOLDER = Path("build/contract")
SUITES = ("tests/providers/test_conformance.py", "tests/providers/test_saved_methods.py")
LAST_GOOD = "last_good_run"


def contract(provider: str, environment: Mapping[str, str], folder: Path) -> int:
    """Run it and say what was found. Returns the exit code."""
    folder = folder / provider
    try:
        account = account_of(provider, environment)
    except NotRun as why:
        _say(f"contract {provider}: not run, {why}; last good run: {_last_good(folder)}")
        return NOT_RUN
    exchanges = Exchanges(provider, account.credentials.values())
    try:
        check = asyncio.run(_checked(provider, account, exchanges))
    except ProviderError as error:
        _say(exchanges.without_secrets(f"contract {provider}: the account cannot be used: {error}"))
        return 1
    if check.live:
        _say(f"contract {provider}: these keys move real money; take those of a test account")
        return 1
    passed = _suite(provider, folder / "provider.json", exchanges)
    _suite(provider, folder / "sandbox.json", exchanges, fake=True)
    kept: list[list[dict[str, Any]]] = [
        json.loads((folder / name).read_text()) for name in ("provider.json", "sandbox.json")
    ]
    if not kept[0]:
        _say(
            f"contract {provider}: not run, nothing is ever asked of this provider; last good run: {_last_good(folder)}"
        )
        return NOT_RUN
    found = differences(kept[0], kept[1])
    for line in found:
        _say(f"  {line}")
    _say(f"contract {provider}: {len(kept[0])} exchanges in {folder}, {len(found)} differences of shape")
    if passed:
        (folder / LAST_GOOD).write_text(datetime.now(UTC).isoformat(timespec="seconds") + "\n")
    _say(f"contract {provider}: {'passed' if passed else 'failed'}; last good run: {_last_good(folder)}")
    return 0 if passed else 1


async def _checked(provider: str, account: AccountConfig, exchanges: Exchanges) -> AccountCheck:
    adapter = build_provider(provider, replace(account, network=KeepingNetwork(exchanges)))
    try:
        return await adapter.check_account()
    finally:
        await adapter.aclose()


def _suite(provider: str, keep: Path, exchanges: Exchanges, *, fake: bool = False) -> bool:
    """Run both files of the suite in a process of their own. Whether nothing failed."""
    options = ["--contract", provider, "--contract-keep", str(keep), *(["--contract-fake"] if fake else [])]
    quiet = ["-q", "--tb=line", "--show-capture=no", "-p", "no:cacheprovider", "-p", "tests.contract.plugin"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, *options, *SUITES], capture_output=True, text=True, check=False
    )
    if not fake:
        for line in ran.stdout.splitlines():
            if line.startswith(("FAILED", "ERROR")) or " passed" in line or " skipped" in line:
                _say(exchanges.without_secrets(f"  {line}"))
    if not keep.exists():  # it did not come so far as to begin
        raise SystemExit(exchanges.without_secrets(ran.stdout + ran.stderr))
    return ran.returncode == 0


def _last_good(folder: Path) -> str:
    path = folder / LAST_GOOD
    return path.read_text().strip() if path.exists() else "never"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.contract", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("provider", choices=NAMES)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where exchanges and the last good run's date are")
    chosen = parser.parse_args()
    return contract(chosen.provider, os.environ, chosen.folder)


if __name__ == "__main__":
    process.end(main)

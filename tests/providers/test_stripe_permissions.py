"""What a restricted key needs is read from the code, told in the connect page and tried by the connection test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from providers.stripe import StripeProvider
from providers.stripe.permissions import PERMISSIONS, WITHOUT_LIST
from tests.docs.test_providers_in_step import rows
from tests.providers.payers.stripe import Payer

ONLY = ["stripe"]
ROOT = Path(__file__).parents[2]
WRITES = frozenset({"create", "update", "confirm", "cancel", "expire", "detach", "capture", "delete"})
NAMED = re.compile(r"(?m)^\s+(self\._\w+|\w+)(?:: [^=]+)? = [\w.()]*?\bv1\b((?:\.\w+)*)$")
CALLED = re.compile(r"([\w.]+(?:\(\))?(?:\.\w+)*)\.(\w+)_async\b")
OF_TRANSPORT = frozenset({"request", "close", "_client"})
EXPANDED = re.compile(r'"(?:data\.)?((?:[a-z_]+\.)*[a-z_]+)"')


def services(source: str) -> Iterator[tuple[str, str]]:
    """Every call of the library in a module: the service by its path below `v1`, and what is done."""
    named = dict(NAMED.findall(source))
    for path, action in CALLED.findall(source):
        if action in OF_TRANSPORT:
            continue
        head, found, below = path.partition("v1.")
        if not found:
            name = next((name for name in named if path == name or path.startswith(f"{name}.")), None)
            if name is None:
                assert path == "service", path  # the probes, which are of the table itself
                continue
            below = f"{named[name]}{path.removeprefix(name)}".removeprefix(".")
        elif f"{head}v1" in named:
            below = f"{named[f'{head}v1']}.{below}".removeprefix(".")
        yield below, action


def calls() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "providers/stripe").glob("*.py")):
        for service, action in services(path.read_text()):
            found.setdefault(service, set()).add(action)
    return found


def test_every_call_has_its_permission_and_every_permission_its_calls() -> None:
    known = {service: one.level for one in PERMISSIONS for service in one.calls}
    assert known == {service: "write" if done & WRITES else "read" for service, done in calls().items()}


def test_everything_that_is_expanded_has_its_permission() -> None:
    """An answer holds another resource whole where the key may read that one too."""
    source = "".join(path.read_text() for path in (ROOT / "providers/stripe").glob("*.py"))
    lists = re.findall(
        r'(?:"expand": |_EXPAND_\w+ = |_SESSION = |_INTENT = |_SETUP = |_LISTED_SETUP = )(\[[^\]]*\])', source
    )
    parts = {part for one in lists for path in EXPANDED.findall(one) for part in path.split(".")}
    assert parts
    assert parts <= {field for one in PERMISSIONS for field in one.expands}


def test_every_probe_is_a_call_of_the_library() -> None:
    client = stripe.StripeClient("sk_test_0000")
    for one in PERMISSIONS:
        service: object = client.v1
        for name in one.reads.split("."):
            service = getattr(service, name)
        wanted = "retrieve_current_async" if one.reads == "accounts" else "retrieve_async"
        assert hasattr(service, wanted if one.reads in (*WITHOUT_LIST, "accounts") else "list_async")


def test_the_connect_page_has_the_table_and_the_version_of_our_calls() -> None:
    page = (ROOT / "docs/connect-stripe.md").read_text()
    assert f"`{stripe.api_version}`" in page
    told = list(rows(page, "resource†"))
    assert told == [
        [one.resource, one.level, one.why + ("" if one.only_for is None else f" (only for `{one.only_for}`)")]
        for one in PERMISSIONS
    ]


@pytest.mark.asyncio
async def test_a_restricted_key_is_told_what_it_may_not(payer: Payer) -> None:
    key = f"rk_test_{payer.suffix}"
    provider = StripeProvider(payer.account(secret_key=key))
    allowed = (await provider.check_account()).differences
    assert [said for said in allowed if said.startswith("the key may not")] == []
    assert any("that it may write was not tried" in said for said in allowed)
    await payer.sandbox("restrictions", account_key=key, operations=["list_disputes", "read_mandate", "list_links"])
    refused = [said for said in (await provider.check_account()).differences if said.startswith("the key may not")]
    assert [said.partition(";")[0] for said in refused] == [
        "the key may not read Disputes (http_403)",
        "the key may not read Mandates (http_403)",
        "the key may not read Payment Links, which `link` needs (http_403)",
    ]
    await provider.aclose()
    full = StripeProvider(payer.account())
    checked = await full.check_account()
    assert not [said for said in checked.differences if "the key" in said]
    assert checked.detail.startswith("acct_")
    await full.aclose()

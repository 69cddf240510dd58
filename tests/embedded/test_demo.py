"""`make demo` through every provider, and the demo workspaces from one start to the next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from sqlalchemy import select

from embedded.bootstrap import Demo, ensure_demo
from embedded.browser import Button, page_of
from embedded.demo import run_demo
from embedded.parts import StartFailed
from embedded.places import PLACES
from embedded.stack import ROOT, Ports, Stack, environment, read_env
from providers.registry import PROVIDERS
from storage.models import ProviderAccount, Workspace
from tests.support.service import CREDENTIALS_KEY, Service


@pytest_asyncio.fixture(scope="module")
async def house(service: Service) -> AsyncIterator[Stack]:
    """What `make up` starts, as the demonstration sees it: here it is the tests' own service."""
    ports = Ports(api=urlsplit(service.api_url).port or 0, sandbox=urlsplit(service.sandbox_url).port or 0)
    yield replace(service.stack, ports=ports, env={**service.stack.env, "CREDENTIALS_KEYS": CREDENTIALS_KEY})
    await service.http.delete(f"{service.sandbox_url}/sandbox/webhook-endpoints")


@pytest_asyncio.fixture(scope="module")
async def demo(house: Stack) -> Demo:
    return await ensure_demo(house)


async def accounts(service: Service) -> dict[str, tuple[str, dict[str, object], str]]:
    """Of the demo workspaces: id, options and workspace by provider."""
    query = select(ProviderAccount, Workspace.slug).join(Workspace, Workspace.id == ProviderAccount.workspace_id)
    async with service.database.transaction() as session:
        rows = (await session.execute(query.where(Workspace.slug.in_(["demo-clinic", "demo-marketplace"])))).all()
    return {account.provider: (str(account.id), account.options, slug) for account, slug in rows}


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
async def test_the_demo_ends_with_a_receipt(
    house: Stack, demo: Demo, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (house.state / "demo-receipt.pdf").unlink(missing_ok=True)
    await run_demo(house, demo, provider)
    assert (house.state / "demo-receipt.pdf").read_bytes().startswith(b"%PDF")
    said = capsys.readouterr().out
    assert "payment.pending → payment.paid" in said
    clinic = "110.08 + 19.82 VAT = 129.90 ILS", "12.99 ILS"
    marketplace = "100000.00 + 19000.00 VAT = 119000.00 COP", "11900.00 COP"
    for line in clinic if provider in ("stripe", "payplus", "meshulam") else marketplace:
        assert line in said
    assert ("signed form" in said) is (provider == "payu")
    assert ("to the counter" in said) is (provider == "efecty")


async def test_a_second_start_finds_all_of_it_and_follows_the_sandbox(
    house: Stack, demo: Demo, service: Service
) -> None:
    before = await accounts(service)
    assert {provider: slug for provider, (_, _, slug) in before.items()} == {
        provider: place.workspace for provider, place in PLACES.items()
    }
    assert await ensure_demo(house) == demo
    assert await accounts(service) == before
    assert environment(house.state, house.ports).items() >= read_env(house.state / "dev.env").items()
    # the sandbox is at another port the next day; what somebody chose beside it stays
    moved = replace(house, ports=replace(house.ports, sandbox=house.ports.api))  # anybody who answers
    with pytest.raises(httpx.HTTPStatusError):
        await ensure_demo(moved)
    after = await accounts(service)
    for provider, (account_id, options, _) in after.items():
        assert account_id == before[provider][0]
        assert house.sandbox_url not in str(options)
        assert moved.sandbox_url in str(options)
    assert await ensure_demo(house) == demo
    assert await accounts(service) == before


async def test_a_state_whose_key_is_being_replaced_is_found_again(house: Stack, demo: Demo) -> None:
    newest_first = f"{Fernet.generate_key().decode()}, {house.env['CREDENTIALS_KEYS']}"
    assert await ensure_demo(replace(house, env={**house.env, "CREDENTIALS_KEYS": newest_first})) == demo


async def test_a_state_whose_keys_are_gone_says_so(house: Stack, demo: Demo) -> None:
    keyless = replace(house, env={**house.env, "CREDENTIALS_KEYS": Fernet.generate_key().decode()})
    with pytest.raises(StartFailed, match=r"dev\.env no longer holds.*delete .* to begin anew"):
        await ensure_demo(keyless)


def test_a_provider_that_is_none_is_refused_before_anything_starts(tmp_path: Path) -> None:
    tried = subprocess.run(
        [sys.executable, "-m", "embedded", "demo", "--provider", "nobody"],
        cwd=ROOT,
        env={"STATE_FOLDER": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tried.returncode, tried.stdout) == (2, "")
    assert "no demo of 'nobody'" in tried.stderr
    assert all(provider in tried.stderr for provider in PROVIDERS)
    assert not (tmp_path / "state").exists()


def test_a_page_is_read_as_a_browser_reads_it() -> None:
    html = """<title>t</title><style>p{}</style><p>Pay &#8362;5 &amp; go</p><a href="../b?x=1&amp;y=2">b</a>
    <form method="post" action="/to?a=1&amp;b=2"><input type=hidden name=h value="a&quot;b"><input name=t value=x>
    <input type=radio name=r value=1><input type=radio name=r value=2 checked><input type=checkbox name=c>
    <input name=off value=1 disabled><input type=file name=f><input value=nameless>
    <button>Go</button><button name=outcome value=pay>Pay</button><button type=button name=no>No</button></form>
    <input name=outside value=1><script>var a = "<p>no</p>"</script>"""
    page = page_of(httpx.Response(200, text=html, request=httpx.Request("GET", "http://127.0.0.1/a/c")))
    assert (page.text, page.links) == ("Pay ₪5 & go b Go Pay No", ["http://127.0.0.1/b?x=1&y=2"])
    [form] = page.forms
    assert (form.action, form.method) == ("http://127.0.0.1/to?a=1&b=2", "post")
    assert form.fields == {"h": 'a"b', "t": "x", "r": "2"}
    assert form.buttons == [Button("", ""), Button("outcome", "pay")]

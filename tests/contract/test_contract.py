"""The contract run's own parts, and a whole run against a sandbox that plays the provider's test system."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from providers.registry import NAMES, required_credentials
from sandbox.app import create_app
from tests.contract.exchanges import MASK, TELLING, Exchanges, differences
from tests.contract.plugin import variable
from tests.support.service import served

ROOT = Path(__file__).parents[2]
PERSONAL = st.sampled_from(
    ["Dana Levi", "dana@example.com", "+972541234567", "1020304050", "4242424242424242", "12 Herzl St", "192.0.2.7"]
)
SECRET = "prv_test_Z5mMke9x0k8gpErb"
FIELDS = st.sampled_from(["name", "email", "phone", "id", "url", "token", "amount", *sorted(TELLING)])
BODIES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | PERSONAL
    | st.just(f"Bearer {SECRET}"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.just(SECRET) | PERSONAL, inner, max_size=4),
    max_leaves=12,
)


def kept(path: str, sent: bytes, answer: httpx.Response, media: str = "application/json") -> dict[str, Any]:
    exchanges = Exchanges("wompi", [SECRET])
    request = httpx.Request("POST", f"https://wompi.example{path}", headers={"content-type": media})
    exchanges.keep(request, sent, answer)
    return exchanges.kept[0]


@given(sent=BODIES, answered=BODIES)
def test_nothing_secret_and_nothing_of_anybodys_is_kept(sent: Any, answered: Any) -> None:
    path = f"/wompi/v1/merchants/{SECRET}/1020304050/dana@example.com"
    found = kept(
        f"{path}?email=dana%40example.com&key={SECRET}", json.dumps(sent).encode(), httpx.Response(200, json=answered)
    )
    text = json.dumps(found)
    for value in (SECRET, "Dana", "dana", "97254", "1020304050", "4242", "Herzl", "192.0.2.7"):
        assert value not in text
    assert found["operation"] == f"POST /v1/merchants/{MASK}/{MASK}/{MASK}"
    assert found["query"] == ["email", "key"]


@given(value=st.dictionaries(st.sampled_from(["name", "status", "amount"]), BODIES, max_size=3))
def test_masking_keeps_names_and_types(value: dict[str, Any]) -> None:
    masked = Exchanges("wompi", [SECRET]).masked(value)
    assert set(masked) == set(value)
    for name, inner in value.items():
        if isinstance(inner, str | bool | None.__class__ | list | dict):
            assert isinstance(masked[name], type(inner))
        else:
            assert masked[name] == 0


@pytest.mark.parametrize(
    ("content", "media", "shown"),
    [
        (b"", "", None),
        (b'{"status": "APPROVED", "reference": "order-1"}', "", {"status": "APPROVED", "reference": MASK}),
        (b'{"status": "approved by Dana"}', "", {"status": MASK}),
        (b"can-not-find-transaction", "text/html", {"error": "can-not-find-transaction"}),
        (b'"can-not-find-card"', "", {"error": "can-not-find-card"}),
        (b"<html>Dana</html>", "text/html", {"error": MASK}),
        (b"userId=1020&status=paid", "application/x-www-form-urlencoded", {"userId": MASK, "status": "paid"}),
    ],
)
def test_words_that_tell_what_happened_are_kept(content: bytes, media: str, shown: Any) -> None:
    answer = httpx.Response(200, content=content, headers={"content-type": media})
    assert kept("/v1/x", b"", answer)["answer"] == shown
    assert kept("/v1/x", content, httpx.Response(200), media)["sent"] == shown


def exchange(answer: Any, operation: str = "GET /v1/x", status: int = 200) -> dict[str, Any]:
    return {"operation": operation, "status": status, "answer": answer}


def test_differences_are_told_in_both_directions_and_by_the_most_similar_answer() -> None:
    real = [exchange({"a": "", "b": 0, "more": True}), exchange({}, "GET /v1/y"), exchange({"e": 0}, status=404)]
    fake = [exchange({"other": 0}), exchange({"a": "", "b": "", "c": None})]
    assert differences(real, fake) == [
        "GET /v1/x (200): the sandbox's $.b is str, recorded as float",
        "GET /v1/x (200): the sandbox's $.more is missing",
        "GET /v1/x (200): the provider's $.c is missing",
        "GET /v1/y (200): the sandbox has not given this answer",
        "GET /v1/x (404): the sandbox has not given this answer",
    ]
    assert differences(real[:1], real[:1]) == []


def run(provider: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CONTRACT_")}
    return subprocess.run(
        [sys.executable, "-m", "tests.contract", provider, "--folder", str(folder)],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def test_without_keys_nothing_is_run_and_one_line_says_what_to_set(tmp_path: Path) -> None:
    ran = run("wompi", tmp_path, CONTRACT_WOMPI_PUBLIC_KEY="pub_test_x")
    assert (ran.returncode, ran.stderr) == (77, "")
    [line] = ran.stdout.splitlines()
    assert "not run" in line
    assert "CONTRACT_WOMPI_PRIVATE_KEY" in line
    assert "CONTRACT_WOMPI_PUBLIC_KEY" not in line
    assert line.endswith("last good run: never")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("provider", NAMES)
def test_every_credential_has_a_variable_of_its_own(provider: str) -> None:
    names = [variable(provider, name) for name in (*required_credentials(provider), "options")]
    assert len(set(names)) == len(names)
    assert all(name.startswith(f"CONTRACT_{provider.upper()}_") and name.isupper() for name in names)


class Otherwise:
    """The sandbox as a provider's real system would be that answers a little otherwise; counts what it is asked."""

    def __init__(self) -> None:
        self._sandbox = create_app()
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        merchants = "/merchants/" in scope.get("path", "")

        async def changed(message: Any) -> None:
            if merchants and message["type"] == "http.response.body":
                message = message | {"body": message["body"].replace(b'"active":true', b'"active":"yes"')}
            if merchants and message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0].lower() != b"content-length"]
                message = message | {"headers": headers}
            await send(message)

        await self._sandbox(scope, receive, changed)


def keys(address: str, environment: str = "test") -> dict[str, str]:
    """What a merchant's environment has; the sandbox knows a merchant whose four keys end alike."""
    suffix = "a1b2c3d4e5f6"
    options = {"api_base": f"{address}/wompi/v1", "checkout_base": f"{address}/wompi/checkout"}
    return {
        "CONTRACT_WOMPI_PUBLIC_KEY": f"pub_{environment}_{suffix}",
        "CONTRACT_WOMPI_PRIVATE_KEY": f"prv_{environment}_{suffix}",
        "CONTRACT_WOMPI_EVENTS_SECRET": f"{environment}_events_{suffix}",
        "CONTRACT_WOMPI_INTEGRITY_SECRET": f"{environment}_integrity_{suffix}",
        "CONTRACT_WOMPI_OPTIONS": json.dumps(options),
    }


async def test_a_run_keeps_what_was_said_and_tells_where_the_sandbox_differs(tmp_path: Path) -> None:
    system = Otherwise()
    async with served(cast("FastAPI", system)) as address:
        environment = keys(address)
        ran = await asyncio.to_thread(run, "wompi", tmp_path, **environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "$.data.active is bool, recorded as str" in ran.stdout
    assert "passed" in ran.stdout.splitlines()[-1]
    files = {path.name: path.read_text() for path in (tmp_path / "wompi").iterdir()}
    assert set(files) == {"provider.json", "sandbox.json", "last_good_run"}
    operations = {one["operation"] for one in json.loads(files["provider.json"])}
    assert {f"GET /v1/merchants/{MASK}", "GET /v1/transactions"} <= operations
    for secret in environment.values():
        assert secret not in ran.stdout + ran.stderr + "".join(files.values())
    again = run("wompi", tmp_path)
    assert (again.returncode, files["last_good_run"].strip() in again.stdout) == (77, True)


def test_a_provider_that_is_never_called_has_no_good_run(tmp_path: Path) -> None:
    ran = run(
        "efecty",
        tmp_path,
        CONTRACT_EFECTY_AGREEMENT="110954",
        CONTRACT_EFECTY_CALLBACK_SECRET=SECRET,
        CONTRACT_EFECTY_OPTIONS='{"live": false}',
    )
    assert ran.returncode == 77
    assert "nothing is ever asked" in ran.stdout
    assert not (tmp_path / "efecty" / "last_good_run").exists()


async def test_keys_that_move_real_money_are_refused_before_the_suite(tmp_path: Path) -> None:
    system = Otherwise()
    async with served(cast("FastAPI", system)) as address:
        ran = await asyncio.to_thread(run, "wompi", tmp_path, **keys(address, "prod"))
    assert ran.returncode == 1
    assert "real money" in ran.stdout
    assert system.asked <= 3
    assert not list(tmp_path.iterdir())

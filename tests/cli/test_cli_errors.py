"""What stands in the way is said in one line, with what to do, and no secret; and the program as it is installed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.lazy import Lazy
from cli.main import cli, run
from embedded.parts import free_port
from embedded.stack import Stack
from tests.cli.running import Apart, Operator
from tests.support.service import CREDENTIALS_KEY, Shop

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(sys.executable).with_name("payment-cli")
AWAY = "PostgreSQL does not answer; is DATABASE_URL right, and the service (make up) running?"
SOME_ID = "3f1b8f0e-6c1c-4a53-9f5a-2f6f2f0c1a77"
CREDENTIALS = ["--credential", "secret_key=sk_test_hidden", "--credential", "webhook_secret=whsec_hidden"]
NEEDS_DATABASE = [
    ["payment-info", SOME_ID],
    ["webhook-status"],
    ["webhook-replay", "--pending"],
    ["commissions", "report", "--workspace", "w"],
    ["commissions", "list", "--workspace", "w"],
    ["commissions", "pay", SOME_ID, "--workspace", "w"],
    ["workspace", "create", "new-one", "--name", "w", "--currency", "ILS"],
    ["workspace", "update", "w", "--vat-rate", "0.1"],
    ["workspace", "list"],
    ["account", "create", "--workspace", "w", "--provider", "stripe", *CREDENTIALS],
    ["account", "list"],
    ["account", "check", SOME_ID],
    ["account", "replace-credentials", SOME_ID, *CREDENTIALS],
    ["account", "enable", SOME_ID],
    ["account", "disable", SOME_ID],
    ["account", "rotate-keys"],
    ["api-key", "create", "--name", "n", "--platform"],
    ["api-key", "list"],
    ["api-key", "revoke", SOME_ID],
    ["audit", "verify"],
]


@pytest.mark.parametrize("command", NEEDS_DATABASE, ids=lambda command: " ".join(command[:2]))
async def test_a_database_that_is_away_is_one_line(nobody: Operator, command: list[str]) -> None:
    nobody.hidden |= {"hush", "sk_test_hidden", "whsec_hidden"}
    url = f"postgresql://payments:hush@127.0.0.1:{free_port()}/payments"
    assert await nobody.says(*command, DATABASE_URL=url, CREDENTIALS_KEYS=CREDENTIALS_KEY) == AWAY


@pytest.mark.parametrize("command", NEEDS_DATABASE, ids=lambda command: " ".join(command[:2]))
async def test_missing_settings_are_named(nobody: Operator, command: list[str]) -> None:
    done = await nobody(*command, code=1)
    assert done.stdout == ""
    assert done.error.startswith("Settings are missing or wrong:\n  DATABASE_URL: Field required\n")
    assert "make up" in done.error


async def test_a_socket_or_a_host_that_is_not_there(nobody: Operator) -> None:
    nobody.hidden.add("hush")
    for url in ("postgresql://p:hush@/x?host=/nonexistent", "postgresql://p:hush@nowhere.invalid/x"):
        assert await nobody.says("workspace", "list", DATABASE_URL=url) == AWAY


@pytest.mark.parametrize(
    "url", ["", "hush nonsense", "postgresql://p:hush@h:port/x", "mysql://p:hush@h/x", "oracle+hush://p:hush@h/x"]
)
async def test_an_address_that_cannot_be_read(nobody: Operator, url: str) -> None:
    nobody.hidden.add("hush")
    message = await nobody.says("workspace", "list", DATABASE_URL=url)
    assert message == "DATABASE_URL cannot be read; write it as postgresql://user:password@host/name."


async def test_parameters_that_the_driver_does_not_have_are_named(nobody: Operator) -> None:
    for query, words in (
        ("keepalives=1", "the driver has no parameter keepalives; leave it out."),
        ("sslmode=verify-full&sslrootcert=/ca.pem", "give sslrootcert in the environment instead, as PGSSLROOTCERT."),
    ):
        url = f"postgresql://p:hush@127.0.0.1:1/x?{query}"
        message = await nobody.says("workspace", "list", DATABASE_URL=url, CREDENTIALS_KEYS=CREDENTIALS_KEY)
        assert message == f"DATABASE_URL: {words}"


async def test_what_postgresql_refuses_is_said_in_its_words(nobody: Operator, stack: Stack) -> None:
    url = stack.database_url
    for wrong, words in (
        (url.replace("/payments?", "/nothing?"), 'database "nothing" does not exist; is DATABASE_URL right?'),
        (url.replace("postgres@", "nobody@"), 'role "nobody" does not exist; is DATABASE_URL right?'),
        (
            url.replace("/payments?", "/postgres?"),
            'relation "workspaces" does not exist; run alembic upgrade head',
        ),
    ):
        assert await nobody.says("workspace", "list", DATABASE_URL=wrong) == f"PostgreSQL refuses: {words}"


async def test_an_error_in_a_statement_does_not_show_its_values(operator: Operator, shop: Shop) -> None:
    operator.hidden |= {"sk_test_hidden", "gAAAA"}  # the latter begins every sealed value
    account = ["account", "create", "--workspace", shop.workspace.slug, "--provider", "stripe"]
    secrets = ["--credential", "secret_key=sk_test_hidden", "--credential", "webhook_secret=w"]
    message = await operator.says(*account, "--name", "o\x00ther", *secrets)
    assert message.startswith("PostgreSQL refuses: ")


async def test_an_empty_installation(apart: Apart) -> None:
    operator = apart.operator
    assert (await operator("workspace", "list")).stdout == "Workspaces: none\n"
    assert (await operator("account", "list", "--json")).json == []
    assert (await operator("api-key", "list")).stdout == "API keys: none\n"
    assert (await operator("webhook-status", "--pending")).stdout.endswith("Waiting: none\n")
    assert (await operator("webhook-replay", "--pending")).stdout == "0 events back in line\n"
    assert (await operator("account", "rotate-keys")).stdout == "sealed the secrets of 0 accounts again\n"
    message = await operator.says("commissions", "report", "--workspace", "w")
    assert message == "There is no workspace w; known: none yet."


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["generate-key"], 0),
        (["sign", "stripe", "webhook", "--secret", "s", "--body", "/nonexistent/body"], 2),
        (["verify-webhook", "stripe", "--secret", "s", "--body", "/dev/null"], 1),
        (["no-such-command"], 2),
        ([], 2),
        (["workspace", "update", "w"], 2),
        (["workspace", "create", "a-slug", "--name", "n", "--currency", "ILS", "--order-webhook-secret", "-"], 130),
    ],
)
def test_exit_codes(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))  # the person at the prompt goes away
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: _leaves())
    assert run(arguments) == code
    said = capsys.readouterr()
    assert (said.err == "") == (code in (0, 1))
    assert "Traceback" not in said.err


def _leaves() -> str:
    raise EOFError


def installed(
    *arguments: str, env: dict[str, str] | None = None, typed: bytes = b"", cwd: Path
) -> tuple[int, str, str]:
    """Exit code, output and errors of the installed program, which gets this environment and nothing else."""
    base = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    done = subprocess.run(
        [PROGRAM, *arguments], env=base | (env or {}), input=typed, capture_output=True, cwd=cwd, check=False
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_the_installed_program(tmp_path: Path, shop: Shop) -> None:
    """A signature without any settings; a list from the database; the database away."""
    verify = ("verify-webhook", "stripe", "--secret", "whsec_x", "--at", "1", "--body", "-")
    forged = ("--header", "Stripe-Signature: t=1,v1=00")
    url = {"DATABASE_URL": shop.service.stack.database_url}
    gone = {"DATABASE_URL": f"postgresql://p:hush@127.0.0.1:{free_port()}/x"}
    verified, listed, away = await asyncio.gather(
        asyncio.to_thread(installed, *verify, *forged, typed=b"{}", cwd=tmp_path),
        asyncio.to_thread(installed, "workspace", "list", "--json", env=url, cwd=tmp_path),
        asyncio.to_thread(installed, "workspace", "list", env=gone, cwd=tmp_path),
    )
    assert verified == (1, "invalid: bad_signature: no signature matches\n", "")
    assert away == (1, "", f"Error: {AWAY}\n")
    assert (listed[0], listed[2]) == (0, "")
    assert shop.workspace.slug in [row["slug"] for row in json.loads(listed[1])]


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    listed = cli.commands[name]
    assert isinstance(listed, Lazy)
    whole = 500  # columns
    assert (listed.name, listed.get_short_help_str(whole)) == (name, listed.load().get_short_help_str(whole))
    assert listed.load().name == name


def test_what_needs_no_database_loads_none() -> None:
    """A second and a half of imports, for a list of commands or a signature."""
    used = (
        ["--help"],
        ["sign", "payu", "request", "--secret", "s"],
        ["verify-webhook", "wompi", "--help"],
        ["generate-key"],
    )
    program = f"import sys, cli.main; [cli.main.run(one) for one in {used}]; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: payment-cli") >= 2
    loaded = {module.partition(".")[0] for module in done.stderr.split()}
    assert "cli" in loaded
    assert not loaded & {"activities", "api", "fastapi", "pydantic", "settings", "sqlalchemy", "storage", "temporalio"}
    assert "providers.stripe" not in done.stderr.split()

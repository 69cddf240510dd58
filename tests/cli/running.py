"""An operator at the command line, and a database that a test has for itself."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from click.testing import CliRunner

from cli.main import cli
from storage.session import Database
from tests.support.service import CREDENTIALS_KEY, NOTICE_SECRET

NOTHING_SET: dict[str, str | None] = {"DATABASE_URL": None, "CREDENTIALS_KEYS": None, "PUBLIC_BASE_URL": None}


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def error(self) -> str:
        """The message on standard error, without what click says before it."""
        return self.stderr.rpartition("Error: ")[2].strip()


@dataclass
class Operator:
    """Runs payment-cli with an environment. No output may hold one of the `hidden` secrets, or a traceback."""

    env: dict[str, str | None]
    hidden: set[str] = field(default_factory=lambda: {CREDENTIALS_KEY, NOTICE_SECRET})

    async def __call__(self, *arguments: object, code: int = 0, typed: str | bytes = "", **env: str | None) -> Ran:
        """Run a command that must end with this exit code. `typed` is its standard input."""
        # in a thread: a command has an event loop of its own
        done = await asyncio.to_thread(
            CliRunner().invoke, cli, [str(part) for part in arguments], input=typed, env=self.env | env
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
        assert done.exit_code == code, done.output
        assert code or done.stderr == ""
        for secret in self.hidden:
            assert secret not in done.output
        assert "Traceback" not in done.output
        return Ran(done.stdout, done.stderr)

    async def says(self, *arguments: object, code: int = 1, **changes: Any) -> str:
        """The error of a command that must fail: one line, and nothing on standard output."""
        done = await self(*arguments, code=code, **changes)
        assert done.stdout == ""
        assert len(done.error.splitlines()) == 1, done.stderr
        return done.error


@dataclass(frozen=True)
class Apart:
    """A database of one test's own, for what would reach every workspace, and its operator."""

    url: str
    database: Database
    operator: Operator

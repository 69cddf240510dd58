"""What the service says to PostgreSQL, read from the server's own log: every statement that a client sent, by session.

`log_statement = all` is switched on for the running server and off again. One logged line is one message to the server,
so BEGIN and COMMIT count as round trips; what triggers run inside the server is not logged and costs none.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from storage.session import Database

PREFIX = "@%p@ "
_LINE = re.compile(r"@(\d+)@ LOG:  (?:statement|execute [^:]*): (.*)", re.DOTALL)
_VERB = re.compile(
    r"\s*(INSERT INTO|UPDATE|DELETE FROM|SELECT\b.*?\bFROM\b|SELECT)\s*\(?\s*(\w+)?", re.DOTALL | re.IGNORECASE
)
_SWITCHES = {"log_line_prefix": f"'{PREFIX}'", "log_parameter_max_length": "0", "log_statement": "'all'"}


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one session sent between BEGIN and COMMIT, both excluded; or, not `explicit`, one statement by itself."""

    statements: tuple[str, ...]
    explicit: bool = True

    @property
    def round_trips(self) -> int:
        """Messages to the server, with BEGIN and COMMIT where they were sent."""
        return len(self.statements) + (2 if self.explicit else 0)

    @property
    def label(self) -> str:
        """Verbs and tables, short enough for a table."""
        return " · ".join(_short(statement) for statement in self.statements) or "nothing"


@asynccontextmanager
async def every_statement(database: Database) -> AsyncIterator[None]:
    """Log each statement while the block runs."""
    await _configure(database, [f"ALTER SYSTEM SET {name} = {value}" for name, value in _SWITCHES.items()])
    try:
        yield
    finally:
        await _configure(database, [f"ALTER SYSTEM RESET {name}" for name in _SWITCHES])


async def _configure(database: Database, statements: Iterable[str]) -> None:
    async with database.engine.connect() as connection:
        plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in (*statements, "SELECT pg_reload_conf()"):
            await plain.execute(text(statement))


def read_log(path: Path, offset: int = 0) -> list[Transaction]:
    """The transactions that ended in a part of the log, in order of their ends."""
    with path.open("rb") as log:
        log.seek(offset)
        return transactions(log.read().decode(errors="replace"))


def transactions(log: str) -> list[Transaction]:
    """Sessions are told apart by their process; a statement outside of a transaction is one by itself."""
    done: list[Transaction] = []
    open_ones: dict[str, list[str] | None] = defaultdict(lambda: None)
    for session, statement in _statements(log):
        word = statement.lstrip().split(None, 1)[0].rstrip(";").upper() if statement.strip() else ""
        running = open_ones[session]
        if word == "BEGIN":
            open_ones[session] = []
        elif word in ("COMMIT", "ROLLBACK"):
            if running is not None:
                done.append(Transaction(tuple(running)))
            open_ones[session] = None
        elif running is not None:
            running.append(statement)
        else:
            done.append(Transaction((statement,), explicit=False))
    return done


def _statements(log: str) -> Iterable[tuple[str, str]]:
    """Session and text; lines that begin with a tab go on with the statement before."""
    entries = re.split(r"\n(?!\t)", log)
    for entry in entries:
        found = _LINE.match(entry)
        if found is not None:
            yield found.group(1), " ".join(found.group(2).split())


def without(some: Iterable[Transaction], background: Sequence[Transaction]) -> list[Transaction]:
    """Leave out what the service also sends when nothing happens: its regular look for due work."""
    idle = {statement for one in background for statement in one.statements}
    return [one for one in some if not all(statement in idle for statement in one.statements)]


def by_label(some: Iterable[Transaction]) -> Counter[str]:
    """How many of each kind."""
    return Counter(one.label for one in some)


def _short(statement: str) -> str:
    found = _VERB.match(statement)
    if found is None:
        return statement[:30]
    verb = found.group(1).split()[0].upper()
    lock = " for update" if "FOR UPDATE" in statement.upper() else ""
    return f"{verb} {found.group(2) or ''}{lock}".strip()

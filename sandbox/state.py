"""What the sandbox remembers: objects, events and idempotency keys, by API key, in memory and in one SQLite file."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def new_id(prefix: str) -> str:
    """An id that looks like the provider's."""
    return f"{prefix}_{secrets.token_hex(12)}"


class Store:
    """Objects by id, each owned by the API key that made it. Every write is committed before the answer goes out."""

    def __init__(self, path: Path | None) -> None:
        self._database = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS things (id TEXT PRIMARY KEY, kind TEXT, owner TEXT, body TEXT)"
        )
        self._things: dict[str, Json] = {}
        self._kind: dict[str, str] = {}
        self._owner: dict[str, str] = {}
        self._order: dict[str, list[str]] = defaultdict(list)
        for thing_id, kind, owner, body in self._database.execute(
            "SELECT id, kind, owner, body FROM things ORDER BY rowid"
        ):
            self._remember(thing_id, kind, owner, json.loads(body))

    def _remember(self, thing_id: str, kind: str, owner: str, body: Json) -> None:
        if thing_id not in self._things:
            self._order[kind].append(thing_id)
        self._things[thing_id], self._kind[thing_id], self._owner[thing_id] = body, kind, owner

    def put(self, kind: str, owner: str, body: Json, thing_id: str | None = None) -> Json:
        """Keep a new object or its new state."""
        thing_id = thing_id or str(body["id"])
        self._remember(thing_id, kind, owner, body)
        self._database.execute(
            "INSERT INTO things VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (thing_id, kind, owner, json.dumps(body)),
        )
        return body

    def get(self, kind: str, thing_id: str, owner: str | None = None) -> Json | None:
        """One object, if it is of this kind and (where given) this owner's."""
        if self._kind.get(thing_id) != kind or (owner is not None and self._owner[thing_id] != owner):
            return None
        return self._things[thing_id]

    def owner_of(self, thing_id: str) -> str:
        """The API key that an object belongs to."""
        return self._owner[thing_id]

    def all(self, kind: str, owner: str | None = None) -> list[Json]:
        """All of a kind, newest first."""
        ids = reversed(self._order[kind])
        return [self._things[thing_id] for thing_id in ids if owner is None or self._owner[thing_id] == owner]

    def remove(self, thing_id: str) -> None:
        """Forget."""
        kind = self._kind.pop(thing_id)
        self._order[kind].remove(thing_id)
        del self._things[thing_id], self._owner[thing_id]
        self._database.execute("DELETE FROM things WHERE id = ?", (thing_id,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

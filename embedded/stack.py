"""The whole service on one machine: which parts, on which ports, with which secrets."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from embedded import postgres, temporal
from embedded.leftovers import replace_file
from embedded.parts import MAX_PORT, Part, StartFailed, answers, free_ports, require_free
from embedded.supervisor import Supervisor, supervised, take_lock

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on the loopback interface."""

    api: int = 8000
    temporal: int = 7233
    temporal_ui: int = 8233
    sandbox: int = 8100

    @classmethod
    def from_environment(cls) -> Ports:
        """The defaults, or what API_PORT, TEMPORAL_PORT, TEMPORAL_UI_PORT and SANDBOX_PORT say. Raises StartFailed."""
        chosen = {}
        for name, setting in PORT_SETTINGS.items():
            text = os.environ.get(setting, "")
            if text and not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT):
                raise StartFailed(f"{setting} is a port number from 1 to {MAX_PORT}, not {text!r}.")
            if text:
                chosen[name] = int(text)
        return cls(**chosen)

    @classmethod
    def free(cls) -> Ports:
        """Whatever is free now."""
        return cls(*free_ports(4))

    def require_free(self) -> None:
        """Raises StartFailed, naming the setting, when one of them is taken or given twice."""
        settings: dict[int, str] = {}
        for name, setting in PORT_SETTINGS.items():
            port = getattr(self, name)
            if port in settings:
                raise StartFailed(f"{settings[port]} and {setting} are the same port {port}; give each its own.")
            settings[port] = setting
            require_free(port, setting)


API_KEYS = ("DEMO_API_KEY", "DEMO_MARKETPLACE_API_KEY", "ADMIN_API_KEY")
"""What `make up` puts into `dev.env` once the database is there."""
PORT_SETTINGS = {
    "api": "API_PORT",
    "temporal": "TEMPORAL_PORT",
    "temporal_ui": "TEMPORAL_UI_PORT",
    "sandbox": "SANDBOX_PORT",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """A running service and how to reach it."""

    state: Path
    ports: Ports
    env: Mapping[str, str]
    supervisor: Supervisor

    @property
    def api_url(self) -> str:
        """The API."""
        return f"http://127.0.0.1:{self.ports.api}"

    @property
    def sandbox_url(self) -> str:
        """The sandbox provider."""
        return f"http://127.0.0.1:{self.ports.sandbox}"

    @property
    def temporal_ui_url(self) -> str:
        """Temporal's pages."""
        return f"http://127.0.0.1:{self.ports.temporal_ui}"

    @property
    def database_url(self) -> str:
        """PostgreSQL."""
        return self.env["DATABASE_URL"]


def environment(state: Path, ports: Ports) -> dict[str, str]:
    """What the service's processes get: addresses, and secrets that are made once and kept in `dev.env`."""
    known = read_env(state / "dev.env")
    made = {
        "CREDENTIALS_KEYS": known.get("CREDENTIALS_KEYS") or Fernet.generate_key().decode(),
        "TEMPORAL_CODEC_KEYS": known.get("TEMPORAL_CODEC_KEYS", ""),
        "DEMO_PROVIDER_KEY": known.get("DEMO_PROVIDER_KEY") or f"sk_test_{secrets.token_hex(12)}",
        "DEMO_WEBHOOK_SECRET": known.get("DEMO_WEBHOOK_SECRET") or f"whsec_{secrets.token_hex(16)}",
        "DEMO_NOTICE_SECRET": known.get("DEMO_NOTICE_SECRET")
        or "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
    }
    kept = {name: value for name, value in known.items() if name in API_KEYS}
    addresses = {
        "DATABASE_URL": postgres.database_url(state / "postgres"),
        "TEMPORAL_ADDRESS": f"127.0.0.1:{ports.temporal}",
        "API_PORT": str(ports.api),
        "PUBLIC_BASE_URL": f"http://127.0.0.1:{ports.api}",
        "SANDBOX_URL": f"http://127.0.0.1:{ports.sandbox}",
    }
    env = kept | made | addresses
    write_env(state / "dev.env", env)
    return env


def read_env(path: Path) -> dict[str, str]:
    """NAME=value lines."""
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def write_env(path: Path, env: Mapping[str, str]) -> None:
    """The reverse, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{name}={value}\n" for name, value in env.items())
    replace_file(path, "# Made by `make up`; for this machine only.\n" + text)


@asynccontextmanager
async def engines(state: Path, ports: Ports) -> AsyncIterator[Stack]:
    """PostgreSQL (migrated) and Temporal alone, without its pages. Raises StartFailed."""
    async with _held(state) as supervisor:
        yield await _start_engines(supervisor, state, ports, ui_port=None)


@asynccontextmanager
async def service(state: Path, ports: Ports, extra_env: Mapping[str, str] | None = None) -> AsyncIterator[Stack]:
    """Everything: engines, sandbox, API and worker. Raises StartFailed."""
    async with _held(state) as supervisor:
        ports.require_free()
        stack = await _start_engines(supervisor, state, ports, ui_port=ports.temporal_ui)
        env = {**stack.env, **(extra_env or {})}
        await supervisor.start(_sandbox(state, ports), _worker(state, env), _api(ports, env))
        yield stack


@asynccontextmanager
async def _held(state: Path) -> AsyncIterator[Supervisor]:
    """The state folder for us alone, and a supervisor on it."""
    with take_lock(state):
        try:
            async with supervised(state) as supervisor:
                yield supervisor
        finally:
            postgres.remove_socket_folder(state / "postgres")


async def _start_engines(supervisor: Supervisor, state: Path, ports: Ports, *, ui_port: int | None) -> Stack:
    data = state / "postgres"
    await supervisor.start(postgres.part(data), temporal.part(state / "temporal", port=ports.temporal, ui_port=ui_port))
    postgres.ensure_database(data)
    migrate(postgres.database_url(data))
    return Stack(state, ports, environment(state, ports), supervisor)


def migrate(database_url: str, target: str = "head") -> None:
    """Bring the schema up to date. Raises StartFailed with what Alembic said."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", target],
        env={**os.environ, "DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        start_new_session=True,  # Ctrl-C is the supervisor's to handle
    )
    if done.returncode:
        raise StartFailed(f"The database could not be migrated: {done.stderr.strip()[-1500:]}")


def _worker(state: Path, env: Mapping[str, str]) -> Part:
    ready_file = state / "worker.ready"

    async def ready() -> bool:
        return ready_file.exists()

    return Part(
        name="worker",
        command=(sys.executable, "worker.py"),
        ready=ready,
        before=lambda: ready_file.unlink(missing_ok=True),
        env={**env, "READY_FILE": str(ready_file)},
        cwd=ROOT,
    )


def _api(ports: Ports, env: Mapping[str, str]) -> Part:
    return Part(
        name="api",
        command=(sys.executable, "-m", "api"),
        ready=lambda: answers(ports.api, "/readyz"),
        env=env,
        cwd=ROOT,
    )


def _sandbox(state: Path, ports: Ports) -> Part:
    return Part(
        name="sandbox",
        command=(
            sys.executable, "-m", "sandbox", "--port", str(ports.sandbox), "--state-file", str(state / "sandbox.db"),
        ),
        ready=lambda: answers(ports.sandbox, "/healthz"),
        cwd=ROOT,
    )  # fmt: skip

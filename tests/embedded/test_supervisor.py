"""The supervisor on small programs: what it restarts, what it ends, what it says."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from embedded import leftovers, supervisor
from embedded.leftovers import Record, end_leftovers, replace_file
from embedded.parts import Part, StartFailed
from embedded.supervisor import Supervisor, supervised, take_lock
from tests.support.service import eventually

READY = "import os, pathlib, signal, sys, time; ready = pathlib.Path(os.environ['READY']);"
SERVE = "ready.touch(); time.sleep(60)"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN);"


def runs(pid: int) -> bool:
    """Whether the process does anything still; its parent may not have noticed its end."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@dataclass
class Hall:
    """A supervisor, what it said, and parts to give to it."""

    folder: Path
    supervisor: Supervisor
    said: list[str] = field(default_factory=list)

    def part(self, name: str, program: str = SERVE, before: Callable[[], None] | None = None) -> Part:
        file = self.folder / f"{name}.ready"

        async def ready() -> bool:
            return file.exists()

        return Part(
            name=name,
            command=(sys.executable, "-S", "-E", "-c", READY + program),
            ready=ready,
            env={"READY": str(file)},
            before=before or (lambda: file.unlink(missing_ok=True)),
        )

    async def hears(self, text: str) -> str:
        async def said() -> str | None:
            return next((line for line in self.said if text in line), None)

        return str(await eventually(said))


@pytest_asyncio.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    said: list[str] = []
    async with supervised(tmp_path, said.append) as running:
        yield Hall(tmp_path, running, said)


async def test_a_killed_part_is_restarted_and_the_others_are_left_alone(hall: Hall) -> None:
    await hall.supervisor.start(hall.part("one"), hall.part("two"))
    killed, other = hall.supervisor.pid("one"), hall.supervisor.pid("two")
    os.kill(killed, signal.SIGKILL)
    await hall.hears("one ended (signal 9); starting it again in 0.2 s")
    await hall.hears("one is back")
    assert hall.supervisor.pid("one") != killed
    assert runs(hall.supervisor.pid("one"))
    assert hall.supervisor.pid("two") == other


async def test_a_part_that_ends_well_is_restarted_too(hall: Hall) -> None:
    await hall.supervisor.start(hall.part("one", "ready.touch(); time.sleep(0.3)"))
    await hall.hears("one ended (code 0)")
    await hall.hears("one is back")


async def test_back_means_ready_again(hall: Hall) -> None:
    slowly = "ran = ready.with_suffix('.ran'); time.sleep(0.3 if ran.exists() else 0); ran.open('a').write('x');"
    part = hall.part("slow", slowly + SERVE)
    await hall.supervisor.start(part)
    os.kill(hall.supervisor.pid("slow"), signal.SIGKILL)
    await hall.hears("slow ended")
    await hall.hears("slow is back")
    [ran] = hall.folder.rglob("*.ran")
    assert ran.read_text() == "xx", "it was waited for until it had done what comes before it is ready"


async def test_a_part_that_crashes_again_and_again_is_given_time_and_reported(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "MAX_RESTART_SECONDS", 0.1)
    broken = hall.folder / "broken"
    broken.touch()
    program = (
        f"broken = pathlib.Path({str(broken)!r}); ran = ready.with_suffix('.ran');"
        "(print('the disk is full', flush=True), sys.exit(7)) if ran.exists() and broken.exists() else ran.touch();"
    )
    await hall.supervisor.start(hall.part("one", program + SERVE))
    os.kill(hall.supervisor.pid("one"), signal.SIGKILL)
    await hall.hears("6 times in a row")
    broken.unlink()
    await hall.hears("one is back")
    waits = [float(found.group(1)) for line in hall.said if (found := re.search(r"again in ([\d.]+) s", line))]
    assert waits[:6] == [0.0, 0.0, 0.1, 0.1, 0.1, 0.1]  # 0.02, 0.04, 0.08, then the most
    why = [line for line in hall.said if "the disk is full" in line]
    assert len(why) == 1
    assert "one ended (code 7), 3 times in a row" in why[0]
    assert str(hall.folder / "logs" / "one.log") in why[0]


async def test_a_part_that_cannot_even_be_started_is_tried_again(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_SECONDS", 0.02)
    allowed = [True, False, False, True]

    def before() -> None:
        (hall.folder / "one.ready").unlink(missing_ok=True)
        if not allowed.pop(0):
            raise StartFailed("not now")

    await hall.supervisor.start(hall.part("one", before=before))
    os.kill(hall.supervisor.pid("one"), signal.SIGKILL)
    await hall.hears("one is back")
    assert [line for line in hall.said if line == "not now"] == ["not now"] * 2
    await hall.hears("one could not be started, 3 times in a row")


async def test_one_that_does_not_start_ends_the_start_of_all_and_is_quoted(hall: Hall) -> None:
    never = hall.part("slow", "time.sleep(60)")
    with pytest.raises(StartFailed, match=r"(?s)bad did not start.*bad\.log.*no such table"):
        await hall.supervisor.start(never, hall.part("bad", "sys.exit('no such table')"))
    slow = hall.supervisor.pid("slow")
    await hall.supervisor.stop()
    assert not runs(slow)


async def test_a_missing_program_is_named(hall: Hall) -> None:
    part = hall.part("gone")
    with pytest.raises(StartFailed, match=r"gone cannot be started.*no-such-program"):
        await hall.supervisor.start(Part("gone", ("/no-such-program",), part.ready))


async def test_stopping_ends_the_last_group_first_and_the_stubborn_too(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.3)
    say_when = (
        "tell = lambda *_: (open(ready.parent / 'order', 'a').write(ready.stem + ' '), sys.exit());"
        "signal.signal(signal.SIGTERM, tell);"
    )
    await hall.supervisor.start(hall.part("engine", say_when + SERVE))
    await hall.supervisor.start(hall.part("service", say_when + SERVE), hall.part("deaf", DEAF + SERVE))
    pids = [hall.supervisor.pid(name) for name in ("engine", "service", "deaf")]
    await hall.supervisor.stop()
    assert (hall.folder / "order").read_text().split() == ["service", "engine"]
    assert [pid for pid in pids if runs(pid)] == []


async def test_stopping_while_a_part_is_being_restarted_leaves_none(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_RESTART_SECONDS", 0.0)
    for number in range(6):
        hall.said.clear()
        await hall.supervisor.start(hall.part("one"))
        os.kill(hall.supervisor.pid("one"), signal.SIGKILL)
        await hall.hears("one ended")
        await asyncio.sleep(number * 0.005)
        await hall.supervisor.stop()
        assert [child.pid for child in psutil.Process().children() if runs_in(child, hall.folder)] == []


def runs_in(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):
        return process.environ().get("READY", "").startswith(str(folder))
    return False


async def test_a_second_supervisor_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    with take_lock(tmp_path), pytest.raises(StartFailed, match=rf"process {os.getpid()}.*{tmp_path}"):
        take_lock(tmp_path)
    take_lock(tmp_path).close()


SUPERVISING = """
    import asyncio, sys
    from pathlib import Path
    from embedded.parts import Part
    from embedded.supervisor import supervised

    folder = Path(sys.argv[1])

    async def main():
        async with supervised(folder) as supervisor:
            async def ready():
                return (folder / "one.ready").exists()
            command = (sys.executable, "-S", "-E", "-c", sys.argv[2])
            await supervisor.start(Part("one", command, ready, env={"READY": str(folder / "one.ready")}))
            print(supervisor.pid("one"), flush=True)
            await asyncio.sleep(60)

    asyncio.run(main())
"""


def supervise_and_kill(folder: Path, program: str) -> int:
    """A supervisor in a process of its own, killed with -9; returns the pid of its part."""
    command = [sys.executable, "-c", textwrap.dedent(SUPERVISING), str(folder), READY + program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        running.kill()
    return pid


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the next start ends them")
async def test_parts_end_with_a_killed_supervisor(tmp_path: Path) -> None:
    pid = supervise_and_kill(tmp_path, SERVE)

    async def gone() -> bool:
        return not runs(pid)

    await eventually(gone)


async def test_what_outlives_a_killed_supervisor_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE_SECONDS", 0.3)
    pid = supervise_and_kill(tmp_path, DEAF + SERVE)
    assert runs(pid)
    said: list[str] = []
    async with supervised(tmp_path, said.append):
        assert not runs(pid)
    assert said == ["an earlier run was killed; ending what it left: one"]


async def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"]) as stranger:
        path = tmp_path / "parts.json"
        Record(path).note("one", stranger.pid, signal.SIGTERM)
        replace_file(path, re.sub(r'"started": [\d.]+', '"started": 1000.0', path.read_text()))
        end_leftovers(Record(path), lambda _: None)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("text", ["", "[", '[{"pid": 1}]', '{"a": 1}', "[1]", "null"])
def test_a_damaged_record_is_no_reason_not_to_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "parts.json"
    path.write_text(text)
    end_leftovers(Record(path), lambda _: None)


def test_a_file_is_replaced_as_a_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "dev.env"
    path.write_text("OLD=1")
    (tmp_path / "dev.env.new").write_text("half of a for")  # what a kill may have left
    replace_file(path, "NEW=1")
    assert path.read_text() == "NEW=1"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["dev.env"]

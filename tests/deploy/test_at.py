"""The suite can be run at another moment (`make test-at`): everything that it starts has that moment's clock."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from embedded.parts import free_port
from embedded.stack import ROOT
from embedded.temporal import binary

MOMENT = datetime(2031, 12, 31, 23, 50, tzinfo=UTC)
ASK = "import datetime, time; print(min(datetime.datetime.now().timestamp(), time.time(), time.clock_gettime(0)))"

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the clock is moved by code for this machine only"
)


def run(*command: str, moment: datetime = MOMENT) -> subprocess.CompletedProcess[str]:
    at = (sys.executable, "-m", "tests.at", moment.isoformat())
    return subprocess.run((*at, *command), cwd=ROOT, capture_output=True, text=True, check=False)


def after_the_moment(said: str, moment: datetime = MOMENT) -> bool:
    return moment <= datetime.fromtimestamp(float(said), UTC) < moment + timedelta(hours=1)


@pytest.mark.parametrize("moment", [MOMENT, datetime(2020, 2, 29, 12, tzinfo=UTC)])
def test_a_program_and_all_that_it_starts_have_the_moments_clock(moment: datetime) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}])"
    thread = f"import threading; one = threading.Thread(target=exec, args=({child!r},)); one.start(); one.join()"
    for program in (ASK, child, thread):
        done = run(sys.executable, "-c", program, moment=moment)
        assert after_the_moment(done.stdout, moment), done
    assert after_the_moment(run("sh", "-c", "date +%s", moment=moment).stdout, moment)


def test_a_program_that_asks_without_the_c_library_has_it_too() -> None:
    """Temporal is such a program; the first line of its log says when it was written."""
    server = [binary("temporal"), "server", "start-dev", "--headless", "--port", str(free_port())]
    server += ["--log-format", "json", "--log-level", "info"]
    command = [sys.executable, "-m", "tests.at", MOMENT.isoformat(), *server]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as started:
        assert started.stdout is not None
        lines = (line for line in started.stdout if line.startswith("{"))
        logged = datetime.fromisoformat(json.loads(next(lines))["time"])
        started.kill()  # what it follows ends with it
    assert after_the_moment(str(logged.timestamp()))


def test_the_commands_end_is_its_end() -> None:
    assert run("sh", "-c", "exit 7").returncode == 7
    assert run("sh", "-c", "kill -TERM $$").returncode == 128 + 15
    assert run("no-such-command").returncode == 127


def test_a_stopped_program_goes_on_when_it_is_told_to() -> None:
    done = run("sh", "-c", "(sleep 0.2; kill -STOP $$; sleep 0.2; kill -CONT $$) & wait; echo on")
    assert (done.returncode, done.stdout) == (0, "on\n")


def test_durations_are_left_alone() -> None:
    done = run(sys.executable, "-c", "import time; a = time.monotonic(); time.sleep(0.01); print(time.monotonic() - a)")
    assert 0.01 <= float(done.stdout) < 60

"""Every program of the project says what it is for when it is asked, does nothing else then, and refuses what it does
not understand. The programs are found by looking, so that a new one is among them."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.lazy import Lazy
from cli.main import cli
from embedded.stack import ROOT

NOT_OURS = {"__pycache__", "build", "node_modules"}
"""Folders without a program of ours; nor have those whose name begins with a dot, but for `.ci`."""

GUARD = '''
import os, sys

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ACTS = {
    "os.exec", "os.fork", "os.forkpty", "os.kill", "os.mkdir", "os.posix_spawn", "os.remove", "os.rename", "os.rmdir",
    "os.spawn", "os.symlink", "os.link", "os.truncate", "os.chmod", "os.chown", "os.system", "shutil.rmtree",
    "socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen",
}

def served(event, arguments):
    """A library tries out an address family on any free port; who serves names the port."""
    return event == "socket.bind" and arguments[1][1] != 0

def written(event, arguments):
    return event == "open" and arguments[0] != os.devnull and (arguments[2] or 0) & WRITES

def watch(event, arguments):
    if event in ACTS or served(event, arguments) or written(event, arguments):
        sys.__stderr__.write(f"it acts: {event} {arguments}\\n")
        sys.__stderr__.flush()
        os._exit(99)

sys.addaudithook(watch)
'''
"""Loaded by Python before the program: whoever writes, starts or connects to anything is ended with 99."""


def files() -> Iterator[Path]:
    for folder, names, found in os.walk(ROOT):
        names[:] = sorted(name for name in names if name not in NOT_OURS and (name == ".ci" or name[0] != "."))
        yield from (Path(folder, name) for name in sorted(found))


def is_program(path: Path) -> bool:
    """Whether a module does something when it is run, and not only when it is imported."""
    body = ast.parse(path.read_text()).body
    return any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in body)


def programs() -> dict[str, tuple[str, ...]]:
    """What is typed to run each program, by its place."""
    found: dict[str, tuple[str, ...]] = {}
    for path in files():
        place = str(path.relative_to(ROOT))
        if path.suffix == ".py" and is_program(path):
            module = place.removesuffix(".py").replace("/", ".").removesuffix(".__main__")
            found[place] = (sys.executable, "-m", module)
            if len(list(path.parent.glob("*.py"))) == 1:  # a script that stands alone is called by its path
                found[place] = (sys.executable, str(path))
        elif path.suffix == ".sh" or (not path.suffix and path.read_bytes()[:2] == b"#!"):
            shell = path.read_text().partition("\n")[0].removeprefix("#!").split()[-1]
            found[place] = (shutil.which(shell) or shell, str(path))
    return found


def commands(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The operator's tool and each of its commands."""
    yield names
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        command = command.load() if isinstance(command, Lazy) else command
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))
        else:
            yield (*names, name)


PROGRAMS = programs()
each_program = pytest.mark.parametrize("place", PROGRAMS)


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """An environment in which a program finds no settings, no programs, and nothing that it may change."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "bin").mkdir()
    return {
        "PATH": str(tmp_path / "bin"),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": f"{tmp_path / 'guard'}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(command: tuple[str, ...], world: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=world, cwd=world["HOME"], capture_output=True, text=True, check=False)


def test_the_programs_are_found() -> None:
    assert {
        ".ci/run", "api/__main__.py", "bench/__main__.py", "cli/main.py", "deploy/make_env.py",
        "deploy/postgres-init.sh", "embedded/__main__.py", "sandbox/__main__.py", "settings.py",
        "tests/chaos/__main__.py", "tests/workflows/record.py", "worker.py",
    } <= PROGRAMS.keys()  # fmt: skip


def test_one_that_acts_is_noticed(world: dict[str, str]) -> None:
    for act in ("open('made', 'w')", "import subprocess; subprocess.run(['x'])", "import os; os.mkdir('made')"):
        assert run((sys.executable, "-c", act), world).returncode == 99
    assert not Path(world["HOME"], "made").exists()


@each_program
def test_a_program_says_what_it_is_for_and_does_nothing_else(place: str, world: dict[str, str]) -> None:
    done = run((*PROGRAMS[place], "--help"), world)
    assert (done.returncode, done.stderr) == (0, "")
    first = done.stdout.splitlines()[0]
    assert first.lower().startswith("usage: "), first
    assert "__main__" not in first, "the line says what is to be typed"
    assert len(done.stdout.split()) > 12, "and more than its own name"
    assert sorted(path.name for path in Path(world["HOME"]).iterdir()) == ["bin", "guard"]


@each_program
def test_what_is_not_understood_is_refused_and_nothing_done(place: str, world: dict[str, str]) -> None:
    done = run((*PROGRAMS[place], "--no-such-option"), world)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "usage: " in done.stderr.lower()


@pytest.mark.parametrize("names", list(commands(cli)), ids=" ".join)
def test_a_command_of_the_tool_says_what_it_is_for_and_refuses_the_rest(names: tuple[str, ...]) -> None:
    """In this process: what a command loads is the same for all, and the tool itself is among the programs above."""
    outside = {"DATABASE_URL": None, "CREDENTIALS_KEYS": None}
    for asked in ("--help", "-h"):
        done = CliRunner().invoke(cli, [*names, asked], prog_name="payment-cli", env=outside)
        assert (done.exit_code, done.stderr) == (0, "")
        assert done.stdout.startswith(" ".join(("Usage: payment-cli", *names))), done.stdout
    refused = CliRunner().invoke(cli, [*names, "--no-such-option"], prog_name="payment-cli", env=outside)
    assert (refused.exit_code, refused.stdout) == (2, "")

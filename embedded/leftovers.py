"""Parts that outlived their supervisor: on record with pid and start time, so that the next run can end them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from embedded.parts import StartFailed

PATIENCE_SECONDS = 20.0
"""On Linux they were told to end when their supervisor died; this long they may finish what they do."""
KILL_SECONDS = 5.0
CLOCK_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Noted:
    """A part that was started. A pid alone says nothing later, so its start time is kept with it."""

    name: str
    pid: int
    started: float
    stop_signal: int

    def runs(self) -> bool:
        """Whether it still does; what waits for its parent to notice its end does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < CLOCK_TOLERANCE_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class Record:
    """The parts of one state folder, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, Noted] = {}

    def note(self, name: str, pid: int, stop_signal: int) -> None:
        """A part was started."""
        with suppress(psutil.Error):  # it has ended by now
            self._parts[name] = Noted(name, pid, psutil.Process(pid).create_time(), stop_signal)
            self._write()

    def clear(self) -> None:
        """All parts have ended."""
        self._parts.clear()
        self._write()

    def of_earlier_run(self) -> list[Noted]:
        """What is on file; nothing when the file is missing or damaged."""
        try:
            return [Noted(**item) for item in json.loads(self._path.read_text())]
        except (OSError, ValueError, TypeError):
            return []

    def _write(self) -> None:
        fields = [{name: getattr(part, name) for name in Noted.__slots__} for part in self._parts.values()]
        replace_file(self._path, json.dumps(fields))


def end_leftovers(record: Record, say: Callable[[str], None]) -> None:
    """End what an earlier run left behind when it was killed. The caller holds the state folder's lock.

    Raises StartFailed when something cannot be ended.
    """
    left = [part for part in record.of_earlier_run() if part.runs()]
    if left:
        say(f"an earlier run was killed; ending what it left: {', '.join(part.name for part in left)}")
    for part in left:
        _signal(part, part.stop_signal)
    stubborn = _still_running(left, PATIENCE_SECONDS)
    for part in stubborn:
        _signal(part, signal.SIGKILL)
    for part in _still_running(stubborn, KILL_SECONDS):
        raise StartFailed(f"{part.name} of an earlier run cannot be ended; end process {part.pid} by hand.")
    record.clear()


def _signal(part: Noted, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(part.pid, number)


def _still_running(parts: Sequence[Noted], seconds: float) -> list[Noted]:
    deadline = time.monotonic() + seconds
    left = list(parts)
    while left and time.monotonic() < deadline:
        left = [part for part in left if part.runs()]
        time.sleep(0.05 if left else 0)
    return left


def replace_file(path: Path, text: str) -> None:
    """Write a file for its owner; a crash leaves the old text or the new one, never a part of it."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)

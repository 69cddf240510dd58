"""What a supervised program is: its command, how it is known to be ready, how it is stopped."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OWN_PORTS = range(10_000, 32_000)
"""Below what systems give to outgoing connections: a port there could be taken while its owner restarts."""
MAX_PORT = 65_535


class StartFailed(Exception):
    """A part cannot be started; the text says what to do."""


def _nothing() -> None:
    """No preparation."""


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised program. `before` runs ahead of every start, `ready` is asked until it is true."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] = _nothing
    stop_signal: signal.Signals = signal.SIGTERM
    """Ends it in good order."""
    user: str | None = None
    cwd: Path | None = None
    ready_seconds: float = 30.0
    start_tries: int = 1
    """How often its first start may end at once before that is an error."""

    async def spawn(self, log: Path) -> asyncio.subprocess.Process:
        """Start it in a session of its own, so that Ctrl-C reaches the supervisor only; it dies with the supervisor.

        Raises StartFailed.
        """
        self.before()
        try:
            with log.open("ab") as output:
                return await asyncio.create_subprocess_exec(
                    *self.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **self.env},
                    cwd=self.cwd,
                    user=self.user,
                    start_new_session=True,
                    preexec_fn=_die_with_parent(self.stop_signal),
                )
        except OSError as error:
            raise StartFailed(f"{self.name} cannot be started: {error}") from error


def _die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Linux sends the child this signal when the supervisor dies, even by kill -9. Elsewhere nothing happens."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # found here: the child of a fork must not load libraries
    parent = os.getpid()

    def ask_kernel() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(number))
            if os.getppid() != parent:  # it died before it was asked for
                os._exit(1)

    return ask_kernel


def free_ports(number: int) -> list[int]:
    """So many different ports of the loopback interface that are free now."""
    first = random.SystemRandom().randrange(len(_OWN_PORTS))  # not the lowest: others look at the same moment
    in_turn = (_OWN_PORTS[(first + step) % len(_OWN_PORTS)] for step in range(len(_OWN_PORTS)))
    return list(islice((port for port in in_turn if _bind_error(port) is None), number))


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    return free_ports(1)[0]


def _bind_error(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None


def require_free(port: int, setting: str) -> None:
    """Raises StartFailed, naming the setting to change, when something listens on the port."""
    error = _bind_error(port)
    if error is None:
        return
    trouble = "is taken. Stop what listens there" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
    another = port + 10_000
    if another > MAX_PORT or _bind_error(another) is not None:
        another = free_port()
    raise StartFailed(f"Port {port} {trouble}, or choose another: {setting}={another} make up")


async def listens(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), timeout=1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def answers(port: int, path: str) -> bool:
    """Whether an HTTP server on the loopback port answers 200."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False

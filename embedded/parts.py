"""What a supervised program is: its command, how it is known to be ready, how it is stopped."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class StartFailed(Exception):
    """A part cannot be started; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised program. `ready` is asked until it is true; `stop_signal` ends it in good order."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    cwd: Path | None = None
    ready_seconds: float = 30.0

    async def spawn(self, log: Path) -> asyncio.subprocess.Process:
        """Start it in a session of its own, so that Ctrl-C reaches the supervisor only; it dies with the supervisor."""
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


def _die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Linux sends the child this signal when the supervisor dies, even by kill -9. Elsewhere nothing happens."""

    def ask_kernel() -> None:
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
        except (AttributeError, OSError):
            return

    return ask_kernel


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free(port: int, setting: str) -> None:
    """Raises StartFailed, naming the setting to change, when something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            message = (
                f"Port {port} is taken. Stop what listens there, or choose another: {setting}={port + 10000} make up"
            )
            raise StartFailed(message) from None


async def listens(port: int) -> bool:
    """Whether something accepts connections on the loopback port."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), timeout=1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

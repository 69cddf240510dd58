"""`python -m embedded up` and `python -m embedded demo`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx

import process
from embedded.bootstrap import Demo, ensure_demo
from embedded.demo import DemoFailed, create_payment, run_demo
from embedded.parts import StartFailed
from embedded.places import PLACES, WORKSPACES
from embedded.stack import ROOT, Ports, Stack, service
from embedded.supervisor import tell

STATE = ROOT / ".local"


def state_folder() -> Path:
    """Where `make up` keeps everything: `.local`, or what STATE_FOLDER says."""
    return Path(os.environ.get("STATE_FOLDER") or STATE).resolve()


async def up(state: Path) -> None:
    """Run the service until the task is cancelled."""
    tell("starting PostgreSQL, Temporal, sandbox, worker and API …")
    async with service(state, Ports.from_environment()) as stack:
        await _introduce(stack, await ensure_demo(stack))
        await asyncio.Event().wait()


async def _introduce(stack: Stack, demo: Demo) -> None:
    lines = [
        "",
        f"  API and its documentation   {stack.api_url}/docs",
        f"  Temporal UI                 {stack.temporal_ui_url}",
        f"  Sandbox provider            {stack.sandbox_url}/docs",
        f"  API keys of the demo shops  in {stack.state / 'dev.env'} (DEMO_API_KEY, DEMO_MARKETPLACE_API_KEY)",
        f"  A payment to try            {await _payment_to_try(stack, demo)}",
        f"  The other providers         {_others()}",
        "",
        "  Ctrl-C stops everything.",
    ]
    tell("\n".join(lines))


async def _payment_to_try(stack: Stack, demo: Demo) -> str:
    """The address of a new checkout, or why there is none; the service runs either way."""
    headers = {"authorization": f"Bearer {demo.api_key}"}
    try:
        async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=30) as http:
            payment = await create_payment(http, "stripe", f"welcome-{int(time.time())}")
    except (DemoFailed, httpx.HTTPError) as error:
        return f"could not be made ({error}); the README shows how to make one"
    return str(payment["checkout_url"])


def _others() -> str:
    """How to try them, in one line."""
    by_currency: dict[str, list[str]] = {}
    for provider, place in PLACES.items():
        by_currency.setdefault(WORKSPACES[place.workspace]["currency"], []).append(provider)
    named = " · ".join(f"{', '.join(names)} ({currency})" for currency, names in by_currency.items())
    return f'"provider" in POST /payments, or make demo PROVIDER=…: {named}'


async def demo(provider: str) -> None:
    """One payment on a stack of its own, thrown away afterwards. Raises DemoFailed."""
    with tempfile.TemporaryDirectory(prefix="durable-payments-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's user walks through it
        async with service(Path(folder), Ports.free()) as stack:
            tell("PostgreSQL, Temporal, sandbox, worker and API are up")
            await run_demo(stack, await ensure_demo(stack), provider)
            kept = STATE / "demo-receipt.pdf"
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes((Path(folder) / "demo-receipt.pdf").read_bytes())
    tell(f"all of it happened; the receipt is {kept}")


async def until_asked_to_stop(work: Coroutine[Any, Any, None]) -> bool:
    """Run until it ends, or until Ctrl-C or SIGTERM; then it closes everything in order. Returns whether it was asked.

    Asking again changes nothing: what is half stopped is stopped to the end.
    """
    running, asked = asyncio.ensure_future(work), False

    def ask() -> None:
        nonlocal asked
        if not asked:
            asked = True
            tell("\nstopping …")
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal was closed; nohup wants to go on
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, ask)
    try:
        await running
    except asyncio.CancelledError:
        if not asked:
            raise
    return asked


async def to_the_end(work: Coroutine[Any, Any, None]) -> bool:
    """The same for a process that ends with it: who asks again while the interpreter closes is not heard any more."""
    try:
        return await until_asked_to_stop(work)
    finally:  # the loop gives its signals back to handlers that would make another exit code of a good end
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def main() -> int:
    """Returns the exit code: 0 also when a running service was asked to stop, 130 for an interrupted demo.

    1 for what did not work, 2 for what is not understood.
    """
    parser = argparse.ArgumentParser(prog="python -m embedded", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up")
    commands.add_parser("demo").add_argument("--provider", default="stripe")
    chosen = parser.parse_args()
    if chosen.command == "demo" and chosen.provider not in PLACES:
        sys.stderr.write(f"There is no demo of {chosen.provider[:40]!r}. PROVIDER is one of: {', '.join(PLACES)}.\n")
        return 2
    state = state_folder()
    try:
        asked = asyncio.run(to_the_end(up(state) if chosen.command == "up" else demo(chosen.provider)))
    except (StartFailed, DemoFailed) as error:
        tell(f"\n{error}")
        return 1
    if chosen.command == "demo":
        return 130 if asked else 0
    tell(f"stopped; the data stays in {state}")
    return 0


if __name__ == "__main__":
    process.end(main)

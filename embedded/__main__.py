"""`python -m embedded up` and `python -m embedded demo`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path

import httpx

import process
from embedded.bootstrap import Demo, ensure_demo
from embedded.demo import DemoFailed, create_payment, run_demo
from embedded.parts import StartFailed
from embedded.stack import ROOT, Ports, Stack, service

STATE = ROOT / ".local"


async def up(state: Path) -> int:
    """Run the service until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("starting PostgreSQL, Temporal, sandbox, worker and API …", flush=True)
    async with service(state, Ports.from_environment()) as stack:
        demo = await ensure_demo(stack)
        await _introduce(stack, demo)
        await stop.wait()
        print("\nstopping …", flush=True)
    print("stopped; the data stays in", state, flush=True)
    return 0


async def _introduce(stack: Stack, demo: Demo) -> None:
    headers = {"authorization": f"Bearer {demo.api_key}"}
    async with httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=30) as http:
        payment = await create_payment(http, "welcome")
    lines = [
        "",
        f"  API and its documentation   {stack.api_url}/docs",
        f"  Temporal UI                 {stack.temporal_ui_url}",
        f"  Sandbox provider            {stack.sandbox_url}/docs",
        f"  API key of demo-clinic      in {stack.state / 'dev.env'} (DEMO_API_KEY)",
        f"  A payment to try            {payment['checkout_url'] or 'paid already; make another with the README'}",
        "",
        "  Ctrl-C stops everything.",
    ]
    print("\n".join(lines), flush=True)


async def demo(provider: str) -> int:
    """One payment on a stack of its own, thrown away afterwards."""
    if provider != "stripe":
        print(f"no demo for {provider}; there is one for: stripe", flush=True)
        return 2
    with tempfile.TemporaryDirectory(prefix="durable-payments-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's user walks through it
        async with service(Path(folder), Ports.free()) as stack:
            print("PostgreSQL, Temporal, sandbox, worker and API are up", flush=True)
            await run_demo(stack, await ensure_demo(stack))
            kept = STATE / "demo-receipt.pdf"
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes((Path(folder) / "demo-receipt.pdf").read_bytes())
    print(f"all of it happened; the receipt is {kept}", flush=True)
    return 0


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m embedded")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up")
    commands.add_parser("demo").add_argument("--provider", default="stripe")
    chosen = parser.parse_args()
    try:
        return asyncio.run(up(STATE) if chosen.command == "up" else demo(chosen.provider))
    except (StartFailed, DemoFailed) as error:
        print(f"\n{error}", flush=True)
        return 1


if __name__ == "__main__":
    process.end(main)

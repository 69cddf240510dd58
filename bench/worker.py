"""`python -m bench.worker`: a process with the yardstick's worker, and one that runs PaymentWorkflow on canned answers.

Set up as the service's own worker: same converter, same sandbox, same limits. READY_FILE is touched once it polls.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path
from uuid import UUID

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

import process
from bench.bare_workflow import BareWorkflow, step
from domain.payment import Checkout, Confirm, Confirmation, PaymentStatus, RenderReceipt, StartPayment
from engine.client import TemporalTarget, connect
from worker import workflow_runner
from workflows.payment import PaymentWorkflow

BARE_QUEUE = "bench-bare"
CANNED_QUEUE = "bench-canned"
RECEIPT = UUID(int=1)


class CannedActivities:
    """The side effects of a payment that goes well, without provider and database."""

    @activity.defn
    async def open_checkout(self, command: StartPayment) -> Checkout:
        """An address."""
        return Checkout(PaymentStatus.PENDING, f"http://127.0.0.1/c/pay/cs_test_{command.payment_id.hex}")

    @activity.defn
    async def confirm(self, command: Confirm) -> Confirmation:
        """Paid."""
        del command
        return Confirmation(PaymentStatus.PAID, RECEIPT)

    @activity.defn
    async def render_receipt(self, command: RenderReceipt) -> None:
        """Nothing to render."""


def workers(client: Client) -> tuple[Worker, Worker]:
    """The yardstick and the canned payments, on a queue each."""
    canned = CannedActivities()
    bare = Worker(
        client,
        task_queue=BARE_QUEUE,
        workflows=[BareWorkflow],
        activities=[step],
        workflow_runner=workflow_runner(),
        max_concurrent_activities=50,
        max_concurrent_local_activities=50,
    )
    payments = Worker(
        client,
        task_queue=CANNED_QUEUE,
        workflows=[PaymentWorkflow],
        activities=[canned.open_checkout, canned.confirm, canned.render_receipt],
        workflow_runner=workflow_runner(),
        max_concurrent_activities=50,
        max_concurrent_local_activities=50,
    )
    return bare, payments


async def serve(address: str, ready_file: Path) -> None:
    """Work until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bare, payments = workers(await connect(TemporalTarget(address)))
    async with bare, payments:
        ready_file.touch()
        await stop.wait()


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--address", required=True)
    asyncio.run(serve(parser.parse_args().address, Path(os.environ["READY_FILE"])))
    return 0


if __name__ == "__main__":
    process.end(main)

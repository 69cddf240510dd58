"""Records the history of each outcome on a real server into tests/histories; run it once for a new outcome.

`python -m tests.workflows.record NAME` with a name of RECORDINGS. A history that exists is never written again: it
stands for a payment that is running somewhere.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

import process
from domain.payment import Confirmation, PaymentStatus, PollPlan, ProviderTrigger
from embedded.temporal import binary
from engine.client import register_search_attributes
from engine.payments import afterlife_id, workflow_id
from tests.workflows.conftest import Bench, bench_on

HISTORIES = Path(__file__).parent.parent / "histories"
QUICK = PollPlan(first_seconds=1, growth=2, max_seconds=2)


def fault(name: str) -> ApplicationError:
    return ApplicationError("detail", "some_code", None, type=name)


def paid() -> Confirmation:
    return Confirmation(PaymentStatus.PAID, uuid4())


def trigger(number: int) -> ProviderTrigger:
    return ProviderTrigger(inbox_id=number, event_id=f"evt_{number}", kind="captured")


async def by_webhook(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def by_webhook_after_a_decline(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    await asyncio.sleep(0.5)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(2))
    return workflow_id(command.payment_id)


async def by_poll(bench: Bench) -> str:
    command = bench.command(poll=QUICK)
    bench.books.looks = [Confirmation(PaymentStatus.PENDING), Confirmation(PaymentStatus.REQUIRES_ACTION), paid()]
    await bench.start(command)
    return workflow_id(command.payment_id)


async def with_the_receipt_rendered_late(bench: Bench) -> str:
    command = bench.command()
    bench.books.render_faults = 2
    await bench.start(command)
    bench.books.looks = [paid()]
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def expired(bench: Bench) -> str:
    command = bench.command(poll=QUICK, expires_at=datetime.now(UTC) + timedelta(seconds=4))
    await bench.start(command)
    return workflow_id(command.payment_id)


async def canceled(bench: Bench) -> str:
    command = bench.command()
    await bench.start(command)
    await bench.engine.cancel(command.payment_id, wait=timedelta(seconds=10))
    return workflow_id(command.payment_id)


async def refused(bench: Bench) -> str:
    command = bench.command()
    bench.books.opens = [fault("ProviderRejected")]
    await bench.start(command)
    return workflow_id(command.payment_id)


async def failed_later(bench: Bench) -> str:
    command = bench.command()
    bench.books.looks = [Confirmation(PaymentStatus.FAILED)]
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def unknown_then_opened(bench: Bench) -> str:
    command = bench.command()
    bench.books.opens = [fault("OutcomeUnknown"), fault("ProviderBusy")]
    bench.books.looks = [paid()]
    await bench.start(command)
    await bench.engine.signal(command.payment_id, trigger(1))
    return workflow_id(command.payment_id)


async def unknown_at_the_end(bench: Bench) -> str:
    command = bench.command(poll=QUICK, expires_at=datetime.now(UTC) + timedelta(seconds=2))
    bench.books.looks = [fault("OutcomeUnknown"), fault("ProviderMisconfigured"), paid()]
    await bench.start(command)
    return workflow_id(command.payment_id)


async def late_event(bench: Bench) -> str:
    payment_id = uuid4()
    bench.books.looks = [paid()]
    await bench.engine.signal_afterlife(payment_id, trigger(1))
    await bench.engine.signal_afterlife(payment_id, trigger(2))
    return afterlife_id(payment_id)


RECORDINGS: dict[str, Callable[[Bench], Awaitable[str]]] = {
    "payment-paid-by_webhook": by_webhook,
    "payment-paid-by_webhook_after_a_decline": by_webhook_after_a_decline,
    "payment-paid-by_poll": by_poll,
    "payment-paid-receipt_rendered_late": with_the_receipt_rendered_late,
    "payment-expired-nobody_paid": expired,
    "payment-canceled-by_caller": canceled,
    "payment-failed-refused_by_provider": refused,
    "payment-failed-slow_method_bounced": failed_later,
    "payment-unknown-then_opened": unknown_then_opened,
    "payment-unknown-at_the_end": unknown_at_the_end,
    "afterlife-paid-late_event": late_event,
}


def without_place(history: str) -> str:
    """The history without the names of the machine and folder that it was recorded on."""

    def cleaned(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: cleaned(value) for name, value in node.items() if name not in ("stackTrace", "identity")}
        return [cleaned(item) for item in node] if isinstance(node, list) else node

    return json.dumps(cleaned(json.loads(history)), indent=1)


async def record(names: list[str]) -> int:
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=binary("temporal"), data_converter=pydantic_data_converter
    )
    async with environment:
        await register_search_attributes(environment.client)
        for name in names:
            path = HISTORIES / f"{name}.json"
            if path.exists():
                print(f"{path.name} exists; it stands for payments that are running", flush=True)
                continue
            async with bench_on(environment) as bench:
                handle = environment.client.get_workflow_handle(await RECORDINGS[name](bench))
                await handle.result()
                path.write_text(without_place((await handle.fetch_history()).to_json()))
            print(f"recorded {path.name}", flush=True)
    return 0


def main() -> int:
    return asyncio.run(record(sys.argv[1:] or list(RECORDINGS)))


if __name__ == "__main__":
    process.end(main)

"""What one payment costs in things that can be counted: the same on every machine, whatever else it does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from uuid import UUID

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from bench import sql_log
from bench.actions import billable_actions
from bench.cpu import OTHERS, difference
from bench.lab import Lab
from engine.payments import workflow_id

IDLE_SECONDS = 2.5
"""Long enough to see each of the service's regular looks for due work a few times."""


@dataclass(frozen=True, slots=True)
class HistoryCost:
    """One workflow's history."""

    events: int
    workflow_tasks: int
    failed_workflow_tasks: int
    signals: int
    size_bytes: int
    actions: Counter[str]


@dataclass(frozen=True, slots=True)
class Counted:
    """Payments one after another: their histories, and what was said to PostgreSQL for all of them together."""

    histories: tuple[HistoryCost, ...]
    transactions: tuple[sql_log.Transaction, ...]
    idle_ms: Mapping[str, float]
    """CPU milliseconds that each process spends in a second while there is no payment at all."""

    @property
    def payments(self) -> int:
        """How many were counted."""
        return len(self.histories)

    @property
    def statements_each(self) -> float:
        """SQL statements a payment, without BEGIN and COMMIT."""
        return sum(len(one.statements) for one in self.transactions) / self.payments

    @property
    def round_trips_each(self) -> float:
        """Messages to PostgreSQL a payment, with BEGIN and COMMIT."""
        return sum(one.round_trips for one in self.transactions) / self.payments

    @property
    def transactions_each(self) -> float:
        """Transactions a payment."""
        return len(self.transactions) / self.payments


async def count_payments(lab: Lab, number: int) -> Counted:
    """Run payments one by one with the server's statement log on; the service's idle looks are left out."""
    log = lab.stack.state / "logs" / "postgres.log"
    first = len(lab.whole.paid)
    async with sql_log.every_statement(lab.database):
        await asyncio.sleep(0.5)
        begin = log.stat().st_size
        await lab.quiet()  # what this asks is part of what is left out
        before = lab.meter.read()
        await asyncio.sleep(IDLE_SECONDS)
        idle_ms = difference(before, lab.meter.read())
        idle = sql_log.read_log(log, begin)
        begin = log.stat().st_size
        for _ in range(number):
            await lab.whole.job(0)
        await lab.quiet()  # notifications and late events belong to the payments, whenever they are worked off
        seen = sql_log.read_log(log, begin)
    histories = [await cost_of(lab.client, workflow_id(payment_id)) for payment_id in lab.whole.paid[first:]]
    return Counted(
        tuple(histories),
        tuple(sql_log.without(seen, idle)),
        {name: ms / IDLE_SECONDS for name, ms in idle_ms.items() if name != OTHERS},
    )


async def cost_of(client: Client, the_id: str) -> HistoryCost:
    """Read a finished workflow's history; its size is the server's own figure."""
    handle = client.get_workflow_handle(the_id)
    events = (await handle.fetch_history()).events
    described = await handle.describe()
    kinds = Counter(event.event_type for event in events)
    return HistoryCost(
        events=len(events),
        workflow_tasks=kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED],
        failed_workflow_tasks=kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
        + kinds[EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT],
        signals=kinds[EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED],
        size_bytes=int(described.raw_description.workflow_execution_info.history_size_bytes),
        actions=billable_actions(events),
    )


async def histories_of(client: Client, payments: Sequence[UUID]) -> list[HistoryCost]:
    """Several at once."""
    return list(await asyncio.gather(*(cost_of(client, workflow_id(payment_id)) for payment_id in payments)))


def middle(costs: Sequence[HistoryCost], name: str) -> float:
    """The median of one of the integer fields, or of the sum of actions."""
    return float(median(one.actions.total() if name == "actions" else int(getattr(one, name)) for one in costs))


def most(costs: Sequence[HistoryCost], name: str) -> float:
    """The largest."""
    return float(max(one.actions.total() if name == "actions" else int(getattr(one, name)) for one in costs))

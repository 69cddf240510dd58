"""The worker: workflows and activities on one task queue, the inbox dispatcher and the outbox relay beside them.

Any number may run; each can be stopped or killed at any moment.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import structlog
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

import logs
import process
import wiring
from activities.checkout import CheckoutActivities
from activities.confirmation import ConfirmationActivities
from activities.disputes import DisputeActivities
from activities.followed import FollowedSubscriptions
from activities.guard import ProviderGuard
from activities.method_news import MethodNews
from activities.payouts import PayoutActivities
from activities.receipts import ReceiptActivities
from activities.refunds import RefundActivities
from activities.risk import RiskActivities
from activities.setups import SetupActivities
from activities.subscriptions import SubscriptionActivities
from activities.surplus import SurplusActivities
from dispatch import inbox, outbox
from dispatch.inbox import InboxDispatcher
from dispatch.outbox import OutboxRelay, RetryPlan
from engine.client import connect, register_search_attributes
from engine.payments import PaymentEngine
from providers.pool import ProviderPool
from settings import Settings, load_settings
from storage.sealing import Sealer
from storage.session import Database
from workflows.afterlife import AfterlifeWorkflow
from workflows.dispute import DisputeWorkflow
from workflows.payment import PaymentWorkflow
from workflows.payout import PayoutWorkflow
from workflows.refund import RefundWorkflow
from workflows.setup import DetachMethodWorkflow, RefreshMethodsWorkflow, SetupWorkflow
from workflows.subscription import SubscriptionWorkflow
from workflows.surplus import SurplusWorkflow

log = structlog.get_logger()

WORKFLOWS = (
    PaymentWorkflow,
    AfterlifeWorkflow,
    SurplusWorkflow,
    RefundWorkflow,
    DisputeWorkflow,
    SetupWorkflow,
    RefreshMethodsWorkflow,
    DetachMethodWorkflow,
    SubscriptionWorkflow,
    PayoutWorkflow,
)


def utc_now() -> datetime:
    """The clock of the activities."""
    return datetime.now(UTC)


def workflow_runner() -> SandboxedWorkflowRunner:
    """The sandbox of workflows. What is pure by contract (checked in `make check`) is not loaded anew for each one."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules("domain", "workflows.calls")
    )


def build_worker(
    client: Client,
    task_queue: str,
    database: Database,
    sealer: Sealer,
    pool: ProviderPool,
    *,
    public_base_url: str,
    now: Callable[[], datetime] = utc_now,
) -> Worker:
    """A worker with every workflow and activity. `now` is the activities' clock, UTC."""
    guard = ProviderGuard(database, pool, now)
    checkout = CheckoutActivities(database, guard, sealer, now, public_base_url=public_base_url)
    news = MethodNews(database, client)
    confirmation = ConfirmationActivities(database, guard, sealer, now, news=news)
    setups = SetupActivities(database, guard, sealer, now, public_base_url=public_base_url, news=news)
    refunds = RefundActivities(database, guard, sealer, now)
    disputes = DisputeActivities(database, guard, now)
    risk = RiskActivities(database, guard, now)
    surplus = SurplusActivities(database, guard, sealer, now)
    payouts = PayoutActivities(database, sealer, now)
    documents = ReceiptActivities(database)
    billed = SubscriptionActivities(database, now)
    followed = FollowedSubscriptions(database, guard, now)
    return Worker(
        client,
        task_queue=task_queue,
        workflows=WORKFLOWS,
        activities=[
            checkout.open_checkout,
            checkout.open_way,
            surplus.return_surplus,
            disputes.reconcile_disputes,
            disputes.remind_of_dispute,
            risk.reconcile_risk,
            payouts.prepare_payout,
            payouts.decide_payout,
            payouts.export_payout,
            payouts.look_at_payout,
            payouts.remind_of_payout,
            refunds.advance_refund,
            refunds.reconcile_refunds,
            refunds.leave_refund,
            confirmation.confirm,
            confirmation.record_status,
            setups.open_setup,
            setups.look_at_setup,
            setups.fail_setup,
            setups.refresh_methods,
            setups.detach_method,
            documents.render_receipt,
            billed.advance_subscription,
            billed.change_subscription,
            followed.sync_subscription,
        ],
        workflow_runner=workflow_runner(),
        max_concurrent_activities=50,
        max_concurrent_local_activities=50,
        graceful_shutdown_timeout=timedelta(seconds=15),
    )


@asynccontextmanager
async def background(
    settings: Settings, database: Database, sealer: Sealer, engine: PaymentEngine
) -> AsyncIterator[None]:
    """The dispatcher and the relay, while the block runs."""
    dispatcher = InboxDispatcher(database, engine, wiring.poll_plan(settings))
    limits = httpx.Limits(max_connections=outbox.MAX_CONNECTIONS, max_keepalive_connections=100)
    async with httpx.AsyncClient(
        follow_redirects=False, transport=wiring.network(settings).transport(limits=limits)
    ) as http:
        relay = OutboxRelay(
            database, sealer, http, _retry_plan(settings), timeout_seconds=settings.outbox_timeout_seconds
        )
        every = settings.dispatch_interval_seconds
        tasks = [
            asyncio.create_task(inbox.run_forever(dispatcher, interval_seconds=every)),
            asyncio.create_task(outbox.run_forever(relay, interval_seconds=every)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # each to its end, before what they use is closed
            await relay.drain()


def _retry_plan(settings: Settings) -> RetryPlan:
    """When order notifications are tried again."""
    return RetryPlan(
        first_seconds=settings.outbox_first_retry_seconds,
        growth=settings.outbox_retry_growth,
        max_seconds=settings.outbox_max_retry_seconds,
        give_up_after_seconds=settings.outbox_give_up_after_seconds,
    )


async def _connected(settings: Settings) -> Client:
    """A client of Temporal. Raises SystemExit when it is away: whoever runs the worker starts it again."""
    try:
        return await connect(wiring.temporal_target(settings))
    except RuntimeError as error:
        log.debug("temporal refuses", error=str(error))
        raise SystemExit(
            f"Temporal does not answer at {settings.temporal_address}; is TEMPORAL_ADDRESS right, and does it run?"
        ) from None


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; what is under way is finished or left to another worker."""
    sealer, database = wiring.sealer(settings), wiring.database(settings)
    pool = wiring.provider_pool(settings, sealer)
    try:
        client = await _connected(settings)
        if not await register_search_attributes(client):
            log.warning("search attributes could not be registered; see docs/operations.md, Temporal cluster")
        engine = PaymentEngine(client, settings.temporal_task_queue)
        worker = build_worker(
            client,
            settings.temporal_task_queue,
            database,
            sealer,
            pool,
            public_base_url=settings.public_base_url,
        )
        async with background(settings, database, sealer, engine), worker:
            log.info("worker started", task_queue=settings.temporal_task_queue)
            if settings.ready_file is not None:
                settings.ready_file.touch()
            await stop.wait()
    finally:
        await pool.close()
        await database.close()
    log.info("worker stopped")


def main() -> int:
    """Run until SIGTERM or Ctrl-C. Returns the exit code."""
    argparse.ArgumentParser(prog="python -m worker", description=__doc__).parse_args()
    settings = load_settings()
    logs.configure(style=settings.log_style, level=settings.log_level)
    wiring.require_usable(settings)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(settings, stop)

    asyncio.run(run())
    return 0


if __name__ == "__main__":
    process.end(main)

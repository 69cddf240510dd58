"""Three sides of one comparison: the bare workflow, the payment's workflow alone, and a whole payment.

Every job ends when its workflow has ended, seen by the same long poll; the first answer is what a caller would send its
customer on with.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from bench.bare_workflow import BareWorkflow
from bench.wire import Answer, Caller, Unexpected
from bench.worker import BARE_QUEUE, CANNED_QUEUE
from domain.payment import PaymentOutcome, PaymentStatus, ProviderTrigger, StartPayment
from engine.payments import PaymentEngine, workflow_id

FORM = {"content-type": "application/x-www-form-urlencoded"}
CARD = b"card=4242+4242+4242+4242&outcome=pay"
PATIENCE = timedelta(seconds=20)


@dataclass(slots=True)
class BareRuns:
    """The yardstick: update-with-start, signal, end."""

    client: Client
    done: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _prefix: str = field(default_factory=lambda: f"bare-{uuid4().hex[:8]}")

    async def job(self, caller: int) -> float:
        """One bare workflow from start to end."""
        del caller
        number = next(self._numbers)
        start = WithStartWorkflowOperation(
            BareWorkflow.run,
            number,
            id=f"{self._prefix}-{number}",
            task_queue=BARE_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        await self.client.execute_update_with_start_workflow(BareWorkflow.first, start_workflow_operation=start)
        first = time.perf_counter()
        handle = await start.workflow_handle()
        await handle.signal(BareWorkflow.go_on)
        await handle.result()
        self.done.append(handle.id)
        return first


@dataclass(slots=True)
class CannedPayments:
    """PaymentWorkflow as it is, its side effects answered at once: what our workflow costs beside the bare one."""

    client: Client
    done: list[UUID] = field(default_factory=list)

    async def job(self, caller: int) -> float:
        """One payment's workflow from start to end, through the same calls that the API makes."""
        del caller
        engine, payment_id = PaymentEngine(self.client, CANNED_QUEUE), uuid4()
        if await engine.start(_command(payment_id), wait=PATIENCE) is None:
            raise Unexpected("no checkout in time")
        first = time.perf_counter()
        await engine.signal(payment_id, ProviderTrigger(inbox_id=1, event_id="evt_1", kind="captured"))
        await outcome_of(self.client, payment_id)
        self.done.append(payment_id)
        return first


def _command(payment_id: UUID) -> StartPayment:
    return StartPayment(
        payment_id=payment_id,
        workspace_id=UUID(int=7),
        provider="stripe",
        provider_account_id=UUID(int=8),
        order_id=f"order-{payment_id.hex[:8]}",
        customer_id="cust-77",
        amount_minor=12990,
        currency="ILS",
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )


async def outcome_of(client: Client, payment_id: UUID) -> None:
    """Wait for the end of a payment's workflow. Raises Unexpected unless it ended paid."""
    handle = client.get_workflow_handle(workflow_id(payment_id), result_type=PaymentOutcome)
    outcome = await handle.result()
    if outcome.status is not PaymentStatus.PAID or outcome.receipt_id is None:
        raise Unexpected(f"payment {payment_id} ended {outcome.status}")


@dataclass(slots=True)
class WholePayments:
    """POST /api/v1/payments, the card form of the checkout page, the signed webhooks, settlement, receipt and PDF."""

    client: Client
    api_url: str
    api_key: str
    paid: list[UUID] = field(default_factory=list)
    _callers: dict[tuple[int, str], Caller] = field(default_factory=dict)
    _prefix: str = field(default_factory=lambda: uuid4().hex[:8])
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def job(self, caller: int) -> float:
        """One payment, from the order to the end of its workflow, when its receipt is rendered."""
        payment_id, checkout_url = await self.create(caller)
        first = time.perf_counter()
        await self.pay(caller, checkout_url)
        await outcome_of(self.client, payment_id)
        self.paid.append(payment_id)
        return first

    async def create(self, caller: int) -> tuple[UUID, str]:
        """A payment and the address where it is paid."""
        order = f"bench-{self._prefix}-{next(self._numbers)}"
        body = {
            "amount": "129.90",
            "currency": "ILS",
            "order_id": order,
            "description": "Consultation",
            "customer": {"id": "cust-77", "name": "Dana Levi", "email": "dana@example.com"},
            "referrer_id": "partner-5",
        }
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {self.api_key}",
            "idempotency-key": order,
        }
        made = await self._to(caller, self.api_url).post("/api/v1/payments", json.dumps(body).encode(), headers)
        payment = _read(made, 201)
        return UUID(str(payment["id"])), str(payment["checkout_url"])

    async def pay(self, caller: int, checkout_url: str) -> None:
        """Send the card form of the provider's page, as the payer's browser does."""
        parts = urlsplit(checkout_url)
        page = await self._to(caller, f"{parts.scheme}://{parts.netloc}").post(parts.path, CARD, FORM)
        if page.status != 200:
            raise Unexpected(f"the payer could not pay: {page.status}")

    async def close(self) -> None:
        """Hang up."""
        for one in self._callers.values():
            await one.__aexit__(None, None, None)

    def _to(self, caller: int, base_url: str) -> Caller:
        return self._callers.setdefault((caller, base_url), Caller(base_url))


def _read(answer: Answer, status: int) -> dict[str, object]:
    if answer.status != status:
        raise Unexpected(f"{answer.status} instead of {status}: {answer.body[:300]!r}")
    return dict(json.loads(answer.body))

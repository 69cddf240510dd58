"""Starting subscriptions' workflows, waking them, and handing them the merchant's wishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from domain.payment import ProviderTrigger
from domain.subscription import (
    StartSubscription,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionView,
    subscription_workflow_id,
)
from engine.payments import PaymentEngine, call_errors, first_answer
from workflows import search_attributes
from workflows.subscription import SubscriptionWorkflow


@dataclass(frozen=True, slots=True)
class SubscriptionEngine:
    """What the API and the dispatcher do with subscriptions' workflows.

    A workflow that has ended is begun again by whoever has something for it: it reads the database and ends, or goes
    on where money came late.
    """

    client: Client
    task_queue: str

    @classmethod
    def beside(cls, engine: PaymentEngine) -> SubscriptionEngine:
        """On the same client and task queue."""
        return cls(engine.client, engine.task_queue)

    async def start(self, command: StartSubscription, *, wait: timedelta) -> SubscriptionView | None:
        """Start it, or find it, and wait until its first charge has an answer or a link; None past `wait`.

        Raises EngineUnavailable.
        """
        start = self._started(command)
        update = self.client.execute_update_with_start_workflow(
            SubscriptionWorkflow.begun, start_workflow_operation=start
        )
        return await first_answer(wait, start, update)

    async def change(
        self, command: StartSubscription, wish: SubscriptionChange, *, wait: timedelta
    ) -> SubscriptionChanged | None:
        """Have a wish carried out; None when it takes longer than `wait`, then it still is. Raises EngineUnavailable.

        A repeat of a wish that was carried out finds its answer in the database. The update has no id of the wish's:
        the workflow would answer a refusal for ever, also when it has long become possible.
        """
        start = self._started(command)
        update = self.client.execute_update_with_start_workflow(
            SubscriptionWorkflow.change, wish, start_workflow_operation=start
        )
        return await first_answer(wait, start, update)

    async def wake(self, command: StartSubscription, trigger: ProviderTrigger | None = None) -> None:
        """Signal-with-start: it looks at what has changed, or asks the provider. Raises EngineUnavailable."""
        with call_errors():
            await self.client.start_workflow(
                SubscriptionWorkflow.run,
                command,
                id=subscription_workflow_id(command.subscription_id),
                task_queue=self.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=search_attributes.of_subscription(command),
                static_summary=_summary(command),
                start_signal="wake" if trigger is None else "provider_event",
                start_signal_args=[] if trigger is None else [trigger],
                rpc_timeout=timedelta(seconds=5),
            )

    def _started(
        self, command: StartSubscription
    ) -> WithStartWorkflowOperation[SubscriptionWorkflow, SubscriptionView]:
        return WithStartWorkflowOperation(
            SubscriptionWorkflow.run,
            command,
            id=subscription_workflow_id(command.subscription_id),
            task_queue=self.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            search_attributes=search_attributes.of_subscription(command),
            static_summary=_summary(command),
        )


def _summary(command: StartSubscription) -> str:
    return f"subscription of customer {command.customer_id}"


async def tell_method_changed(client: Client, subscription_ids: Sequence[UUID]) -> int:
    """Wake running subscriptions. Returns how many there were; one that has ended is none.

    The signal is only a hint that hurries a retry: a subscription reads the customer's default method whenever it
    charges. Raises RPCError when Temporal is away.
    """
    told = 0
    for subscription_id in subscription_ids:
        handle = client.get_workflow_handle_for(SubscriptionWorkflow.run, subscription_workflow_id(subscription_id))
        try:
            await handle.signal(SubscriptionWorkflow.wake)
            told += 1
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    return told

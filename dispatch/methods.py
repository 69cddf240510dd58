"""Events about set-ups and saved methods, on their way from the inbox to their workflows."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domain.payment import PollPlan, ProviderTrigger
from domain.setup import StartSetup
from engine.setups import SetupEngine
from providers.base import EventKind
from storage import inbox
from storage.models import MethodSetup
from storage.session import Database

ABOUT_METHODS = frozenset({EventKind.SETUP, EventKind.METHOD})


@dataclass(frozen=True, slots=True)
class MethodHandover:
    """An inbox row about a set-up, or about what `storage.payment_methods.of_names` has found."""

    reference: UUID
    trigger: ProviderTrigger


def start_setup_command(row: MethodSetup, poll: PollPlan) -> StartSetup:
    """The command that starts a set-up's workflow; always the same for the same row."""
    return StartSetup(row.id, row.workspace_id, row.provider, row.expires_at, poll)


class MethodDispatcher:
    """Tells the workflows."""

    def __init__(self, database: Database, engine: SetupEngine, poll: PollPlan) -> None:
        self._database = database
        self._engine = engine
        self._poll = poll

    async def hand_over(self, event: MethodHandover) -> None:
        """Signal, starting the workflow where it has ended, and record that. Raises EngineUnavailable."""
        if event.trigger.kind == EventKind.SETUP:
            async with self._database.transaction() as session:
                row = await session.get(MethodSetup, event.reference)
            if row is None:
                await self._finish(event.trigger.inbox_id, "no such set-up")
                return
            await self._engine.signal(start_setup_command(row, self._poll), event.trigger)
        else:
            await self._engine.signal_methods(event.reference, event.trigger)
        async with self._database.transaction() as session:
            await inbox.mark_dispatched(session, event.trigger.inbox_id)

    async def _finish(self, inbox_id: int, outcome: str) -> None:
        async with self._database.transaction() as session:
            await inbox.mark_handled(session, [inbox_id], outcome=outcome)

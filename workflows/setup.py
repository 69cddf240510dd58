"""Saving payment methods: a set-up from its page to the stored method, and what happens to methods later."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

from domain.payment import ProviderTrigger
from domain.setup import (
    SETUP_OPEN,
    DetachMethod,
    FailSetup,
    LookAtSetup,
    OpenedSetup,
    RefreshMethods,
    SetupProgress,
    SetupStatus,
    StartSetup,
)
from workflows import calls

OPENING_PATIENCE = timedelta(minutes=15)
CLOSING_PATIENCE = timedelta(minutes=2)
GIVEN_UP_AFTER = timedelta(hours=24)
"""How long after its end a set-up is still asked about, when the provider does not answer."""
PATIENCE = timedelta(days=3)


@workflow.defn
class SetupWorkflow:
    """Drive one set-up to a stored method, or to its end. A lost callback only delays it.

    Update `opened`: where the customer goes. Signal `provider_event`: an event about it is in the inbox; after the end
    it starts another run, which looks once more (late truth wins). Query `status`.
    """

    @workflow.init
    def __init__(self, command: StartSetup) -> None:
        """Begin with the request on record."""
        self._command = command
        self._status = SetupStatus.CREATED
        self._opened: OpenedSetup | None = None
        self._progress = SetupProgress(command.setup_id, SetupStatus.CREATED)
        self._seen: set[str] = set()
        self._triggers: list[ProviderTrigger] = []
        self._fresh_trigger = False
        self._looks_done = 0
        self._retry_in: timedelta | None = None

    @workflow.run
    async def run(self, command: StartSetup) -> SetupProgress:  # noqa: ARG002  (taken by the constructor)
        """Open the page, watch it until it is used or over."""
        await self._open()
        while self._status in SETUP_OPEN or self._triggers:
            if self._status in SETUP_OPEN:
                await self._wait_for_news()
            await self._look()
            if self._status not in SETUP_OPEN and self._retry_in is not None:
                break  # what could not be answered stays in the inbox and is dispatched again
        workflow.set_current_details(f"**{self._status.value}**")
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._progress

    @workflow.update
    async def opened(self) -> OpenedSetup:
        """Where the customer goes, as soon as it is known. A repeat gets the same answer."""
        await workflow.wait_condition(lambda: self._opened is not None)
        assert self._opened is not None  # noqa: S101  (what the line above waited for)
        return self._opened

    @workflow.signal
    def provider_event(self, trigger: ProviderTrigger) -> None:
        """A verified event about this set-up is stored: look now."""
        if trigger.event_id not in self._seen:
            self._seen.add(trigger.event_id)
            self._triggers.append(trigger)
            self._fresh_trigger = True

    @workflow.query
    def status(self) -> SetupProgress:
        """Where the set-up stands."""
        return self._progress

    async def _open(self) -> None:
        """One quick try, then patience. It failed only if that is certain."""
        command, summary = self._command, f"open set-up at {self._command.provider}"
        try:
            opened = await workflow.execute_local_activity(calls.open_setup, command, **calls.provider_try(summary))
        except calls.CallFailed as error:
            if calls.will_never_work(error):
                await self._could_not_open(error)
                return
            await self._record(SetupStatus.UNKNOWN, error)
            patience = min(OPENING_PATIENCE, command.expires_at - workflow.now())
            try:
                opened = await workflow.execute_activity(
                    calls.open_setup, command, **calls.provider_call(summary, patience=patience)
                )
            except calls.CallFailed as slow_error:
                if calls.will_never_work(slow_error):
                    await self._could_not_open(slow_error)
                else:  # nobody got the address; should the provider have opened it, the watch finds it
                    self._opened = _not_opened(SetupStatus.UNKNOWN, slow_error)
                return
        self._opened, self._status = opened, opened.status

    async def _could_not_open(self, error: BaseException) -> None:
        await self._record(SetupStatus.FAILED, error)
        self._opened = _not_opened(SetupStatus.FAILED, error)

    async def _record(self, status: SetupStatus, error: BaseException) -> None:
        command = FailSetup(self._command.setup_id, status, calls.error_code(error)[0])
        self._take(
            await workflow.execute_activity(calls.fail_setup, command, **calls.own_database(f"record {status.value}"))
        )

    async def _wait_for_news(self) -> None:
        until_end = self._command.expires_at - workflow.now()
        wait = self._retry_in or self._command.poll.interval(self._looks_done, workflow.random().random())
        if until_end > timedelta(0):
            wait = min(wait, until_end)
        workflow.set_current_details(f"**{self._status.value}**\n\nWaiting for the customer; next look in {wait}")
        try:
            await workflow.wait_condition(
                lambda: self._fresh_trigger, timeout=wait, timeout_summary="next look at the set-up"
            )
        except TimeoutError:
            self._looks_done += 1
        self._fresh_trigger = False

    async def _look(self) -> None:
        """Ask the provider; past the end close the page first. Silence is waited out for a day after the end."""
        answered = tuple(self._triggers)
        over = workflow.now() >= self._command.expires_at and self._status in SETUP_OPEN
        command = LookAtSetup(self._command.setup_id, tuple(one.inbox_id for one in answered), over)
        try:
            if over:
                progress = await workflow.execute_activity(
                    calls.look_at_setup, command, **calls.provider_call("close the set-up", patience=CLOSING_PATIENCE)
                )
            else:
                progress = await workflow.execute_local_activity(
                    calls.look_at_setup, command, **calls.provider_try("look at the set-up")
                )
        except calls.CallFailed as error:
            most = timedelta(seconds=self._command.poll.max_seconds)
            self._retry_in = calls.retry_after(error) or min((self._retry_in or timedelta(seconds=2.5)) * 2, most)
            if workflow.now() >= self._command.expires_at + GIVEN_UP_AFTER:
                await self._record(SetupStatus.EXPIRED, error)
            return
        self._retry_in = None
        del self._triggers[: len(answered)]
        self._take(progress)

    def _take(self, progress: SetupProgress) -> None:
        self._progress, self._status = progress, progress.status


@workflow.defn
class RefreshMethodsWorkflow:
    """A provider told of changed methods: look at them, for as long as events come, and end."""

    @workflow.init
    def __init__(self, command: RefreshMethods) -> None:
        """Begin with what the first event named."""
        self._command = command
        self._seen: set[str] = set()
        self._triggers: list[ProviderTrigger] = []

    @workflow.run
    async def run(self, command: RefreshMethods) -> int:
        """Answer events until none is left. Returns how many methods changed."""
        changed = 0
        await workflow.wait_condition(lambda: bool(self._triggers), timeout=timedelta(minutes=1))
        while self._triggers:
            answered = tuple(self._triggers)
            changed += await workflow.execute_activity(
                calls.refresh_methods,
                RefreshMethods(command.reference, tuple(one.inbox_id for one in answered)),
                **calls.provider_call("look at saved methods", patience=PATIENCE),
            )
            del self._triggers[: len(answered)]
        return changed

    @workflow.signal
    def provider_event(self, trigger: ProviderTrigger) -> None:
        """A verified event about these methods is stored."""
        if trigger.event_id not in self._seen:
            self._seen.add(trigger.event_id)
            self._triggers.append(trigger)


@workflow.defn
class DetachMethodWorkflow:
    """Detach at the provider what was detached with us; it cannot be charged by us from the beginning."""

    @workflow.run
    async def run(self, command: DetachMethod) -> bool:
        """Ask until the provider has answered."""
        return await workflow.execute_activity(
            calls.detach_method, command, **calls.provider_call("detach", patience=PATIENCE)
        )


def _not_opened(status: SetupStatus, error: BaseException) -> OpenedSetup:
    code, detail = calls.error_code(error)
    return OpenedSetup(status, None, code, detail, calls.error_type(error))

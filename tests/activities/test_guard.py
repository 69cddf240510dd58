"""The circuit breaker: real rows, real HTTP to the sandbox, a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

import wiring
from activities.guard import CIRCUIT_OPEN, ProviderGuard
from domain.money import Money
from embedded.parts import free_port
from providers.base import (
    UNREACHABLE,
    AccountCheck,
    CheckoutMode,
    CheckoutRequest,
    OutcomeUnknown,
    Provider,
    ProviderBusy,
    ProviderMisconfigured,
    ProviderRejected,
)
from storage import provider_health
from storage.models import ProviderAccount, ProviderHealth
from storage.provider_health import OPENS_AFTER, PROBE_LASTS, STAYS_OPEN
from storage.session import Database
from tests.providers.payers import payer_class
from tests.support.service import Service, Shop

SECOND = timedelta(seconds=1)


@dataclass
class Clock:
    """What the guards take for the time."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Process:
    """A worker process as far as the breaker goes: a guard with a pool of connections and of adapters of its own."""

    database: Database
    guard: ProviderGuard
    asked: int = 0

    async def health(self, account: ProviderAccount) -> ProviderHealth | None:
        async with self.database.transaction() as session:
            return await provider_health.of_account(session, account.id)

    async def call(
        self,
        account: ProviderAccount,
        ask: Callable[[Provider], Awaitable[Any]] | None = None,
        *,
        knows: ProviderHealth | None = None,
    ) -> Any:
        """Ask as activities do: with what they have read of the account's health (`knows`: some time ago)."""

        async def counted(provider: Provider) -> Any:
            self.asked += 1
            return await (provider.check_account() if ask is None else ask(provider))

        return await self.guard.call(account, knows or await self.health(account), counted)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def processes(service: Service, clock: Clock) -> AsyncIterator[tuple[Process, Process]]:
    made = []
    for _ in range(2):
        database, pool = wiring.database(service.settings), wiring.provider_pool(service.settings, service.sealer)
        made.append((Process(database, ProviderGuard(database, pool, clock)), pool))
    yield made[0][0], made[1][0]
    for process, pool in made:
        await pool.close()
        await process.database.close()


ASKED = {"stripe": "account", "wompi": "read_merchant"}
"""What the connection test calls; payments of other tests do not, so they leave its faults alone."""


async def faults(shop: Shop, times: int, fault: str = "error:500") -> None:
    await shop.sandbox("POST", "/faults", {"operation": ASKED[shop.account.provider], "fault": fault, "count": times})


async def fails(shop: Shop, process: Process, times: int) -> None:
    """So many calls in a row that the provider does not answer."""
    await faults(shop, times)
    for _ in range(times):
        with pytest.raises(OutcomeUnknown):
            await process.call(shop.account)
    process.asked = 0


async def state_of(shop: Shop) -> dict[str, Any]:
    """The account as `/payments/health` shows it."""
    answer = await shop.api.get("/payments/health")
    assert answer.status_code == 200
    return dict(next(one for one in answer.json() if one["provider_account_id"] == str(shop.account.id)))


async def refused(process: Process, account: ProviderAccount) -> timedelta:
    """A call is refused at once, without asking; how long it is told to wait."""
    before = process.asked
    with pytest.raises(ProviderBusy) as busy:
        await process.call(account)
    assert busy.value.code == CIRCUIT_OPEN
    assert process.asked == before
    assert busy.value.retry_after is not None
    return busy.value.retry_after


async def test_ten_failures_in_a_row_open_it_for_every_process(
    shop: Shop, processes: tuple[Process, Process], clock: Clock
) -> None:
    one, other = processes
    await fails(shop, one, OPENS_AFTER - 1)
    assert (await state_of(shop))["breaker"] == "closed"
    await fails(shop, other, 1)
    shown = await state_of(shop)
    assert (shown["breaker"], shown["failures_in_a_row"], shown["last_failure_code"]) == ("open", 10, "http_500")
    assert datetime.fromisoformat(shown["retry_at"]) == clock.now + STAYS_OPEN
    for process in processes:
        assert await refused(process, shop.account) == STAYS_OPEN
    clock.now += timedelta(minutes=4)
    assert await refused(one, shop.account) == timedelta(minutes=1)


async def test_an_answer_of_any_kind_begins_the_count_anew(shop: Shop, processes: tuple[Process, Process]) -> None:
    process = processes[0]
    await fails(shop, process, OPENS_AFTER - 1)
    await faults(shop, 1, "rate_limit:1")
    with pytest.raises(ProviderBusy):
        await process.call(shop.account)
    await fails(shop, process, OPENS_AFTER - 1)
    with pytest.raises(ProviderRejected):
        await process.call(shop.account, lambda provider: provider.open_checkout(too_little(shop)))
    await fails(shop, process, OPENS_AFTER - 1)
    assert isinstance(await process.call(shop.account), AccountCheck)
    shown = await state_of(shop)
    assert (shown["breaker"], shown["failures_in_a_row"]) == ("closed", 0)
    assert shown["latency_ms"] is not None


def too_little(shop: Shop, amount: str = "0.01", currency: str = "ILS") -> CheckoutRequest:
    now = datetime.now(UTC)
    return CheckoutRequest(
        reference=uuid4(),
        workspace_id=shop.workspace.id,
        order_id="o-1",
        amount=Money.parse(amount, currency),
        description="x",
        mode=CheckoutMode.HOSTED,
        created_at=now,
        expires_at=now + timedelta(hours=2),
        success_url="http://127.0.0.1:9/thanks",
    )


async def test_declines_never_open_it(shop: Shop, processes: tuple[Process, Process]) -> None:
    process = processes[0]
    for _ in range(OPENS_AFTER + 2):
        with pytest.raises(ProviderRejected):
            await process.call(shop.account, lambda provider: provider.open_checkout(too_little(shop)))
    assert (await state_of(shop))["breaker"] == "closed"


async def test_failures_at_once_are_all_counted(shop: Shop, processes: tuple[Process, Process]) -> None:
    """The first of them inserts the row, whichever it is."""
    await faults(shop, 40)
    answers = await asyncio.gather(
        *(process.call(shop.account, knows=None) for process in processes for _ in range(20)), return_exceptions=True
    )
    failed = sum(isinstance(answer, OutcomeUnknown) for answer in answers)
    assert failed >= OPENS_AFTER
    assert (await state_of(shop))["failures_in_a_row"] == failed
    assert all(isinstance(answer, OutcomeUnknown) or answer.code == CIRCUIT_OPEN for answer in answers)  # type: ignore[union-attr]


async def test_after_five_minutes_exactly_one_of_many_callers_probes_and_its_success_closes_it(
    shop: Shop, processes: tuple[Process, Process], clock: Clock
) -> None:
    await fails(shop, processes[0], OPENS_AFTER)
    clock.now += STAYS_OPEN
    let_go = asyncio.Event()

    async def slow(provider: Provider) -> AccountCheck:
        await let_go.wait()
        return await provider.check_account()

    calls = [asyncio.create_task(process.call(shop.account, slow)) for process in processes for _ in range(20)]
    while sum(call.done() for call in calls) < len(calls) - 1:
        await asyncio.sleep(0.01)
    assert sum(process.asked for process in processes) == 1
    let_go.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, AccountCheck) for answer in answers) == 1
    waits = {answer.retry_after for answer in answers if isinstance(answer, ProviderBusy)}
    assert waits == {timedelta(seconds=5)}
    assert (await state_of(shop))["breaker"] == "closed"
    for process in processes:
        await process.call(shop.account)


async def test_it_is_shown_half_open_while_one_is_on_trial(
    shop: Shop, processes: tuple[Process, Process], clock: Clock
) -> None:
    clock.now -= STAYS_OPEN  # the API has the real time
    await fails(shop, processes[0], OPENS_AFTER)
    assert (await state_of(shop))["breaker"] == "half_open"


async def test_a_failed_probe_keeps_it_open_for_another_five_minutes(
    shop: Shop, processes: tuple[Process, Process], clock: Clock
) -> None:
    one, other = processes
    await fails(shop, one, OPENS_AFTER)
    clock.now += STAYS_OPEN + SECOND
    await fails(shop, other, 1)
    assert await refused(one, shop.account) == STAYS_OPEN
    clock.now += STAYS_OPEN - SECOND
    await refused(other, shop.account)
    clock.now += SECOND
    await one.call(shop.account)
    await other.call(shop.account)


async def test_a_probe_that_died_with_its_process_is_replaced_after_a_minute(
    shop: Shop, processes: tuple[Process, Process], clock: Clock
) -> None:
    one, other = processes
    await fails(shop, one, OPENS_AFTER)
    clock.now += STAYS_OPEN
    never = asyncio.Event()

    async def silent(_: Provider) -> None:
        await never.wait()

    probe = asyncio.create_task(one.call(shop.account, silent))
    while not one.asked:
        await asyncio.sleep(0.01)
    probe.cancel()
    await asyncio.wait([probe])
    await refused(other, shop.account)
    clock.now += PROBE_LASTS + SECOND
    await other.call(shop.account)


async def test_who_has_read_that_it_is_open_is_let_through_once_it_is_closed(
    shop: Shop, processes: tuple[Process, Process], clock: Clock
) -> None:
    one, other = processes
    await fails(shop, one, OPENS_AFTER)
    read_before = await other.health(shop.account)
    clock.now += STAYS_OPEN
    await one.call(shop.account)
    await other.call(shop.account, knows=read_before)
    assert other.asked == 1


async def test_an_address_that_is_only_computed_says_nothing_about_the_provider(
    service: Service, processes: tuple[Process, Process], clock: Clock
) -> None:
    """Wompi's page is opened without a call: that must neither close the circuit nor begin the count anew."""
    shop = await service.shop("wompi")
    process = processes[0]
    request = too_little(shop, "25000.00", "COP")
    await faults(shop, OPENS_AFTER)
    for _ in range(OPENS_AFTER):
        with pytest.raises(OutcomeUnknown):
            await process.call(shop.account)
        if not await is_open(process, shop):
            await process.call(shop.account, lambda provider: provider.open_checkout(request))
    assert await is_open(process, shop)
    clock.now += STAYS_OPEN
    await process.call(shop.account, lambda provider: provider.open_checkout(request))
    assert await is_open(process, shop)
    await process.call(shop.account)  # the trial was handed on
    assert not await is_open(process, shop)
    await shop.aclose()


async def is_open(process: Process, shop: Shop) -> bool:
    health = await process.health(shop.account)
    return health is not None and health.opened_at is not None


@pytest.mark.parametrize("provider", ["stripe", "payplus", "meshulam", "wompi", "payu"])
async def test_no_connection_moved_nothing_and_counts(
    service: Service, processes: tuple[Process, Process], provider: str
) -> None:
    shop = await service.shop(provider)
    away = await service.connect(
        shop.workspace,
        payer_class(provider)(service.sandbox_url),
        name="away",
        callbacks=False,
        options={"api_base": f"http://127.0.0.1:{free_port()}"},
    )
    for count in range(1, 4):
        with pytest.raises(ProviderBusy) as busy:
            await processes[0].call(away.account)
        assert busy.value.code == UNREACHABLE
        health = await processes[0].health(away.account)
        assert health is not None
        assert health.failures == count
    await away.payer.http.aclose()
    await shop.aclose()


async def test_credentials_that_cannot_be_used_are_no_answer(
    service: Service, shop: Shop, processes: tuple[Process, Process]
) -> None:
    process = processes[0]
    await fails(shop, process, 3)
    unusable = service.sealer.seal_mapping({"secret_key": "ключ", "webhook_secret": "x"})
    for credentials, code in ((b"of a key that is gone", "credentials_unreadable"), (unusable, "credential_missing")):
        async with service.database.transaction() as session:
            account = await session.get(ProviderAccount, shop.account.id)
            assert account is not None
            account.credentials, account.updated_at = credentials, datetime.now(UTC)
        with pytest.raises(ProviderMisconfigured, match=code):
            await process.call(account)
    assert (await state_of(shop))["failures_in_a_row"] == 3

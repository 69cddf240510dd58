"""What a workspace can offer its payers, how its providers are doing, and which banks there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from activities.guard import ProviderGuard
from api.context import Member, Services, ServicesDep, member
from api.problems import Problem, answers
from api.routing import available, bounds, sheet_of
from domain.money import Money
from providers.base import Bank, ListsBanks, OutcomeUnknown, Provider, ProviderError, ProviderMisconfigured
from providers.registry import PROVIDERS, capabilities_of
from storage import provider_health, workspaces
from storage.models import ProviderAccount, ProviderHealth
from storage.provider_health import OPENS_AFTER, STAYS_OPEN

router = APIRouter(tags=["payments"])
log = structlog.get_logger()

Reader = Annotated[Member, Depends(member("payments:read"))]
BANKS_LIVE = timedelta(hours=24)
BANKS_RETRY = timedelta(seconds=30)


class MethodOut(BaseModel):
    """One way to pay by one account. Limits and step are major units; `needs` are fields of the payment to be sent."""

    provider: str
    provider_account_id: UUID
    method: str
    kind: Literal["card", "bank", "wallet", "cash", "link"]
    currency: str
    minimum: str | None
    maximum: str | None
    step: str = Field(description="What every amount must be a multiple of.")
    needs: list[str]
    refundable: bool
    direct_mode: bool = Field(description="Whether checkout_mode false works with this account.")


class ProviderHealthOut(BaseModel):
    """How one account's provider answers. `breaker`: closed, open (calls fail at once) or half_open (one on trial)."""

    provider: str
    provider_account_id: UUID
    name: str
    enabled: bool
    breaker: Literal["closed", "open", "half_open"]
    retry_at: datetime | None
    failures_in_a_row: int
    last_success_at: datetime | None
    last_failure_at: datetime | None
    last_failure_code: str | None
    latency_ms: int | None


class BankOut(BaseModel):
    """A bank to choose; `code` goes into `method_fields`."""

    code: str
    name: str


class BanksOut(BaseModel):
    """The banks as of `fetched_at`; `stale` when the provider could not be asked for newer ones."""

    provider: str
    provider_account_id: UUID
    fetched_at: datetime
    stale: bool
    banks: list[BankOut]


@router.get("/payments/methods", summary="Ways to pay", responses=answers("currency_not_of_workspace"))
async def list_methods(
    caller: Reader,
    services: ServicesDep,
    currency: Annotated[str | None, Query(pattern=r"^[A-Z]{3}$", description="The workspace's, if not given.")] = None,
) -> list[MethodOut]:
    """Every method of every enabled account, in the order in which payments are routed.

    They are for the workspace's currency. Another one is refused as POST /payments would refuse it: a list of methods
    that no payment can use helps nobody.
    """
    wanted = caller.workspace.currency
    if currency not in (None, wanted):
        raise Problem("currency_not_of_workspace", f"This workspace takes {wanted}.")
    async with services.database.transaction() as session:
        accounts = await workspaces.accounts_of(session, caller.workspace.id)
    order = {account_id: place for place, account_id in enumerate(caller.workspace.provider_order)}
    found: list[MethodOut] = []
    for account in sorted(accounts, key=lambda one: order.get(one.id, len(order))):
        if account.enabled:
            found += _methods(services, account, wanted)
    return found


@router.get("/payments/health", summary="How the providers answer")
async def read_health(caller: Reader, services: ServicesDep) -> list[ProviderHealthOut]:
    """Each account with its circuit breaker, last success, last failure and latency."""
    async with services.database.transaction() as session:
        accounts = await workspaces.accounts_of(session, caller.workspace.id)
        return [
            _health(account, await provider_health.of_account(session, account.id), services.now())
            for account in accounts
        ]


@router.get(
    "/pse/banks",
    summary="Banks of PSE",
    responses=answers("no_provider_account", "provider_misconfigured", "provider_unavailable"),
)
async def list_banks(caller: Reader, services: ServicesDep, provider_account_id: UUID | None = None) -> BanksOut:
    """The banks that a payer chooses from; kept for a day, and longer while the provider does not answer."""
    account = await _bank_account(services, caller, provider_account_id)
    async with services.database.transaction() as session:
        known = await provider_health.banks_of(session, account.id)
    if known is not None and services.now() - known.fetched_at < BANKS_LIVE:
        return _banks(account, known.banks, known.fetched_at, stale=False)
    try:
        fresh = await _ask_for_banks(services, account)
    except ProviderError as error:
        log.warning("bank list not refreshed", account_id=str(account.id), code=error.code)
        if known is None:
            raise _without_banks(account, error) from None
        return _banks(account, known.banks, known.fetched_at, stale=True)
    now = services.now()
    async with services.database.transaction() as session:
        await provider_health.keep_banks(session, account.id, fresh, now=now)
    return _banks(account, fresh, now, stale=False)


async def _ask_for_banks(services: Services, account: ProviderAccount) -> dict[str, str]:
    """Names by code. By way of the breaker: one that is known to be down keeps no payer waiting. Raises ProviderError.

    No bank at all is no list to go on with for a day.
    """
    async with services.database.transaction() as session:
        health = await provider_health.of_account(session, account.id)

    async def ask(provider: Provider) -> Sequence[Bank]:
        return await provider.banks() if isinstance(provider, ListsBanks) else ()

    banks = await ProviderGuard(services.database, services.pool, services.now).call(account, health, ask)
    if not banks:
        raise OutcomeUnknown("no_banks")
    return {bank.code: bank.name for bank in banks}


def _without_banks(account: ProviderAccount, error: ProviderError) -> Problem:
    """What to do while there is no list, not even an old one."""
    if isinstance(error, ProviderMisconfigured):
        return Problem("provider_misconfigured", "Run payment-cli account check and replace the credentials.")
    seconds = BANKS_RETRY if error.retry_after is None else error.retry_after
    return Problem(
        "provider_unavailable",
        f"{account.provider} gives no banks now ({error.code}), and there are none from before. "
        "Ask again later, or offer another method.",
        headers={"retry-after": str(max(1, round(seconds.total_seconds())))},
    )


async def _bank_account(services: Services, caller: Member, account_id: UUID | None) -> ProviderAccount:
    async with services.database.transaction() as session:
        accounts = await workspaces.accounts_of(session, caller.workspace.id)
    unusable: Problem | None = None
    for account in accounts:
        if not account.enabled or account_id not in (None, account.id):
            continue
        try:
            if sheet_of(services, account).bank_list:
                return account
        except Problem as problem:  # another account may be in order
            unusable = problem
    able = " or ".join(name for name in sorted(PROVIDERS) if capabilities_of(name).bank_list)
    raise unusable or Problem("no_provider_account", f"Connect an account at {able} first.")


def _methods(services: Services, account: ProviderAccount, currency: str) -> list[MethodOut]:
    try:
        sheet = sheet_of(services, account)
    except Problem:  # an account that cannot be used offers nothing; its check says why
        return []
    if sheet.currencies is not None and currency not in sheet.currencies:
        return []
    found = []
    for method in available(account, sheet, currency):
        least, most = bounds(account, method)
        found.append(
            MethodOut(
                provider=account.provider,
                provider_account_id=account.id,
                method=method.name,
                kind=method.kind,
                currency=currency,
                minimum=None if least is None else f"{least:f}",
                maximum=None if most is None else f"{most:f}",
                step=str(Money(sheet.step(currency), currency)),
                needs=[f"customer.{name}" for name in method.payer_fields]
                + [f"method_fields.{name}" for name in method.fields],
                refundable=sheet.refund and method.refundable,
                direct_mode=sheet.direct_payment,
            )
        )
    return found


def _health(account: ProviderAccount, health: ProviderHealth | None, now: datetime) -> ProviderHealthOut:
    opened_at = None if health is None else health.opened_at
    state: Literal["closed", "open", "half_open"] = "closed"
    if opened_at is not None:
        state = "open" if now < opened_at + STAYS_OPEN else "half_open"
    return ProviderHealthOut(
        provider=account.provider,
        provider_account_id=account.id,
        name=account.name,
        enabled=account.enabled,
        breaker=state,
        retry_at=None if opened_at is None else opened_at + STAYS_OPEN,
        failures_in_a_row=0 if health is None else min(health.failures, OPENS_AFTER * 1000),
        last_success_at=None if health is None else health.last_success_at,
        last_failure_at=None if health is None else health.last_failure_at,
        last_failure_code=None if health is None else health.last_failure_code,
        latency_ms=None if health is None else health.latency_ms,
    )


def _banks(account: ProviderAccount, banks: dict[str, str], fetched_at: datetime, *, stale: bool) -> BanksOut:
    return BanksOut(
        provider=account.provider,
        provider_account_id=account.id,
        fetched_at=fetched_at,
        stale=stale,
        banks=[BankOut(code=code, name=name) for code, name in sorted(banks.items(), key=lambda pair: pair[1])],
    )

"""A shop that takes money in many ways, and the books of everybody who holds some of it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from temporalio.client import Client

import wiring
from activities.confirmation import ref_of
from dispatch.inbox import InboxDispatcher
from domain.money import Money
from engine.client import connect
from engine.payments import PaymentEngine
from providers.base import OpenedCheckout, Provider
from providers.pool import ProviderPool
from storage import attempts
from storage.attempts import Loaded
from storage.models import Attempt, Commission, LedgerEntry, Payment, Receipt, SurplusCapture
from tests.providers.payers import payer_class
from tests.support.service import CUSTOMERS, Service, Shop, Till, eventually


@dataclass(frozen=True)
class Kind:
    """A way to pay: a provider's method. `closes`: nobody can pay it once another way was faster."""

    provider: str
    method: str
    closes: bool = False
    asked: bool = True
    """Whether the provider can be asked; if not, only callbacks and files tell."""
    refundable: bool = True

    @property
    def name(self) -> str:
        return f"{self.provider}-{self.method}"


KINDS: dict[str, tuple[Kind, ...]] = {
    "ILS": (
        Kind("stripe", "card", closes=True),
        Kind("payplus", "credit-card", closes=True),
        Kind("meshulam", "card"),
    ),
    "COP": (
        Kind("stripe", "card", closes=True),
        Kind("payu", "card"),
        Kind("payu", "efecty", refundable=False),
        Kind("wompi", "card"),
        Kind("efecty", "efecty", asked=False, refundable=False),
    ),
}
AMOUNT = {"ILS": "129.90", "COP": "25000.00"}
HOME = {"ILS": "stripe", "COP": "payu"}
"""The first account of a shop in this currency."""


@dataclass
class Books:
    """What is on record of one payment."""

    payment: Payment
    attempts: list[Attempt]
    surplus: list[SurplusCapture]
    receipts: int
    commissions: int
    ledger: dict[str, Money]
    held: dict[int, Money]
    """By attempt: what its provider has captured and not given back."""

    def statuses(self) -> list[str]:
        return [attempt.status for attempt in self.attempts]

    def check(self, *, settled: bool = True) -> None:
        """What must hold at every moment at which nobody is at work; `settled`: the payment has its receipt."""
        assert (self.receipts, self.commissions) == ((1, 1) if settled else (0, 0))
        assert self.statuses().count("paid") <= 1
        zero = Money.zero(self.payment.currency)
        assert sum((one.minor for one in self.ledger.values()), 0) == 0
        waiting = [one.money.minor for one in self.surplus if one.status != "refunded"]
        credit = self.ledger.get(f"payer_credit:{self.payment.id}", zero)
        assert credit.minor == -sum(waiting), "what we owe the payer"
        owed: dict[str, int] = {}
        for attempt in self.attempts:
            account = f"provider:{attempt.provider_account_id}"
            owed[account] = owed.get(account, 0) + self.held[attempt.number].minor
        for account, minor in owed.items():
            assert self.ledger.get(account, zero).minor == minor, f"what {account} owes us"


@dataclass
class Market:
    """A shop of one currency with an account at every provider that takes it."""

    shop: Shop
    tills: dict[str, Till]
    pool: ProviderPool
    payers: dict[tuple[str, int], OpenedCheckout] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        return self.shop.service

    @property
    def currency(self) -> str:
        return self.shop.workspace.currency

    def order(self, kind: Kind | None, **changes: Any) -> dict[str, Any]:
        chosen = {} if kind is None else {"provider": kind.provider, "method": kind.method}
        return {
            "amount": AMOUNT[self.currency],
            "currency": self.currency,
            "order_id": f"order-{secrets.token_hex(4)}",
            "customer": CUSTOMERS[self.currency],
            "referrer_id": "partner-5",
        } | (chosen | changes)

    async def starts(self, kind: Kind, *others: Kind, **changes: Any) -> str:
        """A payment with one way or more. The payers have their pages open before anybody pays."""
        answer = await self.shop.api.post("/payments", json=self.order(kind, **changes))
        assert answer.status_code == 201, answer.text
        payment_id = str(answer.json()["id"])
        self.payers[payment_id, 1] = await self.shop.checkout({"id": payment_id}, 1)
        for other in others:
            await self.opens(payment_id, other)
        return payment_id

    async def opens(self, payment_id: str, kind: Kind) -> int:
        """A further way; its number."""
        body = {"provider": kind.provider, "method": kind.method}
        answer = await self.shop.api.post(f"/payments/{payment_id}/attempts", json=body)
        assert answer.status_code == 201, answer.text
        number = int(answer.json()["number"])
        self.payers[payment_id, number] = await self.shop.checkout({"id": payment_id}, number)
        return number

    async def pays(self, payment_id: str, number: int, kind: Kind) -> None:
        await self.tills[kind.provider].payer.pays(self.payers[payment_id, number])

    async def tries_to_pay(self, payment_id: str, number: int, kind: Kind) -> None:
        """At a way that is closed: the provider must refuse."""
        await self.tills[kind.provider].payer.tries_to_pay(self.payers[payment_id, number])

    async def hears_of_cash(self) -> None:
        """The day's settlement file of the network that cannot be asked."""
        till = self.tills["efecty"]
        content = await till.payer.settlement_file()  # type: ignore[attr-defined]
        answer = await self.shop.api.post(f"/provider-accounts/{till.account.id}/settlement-file", content=content)
        assert answer.status_code == 200, answer.text
        assert answer.json()["refused"] == 0

    async def loaded(self, payment_id: str) -> Loaded:
        async with self.service.database.transaction() as session:
            found = await attempts.load(session, UUID(payment_id))
        assert found is not None
        return found

    async def books(self, payment_id: str) -> Books:
        loaded = await self.loaded(payment_id)
        of_it = UUID(payment_id)
        async with self.service.database.transaction() as session:
            surplus = list(await session.scalars(select(SurplusCapture).where(SurplusCapture.payment_id == of_it)))
            counted = [
                int(await session.scalar(select(func.count()).where(model.payment_id == of_it)) or 0)
                for model in (Receipt, Commission)
            ]
            rows = await session.execute(
                select(LedgerEntry.account, LedgerEntry.currency, func.sum(LedgerEntry.amount))
                .where(LedgerEntry.payment_id == of_it)
                .group_by(LedgerEntry.account, LedgerEntry.currency)
            )
            ledger = {account: Money.from_decimal(amount, currency) for account, currency, amount in rows.all()}
        ways = [way.attempt for way in loaded.ways if way.attempt is not None]
        held = {attempt.number: await self._held(loaded, attempt) for attempt in ways}
        return Books(loaded.payment, ways, surplus, counted[0], counted[1], ledger, held)

    async def _held(self, loaded: Loaded, attempt: Attempt) -> Money:
        way = next(way for way in loaded.ways if way.attempt is attempt)
        zero = Money.zero(loaded.payment.currency)
        if attempt.status == "failed" and attempt.session_id is None:
            return zero
        provider: Provider = self.pool.of(way.account)
        if not provider.capabilities.status_call:
            answer = await self.service.http.get(
                f"{self.service.sandbox_url}/sandbox/efecty/payments", params={"code": attempt.session_id or "none"}
            )
            amounts = [Money.parse(one["amount"], one["currency"]).minor for one in answer.json()]
            return Money(sum(amounts), zero.currency)
        seen = await provider.look(ref_of(loaded.payment, attempt, self.service.sealer))
        return (seen.captured or zero) - (seen.refunded or zero)

    async def books_at(self, payment_id: str) -> list[str]:
        """How the ways stand, first to last."""
        loaded = await self.loaded(payment_id)
        return [way.attempt.status for way in loaded.ways if way.attempt is not None]

    async def forget_refund_status(self, api_key: str) -> None:
        """Let PayPlus's refunds succeed again."""
        await self.shop.sandbox("POST", "/payplus/refund_status", {"api_key": api_key, "value": ""})

    async def temporal(self) -> Client:
        settings = self.service.settings
        return await connect(wiring.temporal_target(settings))

    async def dispatcher(self) -> InboxDispatcher:
        """One of its own, which does nothing by itself."""
        engine = PaymentEngine(await self.temporal(), self.service.settings.temporal_task_queue)
        return InboxDispatcher(self.service.database, engine, wiring.poll_plan(self.service.settings))

    @staticmethod
    def now(minutes: float = 0) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=minutes)

    async def surplus(self, payment_id: str, count: int = 1, *, until: Sequence[str] = ()) -> list[SurplusCapture]:
        """Wait for so many surplus captures of a payment, all in one of the statuses where some are named."""

        async def found() -> list[SurplusCapture] | None:
            async with self.service.database.transaction() as session:
                query = select(SurplusCapture).where(SurplusCapture.payment_id == UUID(payment_id))
                rows = list(await session.scalars(query.order_by(SurplusCapture.created_at)))
            ready = len(rows) == count and all(not until or row.status in until for row in rows)
            return rows if ready else None

        return list(await eventually(found))

    async def closed(self, payment_id: str, number: int) -> None:
        """Wait until nobody can pay this way any more, as far as we have recorded."""

        async def gone() -> bool:
            loaded = await self.loaded(payment_id)
            attempt = next(way.attempt for way in loaded.ways if way.attempt and way.attempt.number == number)
            return attempt.status in ("expired", "canceled", "failed")

        await eventually(gone)


@asynccontextmanager
async def market(service: Service, currency: str, *, callbacks: bool = True, **changes: Any) -> AsyncIterator[Market]:
    """A shop with all accounts of its currency; the commission's and receipts' books are its own."""
    shop = await service.shop(HOME[currency], callbacks=callbacks, **({"order_webhook_url": None} | changes))
    assert shop.workspace.currency == currency
    tills = {HOME[currency]: shop.till}
    for kind in KINDS[currency]:
        if kind.provider not in tills:
            payer = payer_class(kind.provider)(service.sandbox_url)
            tills[kind.provider] = await service.connect(shop.workspace, payer, callbacks=callbacks)
    pool = wiring.provider_pool(service.settings, service.sealer)
    try:
        yield Market(shop, tills, pool)
    finally:
        await pool.close()
        for till in tills.values():
            await till.payer.http.aclose()
        await shop.aclose()

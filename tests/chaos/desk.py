"""The merchant at the provider's own desk: refunds that nobody asked us for, pending ones, and those that come back.

What a provider does not know (two refunds that race for the same money, say) it refuses, and nothing has happened.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from domain.money import Money
from sandbox.webhooks import seal
from storage.models import Payment
from tests.chaos.asking import insist
from tests.support.market import AMOUNT, Kind, Market

TOLD_AGAIN = ("refund.created", "refund.updated", "refund.failed", "charge.refunded", "charge.dispute.created")
"""Events that Stripe tells again, for three days, until it gets an answer; nothing else would tell us."""


@dataclass
class Desk:
    """One payment at its provider's pages."""

    chance: random.Random
    done: Counter[str]
    market: Market
    payment_id: str

    async def refunds(self, kind: Kind) -> None:
        """A part or all goes back; it may be undecided for a while, be refused, and come back."""
        hands: dict[str, Callable[[], Awaitable[None]]] = {
            "stripe": self._at_stripe,
            "payplus": self._at_payplus,
            "payu": self._at_payu,
            "wompi": self._at_wompi,
            "meshulam": self._at_meshulam,
        }
        try:
            await hands[kind.provider]()
        except httpx.HTTPError:
            self.done["refunds at the desk that the provider refused"] += 1

    async def refunds_of_a_charge(self, minor: int) -> None:
        """The same for so much of a charge of a subscription, which is at Stripe."""
        try:
            await self._at_stripe(minor)
        except httpx.HTTPError:
            self.done["refunds at the desk that the provider refused"] += 1

    async def _at_stripe(self, minor: int | None = None) -> None:
        charge = await self.charge()
        if charge is None:
            return
        status = self.chance.choice(("succeeded", "succeeded", "pending"))
        body = {"amount": minor or self._part().minor, "status": status}
        made = await self._does(f"/charges/{charge['id']}/refund", body)
        self.done[f"refunds at Stripe's desk, {status}"] += 1
        await asyncio.sleep(self.chance.uniform(0, 2))
        if status == "pending":
            await self._does(f"/refunds/{made['id']}/settle", {"succeeded": self.chance.random() < 0.5})
        elif self.chance.random() < 0.5:
            await self._does(f"/refunds/{made['id']}/return")
            self.done["refunds at Stripe's desk that came back"] += 1

    async def complains(self, *, refund: bool) -> None:
        """A dispute or a refund, told at once by an event that names the transaction alone: it may well come first."""
        charge = await self.charge()
        if charge is None:
            return
        path, kind = ("refund", "refund.created") if refund else ("dispute", "charge.dispute.created")
        body = {"amount": self._part().minor} if refund else {}
        try:
            thing = await self._does(f"/charges/{charge['id']}/{path}", body)
        except httpx.HTTPError:
            return
        named = thing | {"charge": None, "metadata": {}, "payment_intent": charge["payment_intent"]}
        await insist(lambda: self._tells(kind, named))
        self.done[f"early events ({path})"] += 1
        if not refund:
            await asyncio.sleep(self.chance.uniform(0, 3))
            await self._does(f"/disputes/{thing['id']}/{self.chance.choice(('won', 'lost'))}")

    async def charge(self) -> dict[str, Any] | None:
        """What was captured at Stripe for this payment."""
        charges = await self.market.shop.sandbox("GET", "/objects?type=charge")
        return next((one for one in charges if one["metadata"].get("payment_id") == self.payment_id), None)

    async def _tells(self, kind: str, thing: dict[str, Any]) -> None:
        event = {
            "id": f"evt_{secrets.token_hex(12)}",
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": int(thing["created"]),
            "data": {"object": thing},
            "livemode": False,
            "type": kind,
        }
        body, till = json.dumps(event).encode(), self.market.tills["stripe"]
        answer = await self.market.service.http.post(
            till.hook_url, content=body, headers=seal(till.credentials["webhook_secret"], body)
        )
        answer.raise_for_status()

    async def _at_payplus(self) -> None:
        made = await self._does(
            f"/payplus/transactions/{(await self._row()).provider_transaction_id}/refund", {"amount": str(self._part())}
        )
        self.done["refunds at PayPlus's desk"] += 1
        if self.chance.random() < 0.5:
            await asyncio.sleep(self.chance.uniform(0, 2))
            await self._does(f"/payplus/transactions/{made['transaction_uid']}/cancel")
            self.done["refunds at PayPlus's desk that came back"] += 1

    async def _at_payu(self) -> None:
        await self._does("/payu/refunds", {"reference": self.payment_id, "value": str(self._part())})
        await asyncio.sleep(self.chance.uniform(0, 2))
        state = self.chance.choice(("APPROVED", "DECLINED"))
        await self._does("/payu/refunds/settle", {"reference": self.payment_id, "state": state})
        self.done[f"refunds at PayU's desk, {state.lower()}"] += 1

    async def _at_wompi(self) -> None:
        transaction = (await self._row()).provider_transaction_id
        await self._does(f"/wompi/transactions/{transaction}/settle", {"status": "VOIDED"})
        self.done["refunds at Wompi's desk"] += 1

    async def _at_meshulam(self) -> None:
        session = (await self._row()).provider_session_id
        await self._does(f"/meshulam/processes/{session}/refund", {"sum": str(self._part())})
        self.done["refunds at Meshulam's desk"] += 1

    def _part(self) -> Money:
        currency = self.market.currency
        unit = 100 if currency == "COP" else 1
        whole = Money.parse(AMOUNT[currency], currency)
        return Money(self.chance.randint(1, whole.minor // unit) * unit, currency)

    async def _row(self) -> Payment:
        async def read() -> Payment:
            async with self.market.service.database.transaction() as session:
                return await session.get_one(Payment, UUID(self.payment_id))

        return await insist(read)

    async def _does(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return await self.market.shop.sandbox("POST", path, body or {})

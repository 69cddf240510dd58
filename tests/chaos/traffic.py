"""What people do meanwhile: buy, pay twice at once, change their minds, want their money back, go to their bank."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import httpx

from domain.money import Money
from tests.chaos.asking import AWAY, PATIENCE, Broken, ask, awaited, insist
from tests.chaos.desk import Desk
from tests.support.market import AMOUNT, KINDS, Kind, Market

Story = Callable[[Market], Awaitable[None]]


@dataclass
class Traffic:
    """People at all shops, each with one story after the other."""

    markets: Sequence[Market]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Answers that must never be given."""
    open: dict[str, Market] = field(default_factory=dict)
    """Payments that nobody has paid."""
    desk: dict[str, Market] = field(default_factory=dict)
    """Payments with which something was done at the provider."""
    further: tuple[Story, ...] = ()
    """What others do, each of them once for six who buy."""
    over: bool = False
    """No new stories."""

    async def work(self) -> None:
        while not self.over:
            story = self.chance.choice((*[self._buys] * 6, *self.further))
            try:
                await story(self.chance.choice(self.markets))
            except Broken as error:
                self.wrong.append(str(error))

    async def ends(self) -> None:
        """The shops cancel what nobody has paid."""
        for payment_id, market in list(self.open.items()):
            try:
                await ask(market, "POST", f"/payments/{payment_id}/cancel")
            except Broken as error:
                self.wrong.append(str(error))

    async def _buys(self, market: Market) -> None:
        kind = self.chance.choice(KINDS[market.currency])
        payment_id = await self._orders(market, kind)
        if payment_id is None:
            return
        stories = (self._pays, self._pays_twice_at_once, self._cancels_and_pays, self._leaves)
        [story] = self.chance.choices(stories, (12, 3, 2, 2))
        try:
            await story(market, payment_id, kind)
        except AssertionError:
            self.done["pages that took no money (closed, or paid already)"] += 1

    async def _orders(self, market: Market, kind: Kind) -> str | None:
        """A payment whose page the payer has; asked for once more, at once or later, it is the same one."""
        order = market.order(kind)
        times = self.chance.choice((1, 1, 1, 2, 3))
        answers = await asyncio.gather(
            *(ask(market, "POST", "/payments", order, key=order["order_id"]) for _ in range(times))
        )
        self.done["payments asked for"] += 1
        found = {answer.json()["id"] for answer in answers if answer.is_success}
        if len(found) > 1:
            self.wrong.append(f"one key made {len(found)} payments")
        if not found:
            self.wrong.append(f"no payment: {answers[0].status_code} {answers[0].text[:200]}")
            return None
        payment_id = str(found.pop())
        self.open[payment_id] = market
        return payment_id if await self._holds_page(market, payment_id, 1) else None

    async def _holds_page(self, market: Market, payment_id: str, number: int) -> bool:
        """Wait until this way is open; False when it never was, which a payment may say in the end."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            payment = (await ask(market, "GET", f"/payments/{payment_id}")).json()
            with suppress(AssertionError, *AWAY):
                market.payers[payment_id, number] = await market.shop.checkout({"id": payment_id}, number)
                return True
            if payment["status"] in ("failed", "expired", "canceled"):
                self.done[f"payments that could not be opened ({payment['status']})"] += 1
                return False
            await asyncio.sleep(0.3)
        self.done["pages that the payer did not wait for any longer"] += 1
        return False

    async def _leaves(self, market: Market, payment_id: str, kind: Kind) -> None:
        self.done["payments left alone"] += 1

    async def _pays(self, market: Market, payment_id: str, kind: Kind) -> None:
        await self._goes_to_the_till(market, payment_id, 1, kind)
        self.done[f"paid by {kind.name}"] += 1
        sequels = (
            self._nothing,
            self._wants_money_back,
            self._goes_to_the_desk,
            self._complains_at_once,
            self._goes_to_the_bank,
        )
        [sequel] = self.chance.choices(sequels, (5, 4, 3, 2, 1))
        await sequel(market, payment_id, kind)

    async def _goes_to_the_till(self, market: Market, payment_id: str, number: int, kind: Kind) -> None:
        if market.tills[kind.provider].payer.can_be_declined and self.chance.random() < 0.1 and kind.method != "efecty":
            await insist(lambda: market.tills[kind.provider].payer.is_declined(market.payers[payment_id, number]))
            self.done["declined before"] += 1
        await insist(lambda: market.pays(payment_id, number, kind))
        self.open.pop(payment_id, None)

    async def _pays_twice_at_once(self, market: Market, payment_id: str, kind: Kind) -> None:
        other = self.chance.choice(KINDS[market.currency])
        body = {"provider": other.provider, "method": other.method}
        answer = await ask(market, "POST", f"/payments/{payment_id}/attempts", body, key=secrets.token_hex(8))
        if not answer.is_success:
            self.done[f"no second way ({answer.status_code})"] += 1
            return
        number = int(answer.json()["number"])
        if await self._holds_page(market, payment_id, number):
            both = (
                self._goes_to_the_till(market, payment_id, 1, kind),
                self._goes_to_the_till(market, payment_id, number, other),
            )
            ends = await asyncio.gather(*both, return_exceptions=True)
            self.done[f"two ways at once, paid at {sum(end is None for end in ends)}"] += 1

    async def _cancels_and_pays(self, market: Market, payment_id: str, kind: Kind) -> None:
        await asyncio.gather(
            ask(market, "POST", f"/payments/{payment_id}/cancel"),
            self._goes_to_the_till(market, payment_id, 1, kind),
        )
        self.done["paid while it was being canceled"] += 1

    async def _nothing(self, market: Market, payment_id: str, kind: Kind) -> None:
        """All is well."""

    async def _wants_money_back(self, market: Market, payment_id: str, kind: Kind) -> None:
        """In parts, all asked for at once, in sum more than there is; each asked for twice."""
        if not kind.refundable or not await self._is_paid(market, payment_id):
            return
        payer = market.tills[kind.provider].payer
        with suppress(httpx.HTTPStatusError):  # an empty checkout beside the paid one cannot grow older
            await payer.charges_can_be_refunded(UUID(payment_id))
        whole = Money.parse(AMOUNT[market.currency], market.currency)
        unit = 100 if market.currency == "COP" else 1
        parts = [
            Money(self.chance.randint(1, whole.minor // unit) * unit, whole.currency)
            for _ in range(self.chance.randint(1, 3))
        ]
        asked = []
        for part in parts:
            key = secrets.token_hex(8)
            body = {"payment_id": payment_id, "amount": str(part.to_decimal()), "reason": "chaos"}
            asked += [ask(market, "POST", "/refunds", body, key=key) for _ in range(self.chance.choice((1, 2)))]
        answers = await asyncio.gather(*asked)
        self.done["refunds asked for"] += len(parts)
        self.done["refunds refused"] += sum(answer.status_code in (409, 422) for answer in answers)
        for answer in answers:
            if not answer.is_success and answer.status_code not in (409, 422):
                self.wrong.append(f"refund: {answer.status_code} {answer.text[:200]}")
        with suppress(httpx.HTTPStatusError):  # nothing was refunded yet
            await payer.refunds_are_decided(UUID(payment_id))
        if kind.provider == "stripe" and self.chance.random() < 0.4:
            await Desk(self.chance, self.done, market, payment_id).refunds(kind)
        if kind.provider == "stripe" and self.chance.random() < 0.5:
            await self._comes_back(market, payment_id)

    async def _goes_to_the_desk(self, market: Market, payment_id: str, kind: Kind) -> None:
        """The merchant refunds at the provider, once or twice, and now and then by us at the same time."""
        if not kind.refundable or not await self._is_paid(market, payment_id):
            return
        self.desk[payment_id] = market
        desk = Desk(self.chance, self.done, market, payment_id)
        both: list[Awaitable[None]] = [desk.refunds(kind) for _ in range(self.chance.choice((1, 1, 2)))]
        if self.chance.random() < 0.5:
            both.append(self._wants_money_back(market, payment_id, kind))
        await asyncio.gather(*both)

    async def _complains_at_once(self, market: Market, payment_id: str, kind: Kind) -> None:
        """The bank or the desk is faster than the word that it was paid at all."""
        if kind.provider == "stripe":
            self.desk[payment_id] = market
            refund = self.chance.random() < 0.5
            await Desk(self.chance, self.done, market, payment_id).complains(refund=refund)

    async def _comes_back(self, market: Market, payment_id: str) -> None:
        """The payer's bank sends a refund back."""
        made = [
            refund["id"]
            for refund in await market.shop.sandbox("GET", "/objects?type=refund")
            if (refund["metadata"].get("payment_id"), refund["status"]) == (payment_id, "succeeded")
        ]
        if made:
            await market.shop.sandbox("POST", f"/refunds/{self.chance.choice(made)}/return")
            self.done["refunds that came back"] += 1

    async def _goes_to_the_bank(self, market: Market, payment_id: str, kind: Kind) -> None:
        if kind.provider != "stripe" or not await self._is_paid(market, payment_id):
            return
        charges = await market.shop.sandbox("GET", "/objects?type=charge")
        charge = next(one for one in charges if one["metadata"].get("payment_id") == payment_id)
        dispute = await market.shop.sandbox("POST", f"/charges/{charge['id']}/dispute", {})
        await asyncio.sleep(self.chance.uniform(0, 3))
        status = self.chance.choice(("won", "lost"))
        await market.shop.sandbox("POST", f"/disputes/{dispute['id']}/{status}")
        self.done[f"disputes {status}"] += 1

    async def _is_paid(self, market: Market, payment_id: str) -> bool:
        async def paid() -> bool:
            return bool((await ask(market, "GET", f"/payments/{payment_id}")).json()["status"] == "paid")

        return bool(await awaited(paid))

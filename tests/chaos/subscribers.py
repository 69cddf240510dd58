"""What goes on for months: cards saved, periods renewed, declined and tried again, plans changed, ends.

A month passes by moving all dates of a subscription back and waking it, as its own timer would.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text

from domain.money import Money
from providers.base import OpenedCheckout
from storage import subscriptions
from storage.models import Payment, PaymentMethod
from tests.chaos.asking import ask, awaited, insist
from tests.chaos.desk import Desk
from tests.support.market import Market
from tests.support.service import CUSTOMERS

PROVIDER = "stripe"
PRICES = {"ILS": ("40.00", "90.00"), "COP": ("20000.00", "45000.00")}
GOOD_CARD = "4242424242424242"
SOFT, HARD = "insufficient_funds", "stolen_card"
A_MONTH_PASSES = (
    """
    UPDATE subscriptions
       SET anchor = anchor - interval '31 days', current_period_start = current_period_start - interval '31 days',
           current_period_end = current_period_end - interval '31 days', paused_at = paused_at - interval '31 days',
           resume_at = resume_at - interval '31 days', created_at = created_at - interval '31 days',
           wake_wanted_at = now() - interval '1 minute'
     WHERE id = :subscription""",
    """
    UPDATE invoices
       SET period_start = period_start - interval '31 days', period_end = period_end - interval '31 days',
           due_at = due_at - interval '31 days', first_failed_at = first_failed_at - interval '31 days',
           grace_until = grace_until - interval '31 days', next_attempt_at = next_attempt_at - interval '31 days'
     WHERE subscription_id = :subscription""",
)
"""The subscription first: its row lock keeps the worker from acting between the two."""
CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("change-plan", {"quantity": 1}),
    ("change-plan", {"quantity": 3}),
    ("change-plan", {"quantity": 2, "at": "period_end"}),
    ("pause", {}),
    ("resume", {}),
    ("cancel", {"at": "period_end"}),
    ("cancel", {"at": "now"}),
)


@dataclass
class Subscribers:
    """Each story is one subscription."""

    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    desk: dict[str, Market] = field(default_factory=dict)
    """Payments with which something was done at the provider."""

    async def story(self, market: Market) -> None:
        customer = CUSTOMERS[market.currency] | {"id": f"cust-{secrets.token_hex(4)}"}
        customer = {name: customer[name] for name in ("id", "name", "email", "phone")}
        made = await self._subscribes(market, customer)
        if made is None:
            return
        for _ in range(self.chance.randint(2, 5)):
            steps = (self._a_month, self._changes_mind, self._wants_money_back, self._new_card)
            [next_] = self.chance.choices(steps, (6, 3, 2, 1))
            await next_(market, made, customer)

    async def _subscribes(self, market: Market, customer: dict[str, Any]) -> str | None:
        """By a card saved before, or at the page of the first invoice, which saves the card. Its id."""
        body = {
            "plan": await self._plan(market),
            "customer": customer,
            "quantity": 2,  # so that there is less to change to, and something left over
            "provider": PROVIDER,
            "referrer_id": "partner-5",
        }
        by_page = self.chance.random() < 0.5
        if not by_page:
            method = await self._saves_card(market, customer)
            if method is None:
                return None
            body |= {"payment_method_id": method}
        key = secrets.token_hex(8)
        answers = await asyncio.gather(
            *(ask(market, "POST", "/subscriptions", body, key=key) for _ in range(self.chance.choice((1, 2))))
        )
        found = {answer.json()["id"] for answer in answers if answer.is_success}
        if len(found) != 1:
            self.wrong.append(f"a subscription: {[f'{one.status_code} {one.text[:200]}' for one in answers]}")
            return None
        made = str(found.pop())
        self.done["subscriptions begun"] += 1
        if by_page:
            await self._pays_page(market, made)
        return made

    async def _pays_page(self, market: Market, made: str) -> None:
        async def page() -> str | None:
            invoice = (await self._read(market, made))["latest_invoice"] or {}
            return invoice.get("checkout_url") or ("" if invoice.get("status") == "paid" else None)

        url = await awaited(page)
        if url:
            opened = OpenedCheckout(url.rsplit("/", 1)[1], url)
            with suppress(AssertionError):  # paid already: the answer to the payer was lost
                await insist(lambda: market.tills[PROVIDER].payer.pays(opened))
            self.done["first invoices paid at a page"] += 1

    async def _saves_card(self, market: Market, customer: dict[str, Any]) -> str | None:
        """The id of the method; None where that took too long."""
        body = {"customer": customer, "provider": PROVIDER}
        answer = await ask(market, "POST", "/payment-methods", body, key=secrets.token_hex(8))
        if not answer.is_success:
            self.wrong.append(f"a set-up: {answer.status_code} {answer.text[:200]}")
            return None
        path, entered = f"/payment-methods/setups/{answer.json()['id']}", False

        async def saved() -> Any:
            nonlocal entered
            setup = (await ask(market, "GET", path)).json()
            if setup["url"] and not entered:
                page = f"/sessions/{setup['url'].rsplit('/', 1)[1]}/pay"
                await market.shop.sandbox("POST", page, {"card": GOOD_CARD})
                entered = True
            return setup if setup["status"] in ("succeeded", "failed", "expired") else None

        setup = await awaited(saved)
        self.done[f"set-ups {setup['status'] if setup else 'not waited for any longer'}"] += 1
        return None if setup is None else setup["payment_method_id"]

    async def _a_month(self, market: Market, made: str, customer: dict[str, Any]) -> None:
        """The bank says yes, or no, or no and then yes."""
        ends = self.chance.choice(((), (), (), (SOFT,), (SOFT, SOFT), (HARD,)))
        if ends:
            await insist(lambda: self._will(market, made, ends))
        await insist(lambda: self._moves_dates(market, made))
        self.done["months passed"] += 1
        if self.chance.random() < 0.7:  # else the next thing comes upon a charge under way
            await self._rests(market, made)

    async def _changes_mind(self, market: Market, made: str, customer: dict[str, Any]) -> None:
        """Asked for twice it is done once; two wishes may come at once."""
        wishes = self.chance.sample(CHANGES, self.chance.choice((1, 1, 2)))
        asked = []
        for path, body in wishes:
            key = secrets.token_hex(8)
            at = f"/subscriptions/{made}/{path}"
            asked += [ask(market, "POST", at, body, key=key) for _ in range(self.chance.choice((1, 2)))]
            self.done[f"wishes: {path} {body.get('at', '')}".strip()] += 1
        for answer in await asyncio.gather(*asked):
            if not answer.is_success and answer.status_code not in (409, 422):
                self.wrong.append(f"a change of a subscription: {answer.status_code} {answer.text[:200]}")

    async def _wants_money_back(self, market: Market, made: str, customer: dict[str, Any]) -> None:
        """Of a charge, in part or whole, by us or at the provider's desk, and at the same time another plan."""

        async def charges() -> list[Payment]:
            async with market.service.database.transaction() as session:
                return [one for one in await subscriptions.payments_of(session, UUID(made)) if one.paid_at is not None]

        paid = await insist(charges)
        if not paid:
            return
        chosen = self.chance.choice(paid)
        unit = 100 if market.currency == "COP" else 1
        part = Money(max(chosen.money.minor // unit // self.chance.choice((1, 2, 3)), 1) * unit, market.currency)
        work: list[Awaitable[Any]] = []
        if self.chance.random() < 0.3:
            self.desk[str(chosen.id)] = market
            work.append(Desk(self.chance, self.done, market, str(chosen.id)).refunds_of_a_charge(part.minor))
        else:
            work.append(self._asks_for_refund(market, str(chosen.id), part))
        if self.chance.random() < 0.5:
            work.append(self._changes_mind(market, made, customer))
        await asyncio.gather(*work)

    async def _asks_for_refund(self, market: Market, payment_id: str, amount: Money) -> None:
        body = {"payment_id": payment_id, "amount": str(amount), "reason": "chaos"}
        answer = await ask(market, "POST", "/refunds", body, key=secrets.token_hex(8))
        self.done["refunds of subscriptions' charges"] += answer.is_success
        if not answer.is_success and answer.status_code not in (409, 422):
            self.wrong.append(f"a refund of a subscription's charge: {answer.status_code} {answer.text[:200]}")

    async def _new_card(self, market: Market, made: str, customer: dict[str, Any]) -> None:
        if (method := await self._saves_card(market, customer)) is not None:
            path = f"/subscriptions/{made}/payment-method"
            await ask(market, "POST", path, {"payment_method_id": method}, key=secrets.token_hex(8))
            self.done["cards replaced"] += 1

    async def _rests(self, market: Market, made: str) -> None:
        """Wait until no charge is under way."""

        async def resting() -> bool:
            found = await self._read(market, made)
            invoice = found["latest_invoice"] or {}
            waits = invoice.get("payment_status") in ("created", "pending", "unknown")
            return not waits or bool(invoice.get("checkout_url"))

        await awaited(resting)

    async def _read(self, market: Market, made: str) -> dict[str, Any]:
        return dict((await ask(market, "GET", f"/subscriptions/{made}")).json())

    async def _plan(self, market: Market) -> str:
        """The code of one of two plans."""
        price = self.chance.choice(PRICES[market.currency])
        code = f"plan-{price.split('.')[0]}"
        body = {"code": code, "name": "Club", "amount": price, "currency": market.currency}
        if not (await ask(market, "POST", "/plans", body, key=code)).is_success:
            self.wrong.append("a plan could not be made")
        return code

    async def _moves_dates(self, market: Market, made: str) -> None:
        async with market.service.database.transaction() as session:
            for statement in A_MONTH_PASSES:
                await session.execute(text(statement), {"subscription": UUID(made)})

    async def _will(self, market: Market, made: str, outcomes: Sequence[str]) -> None:
        """What the next charges of the saved card come to."""
        method_id = (await self._read(market, made))["payment_method_id"]
        if method_id is None:
            return
        async with market.service.database.transaction() as session:
            method = await session.get(PaymentMethod, UUID(method_id))
        if method is not None and method.status == "active":
            path = f"/payment_methods/{market.service.sealer.open(method.token)}/outcomes"
            await market.shop.sandbox("POST", path, {"outcomes": list(outcomes)})
            self.done["cards that will be declined"] += 1

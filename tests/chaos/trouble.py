"""Everything that goes wrong: processes that die or hang, providers that fail, callbacks that are lost or forged."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx

from embedded.stack import Stack
from tests.chaos.asking import OUTAGES
from tests.support.callbacks import HANDS, Hand, Letter, letters_of
from tests.support.market import Market
from tests.support.service import Merchant

PARTS = ("worker", "api", "postgres", "temporal")
RESTED, REST_SECONDS = 0.8, 20.0
"""How often everything has come back, or is waited for so long, before the next process is killed: work is to be broken
off, and on a slow machine nobody would come to any. In the other cases they are killed while they start."""
STOPS_WITHIN = 30.0
"""Seconds; what docker-compose.yml gives our processes before they are killed."""
WEATHER = (
    ("webhooks", "lose"),
    ("webhooks", "duplicate:3"),
    ("webhooks", "reorder"),
    ("webhooks", "delay:3"),
    ("*", "error:500"),
    ("*", "error:503"),
    ("*", "rate_limit:1"),
    ("*", "timeout_before:4"),
    ("*", "timeout_after:4"),
)
"""What the sandbox does to a call or a callback. Four seconds are longer than the service waits for a provider."""
SUNNY = 0.1
"""How often what is still to come of it is dropped: faults must not pile up where few calls are made, or all fail."""
TAKEN, REFUSED = range(200, 300), range(400, 500)


@dataclass
class Killer:
    """Ends processes by kill -9, or hangs them; getting up again is the supervisor's business."""

    stack: Stack
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)

    async def work(self) -> None:
        while True:
            if self.chance.random() < RESTED:
                await asyncio.gather(*(self.stack.supervisor.is_ready(part, REST_SECONDS) for part in PARTS))
            await asyncio.sleep(self.chance.uniform(2, 5))
            victims = self.chance.sample(PARTS, 2 if self.chance.random() < 0.25 else 1)
            if self.chance.random() < 0.25:
                await self._hang(victims[0])
            else:
                for victim in victims:
                    self._send(victim, signal.SIGKILL)
                    self.done[f"kill -9 {victim}"] += 1

    async def _hang(self, victim: str) -> None:
        pid = self._send(victim, signal.SIGSTOP)
        try:
            await asyncio.sleep(self.chance.uniform(1, 4))
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.done[f"hang {victim}"] += 1

    def _send(self, victim: str, number: signal.Signals) -> int:
        pid = self.stack.supervisor.pid(victim)
        with suppress(ProcessLookupError):  # it is being started again
            os.kill(pid, number)
        return pid


@dataclass
class Deployer:
    """Replaces processes as a deployment does: they are told to stop, and others go on with their work."""

    stack: Stack
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Who did not stop in time."""

    async def work(self) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(5, 15))
            await self._replace(self.chance.choice(("worker", "worker", "api")))

    async def _replace(self, part: str) -> None:
        pid, begun = self.stack.supervisor.pid(part), time.monotonic()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            while time.monotonic() < begun + STOPS_WITHIN:
                await asyncio.sleep(0.1)
                os.kill(pid, 0)
            self.wrong.append(f"{part} was told to stop, and still runs after {STOPS_WITHIN:.0f} s")
        self.done[f"{part} told to stop, took up to {math.ceil((time.monotonic() - begun) / 5) * 5} s"] += 1


@dataclass
class Weather:
    """Providers, callbacks and the order service fail in all the ways that the sandbox knows."""

    sandbox_url: str
    merchant: Merchant
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)

    async def work(self) -> None:
        async with httpx.AsyncClient(base_url=self.sandbox_url) as http:
            while True:
                await asyncio.sleep(self.chance.uniform(0.2, 1.0))
                if self.chance.random() < SUNNY:
                    (await http.delete("/sandbox/faults")).raise_for_status()
                    await asyncio.sleep(self.chance.uniform(1, 4))
                operation, fault = self.chance.choice(WEATHER)
                body = {"operation": operation, "fault": fault, "count": self.chance.randint(1, 2)}
                (await http.post("/sandbox/faults", json=body)).raise_for_status()
                self.done[f"{operation} {fault}"] += 1
                if self.chance.random() < 0.3:
                    self.merchant.answers.append(self.chance.choice((500, 503, 404, 302)))
                    self.done["order service fails"] += 1


@dataclass
class Stranger:
    """Posts forged, cut, old and foreign callbacks, repeats genuine ones, and tries other shops' keys."""

    markets: Sequence[Market]
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What should have been refused and was not, and the reverse."""
    _letters: dict[str, list[Letter]] = field(default_factory=dict)

    async def work(self) -> None:
        async with httpx.AsyncClient(timeout=10) as http:
            while True:
                await asyncio.sleep(self.chance.uniform(0.05, 0.3))
                with suppress(httpx.HTTPError):  # the API is being killed
                    await self.chance.choice((self._forges, self._forges, self._repeats, self._pries))(http)

    async def _forges(self, http: httpx.AsyncClient) -> None:
        currency = self.chance.choice(("ILS", "COP"))
        market, other = self.chance.sample([one for one in self.markets if one.currency == currency], 2)
        found = await self._hand(market)
        if found is None or not other.payers:
            return
        name, hand = found
        reference = self.chance.choice(list(other.payers))[0]
        lie = self.chance.choice(list(hand.refused(other.tills[name], reference)))
        answer = await http.post(lie.post.url, content=lie.post.body, headers=dict(lie.post.headers))
        if answer.status_code not in OUTAGES:
            self.done[f"refused: {lie.reason}"] += 1
            if answer.status_code not in REFUSED:
                self.wrong.append(f"{name}: {lie.what} was answered {answer.status_code}")

    async def _repeats(self, http: httpx.AsyncClient) -> None:
        found = await self._hand(self.chance.choice(self.markets))
        if found is None:
            return
        name, hand = found
        post = hand.genuine()
        answer = await http.post(post.url, content=post.body, headers=dict(post.headers))
        if answer.status_code not in OUTAGES:
            self.done["genuine callbacks repeated"] += 1
            if answer.status_code not in TAKEN:
                self.wrong.append(f"{name}: a genuine callback was answered {answer.status_code} {answer.text[:200]}")

    async def _pries(self, _: httpx.AsyncClient) -> None:
        own, other = self.chance.sample(list(self.markets), 2)
        if not other.payers:
            return
        payment_id = self.chance.choice(list(other.payers))[0]
        method, path = self.chance.choice(
            (("GET", ""), ("GET", "/timeline"), ("POST", "/cancel"), ("POST", "/attempts"))
        )
        body = {"provider": next(iter(own.tills))} if path == "/attempts" else None
        answer = await own.shop.api.request(method, f"/payments/{payment_id}{path}", json=body)
        if answer.status_code not in OUTAGES:
            self.done["other shops' payments asked for"] += 1
            if answer.status_code != 404:
                self.wrong.append(f"{method} {path} of another shop's payment was answered {answer.status_code}")

    async def _hand(self, market: Market) -> tuple[str, Hand] | None:
        """Somebody who holds a genuine callback of one of the shop's accounts."""
        name, till = self.chance.choice(list(market.tills.items()))
        kind, key = HANDS[name], str(till.account.id)
        if key not in self._letters or self.chance.random() < 0.05:
            found = await letters_of(market.shop, till)
            self._letters[key] = [one for one in found if kind.told_by in ("", one.type)]
        letters = self._letters[key]
        return (name, kind(till, self.chance.choice(letters))) if letters else None

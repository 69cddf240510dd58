"""Those who pay referrers out, while orders are refunded: batches, approvals, results that contradict each other."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.asking import ask, awaited
from tests.support.market import Market

RESULTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("paid", {"reference": "wire-1"}),
    ("paid", {"reference": "wire-2"}),
    ("failed", {"reason": "account closed"}),
    ("returned", {"reason": "no such name"}),
)


@dataclass
class Bookkeepers:
    """Each story takes a batch further, its own or somebody else's."""

    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def story(self, market: Market) -> None:
        answer = await ask(market, "POST", "/payouts", {}, key=secrets.token_hex(8))
        self._look(answer, 409)
        listed = (await ask(market, "GET", "/payouts?limit=1")).json()["data"]
        if not listed:
            return
        payout_id = listed[0]["id"]

        async def prepared() -> Any:
            found = (await ask(market, "GET", f"/payouts/{payout_id}")).json()
            return found if found["status"] != "requested" else None

        payout = await awaited(prepared)
        if payout is None or not payout["lines"]:
            return
        self.done["payout batches taken up"] += 1
        if payout["status"] == "prepared":
            await self._decides(market, payout_id)
        for line in payout["lines"]:
            await self._reports(market, f"/payouts/{payout_id}/lines/{line['id']}")

    async def _decides(self, market: Market, payout_id: str) -> None:
        """Two at once now and then; what has changed since is looked at once more."""
        for _ in range(3):
            decision = self.chance.choices((("approve", None), ("reject", {"reason": "chaos"})), (8, 1))[0]
            answers = await asyncio.gather(
                *(
                    ask(market, "POST", f"/payouts/{payout_id}/{decision[0]}", decision[1])
                    for _ in range(self.chance.choice((1, 2)))
                )
            )
            for answer in answers:
                self._look(answer, 409)
            if any(answer.is_success for answer in answers):
                self.done[f"payout batches: {decision[0]}"] += 1
                return

    async def _reports(self, market: Market, line: str) -> None:
        """One result or two, one after the other or at once; only what fits is taken."""
        results = self.chance.choices(RESULTS, (6, 2, 2, 3), k=self.chance.choice((1, 2, 3)))
        for answer in await asyncio.gather(*(ask(market, "POST", f"{line}/{how}", body) for how, body in results)):
            self._look(answer, 409)
            self.done["results of payouts taken"] += answer.is_success
        self.done["results of payouts reported"] += len(results)

    def _look(self, answer: Any, refused: int) -> None:
        if not answer.is_success and answer.status_code != refused:
            self.wrong.append(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")

"""Each account is answered in other shapes that its provider's real system is known to have, chosen by the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sandbox.variants import known
from tests.providers.payers import SandboxPayer
from tests.support.market import Market


def variants_of(payer: type[SandboxPayer]) -> list[str]:
    """What the conformance suite holds the adapter to, one by one; an entry may join several by `+`."""
    return sorted({name for entry in payer.variants for name in entry.split("+")} & set(known(payer.name)))


def drawn(payer: type[SandboxPayer], seed: int, number: int) -> list[str]:
    """The variants of one account: the same for the same seed, provider and number of the shop."""
    chance = random.Random(f"{seed} {number} {payer.name}")
    return [name for name in variants_of(payer) if chance.random() < 0.5]


async def behave(markets: Sequence[Market], seed: int) -> list[str]:
    """Let every account of every shop be answered as it was drawn. A line for each that is answered unusually."""
    lines = []
    for number, market in enumerate(markets):
        for provider, till in sorted(market.tills.items()):
            names = drawn(type(till.payer), seed, number)
            if names:
                await till.payer.behaves(*names)
                lines.append(f"shop {number} ({market.currency}), {provider}: {', '.join(names)}")
    return lines

"""A dispute by all pairs of what was known and what the bank says now: its status, the money, and the books."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from activities.disputes import DisputeActivities
from domain.dispute import DisputeState, ReconcileDisputes
from domain.money import Money
from providers.base import ProviderDispute
from storage import ledger
from storage.models import Commission, Dispute, OrderNotice
from tests.support.books import AT, Books, captured

OPEN, DECIDED = ("inquiry", "needs_response", "under_review"), ("won", "lost", "closed")
STATES = (*OPEN, *DECIDED)
AMOUNT = Money.parse("59.00", "ILS")


class Bank:
    """Says one thing; stands where the guarded provider is."""

    def __init__(self, name: str, state: str) -> None:
        self._name, self._state = name, DisputeState(state)

    def provider(self, _account: object) -> Bank:
        return self

    async def call(self, _account: object, _health: object, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        return await ask(self)

    async def disputes_of(self, _transaction_id: str) -> Sequence[ProviderDispute]:
        return [ProviderDispute(self._name, self._state, AMOUNT)]


async def told(books: Books, payment_id: UUID, *states: str) -> None:
    for state in states:
        activities = DisputeActivities(books.database, Bank(f"dp_{payment_id}", state), lambda: AT)  # type: ignore[arg-type]
        await activities.reconcile_disputes(ReconcileDisputes(payment_id))


def end_of(states: Sequence[str]) -> str:
    """A decision is final for all but another decision; everything else follows the bank."""
    status = states[0]
    for state in states[1:]:
        status = status if status in DECIDED and state in OPEN else state
    return status


@pytest.mark.parametrize("states", [*product(STATES), *product(STATES, STATES)], ids=" then ".join)
async def test_the_status_and_the_money_after_any_two_words(books: Books, states: tuple[str, ...]) -> None:
    payment_id = await books.payment()
    await books.settle(payment_id, captured())
    await told(books, payment_id, *states)
    status = end_of(states)
    (dispute,) = await books.rows(Dispute, payment_id)
    payment = await books.read(payment_id)
    holds, lost = status in ("needs_response", "under_review", "lost"), status == "lost"
    held = Decimal("59.00") if holds else Decimal(0)
    assert (dispute.status, dispute.held, payment.dispute_held) == (status, held, held)
    assert payment.dispute_lost == (held if lost else 0)
    assert payment.disputed is holds
    (commission,) = await books.rows(Commission, payment_id)
    assert commission.clawed_back == (Decimal("5.90") if lost else 0)
    async with books.database.transaction() as session:
        balances = {name: str(one) for name, one in (await ledger.balances(session, books.workspace.id)).items()}
        query = select(OrderNotice.type).where(OrderNotice.payment_id == payment_id).order_by(OrderNotice.seq)
        notices = [kind for kind in await session.scalars(query) if kind.startswith("dispute.")]
    assert balances.get("dispute_losses", "0.00") == ("59.00" if lost else "0.00")
    assert balances.get(f"disputed:{dispute.id}", "0.00") == ("59.00" if holds and not lost else "0.00")
    assert balances[f"provider:{books.account.id}"] == ("55.28" if holds else "114.28")
    assert balances["commission_payable:ann"] == ("-5.90" if lost else "-11.80")
    moved = [state for number, state in enumerate(states) if end_of(states[: number + 1]) == state]
    changes = [state for number, state in enumerate(moved) if number == 0 or state != moved[number - 1]]
    assert notices == [f"dispute.{state}" for state in changes]

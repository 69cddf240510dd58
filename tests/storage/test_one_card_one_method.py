"""The same card saved again is the same method, in whatever order its tokens come and however often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import permutations
from uuid import uuid4

import pytest
import pytest_asyncio

from domain.setup import MethodStatus
from storage import payment_methods
from storage.models import PaymentMethod
from storage.payment_methods import NewMethod
from tests.support.service import Service, Shop

AT = datetime(2027, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def shop(service: Service) -> AsyncIterator[Shop]:
    made = await service.shop(callbacks=False)
    yield made
    await made.aclose()


def card(token: str, year: int | None = 2030, fingerprint: str | None = "number-1") -> NewMethod:
    return NewMethod(token, "card", "cus_1", "visa", "4242", None if year is None else 5, year, fingerprint)


async def keep(shop: Shop, customer: str, *cards: NewMethod, make_default: bool = False) -> list[PaymentMethod]:
    """Save them one after the other; what the customer has then."""
    for one in cards:
        async with shop.service.database.transaction() as session:
            await payment_methods.keep(
                session,
                shop.service.sealer,
                shop.account,
                customer,
                one,
                make_default=make_default,
                at=AT,
                actor="test",
            )
    async with shop.service.database.transaction() as session:
        return list(await payment_methods.page(session, shop.workspace.id, limit=20, customer_id=customer))


def token_of(shop: Shop, method: PaymentMethod) -> str:
    return shop.service.sealer.open(method.token)


async def test_in_any_order_the_token_of_the_newest_card_is_charged(shop: Shop) -> None:
    for number, order in enumerate(permutations([card("t1-", 2029), card("t2-", 2031), card("t3-", 2033)])):
        mine = [NewMethod(f"{one.token}{number}", *_rest(one)) for one in order]
        repeats = [*mine, *reversed(mine), *mine]
        (method,) = await keep(shop, f"cust-{number}", *repeats)
        assert (token_of(shop, method), method.exp_year) == (f"t3-{number}", 2033)
        async with shop.service.database.transaction() as session:
            tokens = await payment_methods.tokens_to_detach(session, method)
        assert sorted(map(shop.service.sealer.open, tokens)) == [f"t{one}-{number}" for one in (1, 2, 3)]


def _rest(one: NewMethod) -> tuple[str, str | None, str | None, str | None, int | None, int | None, str | None]:
    return one.kind, one.provider_customer_id, one.brand, one.last4, one.exp_month, one.exp_year, one.fingerprint


async def test_a_repeat_of_an_earlier_token_changes_nothing(shop: Shop) -> None:
    before = await keep(shop, "cust-a", card("a1"), card("a2"))
    after = await keep(shop, "cust-a", card("a1"), card("a1"), card("a2"))
    assert [(one.id, token_of(shop, one)) for one in after] == [(before[0].id, "a2")]


@pytest.mark.parametrize(
    ("first", "second", "methods"),
    [
        (card("b1"), card("b2", fingerprint="number-2"), 2),
        (card("b1", fingerprint=None), card("b2", fingerprint=None), 2),  # not told is not the same
        (card("b1", fingerprint=None), card("b2"), 2),
        (card("b1", fingerprint=None), card("b1", fingerprint=None), 1),
        (card("b1"), card("b2", None), 1),
        (card("b1"), card("b2", 2036), 1),
    ],
)
async def test_cards_are_told_apart_by_what_the_provider_says(
    shop: Shop, first: NewMethod, second: NewMethod, methods: int
) -> None:
    assert len(await keep(shop, f"cust-{uuid4()}", first, second)) == methods


async def test_another_customer_has_a_method_of_their_own(shop: Shop) -> None:
    (mine,) = await keep(shop, "cust-mine", card("c1"))
    (theirs,) = await keep(shop, "cust-theirs", card("c2"))
    assert mine.id != theirs.id


async def test_a_card_that_was_detached_is_a_new_method_and_its_old_token_brings_nothing_back(shop: Shop) -> None:
    (old,) = await keep(shop, "cust-d", card("d1"), card("d2"))
    async with shop.service.database.transaction() as session:
        row = await payment_methods.lock(session, old.id)
        assert row is not None
        gone = {"status": MethodStatus.DETACHED.value}
        await payment_methods.change(session, row, gone, at=AT, actor="test")
    (still,) = await keep(shop, "cust-d", card("d1"), make_default=True)
    assert (still.id, still.status) == (old.id, "detached")
    fresh = await keep(shop, "cust-d", card("d3"))
    assert sorted(one.status for one in fresh) == ["active", "detached"]


@pytest.mark.parametrize("status", [MethodStatus.DETACHED, MethodStatus.EXPIRED])
async def test_a_default_that_cannot_be_charged_any_more_has_a_successor(shop: Shop, status: MethodStatus) -> None:
    """The one that was charged last with success, else the one that was added last."""
    cards = [card(f"e{number}", fingerprint=f"number-{number}") for number in range(3)]
    found = await keep(shop, f"cust-{status.value}", *cards)
    default = next(one for one in found if one.is_default)
    others = [one for one in found if not one.is_default]
    assert len(others) == 2
    async with shop.service.database.transaction() as session:
        row = await payment_methods.lock(session, default.id)
        assert row is not None
        await payment_methods.change(session, row, {"status": status.value}, at=AT, actor="test")
    async with shop.service.database.transaction() as session:
        heir = await payment_methods.default_of(session, shop.workspace.id, f"cust-{status.value}")
    assert heir is not None
    assert heir.id in {one.id for one in others}
    assert not heir.default_chosen

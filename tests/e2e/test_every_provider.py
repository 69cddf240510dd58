"""One payment through each provider: the same durable way, whoever takes the money."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from providers.registry import PROVIDERS
from tests.support.service import Service, Shop


@pytest_asyncio.fixture(params=sorted(PROVIDERS))
async def till(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Shop]:
    """A shop of this test's own with an account of the provider under test."""
    shop = await service.shop(request.param)
    yield shop
    await shop.sandbox("DELETE", "/faults")
    await shop.aclose()


async def test_from_call_to_receipt_and_commission(till: Shop) -> None:
    payment = await till.pays()
    await till.till.payer.pays(await till.checkout(payment))
    await till.until(payment["id"], "paid", 5)

"""Fixtures of the provider tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from domain.money import Money
from providers.base import AccountConfig, CheckoutMode, CheckoutRequest
from providers.stripe import StripeProvider
from providers.stripe.transport import StripeTransport

WEBHOOK_SECRET = "whsec_test_secret"
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def request_for() -> Callable[..., CheckoutRequest]:
    """Build a checkout request; every part can be replaced."""

    def build(amount: str = "129.90", currency: str = "ILS", **changes: Any) -> CheckoutRequest:
        created_at = changes.pop("created_at", datetime.now(UTC))
        values: dict[str, Any] = {
            "payment_id": uuid4(),
            "workspace_id": UUID(int=7),
            "order_id": "order-1001",
            "amount": Money.parse(amount, currency),
            "description": "Order 1001",
            "mode": CheckoutMode.HOSTED,
            "created_at": created_at,
            "expires_at": created_at + timedelta(hours=2),
            "success_url": "http://127.0.0.1:9/thanks",
            "cancel_url": "http://127.0.0.1:9/cart",
        }
        return CheckoutRequest(**(values | changes))

    return build


@pytest_asyncio.fixture
async def answered_by() -> AsyncIterator[Callable[..., StripeProvider]]:
    """Build an adapter whose every request is answered by a function, without any network."""
    built: list[StripeProvider] = []

    def build(answer: Answer, *, timeout_seconds: float = 5.0, now: datetime | None = None) -> StripeProvider:
        http_client = StripeTransport(timeout=timeout_seconds)
        http_client._client_async = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        config = AccountConfig(
            account_id=uuid4(),
            credentials={"secret_key": "sk_test_0000", "webhook_secret": WEBHOOK_SECRET},
            timeout_seconds=timeout_seconds,
        )
        provider = StripeProvider(
            config, http_client=http_client, clock=(lambda: now) if now else (lambda: datetime.now(UTC))
        )
        built.append(provider)
        return provider

    yield build
    for provider in built:
        await provider.aclose()

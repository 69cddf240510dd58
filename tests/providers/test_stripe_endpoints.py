"""What an endpoint at Stripe does otherwise than expected is said in a sentence each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from providers.stripe.endpoints import NEEDED, endpoint_differences

ACCOUNT = UUID("018bcfe5-6800-7000-8000-000000000001")
VERSION = "2026-10-28.endive"
GOOD: dict[str, Any] = {
    "id": "we_1",
    "url": f"https://pay.example/api/v1/webhooks/stripe/{ACCOUNT}",
    "status": "enabled",
    "api_version": VERSION,
    "enabled_events": [*NEEDED],
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"enabled_events": ["*"]}, None),
        ({"url": "https://pay.example/api/v1/webhooks/stripe"}, None),
        ({"url": "https://elsewhere.example/hook"}, "no webhook endpoint at Stripe has an address that ends with"),
        ({"api_version": "2024-06-20"}, "sends events of version 2024-06-20, calls are made in 2026-10-28.endive"),
        ({"api_version": None}, "sends the account's default version"),
        ({"status": "disabled"}, "is disabled"),
        ({"enabled_events": [one for one in NEEDED if one != "refund.failed"]}, "does not send refund.failed"),
    ],
)
def test_each_difference_is_named(changes: dict[str, Any], said: str | None) -> None:
    found = endpoint_differences([{"id": "we_0", "url": "https://other.example"}, GOOD | changes], ACCOUNT, VERSION)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]

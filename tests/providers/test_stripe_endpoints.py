"""What an endpoint at Stripe does otherwise than expected is said in a sentence each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from providers.base import EventKind
from providers.stripe.endpoints import NEEDED, OF_METHODS, OF_SUBSCRIPTIONS, WORTH_HEARING, endpoint_differences
from providers.stripe.webhooks import read_event
from tests.docs.test_providers_in_step import rows

ROOT = Path(__file__).parents[2]
ACCOUNT = UUID("018bcfe5-6800-7000-8000-000000000001")
VERSION = "2026-10-28.endive"
GOOD: dict[str, Any] = {
    "id": "we_1",
    "url": f"https://pay.example/api/v1/webhooks/stripe/{ACCOUNT}",
    "status": "enabled",
    "api_version": VERSION,
    "enabled_events": [*NEEDED, *WORTH_HEARING],
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
        (
            {"enabled_events": [one for one in NEEDED if one != "refund.failed"] + [*WORTH_HEARING]},
            "we_1 does not send refund.failed",
        ),
        ({"enabled_events": [*NEEDED]}, "which are worth hearing"),
    ],
)
def test_each_difference_is_named(changes: dict[str, Any], said: str | None) -> None:
    found = endpoint_differences([{"id": "we_0", "url": "https://other.example"}, GOOD | changes], ACCOUNT, VERSION)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_events_of_subscriptions_are_needed_where_those_are_followed() -> None:
    found = endpoint_differences([GOOD], ACCOUNT, VERSION, follows=True)
    assert found == (f"we_1 does not send {', '.join(OF_SUBSCRIPTIONS)}",)


def test_the_connect_page_lists_every_event_and_no_other() -> None:
    page = (ROOT / "docs/connect-stripe.md").read_text()
    told: list[str] = []
    for cells in rows(page, "event"):
        for name in re.findall(r"`([a-z_.]+)`", cells[0]):
            told.append(name if not name.startswith(".") else f"{told[-1].rpartition('.')[0]}{name}")
    assert sorted(told) == sorted({*NEEDED, *OF_METHODS, *OF_SUBSCRIPTIONS, *WORTH_HEARING})


@pytest.mark.parametrize("kind", sorted({*NEEDED, *OF_METHODS, *OF_SUBSCRIPTIONS, *WORTH_HEARING}))
def test_every_event_that_is_asked_for_is_acted_upon(kind: str) -> None:
    thing = {"object": "subscription", "id": "sub_1"} if "subscription" in kind or "invoice" in kind else {}
    body = {"id": "evt_1", "object": "event", "type": kind, "data": {"object": thing}}
    assert read_event(json.dumps(body).encode()).kind is not EventKind.OTHER

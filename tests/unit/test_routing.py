"""How long a checkout may be paid: the method's own limit first, then the provider's."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from api.routing import Fit, lifetime
from providers.base import Capabilities, Method
from providers.registry import capabilities_of
from storage.models import ProviderAccount

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CARD, LINK, CASH = Method("card"), Method("link", "link", max_lifetime=30 * DAY), Method("cash", "cash")
SHORT = Method("short", max_lifetime=HOUR)
SESSIONS = Capabilities(methods=(CARD, LINK), min_checkout_lifetime=HOUR / 2, max_checkout_lifetime=DAY)
FREE = Capabilities(methods=(CARD, SHORT, CASH))


@pytest.mark.parametrize(
    ("sheet", "method", "asked", "expected"),
    [
        (SESSIONS, CARD, None, HOUR),
        (SESSIONS, CARD, 60, HOUR / 2),
        (SESSIONS, CARD, 3 * DAY, DAY),
        (SESSIONS, None, 3 * DAY, DAY),  # direct mode has no method
        (SESSIONS, LINK, 3 * DAY, 3 * DAY),  # a link outlives a session
        (SESSIONS, LINK, 40 * DAY, 30 * DAY),
        (SESSIONS, LINK, None, HOUR),
        (FREE, CARD, 30 * DAY, 30 * DAY),
        (FREE, SHORT, DAY, HOUR),
        (FREE, CASH, None, 3 * DAY),
        (FREE, CASH, HOUR, HOUR),
    ],
)
def test_a_methods_own_limit_wins_over_the_sheets(
    sheet: Capabilities, method: Method | None, asked: timedelta | int | None, expected: timedelta
) -> None:
    seconds = int(asked.total_seconds()) if isinstance(asked, timedelta) else asked
    fit = Fit(ProviderAccount(id=uuid4(), provider="any", options={}), sheet, method)
    assert lifetime(fit, seconds, 3600) == expected


def test_stripes_links_are_the_way_to_a_longer_life() -> None:
    sheet = capabilities_of("stripe")
    link = sheet.method("link")
    assert link is not None
    assert link.max_lifetime is not None
    assert sheet.max_checkout_lifetime is not None
    assert link.max_lifetime > sheet.max_checkout_lifetime

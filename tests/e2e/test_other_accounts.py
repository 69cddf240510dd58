"""What providers tell of other accounts and of the other mode: kept with the reason, and nothing moves."""

from __future__ import annotations

from typing import Any

import pytest

from storage import inbox
from tests.e2e.test_early_events import event_of, paid_unheard, sent, stored, until
from tests.support.service import Shop


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"account": "acct_1Qsomebodyelse"}, "of another account at the provider: acct_1Qsomebodyelse"),
        ({"livemode": True}, "of live mode, and the key is for tests"),
    ],
)
async def test_an_event_that_is_not_ours_is_ignored_and_moves_nothing(
    shop: Shop, changes: dict[str, Any], reason: str
) -> None:
    """It names a payment of ours that is paid at the provider: whoever believed it would find the money."""
    payment, charge = await paid_unheard(shop)
    intents = await shop.sandbox("GET", "/objects?type=payment_intent")
    intent = next(one for one in intents if one["id"] == charge["payment_intent"])
    event_id = await sent(shop, event_of("payment_intent.succeeded", intent, **changes))
    kept = await stored(shop, event_id)
    assert (kept.status, kept.outcome, kept.payment_id, kept.named) == ("ignored", reason, None, [])
    await sent(shop, event_of("charge.refunded", charge | {"amount_refunded": 5000}, **changes))
    await sent(shop, event_of("payment_intent.succeeded", intent, id=event_id, **changes))
    async with shop.service.database.transaction() as session:
        await inbox.replay(session, actor="test", inbox_id=kept.id)
    await until(shop, event_id, "handled", "ignored")
    assert (await shop.read(payment["id"]))["status"] == "pending"
    heard = await shop.api.get("/webhooks/health")
    assert heard.json()["callbacks"]["outcomes"][reason] >= 1


async def test_the_option_says_which_account_is_ours(shop: Shop) -> None:
    path = f"/provider-accounts/{shop.account.id}"
    options = shop.account.options | {"own_account": "acct_1Qmine"}
    refused = await shop.api.patch(path, json={"options": options | {"own_account": "mine"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert (await shop.api.patch(path, json={"options": options})).status_code == 200
    payment, charge = await paid_unheard(shop)
    intents = await shop.sandbox("GET", "/objects?type=payment_intent")
    intent = next(one for one in intents if one["id"] == charge["payment_intent"])
    await sent(shop, event_of("payment_intent.succeeded", intent, account="acct_1Qmine"))
    await shop.until(payment["id"], "paid")

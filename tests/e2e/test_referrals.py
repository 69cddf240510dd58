"""Referrals through a provider's real protocol: who buys from whom, as the provider tells it."""

from __future__ import annotations

from typing import Any

from tests.support.service import Shop, eventually


async def bought(shop: Shop, customer: str, email: str, *, card: str, referrer: str | None) -> dict[str, Any]:
    who = {"id": customer, "name": "X", "email": email}
    payment = await shop.pays(customer=who, referrer_id=referrer)
    assert await shop.pay(payment, card=card) == "paid"
    return await shop.until(payment["id"], "paid")


async def rules(shop: Shop, payment: dict[str, Any]) -> list[str]:
    """What the timeline says that the guards found."""

    async def told() -> list[Any] | None:
        timeline = (await shop.api.get(f"/payments/{payment['id']}/timeline")).json()
        found = [one for one in timeline if one["what"].startswith("commission.")]
        return found or None

    (entry,) = await eventually(told)
    return [one["rule"] for one in entry["details"].get("rules", [])]


async def test_a_referrer_who_buys_by_another_name_with_the_same_card_earns_nothing(shop: Shop) -> None:
    card, other = "4242424242424242", "4000056655665556"
    await bought(shop, "partner-5", "noa@example.com", card=card, referrer=None)
    disguised = await bought(shop, "cust-1", "somebody@example.com", card=card, referrer="partner-5")
    honest = await bought(shop, "cust-2", "dana@example.com", card=other, referrer="partner-5")
    assert await rules(shop, disguised) == ["self_referral_card"]
    assert await rules(shop, honest) == []
    earned = (await shop.api.get("/commissions")).json()["data"]
    assert [(one["payment_id"], one["state"]) for one in earned] == [(honest["id"], "pending")]

"""An event names the provider's transaction, and the look asks for that one."""

from __future__ import annotations

from tests.support.service import Service


async def test_a_link_is_settled_by_the_transaction_that_its_event_names(service: Service) -> None:
    """Wompi cannot search by link; a merchant's whole list of transactions is the last resort."""
    shop = await service.shop("wompi")
    payment = await shop.pays(method="link")
    fault = {"operation": "list_transactions", "fault": "error:500", "count": 1000}
    await shop.sandbox("POST", "/faults", fault)
    await shop.till.payer.pays(await shop.checkout(payment))
    paid = await shop.until(payment["id"], "paid")
    assert (bool(paid["receipt_id"]), paid["flag"]) == (True, None)
    await shop.sandbox("DELETE", "/faults")
    await shop.aclose()

"""`payment-methods`: listed without what charges them, and detached for good."""

from __future__ import annotations

from uuid import uuid4

from tests.cli.running import Operator
from tests.support.service import Shop, eventually


async def saved(shop: Shop) -> str:
    made = (await shop.api.post("/payment-methods", json={"customer": {"id": "cust-77"}})).json()
    await shop.sandbox("POST", f"/sessions/{made['url'].rsplit('/', 1)[1]}/pay", {})

    async def done() -> object:
        return (await shop.api.get(f"/payment-methods/setups/{made['id']}")).json()["payment_method_id"]

    return str(await eventually(done))


async def test_methods_are_listed_and_detached(operator: Operator, shop: Shop) -> None:
    method, slug = await saved(shop), shop.workspace.slug
    found = (await operator("payment-methods", "list", "--workspace", slug, "--customer", "cust-77", "--json")).json
    assert [(one["id"], one["last4"], one["status"], one["default"]) for one in found] == [
        (method, "4242", "active", True)
    ]
    assert "pm_" not in str(found)
    done = (await operator("payment-methods", "detach", method, "--json")).json
    assert (done["status"], done["default"], done["detached_at_provider"]) == ("detached", False, True)
    listed = await operator("payment-methods", "list", "--workspace", slug, "--status", "active", "--json")
    assert listed.json == []
    unknown = uuid4()
    assert (await operator.says("payment-methods", "detach", unknown)).endswith(f"no payment method {unknown}.")

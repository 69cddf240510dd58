"""An answer says what is so: a status for what goes on, why something is away, nothing for what was not measured."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime

from storage.models import ProviderHealth
from tests.support.service import Shop, eventually


async def test_cancelling_a_debit_under_way_is_accepted_and_not_done(shop: Shop) -> None:
    payment = await shop.pays()
    session_id = payment["checkout_url"].rsplit("/", 1)[1]
    await shop.sandbox("POST", f"/sessions/{session_id}/pay-later")
    answer = await shop.api.post(f"/payments/{payment['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    await shop.sandbox("POST", f"/sessions/{session_id}/settle", {"succeeded": True})
    await shop.until(payment["id"], "paid")


async def test_a_further_way_while_the_circuit_is_open_is_told_who_does_not_answer(shop: Shop) -> None:
    async with shop.service.database.transaction() as session:
        session.add(ProviderHealth(provider_account_id=shop.account.id, failures=10, opened_at=datetime.now(UTC)))
    accepted = await shop.api.post("/payments", json=shop.order())
    assert accepted.status_code == 202
    refused = await shop.api.post(f"/payments/{accepted.json()['id']}/attempts", json={"provider": "stripe"})
    told = refused.json()
    assert (refused.status_code, told["code"]) == (502, "provider_unavailable")
    assert "stripe does not answer" in told["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 300
    assert "restarting" not in refused.text


async def test_what_took_no_time_is_not_measured(shop: Shop) -> None:
    """Events about nothing of ours are decided on arrival, and the database may say that they came later than that."""
    for number in range(3):
        event = {
            "id": f"evt_{shop.account.id.hex}_{number}",
            "object": "event",
            "type": "product.created",
            "created": int(time.time()),
            "data": {"object": {"object": "product", "id": f"prod_of_nobody_{number}"}},
        }
        body, at = json.dumps(event), int(time.time())
        digest = hmac.new(shop.hook_secret.encode(), f"{at}.{body}".encode(), hashlib.sha256).hexdigest()
        headers = {"stripe-signature": f"t={at},v1={digest}", "content-type": "application/json"}
        answer = await shop.service.http.post(shop.hook_url, content=body, headers=headers)
        assert answer.status_code == 200, answer.text
    health = (await shop.api.get("/webhooks/health")).json()["callbacks"]
    assert health["counts"] == {"ignored": 3}
    assert health["handled_within_ms"] == {"p50": None, "p95": None}
    assert health["last_handled_received_at"] is None  # they concern nobody: nothing was handled


async def test_what_was_worked_on_is_measured(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")

    async def measured() -> dict[str, int] | None:
        within = (await shop.api.get("/webhooks/health")).json()["callbacks"]["handled_within_ms"]
        return within if within["p50"] is not None else None

    assert all(one >= 0 for one in (await eventually(measured)).values())

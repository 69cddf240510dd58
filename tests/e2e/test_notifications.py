"""What the order service is told: amounts that mean one thing each, and signatures that outlive a change of secret."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.service import NOTICE_SECRET, Service, Shop, eventually

OTHER_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()


def told(shop: Shop, payment_id: str, kind: str) -> list[dict[str, Any]]:
    notices = shop.service.merchant.notices
    return [one["data"] for one in notices if one["type"] == kind and one["data"].get("payment_id") == payment_id]


async def until_told(shop: Shop, payment_id: str, kind: str, number: int = 1) -> list[dict[str, Any]]:
    async def there() -> list[dict[str, Any]]:
        found = told(shop, payment_id, kind)
        return found if len(found) >= number else []

    found: list[dict[str, Any]] = await eventually(there)
    return found


async def test_an_amount_is_of_what_the_type_names(shop: Shop) -> None:
    payment = await shop.pays(amount="100.00")
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    for amount in ("20.00", "5.50"):
        made = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": amount})
        assert made.status_code == 201
    [paid] = await until_told(shop, payment["id"], "payment.paid")
    assert (paid["amount"], paid["payment_amount"], paid["refunded_total"]) == ("100.00", "100.00", "0.00")
    refunds = await until_told(shop, payment["id"], "refund.succeeded", 2)
    assert [(one["amount"], one["payment_amount"], one["refunded_total"]) for one in refunds] == [
        ("20.00", "100.00", "20.00"),
        ("5.50", "100.00", "25.50"),
    ]
    [partly] = await until_told(shop, payment["id"], "payment.partially_refunded")
    assert (partly["amount"], partly["refunded_amount"], partly["refunded_total"]) == ("100.00", "20.00", "20.00")
    assert partly["refund_id"] == refunds[0]["refund_id"]


async def test_a_disputes_amount_is_the_disputes(shop: Shop) -> None:
    payment = await shop.pays(amount="100.00")
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    charges = await shop.sandbox("GET", "/objects?type=charge")
    [charge] = [one for one in charges if one["metadata"].get("payment_id") == payment["id"]]
    await shop.sandbox("POST", f"/charges/{charge['id']}/dispute", {"amount": 4000})
    [dispute] = await until_told(shop, payment["id"], "dispute.needs_response")
    assert (dispute["amount"], dispute["disputed_amount"], dispute["payment_amount"]) == ("40.00", "40.00", "100.00")


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        ("whsec_YQ==", "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(b"x" * 23).decode(), "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "24 to 64 bytes"),
        ("whsec_", "24 to 64 bytes"),
        (f"{OTHER_SECRET},", "24 to 64 bytes"),
        (f"{OTHER_SECRET},whsec_YQ==", "24 to 64 bytes"),
        ("whsec_no base64 at all, really not", "base64"),
        (f"{OTHER_SECRET},{NOTICE_SECRET},{OTHER_SECRET}", "at most two"),
        (f"{OTHER_SECRET},{OTHER_SECRET}", "the same"),
        (7, "string"),
    ],
)
async def test_a_secret_that_the_standard_would_not_have_is_refused(shop: Shop, secret: object, says: str) -> None:
    refused = await shop.api.patch(f"/workspaces/{shop.workspace.id}", json={"order_webhook_secret": secret})
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert says in refused.json()["detail"]


async def test_notifications_are_signed_with_both_secrets_while_they_are_rotated(service: Service, shop: Shop) -> None:
    async def signed() -> tuple[bytes, dict[str, str]]:
        payment = await shop.pays()
        await until_told(shop, payment["id"], "payment.pending")
        at = next(
            index
            for index, one in enumerate(service.merchant.notices)
            if one["data"].get("payment_id") == payment["id"]
        )
        return service.merchant.bodies[at], service.merchant.headers[at]

    async def rotate(secrets: str) -> None:
        changed = await shop.api.patch(f"/workspaces/{shop.workspace.id}", json={"order_webhook_secret": secrets})
        assert changed.status_code == 200
        assert "whsec_" not in changed.text

    await rotate(f" {OTHER_SECRET} , {NOTICE_SECRET} ")
    body, headers = await signed()
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (OTHER_SECRET, NOTICE_SECRET):
        assert Webhook(secret).verify(body, headers)
    await rotate(OTHER_SECRET)
    body, headers = await signed()
    assert Webhook(OTHER_SECRET).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NOTICE_SECRET).verify(body, headers)

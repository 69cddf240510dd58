"""One payment as its people would make it, headless: create, pay on the page, wait for the books, read the receipt."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from embedded.bootstrap import Demo
from embedded.stack import Stack

PATIENCE_SECONDS = 15.0
ACCEPTED = (200, 201, 202)
"""A repeat, a new payment, and one whose checkout is still being opened."""


class DemoFailed(Exception):
    """A step did not happen."""


async def create_payment(http: httpx.AsyncClient, order_id: str) -> dict[str, Any]:
    """A payment of 129.90 ILS with a referrer."""
    answer = await http.post(
        "/api/v1/payments",
        json={
            "amount": "129.90",
            "currency": "ILS",
            "order_id": order_id,
            "description": "ייעוץ רפואי (30 דקות)",
            "customer": {"id": "cust-77", "name": "דנה לוי", "email": "dana@example.com"},
            "referrer_id": "partner-5",
        },
        headers={"Idempotency-Key": f"demo-{order_id}"},
    )
    if answer.status_code not in ACCEPTED:
        raise DemoFailed(f"the payment was not created: {answer.status_code} {answer.text}")
    payment = dict(answer.json())
    return payment if payment["checkout_url"] else await until(http, payment["id"], "pending")


async def run_demo(stack: Stack, demo: Demo) -> None:
    """Walk the payment's whole way and print each step with its time. Raises DemoFailed."""
    headers = {"authorization": f"Bearer {demo.api_key}"}
    clock = _Clock()
    async with (
        httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=30) as api,
        httpx.AsyncClient(timeout=30, follow_redirects=False) as browser,
    ):
        payment = await create_payment(api, f"demo-{int(time.time() * 1000)}")
        clock.step(f"payment {payment['id']} is {payment['status']}")
        page = await browser.get(payment["checkout_url"])
        _require(page.status_code == 200 and "Pay ₪129.90" in page.text, "the checkout page shows the amount")  # noqa: PLR2004
        clock.step("the checkout page shows ₪129.90")
        paid = await browser.post(payment["checkout_url"], data={"card": "4242 4242 4242 4242", "outcome": "pay"})
        _require(paid.status_code == 200, "the payer pays")  # noqa: PLR2004
        clock.step("the payer paid by card; the provider sends signed webhooks")
        payment = await until(api, payment["id"], "paid")
        clock.step(f"the payment is {payment['status']}")
        receipt = await _receipt(api, payment["receipt_id"])
        clock.step(
            f"receipt {receipt['display_number']}: {receipt['net']} + {receipt['vat']} VAT = {receipt['total']} ILS"
        )
        pdf = await _pdf(api, payment["receipt_id"])
        path = stack.state / "demo-receipt.pdf"
        path.write_bytes(pdf)
        clock.step(f"its PDF has {len(pdf)} bytes: {path}")
        report = (await api.get("/api/v1/referrers/partner-5/report")).json()
        earned = next((line["amount"] for line in report["commissions"] if line["payment_id"] == payment["id"]), None)
        _require(earned == "12.99", f"the commission is 12.99 (found {earned})")
        clock.step(f"partner-5 earned {earned} ILS on it")
        told = await _until_told(browser, stack, payment["id"])
        clock.step(f"the order service was told: {' → '.join(told)}")


async def until(api: httpx.AsyncClient, payment_id: str, status: str) -> dict[str, Any]:
    """The payment once it has the status. Raises DemoFailed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        payment = (await api.get(f"/api/v1/payments/{payment_id}")).json()
        if payment["status"] == status:
            return dict(payment)
        await asyncio.sleep(0.05)
    raise DemoFailed(f"the payment was not {status} within {PATIENCE_SECONDS:.0f} s")


async def _receipt(api: httpx.AsyncClient, receipt_id: str) -> dict[str, Any]:
    answer = await api.get(f"/api/v1/receipts/{receipt_id}")
    _require(answer.status_code == 200, "the receipt can be read")  # noqa: PLR2004
    return dict(answer.json())


async def _pdf(api: httpx.AsyncClient, receipt_id: str) -> bytes:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = await api.get(f"/api/v1/receipts/{receipt_id}.pdf")
        if answer.status_code == 200:  # noqa: PLR2004
            _require(answer.content.startswith(b"%PDF"), "the receipt is a PDF")
            return answer.content
        await asyncio.sleep(0.1)
    raise DemoFailed("the receipt's PDF was not rendered")


async def _until_told(browser: httpx.AsyncClient, stack: Stack, payment_id: str) -> list[str]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        notices = (await browser.get(f"{stack.sandbox_url}/sandbox/merchant/notifications")).json()
        told = [notice["type"] for notice in notices if notice["data"]["payment_id"] == payment_id]
        if "payment.paid" in told:
            return told
        await asyncio.sleep(0.1)
    raise DemoFailed("the order service was not told")


def _require(holds: bool, what: str) -> None:  # noqa: FBT001  (reads as a sentence)
    if not holds:
        raise DemoFailed(f"this did not happen: {what}")


class _Clock:
    """Prints steps with the time since the one before."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def step(self, text: str) -> None:
        now = time.monotonic()
        print(f"  {(now - self._last) * 1000:6.0f} ms  {text}", flush=True)
        self._last = now

"""One payment as its people would make it, headless: create, pay on the page, wait for the books, read the receipt."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import httpx

from embedded.bootstrap import Demo
from embedded.browser import Page, open_page, send
from embedded.places import ORDERS, PLACES, WORKSPACES
from embedded.stack import Stack

PATIENCE_SECONDS = 15.0
ACCEPTED = (200, 201, 202)
"""A repeat, a new payment, and one whose checkout is still being opened."""
OK = 200
PAY = ("outcome", "pay")
"""The button that pays, on every page of the sandbox."""
REFERRER = "partner-5"


class DemoFailed(Exception):
    """A step did not happen."""


async def create_payment(http: httpx.AsyncClient, provider: str, order_id: str) -> dict[str, Any]:
    """A payment through the provider, in its workspace's currency and with a referrer."""
    workspace = PLACES[provider].workspace
    order = ORDERS[workspace]
    answer = await http.post(
        "/api/v1/payments",
        json={
            "amount": order.amount,
            "currency": WORKSPACES[workspace]["currency"],
            "order_id": order_id,
            "description": order.description,
            "customer": dict(order.customer),
            "referrer_id": REFERRER,
            "provider": provider,
        },
        headers={"Idempotency-Key": f"demo-{order_id}"},
    )
    if answer.status_code not in ACCEPTED:
        raise DemoFailed(f"the payment was not created: {answer.status_code} {answer.text}")
    payment = dict(answer.json())
    return payment if payment["checkout_url"] else await until(http, payment["id"], "pending")


async def run_demo(stack: Stack, demo: Demo, provider: str) -> None:
    """Walk the payment's whole way and print each step with its time. Raises DemoFailed."""
    workspace = PLACES[provider].workspace
    headers = {"authorization": f"Bearer {demo.api_keys[workspace]}"}
    clock = _Clock()
    async with (
        httpx.AsyncClient(base_url=stack.api_url, headers=headers, timeout=30) as api,
        httpx.AsyncClient(timeout=30) as browser,
    ):
        try:
            payment = await create_payment(api, provider, f"demo-{int(time.time() * 1000)}")
            clock.step(f"{provider}: payment {payment['id']} is {payment['status']}")
            await _pay(browser, payment, clock)
            payment = await until(api, payment["id"], "paid")
            clock.step(f"the payment is {payment['status']}")
            await _receipt(api, stack, payment, clock)
            await _commission(api, payment, ORDERS[workspace].commission, clock)
            told = await _until_told(browser, stack, payment["id"])
            clock.step(f"the order service was told: {' → '.join(told)}")
        except httpx.HTTPError as error:
            raise DemoFailed(f"no answer: {type(error).__name__} {error}") from error


async def _pay(browser: httpx.AsyncClient, payment: dict[str, Any], clock: _Clock) -> None:
    """As the payer: follow the address to the page or counter, see the amount there, press the button that pays."""
    page = await _to_the_till(browser, payment, clock)
    form = page.form_with(*PAY)
    _require(page.status == OK and form is not None, f"there is a page to pay on (found {page.status} {page.url})")
    assert form is not None  # noqa: S101  (what the line above says)
    amount = f"{Decimal(payment['amount']):,.2f}".removesuffix(".00")
    _require(amount in page.text, f"the page shows the amount {amount}")
    shown = next(word for word in page.text.split() if amount in word)
    clock.step(f"the checkout page shows {shown}")
    paid = await send(browser, form, form.button(*PAY))
    _require(paid.status == OK, f"the payer pays (found {paid.status})")
    clock.step("the payer paid; the provider calls back")


async def _to_the_till(browser: httpx.AsyncClient, payment: dict[str, Any], clock: _Clock) -> Page:
    """The page with the button that pays. On the way there may be one of ours: a form that posts itself, or a code."""
    page = await open_page(browser, payment["checkout_url"])
    if page.form_with(*PAY) is not None or page.status != OK:
        return page
    if page.forms:
        clock.step("our page takes the payer to the provider by a signed form")
        return await send(browser, page.forms[0])
    code = (payment["instructions"] or {}).get("code", "")
    _require(bool(code) and code in page.text and bool(page.links), "our page shows a code and the way to the counter")
    clock.step(f"our page shows the code {code}; the payer goes to the counter")
    return await open_page(browser, page.links[0])


async def until(api: httpx.AsyncClient, payment_id: str, status: str) -> dict[str, Any]:
    """The payment once it has the status. Raises DemoFailed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        payment = (await api.get(f"/api/v1/payments/{payment_id}")).json()
        if payment["status"] == status:
            return dict(payment)
        await asyncio.sleep(0.05)
    raise DemoFailed(f"the payment was not {status} within {PATIENCE_SECONDS:.0f} s")


async def _receipt(api: httpx.AsyncClient, stack: Stack, payment: dict[str, Any], clock: _Clock) -> None:
    answer = await api.get(f"/api/v1/receipts/{payment['receipt_id']}")
    _require(answer.status_code == OK, "the receipt can be read")
    receipt = answer.json()
    sums = f"{receipt['net']} + {receipt['vat']} VAT = {receipt['total']} {payment['currency']}"
    _require(Decimal(receipt["net"]) + Decimal(receipt["vat"]) == Decimal(payment["amount"]), f"it adds up: {sums}")
    clock.step(f"receipt {receipt['display_number']}: {sums}")
    pdf = await _pdf(api, payment["receipt_id"])
    path = stack.state / "demo-receipt.pdf"
    path.write_bytes(pdf)
    clock.step(f"its PDF has {len(pdf)} bytes")


async def _pdf(api: httpx.AsyncClient, receipt_id: str) -> bytes:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = await api.get(f"/api/v1/receipts/{receipt_id}.pdf")
        if answer.status_code == OK:
            _require(answer.content.startswith(b"%PDF"), "the receipt is a PDF")
            return answer.content
        await asyncio.sleep(0.1)
    raise DemoFailed("the receipt's PDF was not rendered")


async def _commission(api: httpx.AsyncClient, payment: dict[str, Any], expected: str, clock: _Clock) -> None:
    report = (await api.get(f"/api/v1/referrers/{REFERRER}/report")).json()
    earned = next((line["amount"] for line in report["commissions"] if line["payment_id"] == payment["id"]), None)
    _require(earned == expected, f"the commission is {expected} (found {earned})")
    clock.step(f"{REFERRER} earned {earned} {payment['currency']} on it")


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

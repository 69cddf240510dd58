"""Payers at PayU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar
from uuid import UUID, uuid4

import httpx

from providers.base import AccountConfig, CheckoutMode, OpenedCheckout, SavedMethod
from providers.network import LOOPBACK, Network
from providers.payu.tokens import imported
from tests.providers.payers import SandboxPayer


class Payer(SandboxPayer):
    """The people and powers on the other side of PayU's wire, through the sandbox."""

    name = "payu"
    currency: ClassVar[str] = "COP"
    amount: ClassVar[str] = "25000.00"
    part: ClassVar[str] = "5000.00"
    rest: ClassVar[str] = "20000.00"
    over: ClassVar[str] = "20001.00"
    least: ClassVar[str] = "100.00"
    refused: ClassVar[tuple[str, str]] = ("25000.50", "COP")
    method_seen: ClassVar[tuple[str | None, str | None]] = ("card", "1111")
    operations: ClassVar[dict[str, str]] = {
        "*": "*",
        "open": "payu.submit",
        "refund": "payu.refund",
        "charge": "payu.submit",
    }
    opens_by_call: ClassVar[bool] = False
    variants: ClassVar[tuple[str, ...]] = ("refund_listed_at_once", "cancellations_module", "mandatory_fields")

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.merchant_id = str(int(self.suffix, 16) % 900_000_000 + 100_000_000)
        self.api_key = f"sandbox-key-{self.merchant_id}"

    @property
    def account_key(self) -> str:
        return self.api_key

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        own = {
            "api_key": self.api_key,
            "api_login": f"login-{self.merchant_id}",
            "merchant_id": self.merchant_id,
            "account_id": "512321",
        }
        return AccountConfig(
            network=Network(LOOPBACK),
            account_id=uuid4(),
            credentials=own | credentials,
            options={"api_base": self.address},
            timeout_seconds=timeout_seconds,
        )

    def account_with(self, *, timeout_seconds: float = 10.0, **options: object) -> AccountConfig:
        """The same account with further options."""
        usual = self.account(timeout_seconds=timeout_seconds)
        return replace(usual, options={**usual.options, **options})

    def saving_account(self, *, timeout_seconds: float = 10.0) -> AccountConfig:
        return self.account_with(timeout_seconds=timeout_seconds, refund_wait_seconds=0)

    async def tokenises(self) -> SavedMethod:
        made = await self.sandbox("payu/tokens", api_key=self.api_key)
        return imported(
            SavedMethod(made["token"], brand=made["brand"], last4=made["last4"], exp_month=6, exp_year=2035)
        )

    async def will(self, token: str, outcome: str) -> None:
        code = {"soft": "INSUFFICIENT_FUNDS", "hard": "RESTRICTED_CARD"}[outcome]
        await self.sandbox(f"payu/tokens/{token.partition(':')[2]}/outcomes", outcomes=[code])

    def unknown_token(self) -> str:
        return f"VISA:{uuid4()}"

    def wrong_account(self) -> AccountConfig:
        return self.account(api_key="invalid")

    async def opens_page(self, opened: OpenedCheckout) -> str:
        """Post the form as the payer's browser does; the address of PayU's page."""
        assert opened.form is not None
        answer = await self.http.post(opened.form.action, data=dict(opened.form.fields))
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    async def chooses(self, opened: OpenedCheckout, outcome: str) -> httpx.Response:
        """Try to pay, on PayU's page or on the bank's or at the counter."""
        cash = None if opened.cash is None else opened.cash.voucher_url
        page = cash or opened.url or await self.opens_page(opened)
        return await self.http.post(page, data={"outcome": outcome})

    async def pays(self, opened: OpenedCheckout) -> None:
        assert (await self.chooses(opened, "pay")).status_code == 200

    async def pays_otherwise(self, opened: OpenedCheckout, reference: UUID, **held: str) -> None:
        await self.pays(opened)
        names = {"amount": "value", "currency": "currency"}
        await self.sandbox("payu/amount", reference=str(reference), **{names[name]: held[name] for name in held})

    async def is_declined(self, opened: OpenedCheckout) -> None:
        assert (await self.chooses(opened, "insufficient")).status_code == 402

    async def orders(self, reference: UUID) -> list[dict[str, Any]]:
        """What PayU holds for our reference."""
        answer = await self.http.get("/sandbox/payu/orders", params={"reference": str(reference)})
        found: list[dict[str, Any]] = answer.json()
        return found

    async def checkouts_of(self, reference: UUID) -> list[str]:
        return [str(order["id"]) for order in await self.orders(reference)]

    async def charges_of(self, reference: UUID) -> int:
        attempts = [one for order in await self.orders(reference) for one in order["transactions"]]
        return sum(
            one["type"] == "AUTHORIZATION_AND_CAPTURE" and one["transactionResponse"]["state"] == "APPROVED"
            for one in attempts
        )

    async def refunds_asked_for(self, reference: UUID) -> int:
        """How many requests to refund PayU has taken on, under review or decided."""
        orders = await self.orders(reference)
        made = [one for order in orders for one in order["transactions"] if one["type"] in ("REFUND", "PARTIAL_REFUND")]
        return len(made) + sum(len(order.get("_requests", [])) for order in orders)

    async def refunds_are_decided(self, reference: UUID) -> None:
        await self.sandbox("payu/refunds/settle", reference=str(reference))

    def unknown_session(self, mode: CheckoutMode) -> str:
        return "999999999"

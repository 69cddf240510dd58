"""Payers at Efecty's counters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar
from uuid import UUID

from providers.base import AccountConfig, CheckoutMode, CheckoutRequest, OpenedCheckout, Provider
from providers.network import LOOPBACK, Network
from tests.providers.payers import WEBHOOK_SECRET, SandboxPayer


class Payer(SandboxPayer):
    """People with cash and a printed code; the network is told nothing beforehand and asked nothing afterwards."""

    name = "efecty"
    currency: ClassVar[str] = "COP"
    amount: ClassVar[str] = "25000.00"
    refused: ClassVar[tuple[str, str]] = ("19999", "COP")
    method_seen: ClassVar[tuple[str | None, str | None]] = (None, None)
    operations: ClassVar[dict[str, str]] = {"webhooks": "webhooks"}
    one_currency: ClassVar[bool] = True
    can_be_declined: ClassVar[bool] = False
    opens_by_call: ClassVar[bool] = False
    own_secrets: ClassVar[tuple[str, ...]] = ("callback_secret",)
    callback_account: ClassVar[tuple[str, str] | None] = ("agreement", "callback_secret")
    variants: ClassVar[tuple[str, ...]] = ("expired_unnamed",)

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.agreement = str(int(self.suffix, 16) % 900_000 + 100_000)

    @property
    def account_key(self) -> str:
        return self.agreement

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        return AccountConfig(
            network=Network(LOOPBACK),
            account_id=UUID(self.suffix),
            credentials={"agreement": self.agreement, "callback_secret": WEBHOOK_SECRET} | credentials,
            options={"live": False},
            timeout_seconds=timeout_seconds,
        )

    def wrong_account(self) -> AccountConfig:
        return self.account(agreement="invalid")

    async def pays(self, opened: OpenedCheckout) -> None:
        await self.pays_cash(opened)

    async def pays_otherwise(self, opened: OpenedCheckout, reference: UUID, **held: str) -> None:
        await self.pays_cash(opened, held["amount"])

    async def pays_cash(self, opened: OpenedCheckout, amount: str | None = None, **how: Any) -> dict[str, Any]:
        """Pay the code at a counter. The amount is what the payer says: the network was not told it."""
        assert opened.cash is not None
        said = {"agreement": opened.cash.agreement, "code": opened.cash.code, "amount": amount or self.amount}
        payment: dict[str, Any] = await self.sandbox("efecty/pay", **said, **how)
        return payment

    async def charges_of(self, reference: UUID) -> int:
        raise NotImplementedError("the network knows codes, not references")

    async def settlement_file(self) -> bytes:
        """What the network says about this agreement's day."""
        answer = await self.http.get("/sandbox/efecty/settlement-file", params={"agreement": self.agreement})
        return answer.content

    def unknown_session(self, mode: CheckoutMode) -> str:
        return "100000000009"

    def calls(self, provider: Provider, request: CheckoutRequest) -> list[Callable[[], Awaitable[Any]]]:
        """None: the network has no interface. The connection test looks at the agreement's number only."""
        return []

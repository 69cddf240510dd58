"""Payers at PayPlus."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

from providers.base import AccountConfig, CheckoutMode, OpenedCheckout
from providers.network import LOOPBACK, Network
from tests.providers.payers import SandboxPayer


class Payer(SandboxPayer):
    """The people and powers on the other side of PayPlus's wire, through the sandbox."""

    GOOD, DECLINED = "5326-1402-8077-9844", "5326-1402-0001-0120"
    SECRET = "payplus_test_secret"

    name = "payplus"
    refused: ClassVar[tuple[str, str]] = ("129.90", "COP")
    method_seen: ClassVar[tuple[str | None, str | None]] = ("credit-card", "9844")
    operations: ClassVar[dict[str, str]] = {
        "*": "*",
        "open": "payplus_link",
        "refund": "payplus_refund",
        "charge": "payplus_charge",
    }
    own_secrets: ClassVar[tuple[str, ...]] = ("secret_key",)
    variants: ClassVar[tuple[str, ...]] = (
        "bare-text",
        "bare-json+silent-charges",
        "split-payments",
        "combined-payments",
        "hidden-refunds",
        "hidden-refunds+split-payments",
        "moved-tokens+lost-customers+other-bytes",
    )

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.key = f"payplus_key_{self.suffix}"
        self.refused_first = 0

    @property
    def account_key(self) -> str:
        return self.key

    async def behaves(self, *names: str) -> None:
        await super().behaves(*names)
        self.shows_refunds = "hidden-refunds" not in names
        self.refused_first = sum(name in names for name in ("moved-tokens", "lost-customers"))

    async def falls_silent(self, when: str, on: str = "*") -> None:
        for _ in range(1 + (self.refused_first if (when, on) == ("after", "charge") else 0)):  # refusals use one up
            await super().falls_silent(when, on)

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        return self.account_with({}, timeout_seconds=timeout_seconds, **credentials)

    def account_with(
        self, options: dict[str, object], *, timeout_seconds: float = 10.0, **credentials: str
    ) -> AccountConfig:
        """The same with options."""
        own = {"api_key": self.key, "secret_key": self.SECRET, "payment_page_uid": f"page-{self.suffix}"}
        return AccountConfig(
            network=Network(LOOPBACK),
            account_id=uuid4(),
            credentials=own | credentials,
            options={"api_base": f"{self.address}/payplus/api/v1.0"} | options,
            timeout_seconds=timeout_seconds,
        )

    def saving_account(self, *, timeout_seconds: float = 10.0) -> AccountConfig:
        return self.account_with({"terminal_uid": "t-1", "cashier_uid": "k-1"}, timeout_seconds=timeout_seconds)

    def wrong_account(self) -> AccountConfig:
        return self.account(api_key="payplus_invalid")

    async def pays(self, opened: OpenedCheckout) -> None:
        assert await self._submits(opened, self.GOOD) == 200

    async def pays_otherwise(self, opened: OpenedCheckout, reference: UUID, **held: str) -> None:
        await self.sandbox(f"payplus/pages/{opened.session_id}/held", **held)
        await self.pays(opened)

    async def is_declined(self, opened: OpenedCheckout) -> None:
        assert await self._submits(opened, self.DECLINED) == 402

    async def tries_to_pay(self, opened: OpenedCheckout) -> None:
        assert await self._submits(opened, self.GOOD) == 410

    async def checkouts_of(self, reference: UUID) -> list[str]:
        pages = (await self.http.get("/sandbox/payplus/pages", params={"more_info": str(reference)})).json()
        return [page["id"] for page in pages]

    async def charges_of(self, reference: UUID) -> int:
        found = await self._transactions(reference)
        return sum(one["type"] == "Charge" and one["status_code"] == "000" and not one.get("part_of") for one in found)

    async def given_back(self, reference: UUID) -> str | None:
        found = await self._transactions(reference)
        return str(sum((Decimal(one["amount"]) for one in found if one["type"] == "Refund"), Decimal("0.00")))

    async def has_made(self, reference: UUID, refund_id: UUID, *, amount: Decimal, booked: Decimal) -> bool:
        made = [one for one in await self._transactions(reference) if one["type"] == "Refund"]
        return any(str(refund_id) in str(one) for one in made)

    async def _transactions(self, reference: UUID) -> Any:
        answer = await self.http.get("/sandbox/payplus/transactions", params={"more_info": str(reference)})
        return answer.json()

    async def will(self, token: str, outcome: str) -> None:
        await self.sandbox(f"payplus/tokens/{token}/outcomes", outcomes=[{"soft": "004", "hard": "002"}[outcome]])

    def unknown_session(self, mode: CheckoutMode) -> str:
        return str(uuid4())

    async def _submits(self, opened: OpenedCheckout, card: str) -> int:
        assert opened.url is not None
        return (await self.http.post(opened.url, data={"card": card})).status_code

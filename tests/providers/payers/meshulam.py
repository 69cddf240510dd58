"""Payers at Meshulam."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

from providers.base import AccountConfig, CheckoutMode, CheckoutRef, CheckoutRequest, OpenedCheckout, Provider
from providers.network import LOOPBACK, Network
from tests.providers.payers import SandboxPayer

CALLBACK_TOKEN = "k3pOq7_unguessable-part"


class Payer(SandboxPayer):
    """The people and powers on the other side of Meshulam's wire, through the sandbox."""

    name = "meshulam"
    one_currency: ClassVar[bool] = True
    can_be_declined: ClassVar[bool] = False  # a declined card leaves no trace at Meshulam; see test_meshulam.py
    method_seen: ClassVar[tuple[str | None, str | None]] = ("card", "4580")
    operations: ClassVar[dict[str, str]] = {
        "*": "*",
        "open": "createPaymentProcess",
        "refund": "refundTransaction",
        "charge": "createTransactionWithToken",
    }
    variants: ClassVar[tuple[str, ...]] = (
        "charges_without_times",
        "placeholder",
        "regular_payments_only",
    )
    own_secrets: ClassVar[tuple[str, ...]] = ("callback_token",)

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.page_code = f"page{self.suffix}"

    @property
    def account_key(self) -> str:
        return self.page_code

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        return AccountConfig(
            network=Network(LOOPBACK),
            account_id=uuid4(),
            credentials={"user_id": "business1", "page_code": self.page_code, "callback_token": CALLBACK_TOKEN}
            | {"page_code_bit": f"{self.page_code}bit"}
            | credentials,
            options={"api_base": f"{self.address}/meshulam", "lists_partial_refunds": True},
            timeout_seconds=timeout_seconds,
        )

    def wrong_account(self) -> AccountConfig:
        return self.account(page_code="invalid")

    async def pays(self, opened: OpenedCheckout) -> None:
        """On the page; the payment is then made a day old, because a part of it cannot be refunded on its own day."""
        assert opened.url is not None
        assert (await self.http.post(opened.url, data={"card": "4580458045804580"})).status_code == 200
        await self.control(opened, "age", days=1)

    async def pays_otherwise(self, opened: OpenedCheckout, reference: UUID, **held: str) -> None:
        await self.control(opened, "amount", sum=held["amount"])
        await self.pays(opened)

    async def is_declined(self, opened: OpenedCheckout) -> None:
        assert opened.url is not None
        assert (await self.http.post(opened.url, data={"outcome": "decline"})).status_code == 402

    async def saves(self, opened: OpenedCheckout) -> None:
        assert opened.url is not None
        assert (await self.http.post(opened.url, data={"card": "4580458045804580"})).status_code == 200

    async def will(self, token: str, outcome: str) -> None:
        await self.sandbox(f"meshulam/cards/{token}/outcomes", outcomes=[{"soft": 1034, "hard": 452}[outcome]])

    async def charges_can_be_refunded(self, reference: UUID) -> None:
        for process in await self.processes(reference):
            await self.sandbox(f"meshulam/processes/{process['processId']}/age", days=1)

    async def tries_to_pay(self, opened: OpenedCheckout) -> None:
        assert opened.url is not None
        assert (await self.http.post(opened.url, data={"outcome": "pay"})).status_code == 410

    async def checkouts_of(self, reference: UUID) -> list[str]:
        return [process["processId"] for process in await self.processes(reference)]

    async def charges_of(self, reference: UUID) -> int:
        made = [one for process in await self.processes(reference) for one in process["transactions"]]
        return sum(not one.get("refundedTransactionId") for one in made)

    async def has_made(self, reference: UUID, refund_id: UUID, *, amount: Decimal, booked: Decimal) -> bool:
        made = [one for process in await self.processes(reference) for one in process["transactions"]]
        gone = sum((Decimal(one["sum"]) for one in made if one.get("refundedTransactionId")), Decimal(0))
        return gone - booked >= amount

    async def processes(self, reference: UUID) -> list[dict[str, Any]]:
        """Everything that was opened for our reference."""
        found = await self.http.get("/sandbox/meshulam/processes", params={"reference": str(reference)})
        processes: list[dict[str, Any]] = found.json()
        return processes

    async def control(self, opened: OpenedCheckout, what: str, **body: Any) -> Any:
        """One of the sandbox's controls on a process."""
        return await self.sandbox(f"meshulam/processes/{opened.session_id}/{what}", **body)

    def unknown_session(self, mode: CheckoutMode) -> str:
        return "99"

    def calls(self, provider: Provider, request: CheckoutRequest) -> list[Callable[[], Awaitable[Any]]]:
        """A look needs the process token, whether or not there is such a process."""
        ref = CheckoutRef(request.reference, "99", request.mode, request.created_at, session_secret="unknown")
        return [lambda: provider.look(ref), provider.check_account, lambda: provider.open_checkout(request)]

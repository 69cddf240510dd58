"""Payers at Wompi."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

from providers.base import AccountConfig, CheckoutMode, OpenedCheckout
from providers.network import LOOPBACK, Network
from tests.providers.payers import SandboxPayer


class Payer(SandboxPayer):
    """The people and powers on the other side of Wompi's wire, through the sandbox."""

    GOOD, DECLINED, BROKEN = "4242424242424242", "4111111111111111", "4000000000000002"

    name = "wompi"
    currency = "COP"
    amount = "25000.00"
    part = "10000.00"
    rest = "15000.00"
    over = "15000.01"
    refused = ("129.90", "USD")
    operations: ClassVar[dict[str, str]] = {"*": "*", "open": "create_transaction", "refund": "void"}
    opens_by_call = False
    callback_account = ("public_key", "events_secret")
    variants = ("void_empty", "private_creates", "open_reads")

    def keys(self, environment: str = "test") -> dict[str, str]:
        """The four keys of this payer's merchant."""
        return {
            "public_key": f"pub_{environment}_{self.suffix}",
            "private_key": f"prv_{environment}_{self.suffix}",
            "events_secret": f"{environment}_events_{self.suffix}",
            "integrity_secret": f"{environment}_integrity_{self.suffix}",
        }

    @property
    def account_key(self) -> str:
        return self.keys()["public_key"]

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        return AccountConfig(
            network=Network(LOOPBACK),
            account_id=uuid4(),
            credentials=self.keys() | credentials,
            options={"api_base": f"{self.address}/wompi/v1", "checkout_base": f"{self.address}/wompi/checkout"},
            timeout_seconds=timeout_seconds,
        )

    def wrong_account(self) -> AccountConfig:
        return self.account(public_key="pub_test_invalid", private_key="prv_test_invalid")

    async def pays(self, opened: OpenedCheckout, card: str = GOOD) -> None:
        assert opened.url is not None
        assert (await self.http.post(opened.url, data={"card": card})).status_code == 200

    async def pays_otherwise(self, opened: OpenedCheckout, reference: UUID, **held: str) -> None:
        await self.pays(opened)
        changed: dict[str, Any] = {name: held[name] for name in ("currency",) if name in held}
        if "amount" in held:
            changed["amount_in_cents"] = int(Decimal(held["amount"]) * 100)
        for one in await self.transactions(reference):
            await self.sandbox(f"wompi/transactions/{one['id']}/amount", **changed)

    async def is_declined(self, opened: OpenedCheckout) -> None:
        assert opened.url is not None
        assert (await self.http.post(opened.url, data={"card": self.DECLINED})).status_code == 402

    async def tries_to_pay(self, opened: OpenedCheckout) -> None:
        assert opened.url is not None
        assert (await self.http.post(opened.url, data={"card": self.GOOD})).status_code == 410

    async def leaves_pending(self, opened: OpenedCheckout, method: str = "CARD") -> None:
        """Pay in a way that is not decided yet."""
        assert opened.url is not None
        data = {"outcome": "later", "method": method}
        assert (await self.http.post(opened.url, data=data)).status_code == 200

    async def at_the_bank(self, opened: OpenedCheckout, approve: str = "yes") -> int:
        """Answer at the bank of PSE; the page's status."""
        assert opened.url is not None
        return (await self.http.post(opened.url, data={"approve": approve})).status_code

    async def transactions(self, reference: UUID | str) -> list[Any]:
        """What the provider holds of a reference, or of a payment link."""
        found = await self.http.get("/sandbox/wompi/transactions", params={"reference": str(reference)})
        return list(found.json())

    async def links(self, reference: UUID) -> list[Any]:
        """The payment links that were made for our reference."""
        return list((await self.http.get("/sandbox/wompi/links", params={"sku": str(reference)})).json())

    async def checkouts_of(self, reference: UUID) -> list[str]:
        made = [one["id"] for one in await self.transactions(reference)]
        return made + [one["id"] for one in await self.links(reference)]

    async def charges_of(self, reference: UUID) -> int:
        return len([one for one in await self.transactions(reference) if one["status"] in ("APPROVED", "VOIDED")])

    def unknown_session(self, mode: CheckoutMode) -> str:
        return "1-1700000000-00000"

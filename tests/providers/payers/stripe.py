"""Payers at Stripe."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

from providers.base import AccountConfig, CheckoutMode, OpenedCheckout
from providers.network import LOOPBACK, Network
from tests.providers.payers import WEBHOOK_SECRET, SandboxPayer


class Payer(SandboxPayer):
    """The people and powers on the other side of Stripe's wire, through the sandbox."""

    GOOD, DECLINED, CHALLENGED = "4242424242424242", "4000000000000002", "4000000000003220"

    name = "stripe"
    operations: ClassVar[dict[str, str]] = {"*": "*", "open": "*", "refund": "create_refund", "charge": "create_intent"}
    variants: ClassVar[tuple[str, ...]] = ("return_url_always",)
    own_secrets: ClassVar[tuple[str, ...]] = ("webhook_secret",)
    callback_account: ClassVar[tuple[str, str] | None] = ("secret_key", "webhook_secret")

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.key = f"sk_test_{self.suffix}"

    @property
    def account_key(self) -> str:
        return self.key

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        return AccountConfig(
            network=Network(LOOPBACK),
            account_id=uuid4(),
            credentials={"secret_key": self.key, "webhook_secret": WEBHOOK_SECRET} | credentials,
            options={"api_base": self.address},
            timeout_seconds=timeout_seconds,
        )

    def wrong_account(self) -> AccountConfig:
        return self.account(secret_key="sk_test_invalid")

    async def pays(self, opened: OpenedCheckout) -> None:
        if opened.url is None:
            assert await self._confirm(opened, card=self.GOOD) == "paid"
        else:
            assert (await self.http.post(opened.url, data={"card": self.GOOD})).status_code == 200

    async def pays_otherwise(self, opened: OpenedCheckout, reference: UUID, **held: str) -> None:
        changed: dict[str, Any] = {}
        if "amount" in held:
            changed["amount_total"] = int(Decimal(held["amount"]) * 100)
        if "currency" in held:
            changed["currency"] = held["currency"].lower()
        await self.sandbox(f"sessions/{opened.session_id}/amount", **changed)
        await self.pays(opened)

    async def is_declined(self, opened: OpenedCheckout) -> None:
        if opened.url is None:
            assert await self._confirm(opened, card=self.DECLINED) != "paid"
        else:
            assert (await self.http.post(opened.url, data={"card": self.DECLINED})).status_code == 402

    async def is_challenged(self, opened: OpenedCheckout) -> None:
        assert await self._confirm(opened, card=self.CHALLENGED) == "challenge"

    async def passes_challenge(self, opened: OpenedCheckout) -> None:
        assert await self._confirm(opened, card=self.CHALLENGED, approved=True) == "paid"

    async def tries_to_pay(self, opened: OpenedCheckout) -> None:
        if opened.url is None:
            assert await self._confirm(opened, card=self.GOOD) != "paid"
        else:
            assert (await self.http.post(opened.url, data={"card": self.GOOD})).status_code == 410

    async def checkouts_of(self, reference: UUID) -> list[str]:
        """Ids of everything that was opened for this payment."""
        sessions = (await self.http.get("/sandbox/objects", params={"type": "checkout.session"})).json()
        found = [session["id"] for session in sessions if session["client_reference_id"] == str(reference)]
        intents = (await self.http.get("/sandbox/objects", params={"type": "payment_intent"})).json()
        return found + [intent["id"] for intent in intents if intent["metadata"].get("payment_id") == str(reference)]

    async def charges_of(self, reference: UUID) -> int:
        totals = (await self.http.get("/sandbox/totals")).json()
        return int(totals.get(str(reference), {}).get("charges", 0))

    async def will(self, token: str, outcome: str) -> None:
        code = {"soft": "insufficient_funds", "hard": "stolen_card"}[outcome]
        await self.sandbox(f"payment_methods/{token}/outcomes", outcomes=[code])

    def unknown_token(self) -> str:
        return "pm_unknown"

    def unknown_session(self, mode: CheckoutMode) -> str:
        return "cs_test_unknown" if mode is CheckoutMode.HOSTED else "pi_unknown"

    async def _confirm(self, opened: OpenedCheckout, **how: Any) -> str:
        return str((await self.sandbox(f"payment_intents/{opened.session_id}/confirm", **how))["outcome"])

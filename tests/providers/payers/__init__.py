"""The people and powers on the other side of each provider's wire, through the sandbox. One module a provider."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID, uuid4

import httpx
import pytest

from providers.base import (
    AccountConfig,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    OpenedCheckout,
    Provider,
    SavedMethod,
)

WEBHOOK_SECRET = "whsec_test_secret"
SILENCE_SECONDS = 1.5
"""How long the sandbox keeps silent where a test asks for it; the impatient adapter gives up long before."""


class SandboxPayer:
    """What the conformance suite needs from each provider's side. Amounts are major units."""

    name: ClassVar[str]
    currency: ClassVar[str] = "ILS"
    amount: ClassVar[str] = "129.90"
    part: ClassVar[str] = "29.90"
    """A part of `amount` that can be refunded."""
    rest: ClassVar[str] = "100.00"
    over: ClassVar[str] = "100.01"
    """More than is left after `part`."""
    least: ClassVar[str] = "0.01"
    refused: ClassVar[tuple[str, str]] = ("0.01", "USD")
    """An amount and currency that the provider does not take."""
    method_seen: ClassVar[tuple[str | None, str | None]] = ("card", "4242")
    """What a look reports after `pays`: method and last four digits."""
    operations: ClassVar[dict[str, str]] = {"*": "*", "open": "*", "refund": "refund", "charge": "*"}
    """What the sandbox calls the operations for which faults are planned."""
    can_be_declined: ClassVar[bool] = True
    one_currency: ClassVar[bool] = False
    """Whether the provider's books have no room for another currency."""
    opens_by_call: ClassVar[bool] = True
    """False where the address is only computed and nothing is sent when a checkout is opened."""
    own_secrets: ClassVar[tuple[str, ...]] = ()
    """Credentials that all payers of the provider have alike; an account that must not share them replaces them."""
    shows_refunds = True
    """False where the sandbox's account tells of no refunds: then a repeat after silence is left to a person."""
    variants: ClassVar[tuple[str, ...]] = ()
    """Other shapes of the sandbox's answers for which the whole suite runs once more (sandbox/variants.py)."""
    callback_account: ClassVar[tuple[str, str] | None] = None
    """Where callbacks go to an address that is registered beforehand: which credential names the account to the
    sandbox, and which one its callbacks are signed with. None where each request carries the address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = httpx.AsyncClient(base_url=address)
        self.suffix = uuid4().hex

    def account(self, *, timeout_seconds: float = 10.0, **credentials: str) -> AccountConfig:
        """An account of this payer's own at the sandbox; credentials can be replaced."""
        raise NotImplementedError

    def saving_account(self, *, timeout_seconds: float = 10.0) -> AccountConfig:
        """The same account, able to save methods and to charge them."""
        return self.account(timeout_seconds=timeout_seconds)

    def wrong_account(self) -> AccountConfig:
        """The same with credentials that the provider does not know."""
        raise NotImplementedError

    @property
    def account_key(self) -> str:
        """What owns the account's objects in the sandbox."""
        raise NotImplementedError

    async def behaves(self, *names: str) -> None:
        """From now on the sandbox answers this account in these variants."""
        await self.sandbox("variants", provider=self.name, account_key=self.account_key, names=list(names))

    async def callbacks_go_to(self, url: str, credentials: Mapping[str, str]) -> None:
        """Register the address of an account's callbacks, where the provider wants that."""
        if self.callback_account is not None:
            key, secret = (credentials[name] for name in self.callback_account)
            await self.sandbox("webhook-endpoints", url=url, secret=secret, account_key=key)

    async def pays(self, opened: OpenedCheckout) -> None:
        """Pay at the checkout, with success."""
        raise NotImplementedError

    async def pays_otherwise(self, opened: OpenedCheckout, reference: UUID, **held: str) -> None:
        """Pay, and let the provider hold another `amount` or `currency` than was asked for."""
        raise NotImplementedError

    async def is_declined(self, opened: OpenedCheckout) -> None:
        """Try to pay and be declined."""
        raise NotImplementedError

    async def tries_to_pay(self, opened: OpenedCheckout) -> None:
        """Try to pay at a closed checkout; must not succeed."""
        raise NotImplementedError

    async def checkouts_of(self, reference: UUID) -> list[str]:
        """Ids of everything that was opened for our reference."""
        raise NotImplementedError

    async def charges_of(self, reference: UUID) -> int:
        """How many successful charges there are for our reference."""
        raise NotImplementedError

    async def given_back(self, reference: UUID) -> str | None:
        """What has gone back at the provider in its own books, in major units, where a look may not tell it."""
        return None

    async def has_made(self, reference: UUID, refund_id: UUID, *, amount: Decimal, booked: Decimal) -> bool:
        """Whether a person sees in the provider's own pages a refund of ours that got no answer.

        `booked` is what has gone back by our books, where sums are all that is shown.
        """
        raise NotImplementedError

    async def saves(self, opened: OpenedCheckout) -> None:
        """Enter a card on the page of a set-up, with success."""
        await self.pays(opened)

    async def cannot_save(self, opened: OpenedCheckout) -> None:
        """Enter a card on the page of a set-up and be refused."""
        await self.is_declined(opened)

    async def tokenises(self) -> SavedMethod:
        """Get a token from the provider's own library, as the merchant's page does, where there is no set-up."""
        raise NotImplementedError

    async def will(self, token: str, outcome: str) -> None:
        """Let the next charge of a saved method be declined: `soft` or `hard`."""
        raise NotImplementedError

    def unknown_token(self) -> str:
        """A token in the provider's form that does not exist."""
        return str(uuid4())

    async def charges_can_be_refunded(self, reference: UUID) -> None:
        """Let the time pass that a provider wants between a charge and its refund."""

    async def refunds_are_decided(self, reference: UUID) -> None:
        """Let the provider approve what it has taken as pending, where it decides later."""

    def unknown_session(self, mode: CheckoutMode) -> str:
        """A session id in the provider's form that does not exist."""
        raise NotImplementedError

    def calls(self, provider: Provider, request: CheckoutRequest) -> list[Callable[[], Awaitable[Any]]]:
        """Calls that reach the provider without any preparation."""
        ref = CheckoutRef(request.reference, self.unknown_session(request.mode), request.mode, request.created_at)
        calls: list[Callable[[], Awaitable[Any]]] = [lambda: provider.look(ref), provider.check_account]
        return [*calls, lambda: provider.open_checkout(request)] if self.opens_by_call else calls

    async def falls_silent(self, when: str, on: str = "*") -> None:
        """The next call gets no answer: `before` it acts, or `after` it has acted."""
        await self.faults(f"timeout_{when}:{SILENCE_SECONDS}", on)

    async def faults(self, fault: str, on: str = "*") -> None:
        """Plan a fault for the next call."""
        answer = await self.http.post("/sandbox/faults", json={"operation": self.operations[on], "fault": fault})
        answer.raise_for_status()

    async def sandbox(self, path: str, **body: Any) -> Any:
        """Use one of the sandbox's controls."""
        answer = await self.http.post(f"/sandbox/{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    async def aclose(self) -> None:
        """Leave the sandbox as it was."""
        await self.http.delete("/sandbox/faults")
        await self.http.delete("/sandbox/webhook-endpoints")
        await self.http.aclose()


CONTRACT = pytest.StashKey[tuple[str, type[SandboxPayer]]]()
"""One provider and its payer, where the suites run against the provider's own test system (tests/contract)."""


def payer_class(name: str) -> type[SandboxPayer]:
    """The other side of a provider's wire: tests/providers/payers/{name}.py."""
    kind: type[SandboxPayer] = importlib.import_module(f"tests.providers.payers.{name}").Payer
    assert issubclass(kind, SandboxPayer)
    return kind

"""Setting up a payment method: the commands and results that cross the workflow boundary.

A set-up saves a method of a customer for later charges and takes no money. Nothing here carries personal data, a
token or a secret: these objects are written into workflow histories.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.payment import PollPlan


class SetupStatus(StrEnum):
    """Where a set-up stands: created → pending (the customer has the page) → succeeded, failed or expired.

    `unknown`: the provider was asked to open the page and has not answered.
    """

    CREATED = "created"
    PENDING = "pending"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"


SETUP_OPEN = frozenset({SetupStatus.CREATED, SetupStatus.PENDING, SetupStatus.UNKNOWN})
"""The customer may still enter a method. Late truth wins here too: an expired set-up may succeed after all."""


class MethodStatus(StrEnum):
    """A saved method: `detached` and `expired` ones are never charged."""

    ACTIVE = "active"
    DETACHED = "detached"
    EXPIRED = "expired"


def setup_id_for(workspace_id: UUID, idempotency_key: str) -> UUID:
    """The same workspace and key name the same set-up for ever."""
    return uuid5(NAMESPACE_URL, f"durable-payments:setup:{workspace_id}:{idempotency_key}")


def customer_reference(account_id: UUID, customer_id: str) -> UUID:
    """Our reference for a merchant's customer at one account: the same for ever."""
    return uuid5(account_id, f"customer:{customer_id}")


@dataclass(frozen=True, slots=True)
class StartSetup:
    """Start of a set-up's workflow. `expires_at` is when the page closes (UTC)."""

    setup_id: UUID
    workspace_id: UUID
    provider: str
    expires_at: datetime
    poll: PollPlan = field(default_factory=PollPlan)


@dataclass(frozen=True, slots=True)
class OpenedSetup:
    """Where the customer goes; no address and an `error_code` where the page could not be opened.

    `error_type` is the name of the provider error, as in Checkout.
    """

    status: SetupStatus
    url: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    error_type: str | None = None


@dataclass(frozen=True, slots=True)
class LookAtSetup:
    """Ask the provider about one set-up and record what it says. `inbox_ids` are the events that the look answers.

    With `close` the page is closed at the provider first, and an unfinished set-up ends as expired.
    """

    setup_id: UUID
    inbox_ids: tuple[int, ...] = ()
    close: bool = False


@dataclass(frozen=True, slots=True)
class FailSetup:
    """Record that the page could not be opened."""

    setup_id: UUID
    status: SetupStatus
    reason: str


@dataclass(frozen=True, slots=True)
class SetupProgress:
    """What is on record now. `payment_method_id` once the method is stored."""

    setup_id: UUID
    status: SetupStatus
    payment_method_id: UUID | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class RefreshMethods:
    """A provider told of a change of saved methods. `reference` is a method of ours, or a customer's mapping."""

    reference: UUID
    inbox_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DetachMethod:
    """A method was detached with us and is to be detached at its provider."""

    payment_method_id: UUID


def setup_workflow_id(setup_id: UUID) -> str:
    """The id of a set-up's workflow."""
    return f"setup-{setup_id}"

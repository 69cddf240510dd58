"""Faults on purpose: by the header X-Sandbox-Fault on one request, or set beforehand for an operation.

For calls: `error:STATUS`, `rate_limit:SECONDS`, `timeout_before:SECONDS` (does nothing), `timeout_after:SECONDS` (acts,
then keeps silent). For the operation `webhooks`: `lose`, `delay:SECONDS`, `duplicate:TIMES`, `reorder`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from fastapi import Request

KINDS = frozenset({"error", "rate_limit", "timeout_before", "timeout_after", "lose", "delay", "duplicate", "reorder"})


class UnknownFault(ValueError):
    """Not a fault of this sandbox."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; `value` is seconds, a status or a number of times."""

    kind: str
    value: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `kind` or `kind:value`. Raises UnknownFault."""
        kind, _, value = text.partition(":")
        if kind not in KINDS:
            raise UnknownFault(f"unknown fault {kind}; use one of {', '.join(sorted(KINDS))}")
        try:
            return cls(kind, float(value or 0))
        except ValueError:
            raise UnknownFault(f"{value} is not a number") from None


@dataclass(slots=True)
class _Planned:
    operation: str
    fault: Fault
    left: int
    only_with: Sequence[str] = ()

    def fits(self, operation: str, carried: str) -> bool:
        named = self.operation == operation or (self.operation == "*" and operation != "webhooks")
        return named and self.left > 0 and (not self.only_with or any(mark in carried for mark in self.only_with))


@dataclass(slots=True)
class FaultPlan:
    """Faults that were set beforehand, each for so many requests."""

    planned: list[_Planned] = field(default_factory=list)

    def add(self, operation: str, fault: Fault, count: int, only_with: Sequence[str] = ()) -> None:
        """Let the next `count` requests of an operation (`*` for all calls) fail so.

        With `only_with` only requests, or callbacks, that carry one of these texts: an account's key or address.
        """
        self.planned.append(_Planned(operation, fault, count, only_with))

    def clear(self) -> None:
        """No more faults."""
        self.planned.clear()

    async def of(self, request: Request, operation: str) -> Fault | None:
        """The fault of one request: named in its header, or planned."""
        named = request.headers.get("x-sandbox-fault")
        if named:
            return Fault.parse(named)
        body = (await request.body()).decode(errors="replace")
        return self.take(operation, "\n".join((str(request.url), *request.headers.values(), body)))

    def take(self, operation: str, carried: str) -> Fault | None:
        """The fault of a request or a callback that carries this text, if one is planned."""
        for planned in self.planned:
            if planned.fits(operation, carried):
                planned.left -= 1
                return planned.fault
        return None


class Trouble(Exception):
    """The fault that ends a request. `status` is the HTTP status; the body is in the provider's own shape."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.headers = headers or {}


async def before_acting(fault: Fault | None) -> None:
    """Carry out a fault that comes before the request acts. Raises Trouble."""
    if fault is None:
        return
    if fault.kind == "error":
        raise Trouble(int(fault.value))
    if fault.kind == "rate_limit":
        raise Trouble(429, {"retry-after": str(int(fault.value))})
    if fault.kind == "timeout_before":
        await asyncio.sleep(fault.value)
        raise Trouble(504)


async def after_acting(fault: Fault | None) -> None:
    """Keep silent for as long as the fault says; the caller has given up by then. Raises Trouble."""
    if fault is not None and fault.kind == "timeout_after":
        await asyncio.sleep(fault.value)
        raise Trouble(504)

"""Faults on purpose: by the header X-Sandbox-Fault on one request, or set beforehand for an operation.

For calls: `error:STATUS`, `rate_limit:SECONDS`, `timeout_before:SECONDS` (does nothing), `timeout_after:SECONDS` (acts,
then keeps silent). For the operation `webhooks`: `lose`, `delay:SECONDS`, `duplicate:TIMES`, `reorder`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass(slots=True)
class FaultPlan:
    """Faults that were set beforehand, each for so many requests."""

    planned: list[_Planned] = field(default_factory=list)

    def add(self, operation: str, fault: Fault, count: int) -> None:
        """Let the next `count` requests of an operation (`*` for all calls) fail so."""
        self.planned.append(_Planned(operation, fault, count))

    def clear(self) -> None:
        """No more faults."""
        self.planned.clear()

    def take(self, operation: str) -> Fault | None:
        """The fault of this request, if one is planned."""
        for planned in self.planned:
            fits = planned.operation == operation or (planned.operation == "*" and operation != "webhooks")
            if fits and planned.left > 0:
                planned.left -= 1
                return planned.fault
        return None

"""Amounts in the steps in which a provider takes them: what is below a step is never rounded away.

Some providers take an amount only as a multiple of more than one minor unit: three-decimal currencies at Stripe end in
zero, Colombian acquirers take whole pesos. What the service computes by itself (a change of plan, what a credit leaves
of an invoice) is cut at the step: the whole steps are charged, and the rest waits for the next invoice.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.money import Money, MoneyError


@dataclass(frozen=True, slots=True)
class Cut:
    """Both parts of an amount; they add up to it."""

    whole: Money
    """A multiple of the step."""
    rest: Money
    """Less than one step."""


@dataclass(frozen=True, slots=True)
class InvoiceParts:
    """How an invoice is met. The three add up to its subtotal."""

    total: Money
    """What is charged: a multiple of the step."""
    credit: Money
    """What the customer's credit pays."""
    deferred: Money
    """Less than one step; it goes with the next invoice."""


def cut(amount: Money, step: int) -> Cut:
    """Cut an amount at its last whole step; `step` is minor units. Raises MoneyError for less than nothing."""
    if amount.minor < 0 or step < 1:
        raise MoneyError("an amount that is not negative is cut at a step of at least one minor unit")
    rest = Money(amount.minor % step, amount.currency)
    return Cut(amount - rest, rest)


def invoice_parts(subtotal: Money, *, credit: Money, step: int) -> InvoiceParts:
    """The credit pays first, all of it if it can; whole steps of what is left are charged, and the rest is deferred.

    So nobody is charged more than is due now. Raises MoneyError as `cut` does.
    """
    used = min(credit, subtotal)
    left = cut(subtotal - used, step)
    return InvoiceParts(total=left.whole, credit=used, deferred=left.rest)


def advice(provider: str, amount: Money, step: int) -> str:
    """What to send in place of an amount that is between two steps."""
    below = cut(amount, step).whole
    above = Money(below.minor + step, amount.currency)
    near = f"{below} or {above}" if below.minor else str(above)
    return f"{provider} takes {amount.currency} in steps of {Money(step, amount.currency)}: {near}, not {amount}."

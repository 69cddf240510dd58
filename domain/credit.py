"""Credit: a customer's claim on money that was captured and not used, kept by the payment that it comes from.

Of each source payment, what went back, what banks hold, what is left as credit and what credit has paid elsewhere are
together never more than what was captured. Everything here follows from that one rule; amounts are of one currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from domain.money import Money
from domain.proration import unused as unused_part


@dataclass(frozen=True, slots=True)
class Source:
    """One payment's credit. Without `payment_id` it is from before sources were kept: usable, never refundable."""

    payment_id: UUID | None
    left: Money
    """Captured, less refunds (those under way too) and less what disputes hold."""
    unused: Money
    """Credit of it that the customer has."""
    used: Money
    """Credit of it that has paid other invoices and was not given back."""

    @property
    def room(self) -> Money:
        """What can still become credit."""
        return _positive(self.left - self.unused - self.used)

    @property
    def refundable(self) -> Money:
        """What can still go back to the payer: the unused credit goes with it, the used one cannot."""
        return _positive(self.left - self.used)

    @property
    def overdrawn(self) -> Money:
        """Credit for which there is no money any more: it was used before the money went back."""
        return _positive(self.unused + self.used - self.left)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of some credit and its source. `invoice_id`: it is credit that had been used for this invoice."""

    payment_id: UUID | None
    amount: Money
    invoice_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class FundedInvoice:
    """What was really paid of an invoice, and by what."""

    invoice_id: UUID
    payment_id: UUID | None
    """The payment that was captured for it; None where none was."""
    value: Money
    """What that payment has paid for, with what was below the provider's step and waits for the next invoice."""
    credit: tuple[tuple[UUID | None, Money], ...]
    """The credit that it used, by source."""
    since: datetime | None
    """From when to the end of the present period it covers; None: what is left of it was carried over whole."""


def total(parts: Iterable[Part], currency: str) -> Money:
    """The sum of parts."""
    return sum((part.amount for part in parts), Money.zero(currency))


def within_reach(
    invoices: Sequence[FundedInvoice], sources: dict[UUID | None, Source], *, end: datetime, at: datetime
) -> list[Part]:
    """What of the money behind a period can become credit at `at`, the newest invoice first.

    Of each invoice no more than its unused part, and of each payment no more than is left of it. An invoice that was
    not paid has neither, so that a time that was free, given or never paid gives nothing. Nor does credit that was used
    and is overdrawn: what is left of its money is not enough for what it has paid.
    """
    rooms = {key: source.room for key, source in sources.items()}
    found: list[Part] = []
    for invoice in invoices:
        for key, amount in invoice.credit:
            if not sources[key].overdrawn.minor:
                most = _covering(amount, invoice.since, end=end, at=at)
                found.append(Part(key, most, invoice.invoice_id))
        if invoice.payment_id is not None:
            most = _covering(invoice.value, invoice.since, end=end, at=at)
            most = min(most, rooms[invoice.payment_id])
            rooms[invoice.payment_id] = rooms[invoice.payment_id] - most
            found.append(Part(invoice.payment_id, most))
    return [part for part in found if part.amount.minor > 0]


def take(parts: Iterable[Part], wanted: Money) -> list[Part]:
    """So much of these parts, the first ones first; less where there is not so much."""
    taken: list[Part] = []
    for part in parts:
        amount = min(part.amount, wanted)
        if amount.minor > 0:
            taken.append(replace(part, amount=amount))
            wanted = wanted - amount
    return taken


def spendable(sources: Iterable[Source]) -> list[Part]:
    """The credit that there is, in the order in which it is used: as it came."""
    return [Part(source.payment_id, source.unused) for source in sources if source.unused.minor > 0]


def given_back(parts: Iterable[Part], sources: dict[UUID | None, Source]) -> list[tuple[Part, Money]]:
    """Used credit that is not used after all: each part with what of it is credit again.

    The rest has no money behind it any more, because that went back to the payer meanwhile.
    """
    lost = {key: source.overdrawn for key, source in sources.items()}
    found = []
    for part in parts:
        gone = min(lost[part.payment_id], part.amount)
        lost[part.payment_id] = lost[part.payment_id] - gone
        found.append((part, part.amount - gone))
    return found


def _covering(amount: Money, since: datetime | None, *, end: datetime, at: datetime) -> Money:
    """The unused part of what covers the time to `end`.

    One minor unit more than its own rounding: the list price, which is the bound beside this one, was rounded as a
    whole, and the parts of it one by one.
    """
    if since is None or at <= since or not amount.minor:
        return amount
    if at >= end:
        return Money.zero(amount.currency)
    return min(amount, unused_part(amount, start=since, end=end, at=at) + Money(1, amount.currency))


def _positive(amount: Money) -> Money:
    return max(amount, Money.zero(amount.currency))

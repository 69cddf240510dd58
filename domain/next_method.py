"""Which saved method an invoice is charged to next, from what is on record of the attempts that were made for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.declines import DeclineClass


@dataclass(frozen=True, slots=True)
class Card:
    """What a saved method is told apart by. `token` and `fingerprint` are hashes; None is what the provider never said.

    `expiry` is year and month.
    """

    id: UUID
    token: bytes
    fingerprint: bytes | None = None
    expiry: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """A charge that has failed, and the card as it was then; `card` is None where that was not recorded."""

    method_id: UUID
    decline: DeclineClass
    card: Card | None = None


@dataclass(frozen=True, slots=True)
class Preferred:
    """The subscription's own method and the customer's default at one moment.

    `chosen`: somebody made it the default; else it took the place of one that was taken away.
    """

    own: UUID | None = None
    default: UUID | None = None
    chosen: bool = True


@dataclass(frozen=True, slots=True)
class Attempts:
    """What was tried for one invoice, first to last.

    `preferred` is how it stood when the last attempt was made, None where that was not recorded; `last` is the method
    of the last attempt, None for a link; `any` tells whether there was an attempt at all.
    """

    tried: Sequence[Tried] = ()
    preferred: Preferred | None = None
    last: UUID | None = None
    any: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What to charge: a saved method, or None for a link to the payer. `at_once`: before the next retry is due."""

    method_id: UUID | None
    at_once: bool


def is_renewed(before: Card, now: Card) -> bool:
    """Whether the bank has sent another card since, by what it is known by: number, expiry, or the token alone."""
    if None not in (before.expiry, now.expiry) and before.expiry != now.expiry:
        return True
    if before.fingerprint is not None and now.fingerprint is not None:
        return before.fingerprint != now.fingerprint
    return before.token != now.token


def is_refused(card: Card, tried: Sequence[Tried], decline: DeclineClass) -> bool:
    """Whether this card, under this or another token, was declined so for the invoice and was not renewed since."""
    return any(one.decline is decline and _is_same(one, card) and not _renewed(one, card) for one in tried)


def choose(usable: Sequence[Card], preferred: Preferred, attempts: Attempts, *, named_only: bool) -> Choice:
    """What an invoice is charged to next.

    First what was given or preferred since the last attempt, then what its bank has renewed, then the cards that were
    tried, the last one first, then the subscription's own, the customer's default, and the others in the order of
    `usable`. A card that was declined hard for this
    invoice is passed over; one whose bank wants the payer is left to the payer. With `named_only` no card is taken that
    nobody named for the subscription, unless one was tried and another made the default since.
    """
    cards = {card.id: card for card in usable}
    asked = _asked(preferred, attempts, named_only=named_only)
    asked += [card.id for card in usable if _renewed_since(card, attempts)]
    order: list[UUID | None] = [*asked, attempts.last]
    order += [*(one.method_id for one in reversed(attempts.tried)), preferred.own]
    if not named_only:
        order += [preferred.default, *cards]
    known = [cards[one] for one in order if one in cards]
    card = next((one for one in known if not is_refused(one, attempts.tried, DeclineClass.HARD)), None)
    if card is not None and is_refused(card, attempts.tried, DeclineClass.ACTION_REQUIRED):
        card = None
    if card is None:
        return Choice(None, at_once=attempts.last is not None)
    return Choice(card.id, at_once=attempts.any and (card.id != attempts.last or card.id in asked))


def _asked(preferred: Preferred, attempts: Attempts, *, named_only: bool) -> list[UUID]:
    """Methods that somebody has chosen since the last attempt."""
    if not attempts.any:
        return []
    before = attempts.preferred
    if before is None:  # not recorded: the subscription's own is what was charged, unless it was changed since
        return [preferred.own] if preferred.own is not None and preferred.own != attempts.last else []
    asked = [preferred.own] if preferred.own is not None and preferred.own != before.own else []
    default = preferred.default if preferred.chosen and (attempts.tried or not named_only) else None
    if default is not None and default != before.default:
        asked.append(default)
    return asked


def _renewed_since(card: Card, attempts: Attempts) -> bool:
    last = next((one for one in reversed(attempts.tried) if one.method_id == card.id), None)
    return last is not None and _renewed(last, card)


def _renewed(one: Tried, card: Card) -> bool:
    return one.card is not None and is_renewed(one.card, card)


def _is_same(one: Tried, card: Card) -> bool:
    if one.method_id == card.id:
        return True
    before = None if one.card is None else one.card.fingerprint
    return before is not None and before == card.fingerprint

"""Which card is charged next: a table over what was declined and how the next card came, and what never happens."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.declines import DeclineClass, decline_class
from domain.next_method import Attempts, Card, Choice, Preferred, Tried, choose, is_refused, is_renewed

A, B, C = (Card(UUID(int=n), f"token-{n}".encode(), f"number-{n}".encode(), (2030, n)) for n in (1, 2, 3))
SOFT, HARD = "insufficient_funds", "stolen_card"
WITH_A = Preferred(A.id, A.id)


def failed(*tried: tuple[Card, str], preferred: Preferred | None = WITH_A) -> Attempts:
    """Attempts that failed so, when A was the subscription's own and the default."""
    return Attempts(
        [Tried(card.id, decline_class(code), card) for card, code in tried], preferred, tried[-1][0].id, any=True
    )


def after_a_link(attempts: Attempts) -> Attempts:
    return replace(attempts, last=None)


@pytest.mark.parametrize("code", [SOFT, HARD, "do_not_honor", "expired_card", "lost_card", "account_closed", "new"])
@pytest.mark.parametrize(
    ("now", "why"),
    [
        (Preferred(B.id, A.id), "the set-up of the subscription, or a change of what it is charged to"),
        (Preferred(A.id, B.id), "made the customer's default"),
        (Preferred(B.id, B.id), "both"),
        (Preferred(None, B.id), "the default of one that has no method of its own"),
    ],
)
@pytest.mark.parametrize("named_only", [True, False])
@pytest.mark.parametrize("link", [True, False])
def test_a_card_that_is_given_while_a_charge_fails_is_charged_at_once(
    code: str, now: Preferred, why: str, *, named_only: bool, link: bool
) -> None:
    attempts = failed((A, code))
    attempts = after_a_link(attempts) if link else attempts
    assert choose([A, B], now, attempts, named_only=named_only) == Choice(B.id, at_once=True), why


def test_without_news_a_soft_decline_waits_for_its_day_and_a_hard_one_takes_another_card() -> None:
    assert choose([B, A], WITH_A, failed((A, SOFT)), named_only=False) == Choice(A.id, at_once=False)
    assert choose([C, B, A], WITH_A, failed((A, HARD)), named_only=False) == Choice(C.id, at_once=True)
    with_default = Preferred(A.id, B.id)
    known = failed((A, HARD), preferred=with_default)
    assert choose([C, B, A], with_default, known, named_only=False) == Choice(B.id, at_once=True)
    soft = failed((A, SOFT), preferred=with_default)  # B was the default before: nobody has asked for it now
    assert choose([C, B, A], with_default, soft, named_only=False) == Choice(A.id, at_once=False)


def test_where_no_other_card_is_the_payer_is_asked_by_link_once() -> None:
    assert choose([A], WITH_A, failed((A, HARD)), named_only=False) == Choice(None, at_once=True)
    assert choose([A], WITH_A, after_a_link(failed((A, HARD))), named_only=False) == Choice(None, at_once=False)
    assert choose([], Preferred(), failed((A, SOFT)), named_only=False) == Choice(None, at_once=True)
    asks = failed((A, "authentication_required"))
    assert choose([A, B], WITH_A, asks, named_only=False) == Choice(None, at_once=True), "the payer may confirm it"


def test_the_first_payment_takes_no_card_that_nobody_named() -> None:
    assert choose([A], Preferred(None, A.id), Attempts(), named_only=True) == Choice(None, at_once=False)
    page = Attempts((), Preferred(None, A.id), None, any=True)
    assert choose([A, B], Preferred(None, B.id), page, named_only=True) == Choice(None, at_once=False)
    assert choose([A, B], Preferred(B.id, A.id), page, named_only=True) == Choice(B.id, at_once=True)
    assert choose([A, B], WITH_A, failed((A, HARD)), named_only=True) == Choice(None, at_once=True)


def test_a_customer_who_goes_back_to_a_card_is_heard_and_cards_do_not_take_turns() -> None:
    both = failed((A, SOFT), (B, SOFT), preferred=Preferred(A.id, B.id))
    assert choose([A, B], Preferred(A.id, B.id), both, named_only=False) == Choice(B.id, at_once=False)
    assert choose([A, B], Preferred(A.id, A.id), both, named_only=False) == Choice(A.id, at_once=True)
    again = replace(failed((A, SOFT)), preferred=Preferred(None, A.id))  # A was chosen once more for the subscription
    assert choose([A], WITH_A, again, named_only=False) == Choice(A.id, at_once=True)


def test_a_default_that_took_the_place_of_another_is_nobodys_wish() -> None:
    """Somebody took the default away; the subscription's own card has declined softly and waits for its day."""
    own, heir = failed((A, SOFT), preferred=Preferred(A.id, C.id)), Preferred(A.id, B.id, chosen=False)
    assert choose([A, B], heir, own, named_only=False) == Choice(A.id, at_once=False)
    followed = failed((A, SOFT), preferred=Preferred(None, A.id))
    assert choose([B], Preferred(None, B.id, chosen=False), followed, named_only=False) == Choice(B.id, at_once=True)


def test_a_charge_that_waits_for_the_payer_is_left_alone_until_there_is_news() -> None:
    waiting = replace(failed((A, SOFT)), preferred=Preferred(B.id, B.id), last=B.id)  # B's bank wants the payer
    assert choose([A, B], Preferred(B.id, B.id), waiting, named_only=False) == Choice(B.id, at_once=False)
    assert choose([A, B], Preferred(B.id, A.id), waiting, named_only=False) == Choice(A.id, at_once=True)


RENEWED = [
    (replace(A, expiry=(2035, 1)), True),
    (replace(A, fingerprint=b"another number"), True),
    (replace(A, fingerprint=None, token=b"another token"), True),
    (replace(A, token=b"another token"), False),  # the same card, saved again
    (replace(A, expiry=None), False),  # not told is no other expiry
    (replace(A, fingerprint=None), False),
    (A, False),
]


@pytest.mark.parametrize(("now", "renewed"), RENEWED)
@pytest.mark.parametrize("code", [SOFT, HARD, "expired_card"])
def test_a_card_is_renewed_by_what_it_is_known_by(code: str, now: Card, *, renewed: bool) -> None:
    assert is_renewed(A, now) is renewed
    choice = choose([now], WITH_A, failed((A, code)), named_only=False)
    assert (choice == Choice(A.id, at_once=True)) is renewed
    other = choose([B, now], WITH_A, failed((A, code), (B, SOFT)), named_only=False)
    assert (other == Choice(A.id, at_once=True)) is renewed


def test_a_card_of_another_row_is_the_same_card_by_its_fingerprint() -> None:
    again = replace(C, fingerprint=A.fingerprint, expiry=A.expiry)
    assert choose([again], Preferred(again.id, again.id), failed((A, HARD)), named_only=False).method_id is None
    newer = replace(again, expiry=(2036, 1))
    assert choose([newer], Preferred(newer.id, newer.id), failed((A, HARD)), named_only=False).method_id == newer.id


def test_what_was_not_recorded_is_no_news() -> None:
    """An attempt of a release that recorded neither the card nor what was preferred."""
    old = Attempts([Tried(A.id, DeclineClass.SOFT)], None, A.id, any=True)
    assert choose([A, B], Preferred(A.id, B.id), old, named_only=False) == Choice(A.id, at_once=False)
    assert choose([A, B], Preferred(B.id, A.id), old, named_only=False) == Choice(B.id, at_once=True)
    hard = Attempts([Tried(A.id, DeclineClass.HARD)], None, A.id, any=True)
    assert choose([replace(A, expiry=(2040, 1))], WITH_A, hard, named_only=False).method_id is None


cards = st.builds(
    Card,
    st.sampled_from([A.id, B.id, C.id]),
    st.sampled_from([b"t1", b"t2", b"t3"]),
    st.sampled_from([None, b"f1", b"f2"]),
    st.sampled_from([None, (2030, 1), (2031, 1)]),
)
ids = st.sampled_from([None, A.id, B.id, C.id])
preferences = st.builds(Preferred, ids, ids)


@given(
    usable=st.lists(cards, max_size=3, unique_by=lambda card: card.id),
    now=preferences,
    before=st.none() | preferences,
    tried=st.lists(
        st.builds(Tried, st.sampled_from([A.id, B.id, C.id]), st.sampled_from(DeclineClass), st.none() | cards)
    ),
    last=ids,
    named_only=st.booleans(),
)
def test_no_card_is_charged_that_was_declined_hard_or_cannot_be_charged(
    usable: list[Card],
    now: Preferred,
    before: Preferred | None,
    tried: list[Tried],
    last: UUID | None,
    *,
    named_only: bool,
) -> None:
    choice = choose(
        usable, now, Attempts(tried, before, last, any=bool(tried) or last is not None), named_only=named_only
    )
    by_id = {card.id: card for card in usable}
    if choice.method_id is not None:
        assert choice.method_id in by_id
        assert not is_refused(by_id[choice.method_id], tried, DeclineClass.HARD)
    elif not named_only and not any(one.decline is DeclineClass.ACTION_REQUIRED for one in tried):
        assert all(is_refused(card, tried, DeclineClass.HARD) for card in usable), "another usable one was there"

"""What a mailbox, a domain or an address is kept and was kept as: exactly these, and no others."""

from __future__ import annotations

import pytest

from domain.fraud import Kind, Traces, blockable, trace, traces_of
from domain.mailbox import Spellings, domain_spellings, mailbox_spellings, same_id

KEY = b"k" * 32


@pytest.mark.parametrize(
    ("text", "today", "before"),
    [
        ("D.a+x@googlemail.com", "da@gmail.com", "da@googlemail.com"),
        (
            "d-a+x@pm.me",
            "da@proton.me",
            "da@pm.me da@protonmail.com da@protonmail.ch d-a@pm.me d-a@proton.me d-a@protonmail.com d-a@protonmail.ch",
        ),
        ("Dana+y@bücher.example", "dana@bücher.example", "dana@xn--bcher-kva.example"),
        ("a@b@proton.me", "a@b@proton.me", "a@b@pm.me a@b@protonmail.com a@b@protonmail.ch"),
        ("dana@example.com", "dana@example.com", ""),
        ("x@shop.fastmail.com", "shop@fastmail.com", "x@fastmail.com x@shop.fastmail.com shop@shop.fastmail.com"),
    ],
)
def test_of_a_mailbox(text: str, today: str, before: str) -> None:
    assert mailbox_spellings(text) == Spellings(today, frozenset(before.split()))


@pytest.mark.parametrize(
    ("text", "today", "before"),
    [
        ("bücher.example", "bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "bücher.example", "xn--bcher-kva.example"),
        ("PM.me", "proton.me", "pm.me protonmail.com protonmail.ch"),
        ("example.com", "example.com", ""),
        ("dana@gmail.com", "gmail.com", "googlemail.com"),
    ],
)
def test_of_a_domain(text: str, today: str, before: str) -> None:
    assert domain_spellings(text) == Spellings(today, frozenset(before.split()))


def test_what_is_none_has_none() -> None:
    assert mailbox_spellings("dana") is None
    assert domain_spellings(" ") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Ann ", "ann", True), ("ann", "ben", False), ("a@pm.me", "a@proton.me", True), ("a@pm.me", "ann", False)],
)
def test_one_person_by_two_ids(one: str, other: str, *, same: bool) -> None:
    assert same_id(one, other) is same
    assert same_id(other, one) is same


VALUES: dict[Kind, dict[str, str | None]] = {
    Kind.REFERRER: {" Da.Na@GoogleMail.com": "dana@gmail.com", "Ann ": "ann", " ": None},
    Kind.EMAIL: {" Da.Na@GoogleMail.com": "dana@gmail.com", "PM.me": None, " ": None},
    Kind.DOMAIN: {"Dana@GoogleMail.com": "gmail.com", "PM.me": "proton.me", "localhost": None, " ": None},
    Kind.CARD: {" FP_1 ": "FP_1", "fp_1": "fp_1", " ": None},
    Kind.IP: {"2001:DB8::0001": "2001:db8::1", "192.0.2.9": "192.0.2.9", "192.0.2.0/24": None, "x": None},
    Kind.IP_RANGE: {
        "2001:DB8::0001": "2001:db8::/64",
        "192.0.2.9": "192.0.2.0/24",
        "192.0.2.1/24": "192.0.2.0/24",
        "192.0.2.1/24/24": None,
        "192.0.2.1/25": None,
        "x": None,
    },
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, found in VALUES.items() for value in found])
def test_what_can_be_blocked_has_one_spelling(kind: Kind, value: str) -> None:
    assert blockable(kind, value) == VALUES[kind][value]


def test_every_kind_that_can_be_blocked_is_here() -> None:
    assert set(VALUES) == set(Kind)


def test_what_cannot_be_read_leaves_no_trace() -> None:
    assert traces_of(KEY, email="nobody", card=None, ip="x") == Traces()
    assert traces_of(KEY, email=None, card=None, ip=None) == Traces()
    assert traces_of(KEY, email="Dana@pm.me", card="fp", ip="192.0.2.9") == Traces(
        email=trace(KEY, Kind.EMAIL, "dana@proton.me"),
        card=trace(KEY, Kind.CARD, "fp"),
        ip=trace(KEY, Kind.IP, "192.0.2.9"),
        ip_range=trace(KEY, Kind.IP_RANGE, "192.0.2.0/24"),
    )

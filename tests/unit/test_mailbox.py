"""One mailbox in its many spellings."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commission import CommissionRefusal, decide_commission
from domain.fraud import Kind, Known, Verdict, blockable, judge, traces_of
from domain.mailbox import domain_of, domain_spellings, mailbox_spellings, normal_email, same_id
from domain.money import Money

KEY = b"k" * 32
ONE_MAILBOX = [
    ("Dana@Example.com", " dana@example.com "),
    ("dana+shop@example.com", "dana+other@example.com"),
    ("d.a.n.a@gmail.com", "dana@googlemail.com"),
    ("D.Ana+x@Gmail.com.", "dana@gmail.com"),
    ("dana@proton.me", "dana@protonmail.com"),
    ("dana@pm.me", "Dana@PROTONMAIL.CH"),
    ("d.an-a_+x@proton.me", "dana@pm.me"),
    ("dana@icloud.com", "dana+x@mac.com"),
    ("dana@me.com", "dana@icloud.com"),
    ("dana.levi@ya.ru", "dana-levi@yandex.com"),
    ("dana-shop@yahoo.com", "dana@yahoo.com"),
    ("dana-shop@yahoo.co.uk", "dana@yahoo.co.uk"),
    ("shop@dana.fastmail.com", "dana@fastmail.com"),
    ("dana@bücher.example", "dana@xn--bcher-kva.example"),
    ("dana@bu\u0308cher.example", "DANA@XN--BCHER-KVA.EXAMPLE"),
    ("dana@דוגמה.example", "dana@xn--6dbbec0c.example"),
    ("jose\u0301@example.com", "jos\u00e9@example.com"),
    ("JOSE\u0301@example.com", "jos\u00e9@example.com"),
    ("ｄａｎａ＠ｅｘａｍｐｌｅ．ｃｏｍ", "dana@example.com"),
    ("dana@example\u3002com", "dana@example.com"),
    ("da\u200bna@example.com", "dana@example.com"),
    ("dana@exa\u00admple.com", "dana@example.com"),
    ("\u202edana@example.com\u202c", "dana@example.com"),
    ("dana\ufe0f@example.com", "dana@example.com"),
    ("da\u3164na@example.com", "dana@example.com"),
    ("dana\u2060@\ufeffexample.com", "dana@example.com"),
    ("dana\u00a0@example.com", "dana@example.com"),
    ('"dana"@example.com', "dana@example.com"),
    ("ΟΔΟΣ@example.com", "οδοσ@example.com"),
]
TWO_MAILBOXES = [
    ("d.ana@example.com", "dana@example.com"),
    ("dana@a.example", "dana@b.example"),
    ("dana-x@example.com", "dana@example.com"),
    ("dana@outlook.com", "dana@hotmail.com"),
    ("da_na@gmail.com", "dana@gmail.com"),
    ("dana@straße.example", "dana@strasse.example"),
    ("d\u0430na@example.com", "dana@example.com"),  # a Cyrillic letter is another letter
    ("dana@fastmail.com", "dana@fastmail.fm"),
]


@pytest.mark.parametrize(("one", "other"), ONE_MAILBOX)
def test_one_mailbox_in_two_spellings(one: str, other: str) -> None:
    assert normal_email(one) == normal_email(other) is not None
    assert blockable(Kind.EMAIL, one) == blockable(Kind.EMAIL, other)
    assert blockable(Kind.REFERRER, one) == blockable(Kind.REFERRER, other)
    assert same_id(one, other)
    payer, referrer = (traces_of(KEY, email=text, card=None, ip=None) for text in (one, other))
    assert judge(payer, Known(emails=[referrer.email or b""]), blocked=[]).verdict is Verdict.REJECT
    refused = decide_commission(
        paid=Money.parse("10.00", "ILS"),
        rate=Decimal("0.1"),
        minimum=Money.parse("0.00", "ILS"),
        referrer_id=one,
        customer_id=other,
    )
    assert refused.refusal is CommissionRefusal.SELF_REFERRAL


@pytest.mark.parametrize(("one", "other"), TWO_MAILBOXES)
def test_two_mailboxes(one: str, other: str) -> None:
    assert normal_email(one) != normal_email(other)
    assert not same_id(one, other)


@pytest.mark.parametrize("text", ["", "dana", "@example.com", "dana@", "+x@example.com", "\u200b@example.com"])
def test_what_is_no_mailbox_matches_nothing(text: str) -> None:
    assert normal_email(text) is None
    assert mailbox_spellings(text) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("dana@protonmail.com", "pm.me"),
        ("googlemail.com", "GMAIL.COM."),
        ("bücher.example", "xn--bcher-kva.example"),
        ("exa\u200bmple.com", "example\uff0ecom"),
    ],
)
def test_one_domain_in_two_spellings(one: str, other: str) -> None:
    assert domain_of(one) == domain_of(other) is not None
    assert blockable(Kind.DOMAIN, one) == blockable(Kind.DOMAIN, other)


LOCALS = st.text(st.characters(categories=["Ll", "Nd"]), min_size=1, max_size=8)
DOMAINS = st.sampled_from(
    ["example.com", "gmail.com", "proton.me", "bücher.example", "yandex.com", "yahoo.fr", "mac.com"]
)
UNSEEN = st.sampled_from(["", "\u200b", "\u200d", "\u00ad", "\u2063", "\ufeff", "\u3164", " ", "\ufe0f", "\U000e0101"])


@given(LOCALS, DOMAINS, UNSEEN, st.sampled_from(["NFC", "NFD"]), st.sampled_from(["", "+shop", "+a+b"]), st.booleans())
def test_no_disguise_makes_another_mailbox(
    local: str,
    domain: str,
    unseen: str,
    form: str,
    tag: str,
    ace: bool,  # noqa: FBT001
) -> None:
    written = domain.encode("idna").decode() if ace else domain
    disguised = unicodedata.normalize(form, f"{unseen}{local}{tag}@{unseen}{written}{unseen}")  # type: ignore[arg-type]
    assert normal_email(disguised) == normal_email(f"{local}@{domain}")


@given(
    st.text(max_size=40)
    | st.builds("{}@{}".format, st.text(max_size=8), DOMAINS | st.text(max_size=9).map("xn--{}".format))
)
def test_the_one_spelling_is_its_own(text: str) -> None:
    for spelled, spellings in (
        (normal_email(text), mailbox_spellings(text)),
        (domain_of(text), domain_spellings(text)),
    ):
        assert spellings is None or (spellings.today == spelled and spelled not in spellings.before)
    mailbox = normal_email(text)
    assert mailbox is None or normal_email(mailbox) == mailbox

"""What fraud guards take for the same person, and what follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.fraud import (
    Finding,
    Judgement,
    Kind,
    Known,
    Rule,
    Traces,
    Velocity,
    Verdict,
    blockable,
    ip_range,
    judge,
    normal_ip,
    spellings,
    trace,
    traces_of,
    with_velocity,
)

KEY = b"k" * 32
NOBODY = Known()


def payer(email: str | None = None, card: str | None = None, ip: str | None = None) -> Traces:
    return traces_of(KEY, email=email, card=card, ip=ip)


@pytest.mark.parametrize(
    ("one", "other", "same", "near"),
    [
        ("192.0.2.7", "192.0.2.7", True, True),
        ("192.0.2.7", "192.0.2.200", False, True),
        ("192.0.2.7", "192.0.3.7", False, False),
        ("::ffff:192.0.2.7", "192.0.2.7", True, True),
        ("2001:db8::1", "2001:0DB8:0::1", True, True),
        ("2001:db8::1", "2001:db8::ffff:1", False, True),
        ("2001:db8::1", "2001:db8:0:1::1", False, False),
        ("fe80::1%eth0", "fe80::1%eth1", True, True),
    ],
)
def test_addresses_and_networks(one: str, other: str, *, same: bool, near: bool) -> None:
    assert (normal_ip(one) == normal_ip(other)) is same
    assert (ip_range(one) == ip_range(other)) is near


@given(st.text(max_size=60))
def test_nothing_that_somebody_sends_breaks_a_rule(text: str) -> None:
    payer(email=text, card=text, ip=text)
    for kind in Kind:
        blockable(kind, text)
        spellings(kind, text)


def test_the_referrers_own_mailbox_or_card_is_refused_and_an_address_is_looked_at() -> None:
    known = payer("noa@example.com", "fp_1", "192.0.2.7")
    referrer = Known(emails=[known.email or b""], cards=[known.card or b""], ips=[known.ip or b""])
    refused = judge(payer("NOA+x@example.com", "fp_1", "192.0.2.7"), referrer, blocked=[])
    assert refused.verdict is Verdict.REJECT
    assert [one.rule for one in refused.findings] == [
        Rule.SELF_REFERRAL_EMAIL,
        Rule.SELF_REFERRAL_CARD,
        Rule.SELF_REFERRAL_IP,
    ]
    assert judge(payer(ip="192.0.2.7"), referrer, blocked=[]).verdict is Verdict.HOLD
    near = judge(payer(ip="192.0.2.9"), Known(ip_ranges=[known.ip_range or b""]), blocked=[])
    assert [(one.rule, one.verdict) for one in near.findings] == [(Rule.SELF_REFERRAL_IP_RANGE, Verdict.HOLD)]
    assert judge(payer("dana@example.com", "fp_2", "198.51.100.1"), referrer, blocked=[]) == Judgement(Verdict.ACCEPT)


def test_what_is_not_known_matches_nothing() -> None:
    assert judge(payer(), NOBODY, blocked=[]).verdict is Verdict.ACCEPT
    assert judge(payer("dana@example.com", "fp", "192.0.2.1"), NOBODY, blocked=[]).verdict is Verdict.ACCEPT


def test_the_blocklist_refuses_and_a_suspended_referrer_waits() -> None:
    blocked = judge(payer(), Known(suspended=True), blocked=[Kind.DOMAIN, Kind.CARD])
    assert blocked.verdict is Verdict.REJECT
    assert [one.rule for one in blocked.findings] == [Rule.BLOCKLIST, Rule.BLOCKLIST, Rule.REFERRER_SUSPENDED]
    assert judge(payer(), Known(suspended=True), blocked=[]).verdict is Verdict.HOLD


@pytest.mark.parametrize(
    ("count", "limit", "verdict"),
    [(9, 10, Verdict.ACCEPT), (10, 10, Verdict.HOLD), (1000, 0, Verdict.ACCEPT), (0, 0, Verdict.ACCEPT)],
)
def test_more_than_so_many_in_a_window_wait_for_a_person(count: int, limit: int, verdict: Verdict) -> None:
    assert with_velocity(Judgement(Verdict.ACCEPT), Velocity(count, limit, 24)).verdict is verdict


def test_a_refusal_stays_one_whatever_the_velocity() -> None:
    refused = Judgement(Verdict.REJECT, (Finding(Rule.BLOCKLIST, Verdict.REJECT, "x"),))
    assert with_velocity(refused, Velocity(5, 5, 24)).verdict is Verdict.REJECT


def test_findings_name_what_was_compared_and_nothing_personal() -> None:
    known = payer("noa@example.com", "fp_secret", "192.0.2.7")
    referrer = Known(emails=[known.email or b""], cards=[known.card or b""], ips=[known.ip or b""])
    told = str(judge(known, referrer, blocked=list(Kind)).details())
    assert "noa" not in told
    assert "fp_secret" not in told
    assert "192.0.2" not in told


def test_hashes_need_the_key_and_differ_by_kind() -> None:
    assert trace(KEY, Kind.EMAIL, "a") != trace(b"x" * 32, Kind.EMAIL, "a")
    assert trace(KEY, Kind.EMAIL, "a") != trace(KEY, Kind.DOMAIN, "a")


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (Kind.DOMAIN, "x@Spam.Example", "spam.example"),
        (Kind.DOMAIN, "localhost", None),
        (Kind.IP_RANGE, "192.0.2.9/24", "192.0.2.0/24"),
        (Kind.IP_RANGE, "192.0.2.9/25", None),
        (Kind.IP, "192.0.2.9/24", None),
        (Kind.EMAIL, "nobody", None),
        (Kind.REFERRER, " Partner-5 ", "partner-5"),
    ],
)
def test_what_can_be_blocked(kind: Kind, value: str, kept: str | None) -> None:
    assert blockable(kind, value) == kept

"""What each fraud guard says, as the audit log keeps it, and which verdict wins."""

from __future__ import annotations

from itertools import product

import pytest

from domain.fraud import (
    IPV4_RANGE,
    IPV6_RANGE,
    Finding,
    Judgement,
    Kind,
    Known,
    Rule,
    Traces,
    Velocity,
    Verdict,
    judge,
    spellings,
    trace,
    with_velocity,
)
from domain.mailbox import Spellings

ACCEPT, HOLD, REJECT = Verdict.ACCEPT, Verdict.HOLD, Verdict.REJECT
PAYER = Traces(email=b"e", card=b"c", ip=b"i", ip_range=b"r")


@pytest.mark.parametrize(
    ("referrer", "finding"),
    [
        (Known(emails=[b"e"]), Finding(Rule.SELF_REFERRAL_EMAIL, REJECT, "the payer's e-mail is the referrer's")),
        (Known(cards=[b"c"]), Finding(Rule.SELF_REFERRAL_CARD, REJECT, "the referrer has paid with the same card")),
        (Known(ips=[b"i"]), Finding(Rule.SELF_REFERRAL_IP, HOLD, "the payer's address is one of the referrer's")),
        (
            Known(ip_ranges=[b"r"]),
            Finding(Rule.SELF_REFERRAL_IP_RANGE, HOLD, "the payer's network (/24 or /64) is the referrer's"),
        ),
        (Known(suspended=True), Finding(Rule.REFERRER_SUSPENDED, HOLD, "the referrer is suspended")),
    ],
)
def test_each_rule_of_a_referrer(referrer: Known, finding: Finding) -> None:
    assert judge(PAYER, referrer, blocked=[]) == Judgement(finding.verdict, (finding,))


def test_an_address_says_more_than_its_network() -> None:
    found = judge(PAYER, Known(ips=[b"i"], ip_ranges=[b"r"]), blocked=[])
    assert [one.rule for one in found.findings] == [Rule.SELF_REFERRAL_IP]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (Kind.REFERRER, "referrer"),
        (Kind.EMAIL, "payer's e-mail"),
        (Kind.DOMAIN, "domain of the payer's e-mail"),
        (Kind.CARD, "payer's card"),
        (Kind.IP, "payer's address"),
        (Kind.IP_RANGE, "payer's network"),
    ],
)
def test_each_kind_on_the_blocklist(kind: Kind, shown: str) -> None:
    finding = Finding(Rule.BLOCKLIST, REJECT, f"the {shown} is on the blocklist")
    assert judge(Traces(), Known(), blocked=[kind]) == Judgement(REJECT, (finding,))


@pytest.mark.parametrize(("count", "limit"), list(product(range(4), range(4))))
def test_velocity_by_all_small_numbers(count: int, limit: int) -> None:
    before = Finding(Rule.REFERRER_SUSPENDED, HOLD, "x")
    found = with_velocity(Judgement(HOLD, (before,)), Velocity(count, limit, 24))
    said = f"{count} commissions or more within 24 hours before this one"
    after = (Finding(Rule.VELOCITY, HOLD, said),) if limit and count >= limit else ()
    assert found == Judgement(HOLD, (before, *after))


@pytest.mark.parametrize(("first", "second"), list(product([HOLD, REJECT], repeat=2)))
def test_the_strongest_verdict_wins_in_either_order(first: Verdict, second: Verdict) -> None:
    """Strength, not the alphabet: accept, hold, reject."""
    rules = {HOLD: Known(suspended=True), REJECT: Known(emails=[b"e"])}
    blocked = [Kind.CARD] if REJECT in (first, second) else []
    found = judge(PAYER, rules[HOLD if HOLD in (first, second) else REJECT], blocked=blocked)
    assert found.verdict is (REJECT if REJECT in (first, second) else HOLD)
    held = Finding(Rule.VELOCITY, HOLD, "y")
    assert with_velocity(Judgement(REJECT, (held,)), Velocity(0, 1, 24)).verdict is REJECT
    assert with_velocity(Judgement(ACCEPT), Velocity(1, 1, 24)).verdict is HOLD


def test_a_judgement_as_the_audit_log_keeps_it() -> None:
    judgement = Judgement(HOLD, (Finding(Rule.SELF_REFERRAL_IP, HOLD, "why"), Finding(Rule.BLOCKLIST, REJECT, "z")))
    assert judgement.details() == {
        "decision": "hold",
        "rules": [
            {"rule": "self_referral_ip", "decision": "hold", "matched": "why"},
            {"rule": "blocklist", "decision": "reject", "matched": "z"},
        ],
    }
    assert Judgement(ACCEPT).details() == {"decision": "accept", "rules": []}


def test_a_trace_is_the_same_for_ever_and_of_one_key_and_kind() -> None:
    """Traces lie in the database and are compared with new ones."""
    made = trace(b"k" * 32, Kind.EMAIL, "dana@example.com")
    assert made.hex() == "5326902e0b218a28d33bed7582afe5cef5730a3bc64c75398125e14ddf4cce10"
    others = [trace(b"l" * 32, Kind.EMAIL, "dana@example.com"), trace(b"k" * 32, Kind.CARD, "dana@example.com")]
    assert made not in others


def test_networks_are_a_street_wide() -> None:
    assert (IPV4_RANGE, IPV6_RANGE) == (24, 64)


@pytest.mark.parametrize(
    ("kind", "value", "today", "before"),
    [
        (
            Kind.EMAIL,
            " Da.Na@GoogleMail.com",
            "dana@gmail.com",
            {"dana@googlemail.com"},
        ),
        (Kind.DOMAIN, "PM.me", "proton.me", {"pm.me", "protonmail.com", "protonmail.ch"}),
        (Kind.DOMAIN, "example.com", "example.com", set()),
        (Kind.CARD, " FP_1 ", "FP_1", {"fp_1"}),
        (Kind.CARD, "fp_1", "fp_1", set()),
        (Kind.IP, "2001:DB8::0001", "2001:db8::1", {"2001:db8::0001"}),
        (Kind.IP_RANGE, "192.0.2.9", "192.0.2.0/24", {"192.0.2.9"}),
        (Kind.REFERRER, "Ann ", "ann", set()),
    ],
)
def test_what_may_be_on_the_blocklist_from_before(kind: Kind, value: str, today: str, before: set[str]) -> None:
    assert spellings(kind, value) == Spellings(today, frozenset(before))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.EMAIL, "nobody"),
        (Kind.DOMAIN, " "),
        (Kind.CARD, " "),
        (Kind.IP, "x"),
        (Kind.IP_RANGE, "x"),
        (Kind.REFERRER, ""),
    ],
)
def test_what_is_none_of_its_kind_has_no_spelling(kind: Kind, value: str) -> None:
    assert spellings(kind, value) is None

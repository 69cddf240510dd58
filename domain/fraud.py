"""Fraud guards of referrals: pure rules over what is known of a payer and a referrer.

Personal values never leave this module's callers: rules compare keyed hashes and networks, and what they say of a match
names the rule and what was compared, not the value.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from domain.mailbox import Spellings, domain_of, domain_spellings, mailbox_spellings, normal_email, visible

IPV4_RANGE, IPV6_RANGE = 24, 64
"""What counts as one place: a /24 of IPv4 (an office, a household behind one provider), a /64 of IPv6 (one site)."""


class Verdict(StrEnum):
    """What is to be done with a commission, weakest first."""

    ACCEPT = "accept"
    HOLD = "hold"
    """A person decides."""
    REJECT = "reject"


class Rule(StrEnum):
    """What a guard looked at. The names are stable: they are in the audit log."""

    SELF_REFERRAL_EMAIL = "self_referral_email"
    SELF_REFERRAL_CARD = "self_referral_card"
    SELF_REFERRAL_IP = "self_referral_ip"
    SELF_REFERRAL_IP_RANGE = "self_referral_ip_range"
    VELOCITY = "velocity"
    BLOCKLIST = "blocklist"
    REFERRER_SUSPENDED = "referrer_suspended"
    GUARDS_UNAVAILABLE = "guards_unavailable"
    """The guards could not be asked in time; the payment is settled all the same."""


class Kind(StrEnum):
    """What can be on the blocklist, and what traces are made of."""

    REFERRER = "referrer"
    EMAIL = "email"
    DOMAIN = "domain"
    CARD = "card"
    IP = "ip"
    IP_RANGE = "ip_range"


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that has something to say. `matched` is for the audit log: nothing personal in it."""

    rule: Rule
    verdict: Verdict
    matched: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The strongest verdict of all rules, and every finding behind it."""

    verdict: Verdict
    findings: tuple[Finding, ...] = ()

    def details(self) -> dict[str, object]:
        """As the audit log keeps it."""
        return {
            "decision": self.verdict.value,
            "rules": [
                {"rule": one.rule.value, "decision": one.verdict.value, "matched": one.matched} for one in self.findings
            ],
        }


@dataclass(frozen=True, slots=True)
class Traces:
    """What somebody can be recognised by, as keyed hashes. Absent is what is not known."""

    email: bytes | None = None
    card: bytes | None = None
    ip: bytes | None = None
    ip_range: bytes | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a referrer: its own record, and payments in which it was the payer itself."""

    emails: Collection[bytes] = ()
    cards: Collection[bytes] = ()
    ips: Collection[bytes] = ()
    ip_ranges: Collection[bytes] = ()
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Velocity:
    """How many commissions a referrer has earned within the window, without the one in question.

    Counted up to the limit; a limit of 0 is none.
    """

    count: int
    limit: int
    hours: int


def judge(payer: Traces, referrer: Known, *, blocked: Sequence[Kind]) -> Judgement:
    """Ask the rules about persons and the blocklist. Without a finding the commission is accepted."""
    findings = [
        *_same_person(payer, referrer),
        *(Finding(Rule.BLOCKLIST, Verdict.REJECT, f"the {_SHOWN[kind]} is on the blocklist") for kind in blocked),
    ]
    if referrer.suspended:
        findings.append(Finding(Rule.REFERRER_SUSPENDED, Verdict.HOLD, "the referrer is suspended"))
    return _judgement(findings)


def with_velocity(judgement: Judgement, velocity: Velocity) -> Judgement:
    """The same with the rule about how many commissions a referrer earns in a while."""
    if not 0 < velocity.limit <= velocity.count:
        return judgement
    matched = f"{velocity.count} commissions or more within {velocity.hours} hours before this one"
    return _judgement([*judgement.findings, Finding(Rule.VELOCITY, Verdict.HOLD, matched)])


def _judgement(findings: Sequence[Finding]) -> Judgement:
    strongest = max((one.verdict for one in findings), key=_STRENGTH.index, default=Verdict.ACCEPT)
    return Judgement(strongest, tuple(findings))


def _same_person(payer: Traces, referrer: Known) -> list[Finding]:
    """An e-mail or a card is a person's own; an address may be shared by an office or a café, so a person decides."""
    found = []
    if payer.email is not None and payer.email in referrer.emails:
        found.append(Finding(Rule.SELF_REFERRAL_EMAIL, Verdict.REJECT, "the payer's e-mail is the referrer's"))
    if payer.card is not None and payer.card in referrer.cards:
        found.append(Finding(Rule.SELF_REFERRAL_CARD, Verdict.REJECT, "the referrer has paid with the same card"))
    if payer.ip is not None and payer.ip in referrer.ips:
        found.append(Finding(Rule.SELF_REFERRAL_IP, Verdict.HOLD, "the payer's address is one of the referrer's"))
    elif payer.ip_range is not None and payer.ip_range in referrer.ip_ranges:
        found.append(
            Finding(Rule.SELF_REFERRAL_IP_RANGE, Verdict.HOLD, "the payer's network (/24 or /64) is the referrer's")
        )
    return found


_STRENGTH = [Verdict.ACCEPT, Verdict.HOLD, Verdict.REJECT]
_SHOWN = {
    Kind.REFERRER: "referrer",
    Kind.EMAIL: "payer's e-mail",
    Kind.DOMAIN: "domain of the payer's e-mail",
    Kind.CARD: "payer's card",
    Kind.IP: "payer's address",
    Kind.IP_RANGE: "payer's network",
}


def normal_ip(text: str) -> str | None:
    """One spelling for one address; an IPv4 address in IPv6 clothes is the IPv4 one. None when it is no address."""
    address = _address(text)
    return None if address is None else str(address)


def ip_range(text: str) -> str | None:
    """The network of an address, as `192.0.2.0/24`, or one that is given as such; None when it is neither."""
    address = _address(text.partition("/")[0])
    if address is None:
        return None
    length = IPV4_RANGE if address.version == 4 else IPV6_RANGE  # noqa: PLR2004  (the protocol's number)
    if "/" in text and text.partition("/")[2].strip() != str(length):
        return None
    return str(ip_network(f"{address}/{length}", strict=False))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:  # noqa: PLR2004  (the protocol's number)
        return address.ipv4_mapped
    return address if address.version == 4 else IPv6Address(int(address))  # noqa: PLR2004  (drops an interface's name)


def trace(key: bytes, kind: Kind, value: str) -> bytes:
    """A keyed hash: the same for the same thing in one workspace, and nothing to anybody without the key."""
    return hmac.digest(key, f"{kind.value}:{value}".encode(), hashlib.sha256)


def traces_of(key: bytes, *, email: str | None, card: str | None, ip: str | None) -> Traces:
    """What a payer can be recognised by. What cannot be read counts for nothing."""

    def hashed(kind: Kind, value: str | None) -> bytes | None:
        return None if value is None else trace(key, kind, value)

    return Traces(
        email=hashed(Kind.EMAIL, None if email is None else normal_email(email)),
        card=hashed(Kind.CARD, card),
        ip=hashed(Kind.IP, None if ip is None else normal_ip(ip)),
        ip_range=hashed(Kind.IP_RANGE, None if ip is None else ip_range(ip)),
    )


def blockable(kind: Kind, value: str) -> str | None:
    """The one spelling of something to be blocked; None when it is none of its kind."""
    match kind:
        case Kind.EMAIL:
            return normal_email(value)
        case Kind.DOMAIN:
            domain = domain_of(value)
            return domain if domain is not None and "." in domain else None
        case Kind.IP:
            return normal_ip(value)
        case Kind.IP_RANGE:
            return ip_range(value)
        case Kind.REFERRER:
            return normal_email(value) or visible(value) or None
        case Kind.CARD:
            return value.strip() or None


def spellings(kind: Kind, value: str) -> Spellings | None:
    """What something may be on the blocklist as: today's spelling, and what releases before kept of it.

    Only keyed hashes are kept, so what was blocked before is found by asking for each.
    """
    match kind:
        case Kind.EMAIL:
            return mailbox_spellings(value)
        case Kind.DOMAIN:
            return domain_spellings(value)
        case _:
            today = blockable(kind, value)
            return None if today is None else Spellings(today, frozenset({value.strip().casefold()} - {today}))

"""One spelling for one mailbox: what e-mails, and ids that are e-mails, are compared by. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from domain.characters import is_unseen

_SIDE_BY_SIDE = (
    ("gmail.com", "googlemail.com"),
    ("proton.me", "protonmail.com", "protonmail.ch", "pm.me"),
    ("icloud.com", "me.com", "mac.com"),
    (
        *("yandex.ru", "ya.ru", "yandex.com", "yandex.by", "yandex.kz", "yandex.ua", "yandex.com.tr", "yandex.uz"),
        *("yandex.az", "yandex.com.am", "yandex.com.ge", "yandex.co.il", "yandex.kg", "yandex.lt", "yandex.lv"),
        *("yandex.md", "yandex.tj", "yandex.tm", "yandex.ee", "yandex.fr", "narod.ru"),
    ),
)
"""Domains under which one mail service delivers the same local part to the same mailbox. The first stands for all."""
_ONE_OF_ITS_SERVICE = {domain: domains[0] for domains in _SIDE_BY_SIDE for domain in domains}
_UNHEARD = {"gmail.com": ".", "proton.me": ".-_"}
"""Characters of the local part that make no difference, by service."""
_YAHOO = frozenset({"yahoo.com", "ymail.com", "rocketmail.com", "myyahoo.com"})
_FASTMAIL = frozenset({"fastmail.com", "fastmail.fm"})
"""Services where anything@name.fastmail.com goes to name@fastmail.com."""
_LABEL_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
"""What stands for a dot between the labels of a domain (UTS 46)."""
_ACE = "xn--"


def visible(text: str) -> str:
    """Text in one spelling: full-width, composed and upper-case forms are one, spaces and what has no picture go."""
    return _folded("".join(character for character in text if not _unseen(character)).translate(_LABEL_DOTS))


def normal_email(text: str) -> str | None:
    """The mailbox that an e-mail address is of, in one spelling; None when it is no address.

    Case, spaces, invisible characters, full-width and composed forms do not count, nor does the way in which an
    international domain is written; neither do a tag after a plus, and what the mail service itself does not tell
    apart: domains that are one, dots at Gmail, dots, hyphens and underscores at Proton, hyphens for dots at Yandex, a
    name after a hyphen at Yahoo, sub-domains at Fastmail. The result is its own spelling.
    """
    local, at, domain = _parts(text)
    canonical = _domain(domain)
    local = _local(local, canonical)
    name, dot, service = canonical.partition(".")
    if dot and service in _FASTMAIL and name:
        local, canonical = name, service
    return f"{local}@{canonical}" if at and local and canonical else None


def domain_of(text: str) -> str | None:
    """The domain of an e-mail, or a domain itself, in one spelling; the domains of one mail service are one."""
    return _domain(_parts(text)[2]) or None


def same_id(one: str, other: str) -> bool:
    """Whether two ids of a merchant's name one person: the same text to the eye, or addresses of one mailbox."""
    mailboxes = normal_email(one), normal_email(other)
    return visible(one) == visible(other) or (mailboxes[0] is not None and mailboxes[0] == mailboxes[1])


@dataclass(frozen=True, slots=True)
class Spellings:
    """The spelling of today, and those under which releases before kept the same thing."""

    today: str
    before: frozenset[str]


def mailbox_spellings(text: str) -> Spellings | None:
    """A mailbox with every spelling that may be on record of it; None when it is no address."""
    today = normal_email(text)
    if today is None:
        return None
    local, _, domain = _parts(text)
    local = local.partition("+")[0]
    service = _domain(domain)
    names = {local.replace(".", "")} if service == "gmail.com" else {local, today.rpartition("@")[0]}
    domains = {domain, *_written(service), *_written(today.rpartition("@")[2])}
    return Spellings(today, frozenset(f"{name}@{one}" for name in names for one in domains) - {today})


def domain_spellings(text: str) -> Spellings | None:
    """The same for a domain."""
    today = domain_of(text)
    return None if today is None else Spellings(today, frozenset({_parts(text)[2], *_written(today)} - {today}))


def _written(domain: str) -> set[str]:
    """The ways of writing a domain that were kept as they came."""
    side_by_side = next((domains for domains in _SIDE_BY_SIDE if domain in domains), (domain,))
    return {*side_by_side, ".".join(_to_ascii(label) for label in domain.split("."))}


def _parts(text: str) -> tuple[str, str, str]:
    local, at, domain = visible(text).rpartition("@")
    return local, at, domain.strip(".")


def _local(local: str, domain: str) -> str:
    if len(local) > 1 and local[0] == local[-1] == '"':  # a quoted local part is the same name
        local = local[1:-1].replace("\\", "")
    local = local.partition("+")[0]
    if domain == "yandex.ru":
        return local.replace("-", ".")
    if domain in _YAHOO or domain.startswith(("yahoo.", "ymail.")):
        return local.partition("-")[0]
    return "".join(character for character in local if character not in _UNHEARD.get(domain, ""))


def _domain(text: str) -> str:
    """Labels in Unicode: `xn--bcher-kva` and `bücher` are one. What no decoder can read stays as it is."""
    domain = ".".join(_to_unicode(label) for label in text.split(".")).strip(".")
    return _ONE_OF_ITS_SERVICE.get(domain, domain)


def _to_unicode(label: str) -> str:
    if not label.startswith(_ACE):
        return label
    try:
        decoded = visible(label.removeprefix(_ACE).encode("ascii").decode("punycode"))
    except (UnicodeError, ValueError, OverflowError):
        return label
    return label if not decoded or decoded.isascii() or set(decoded) & {".", "@"} else decoded


def _to_ascii(label: str) -> str:
    return label if label.isascii() else _ACE + label.encode("punycode").decode("ascii")


def _folded(text: str) -> str:
    """NFKC and lower case, each letter by itself; ß and ς stay, which international domains tell apart."""
    composed = unicodedata.normalize("NFKC", text)
    lowered = unicodedata.normalize("NFKC", "".join(character.lower() for character in composed))
    kept = "".join(character for character in lowered if not _unseen(character)).translate(_LABEL_DOTS)
    return kept if kept == text else _folded(kept)


def _unseen(character: str) -> bool:
    return character.isspace() or is_unseen(character)

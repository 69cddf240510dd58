"""Texts of people as they are printed: cleaned, with their lines and directions, and with what no font can show."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from domain.characters import is_unseen
from receipts.fonts import is_drawable

MAX_TEXT = 600
"""Longer texts are cut, visibly; the layout wraps what is shorter."""
MAX_LINES = 12
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""Stands visibly for what no font has: an archival PDF may not hold text that cannot be shown."""
_BREAKS = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_JOINERS = "\u200c\u200d"
_LEFT, _RIGHT, _END = "\u2066", "\u2067", "\u2069"
"""Isolates: what is between turns nothing around it, and is turned by nothing."""
_NUMBER = re.compile(
    r"(?<![\w+\-])(?:"
    r"\+\d[\d\s().\-]*\d"  # a telephone number from abroad
    r"|0\d{1,3}(?:[ .\-]\d{2,4}){2,3}"  # or of the country, in groups
    r"|[+\-*#]\d+(?:[.,:/\-]\d+)*"  # any other number behind a sign
    r")(?!\w)"
)


def line(text: str) -> str:
    """One line: white space of any kind is a space, what is not seen is left out, what has no picture is replaced."""
    return _cut(_printable(" ".join(text.split())))


def lines(text: str) -> list[str]:
    """The same with the lines of an address kept."""
    return [found for part in _BREAKS.split(text)[:MAX_LINES] if (found := line(part))]


def undrawable(text: str) -> int | None:
    """The place, from 1, of the first character that no font has; 0 when none is to be seen; None: all is well."""
    place = 1
    for cluster in _clusters(_visible(unicodedata.normalize("NFC", text))):
        if not (cluster.isspace() or is_drawable(cluster)):
            return place
        place += len(cluster)
    return None if line(text) else 0


def directed(text: str, *, hebrew: bool) -> str:
    """A cleaned text with its direction: it stands in a document like one word, whatever is around it.

    In a Hebrew document a text with any letter that is read from the right is read from the right; in an English one
    its first letter decides. Without such letters it is read from the left: names, codes, numbers. Telephone numbers
    inside keep their order.
    """
    if not text:
        return ""
    strong = [kind for character in text if (kind := unicodedata.bidirectional(character)) in ("L", "R", "AL")]
    from_right = any(kind != "L" for kind in (strong if hebrew else strong[:1]))
    if not from_right:
        return f"{_LEFT}{text}{_END}"
    return f"{_RIGHT}{_NUMBER.sub(lambda found: f'{_LEFT}{found[0]}{_END}', text)}{_END}"


def _printable(text: str) -> str:
    shown = [
        cluster if is_drawable(cluster) or cluster == " " else _replaced(cluster)
        for cluster in _clusters(_visible(unicodedata.normalize("NFC", text)))
    ]
    return " ".join("".join(shown).split())


def _replaced(cluster: str) -> str:
    """The character without the marks that no font puts on it, or the sign for one that cannot be shown at all."""
    if len(cluster) > 1 and is_drawable(cluster[0]):
        return cluster[0] + REPLACEMENT
    return REPLACEMENT


def _visible(text: str) -> str:
    """Without what is not seen. White space is a space; joiners stay between letters whose form they change."""
    kept = []
    for place, character in enumerate(text):
        if character.isspace():
            kept.append(" ")
        elif character in _JOINERS:
            if _joins(text[place - 1 : place]) and _joins(text[place + 1 : place + 2]):
                kept.append(character)
        elif not is_unseen(character):
            kept.append(character)
    return "".join(kept)


def _joins(character: str) -> bool:
    return "\u0620" <= character <= "\u06ff" or "\u0900" <= character <= "\u097f"


def _clusters(text: str) -> Iterator[str]:
    """Characters with the marks that stand on them."""
    cluster = ""
    for character in text:
        joined = character in _JOINERS or unicodedata.category(character).startswith("M")
        if cluster and not joined:
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    kept = ""
    for cluster in _clusters(text):
        if len(kept) + len(cluster) >= MAX_TEXT:
            break
        kept += cluster
    return f"{kept.rstrip()}…"

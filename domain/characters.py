"""Which characters somebody who reads a text does not see."""

from __future__ import annotations

import unicodedata

_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that have no picture: fillers, and a braille cell without dots."""


def is_unseen(character: str) -> bool:
    """Controls, format characters, variation selectors and letters without a picture; white space is not among them."""
    if character in _BLANK_LETTERS or "\ufe00" <= character <= "\ufe0f" or "\u180b" <= character <= "\u180f":
        return True
    return unicodedata.category(character) in ("Cc", "Cf") or "\U000e0100" <= character <= "\U000e01ef"

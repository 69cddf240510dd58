"""Our own cash codes: digits that a cashier types, made from our reference alone, the last one a check digit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

MIN_OWN_DIGITS = 6
"""Fewer would collide soon: with 6 digits half of all sets of 1,200 open codes hold a collision."""
MAX_CODE_DIGITS = 16
"""The longest reference of the one interface that is documented for own agreements (efecty.md, section 3)."""

_MOD11_WEIGHTS = (3, 7, 13, 17, 19, 23, 29, 37, 41, 43, 47, 53, 59, 67, 71)
"""From the right; the primes that Colombia's tax office weighs tax numbers with."""


class CheckDigit(StrEnum):
    """How the last digit follows from the others. Which one an agreement wants is UNCONFIRMED, so it is an option."""

    LUHN = "luhn"
    MOD11 = "mod11"

    def of(self, digits: str) -> str:
        """The check digit of ASCII digits, at most 15 for mod 11."""
        return _luhn(digits) if self is CheckDigit.LUHN else _mod11(digits)


@dataclass(frozen=True, slots=True)
class CodeRule:
    """The form of an agreement's codes: all digits, `length` of them with the prefix and the check digit."""

    length: int = 12
    prefix: str = ""
    check: CheckDigit = CheckDigit.LUHN

    @property
    def own_digits(self) -> int:
        """Digits that tell payments apart."""
        return self.length - len(self.prefix) - 1

    def code_for(self, reference: UUID, salt: int) -> str:
        """The code of an attempt: a repeat makes the same one, another salt makes another one.

        It never begins with a zero, because a till or a spreadsheet may drop it.
        """
        digest = hashlib.sha256(f"{reference}:{salt}".encode()).digest()
        lowest = 0 if self.prefix else 10 ** (self.own_digits - 1)
        own = lowest + int.from_bytes(digest, "big") % (10**self.own_digits - lowest)
        digits = self.prefix + str(own).zfill(self.own_digits)
        return digits + self.check.of(digits)

    def has_form(self, code: str) -> bool:
        """Whether a text has the digits, length and prefix of our codes."""
        return code.isascii() and code.isdigit() and len(code) == self.length and code.startswith(self.prefix)

    def has_good_check_digit(self, code: str) -> bool:
        """Whether the last digit follows from the others, for a code that has the form."""
        return self.check.of(code[:-1]) == code[-1]


def _luhn(digits: str) -> str:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled."""
    doubled = (int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits)))
    return str(-sum(value // 10 + value % 10 for value in doubled) % 10)


def _mod11(digits: str) -> str:
    """As the check digit of Colombian tax numbers: remainders 0 and 1 stand for themselves, others for 11 less them."""
    weighed = zip(reversed(digits), _MOD11_WEIGHTS, strict=False)
    remainder = sum(int(digit) * weight for digit, weight in weighed) % 11
    return str(remainder if remainder < 2 else 11 - remainder)  # noqa: PLR2004  (the rule's own number)

"""Why a provider lacks a capability, for the table of docs/providers.md: its own limit, or nobody has confirmed it.

`providers/NAME/limits.py` has a provider's `LIMITS`, by line of the table. What is missing without a reason is ours to
build: a provider is not said to be unable of what nobody has tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Limit:
    """One provider's reason for one line, in words for the page."""

    kind: Literal["limit", "unconfirmed"]
    why: str


def limit(why: str) -> Limit:
    """The provider cannot do it."""
    return Limit("limit", why)


def unconfirmed(why: str) -> Limit:
    """No source that we have says for certain what the provider does."""
    return Limit("unconfirmed", why)

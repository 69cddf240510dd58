"""Whether a provider was heard during a call: an address that is only computed says nothing about its health."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Line:
    """What came over the wire while the call ran."""

    heard: bool = False


_line: ContextVar[Line | None] = ContextVar("line_to_the_provider", default=None)


@contextmanager
def listening() -> Iterator[Line]:
    """Note in the yielded line whether a provider answers anything inside the block, tasks made in it included."""
    line = Line()
    token = _line.set(line)
    try:
        yield line
    finally:
        _line.reset(token)


def heard() -> None:
    """A provider has answered, whatever it said."""
    line = _line.get()
    if line is not None:
        line.heard = True

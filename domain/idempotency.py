"""When two requests under one idempotency key are one request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

VERSION = b"\x01"
"""Of the rule below and of how a body is made canonical. A change of either is a new version."""


def fingerprint(route: str, path: Mapping[str, str], body: object) -> bytes:
    """What a request asks for, in 33 bytes: the version and a hash.

    `route` is method and path template, `path` its parameters, `body` what it means, in plain JSON values.
    """
    shown = json.dumps([route, dict(path), body], sort_keys=True, separators=(",", ":"))
    return VERSION + hashlib.sha256(shown.encode()).digest()


def is_repeat(known: bytes | None, given: bytes) -> bool:
    """Whether the request that a key was first used with is this one.

    Of another version, or where none is on record, nothing can be said. That counts as a repeat: the first request's
    answer is given, and nothing is done a second time. To refuse it would fail every retry across a deploy.
    """
    return known is None or known == given or (len(known), known[:1]) != (len(given), given[:1])

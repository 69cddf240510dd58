"""What went over the wire to a provider, kept without secrets and without anything of anybody's, and compared.

Masking keeps names and JSON types and loses values: what is kept of a value is allowed by its field's name, and is a
single word without digits. So what nobody thought of is masked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx

from providers.network import LOOPBACK, Network
from tests.providers.recorded import same_shape

MASK = "***"
TELLING = frozenset(
    {
        *("code", "command", "country", "currency", "error", "event", "kind", "language", "mode", "money", "object"),
        *("operation", "payment_status", "state", "status", "transactionState", "type"),
    }
)
"""Fields whose value says what kind of thing it is, and belongs to nobody."""
_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]{0,39}", re.ASCII)
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.:\[\]-]{0,79}", re.ASCII)
_ID = re.compile(r"[0-9]{4}")
_VERSION = re.compile(r"v?[0-9]{1,2}(\.[0-9]{1,2})?", re.ASCII)
_SAFE_SEGMENT = re.compile(r"[A-Za-z][A-Za-z_.-]*", re.ASCII)


class Exchanges:
    """The exchanges of one run with one provider. `secrets` are masked wherever they stand."""

    def __init__(self, provider: str, secrets: Iterable[str]) -> None:
        self._provider = provider
        self._secrets = sorted({one for one in secrets if one}, key=len, reverse=True)
        self.kept: list[dict[str, Any]] = []

    def keep(self, request: httpx.Request, sent: bytes, answer: httpx.Response) -> None:
        """Remember one exchange, masked at once."""
        body = self.masked(_read(sent, request.headers.get("content-type", "")))
        self.kept.append(
            {
                "operation": self.operation(request.method, request.url.path, body),
                "query": sorted(self.masked(dict(request.url.params))),
                "sent": body,
                "status": answer.status_code,
                "answer": self.masked(_read(answer.content, answer.headers.get("content-type", ""))),
            }
        )

    def operation(self, method: str, path: str, body: Any) -> str:
        """The call without ids: the same at the provider's own address and at the sandbox's."""
        segments = [one for one in path.split("/") if one]
        if segments[:1] == [self._provider]:
            segments = segments[1:]
        shown = [one if self._is_plain(one) else MASK for one in segments]
        command = body.get("command") if isinstance(body, dict) else None
        named = f" {self.masked(command, 'command')}" if isinstance(command, str) and command else ""
        return f"{method} /{'/'.join(shown)}{named}"

    def masked(self, value: Any, field: str = "") -> Any:
        """The same shape: names and types, and no values but telling words."""
        if isinstance(value, dict):
            return {self._name(name): self.masked(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.masked(inner, field) for inner in value]
        if isinstance(value, str):
            return value if field in TELLING and _WORD.fullmatch(value) and not self._secret(value) else MASK
        return value if value is None or isinstance(value, bool) else 0

    def without_secrets(self, text: str) -> str:
        """A text for people with each secret replaced."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def write(self, path: Path) -> None:
        """Put them into a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.kept, ensure_ascii=False, indent=1) + "\n")

    def _name(self, name: str) -> str:
        return name if _FIELD.fullmatch(name) and not _ID.search(name) and not self._secret(name) else MASK

    def _is_plain(self, segment: str) -> bool:
        plain = _VERSION.fullmatch(segment) or (_SAFE_SEGMENT.fullmatch(segment) and len(segment) <= 40)
        return bool(plain) and not self._secret(segment)

    def _secret(self, text: str) -> bool:
        return any(secret in text for secret in self._secrets)


class KeepingNetwork(Network):
    """The way to a provider, or to this machine's sandbox, on which every exchange is kept."""

    def __init__(self, exchanges: Exchanges) -> None:
        super().__init__(LOOPBACK)
        self._exchanges = exchanges

    def transport(self, *, limits: httpx.Limits | None = None) -> httpx.AsyncBaseTransport:
        """As usual, and kept."""
        return _Keeping(super().transport(limits=limits), self._exchanges)


class _Keeping(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, exchanges: Exchanges) -> None:
        self._inner = inner
        self._exchanges = exchanges

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sent = await request.aread()
        answer = await self._inner.handle_async_request(request)
        content = await answer.aread()
        await answer.aclose()
        whole = httpx.Response(
            answer.status_code, headers=answer.headers, content=content, extensions=answer.extensions
        )
        self._exchanges.keep(request, sent, whole)
        return whole

    async def aclose(self) -> None:
        await self._inner.aclose()


def differences(real: Sequence[dict[str, Any]], fake: Sequence[dict[str, Any]]) -> list[str]:
    """Where the provider's answers have another shape than the sandbox's, a line for each place.

    Each answer is held to the most similar one of the same call and status; what both directions find is told.
    """
    found: dict[str, None] = {}
    for one in real:
        call = f"{one['operation']} ({one['status']})"
        alike = [other for other in fake if (other["operation"], other["status"]) == (one["operation"], one["status"])]
        if not alike:
            found[f"{call}: the sandbox has not given this answer"] = None
            continue
        found |= dict.fromkeys(
            f"{call}: {line}" for line in min((_lines(one["answer"], other["answer"]) for other in alike), key=len)
        )
    return list(found)


def _lines(real: Any, fake: Any) -> list[str]:
    sandbox = [f"the sandbox's {line}" for line in same_shape(real, fake)]
    return sandbox + [f"the provider's {line}" for line in same_shape(fake, real) if line.endswith("is missing")]


def _read(content: bytes, media: str) -> Any:
    """A body as JSON would have it; a text where it is none. A bare word that says what is wrong is telling."""
    if not content:
        return None
    text = content.decode("utf-8", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if "x-www-form-urlencoded" in media:
            return dict(parse_qsl(text, keep_blank_values=True))
        value = text
    return {"error": value} if isinstance(value, str) else value

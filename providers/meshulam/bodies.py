"""The bodies of server updates, as one flat table: `data[customFields][cField1]` and nested JSON become the same path.

The documentation shows JSON and says form, so urlencoded forms, multipart forms and JSON are read. A name that occurs
twice is refused: two readers could take different values from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from providers.base import Rejection, WebhookRejected
from providers.webhook_signatures import read_json_object

MAX_FIELDS = 300
MAX_DEPTH = 4

Path: TypeAlias = tuple[str, ...]
Fields: TypeAlias = Mapping[Path, str]

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")


def read_fields(body: bytes, content_type: str) -> Fields:
    """Path → trimmed text, for every scalar. Raises WebhookRejected (malformed)."""
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == "multipart/form-data":
        pairs = list(_multipart(body, content_type))
    elif body.lstrip()[:1] == b"{":
        pairs = list(_scalars(read_json_object(body), ()))
    else:
        pairs = _urlencoded(body)
    if len(pairs) > MAX_FIELDS:
        raise WebhookRejected(Rejection.MALFORMED, "too many fields")
    table = {path: value.strip() for path, value in pairs}
    if len(table) != len(pairs):
        raise WebhookRejected(Rejection.MALFORMED, "a field occurs twice")
    return table


def _scalars(value: Mapping[str, object], path: Path) -> Iterator[tuple[Path, str]]:
    for name, item in value.items():
        here = (*path, name)
        if isinstance(item, Mapping) and len(here) < MAX_DEPTH:
            yield from _scalars(item, here)
        elif isinstance(item, str):
            yield here, item
        elif isinstance(item, int | Decimal) and not isinstance(item, bool):
            yield here, str(item)


def _urlencoded(body: bytes) -> list[tuple[Path, str]]:
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:  # no UTF-8, no form, or too many fields
        raise WebhookRejected(Rejection.MALFORMED, "not a readable form") from None
    return [(_path(name), value) for name, value in pairs]


def _path(name: str) -> Path:
    """`data[customFields][cField1]` in parts. A name of any other shape stands for itself."""
    found = _NAME.fullmatch(name)
    if found is None:
        return (name,)
    return (found.group(1), *(part.rstrip("]") for part in found.group(2).split("[")[1:]))


class _Parts:
    """What a multipart parser saw: for each part its headers and its content."""

    def __init__(self) -> None:
        self.parts: list[tuple[list[tuple[bytearray, bytearray]], bytearray]] = []
        self.complete = False

    def begin(self) -> None:
        self.parts.append(([], bytearray()))

    def header_begin(self) -> None:
        self.parts[-1][0].append((bytearray(), bytearray()))

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][0][-1][0].extend(data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][0][-1][1].extend(data[start:end])

    def content(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][1].extend(data[start:end])

    def end(self) -> None:
        self.complete = True


def _multipart(body: bytes, content_type: str) -> Iterator[tuple[Path, str]]:
    seen = _Parts()
    try:
        parser = MultipartParser(
            parse_options_header(content_type)[1].get(b"boundary", b""),
            {
                "on_part_begin": seen.begin,
                "on_header_begin": seen.header_begin,
                "on_header_field": seen.header_name,
                "on_header_value": seen.header_value,
                "on_part_data": seen.content,
                "on_end": seen.end,
            },
        )
        parser.write(body)
        parser.finalize()
        named = [(_part_name(headers), content.decode("utf-8")) for headers, content in seen.parts]
    except (FormParserError, ValueError):
        raise WebhookRejected(Rejection.MALFORMED, "not a readable multipart form") from None
    if not seen.complete:
        raise WebhookRejected(Rejection.MALFORMED, "a multipart form without its end")
    yield from ((_path(name), content) for name, content in named)


def _part_name(headers: Sequence[tuple[bytearray, bytearray]]) -> str:
    found = [bytes(value) for name, value in headers if bytes(name).strip().lower() == b"content-disposition"]
    return parse_options_header(found[0])[1].get(b"name", b"").decode("utf-8") if len(found) == 1 else ""

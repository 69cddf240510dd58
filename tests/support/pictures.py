"""Pages as pictures, read back by their dots: where ink is can be told whatever the fonts and the letters are."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass

import typst

from domain.receipt import ReceiptDocument
from receipts.fonts import typst_fonts
from receipts.render import _template, _view

DOTS_PER_INCH = 18.0
MILLIMETRE = DOTS_PER_INCH / 25.4


@dataclass(frozen=True)
class Picture:
    """One page; `rows` of dots, each True where there is ink."""

    rows: list[list[bool]]

    def inked_columns(self) -> list[int]:
        return [x for x in range(len(self.rows[0])) if any(row[x] for row in self.rows)]

    def inked_rows(self) -> list[int]:
        return [y for y, row in enumerate(self.rows) if any(row)]

    @property
    def width(self) -> int:
        return len(self.rows[0])


def pages_of(document: ReceiptDocument) -> list[Picture]:
    made = typst.compile(
        _template(),
        font_paths=typst_fonts(),
        sys_inputs={"data": json.dumps(_view(document), ensure_ascii=False)},
        format="png",
        ppi=DOTS_PER_INCH,
    )
    return [_read(page) for page in (made if isinstance(made, list) else [made]) if page]


def _read(png: bytes) -> Picture:
    """Eight-bit RGBA or RGB without interlacing, as typst writes it."""
    at, data, head = 8, b"", b""
    while at < len(png):
        (size,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        body = png[at + 8 : at + 8 + size]
        head, data = (body, data) if kind == b"IHDR" else (head, data + body if kind == b"IDAT" else data)
        at += size + 12
    width, _, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    assert (depth, interlaced) == (8, 0)
    step = {2: 3, 6: 4}[colour]
    raw, stride, before = zlib.decompress(data), width * step, bytearray(width * step)
    rows = []
    for start in range(0, len(raw), stride + 1):
        before = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), before, step)
        rows.append([min(before[x : x + 3]) < 250 for x in range(0, stride, step)])
    return Picture(rows)


def _unfiltered(kind: int, line: bytearray, above: bytearray, step: int) -> bytearray:
    for x in range(len(line)):
        left, up = line[x - step] if x >= step else 0, above[x]
        corner = above[x - step] if x >= step else 0
        if kind == 1:
            line[x] = (line[x] + left) % 256
        elif kind == 2:
            line[x] = (line[x] + up) % 256
        elif kind == 3:
            line[x] = (line[x] + (left + up) // 2) % 256
        elif kind == 4:
            guess = left + up - corner
            best = min((abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner))[2]
            line[x] = (line[x] + best) % 256
    return line

"""The file of a batch for the bank, and the file of results that comes back. Pure: text in, text out."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from domain.money import Money
from domain.payout import LineStatus

FORMULA_STARTS = ("=", "@", "\uff1d", "\uff20")
"""A cell that begins with one of these is a formula to a spreadsheet, in some also in the full-width form."""
SIGNS = ("+", "-", "\uff0b", "\uff0d")
"""So is one that begins with a sign and goes on to reckon or to call; a telephone number or an amount does not."""
_RECKONS = re.compile(r"""[=|!&"'*^%<>{}@;:$\\]|[^\W\d_][\w.]*\s*\(""")
COLUMNS = ("line_id", "referrer_id", "name", "amount", "currency")
RESULT_COLUMNS = ("line_id", "result", "reference")
RESULTS = {status.value: status for status in (LineStatus.PAID, LineStatus.FAILED, LineStatus.RETURNED)}
MAX_RESULT_ROWS = 10_000
MAX_TEXT = 200
ENCODING = "utf-8-sig"
"""With the mark that spreadsheets need to read names in Hebrew."""


@dataclass(frozen=True, slots=True)
class PayeeLine:
    """One line as the bank needs it. `details` are where the money goes, by name."""

    line_id: UUID
    referrer_id: str
    name: str
    amount: Money
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of a file of results, or the `problem` with it. `line` counts the file's rows from 1, with the head."""

    line: int
    line_id: UUID | None = None
    result: LineStatus | None = None
    reference: str | None = None
    problem: str | None = None


def is_formula(text: str) -> bool:
    """Whether a spreadsheet may take a cell for something to work out, beyond a number with its sign."""
    inner = text.lstrip()
    return inner.startswith(FORMULA_STARTS) or (inner.startswith(SIGNS) and _RECKONS.search(inner) is not None)


def plain(text: str) -> str:
    """A cell as the bank is to read it: its value unchanged, in quotes, which is all that makes a text of it.

    Only what would be worked out gets an apostrophe in front: no account, telephone number or name looks like that.
    """
    return f"'{text}" if is_formula(text) else text


def payout_csv(lines: Sequence[PayeeLine], *, currency: str) -> bytes:
    """The file: a head, a row a line, and a footer with the number of lines and their sum.

    Names of payout details become columns, sorted; one that is called as a column of the file, or of a file of results,
    is told apart by `details.`. The amount has the currency's own digits.
    """
    names = sorted({name for line in lines for name in line.details})
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([*COLUMNS, *(plain(_heading(name)) for name in names)])
    total = Money.zero(currency)
    for line in lines:
        total = total + line.amount
        writer.writerow(
            [
                str(line.line_id),
                plain(line.referrer_id),
                plain(line.name),
                str(line.amount),
                line.amount.currency,
                *(plain(line.details.get(name, "")) for name in names),
            ]
        )
    writer.writerow(["total", str(len(lines)), "", str(total), currency, *("" for _ in names)])
    return out.getvalue().encode(ENCODING)


def _heading(name: str) -> str:
    return f"details.{name}" if name.strip().casefold() in {*COLUMNS, *RESULT_COLUMNS} else name


def read_results(content: bytes) -> list[ResultRow]:
    """Read a file of results row by row: `line_id`, `result` (paid, failed or returned), `reference` (or why).

    Never raises: what cannot be read is a row with a problem. The exported file with these columns added is read too;
    its footer is left out.
    """
    try:
        text = content.decode(ENCODING)
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        return [ResultRow(1, problem="not_utf8")]
    except csv.Error:
        return [ResultRow(1, problem="not_csv")]
    if not rows:
        return [ResultRow(1, problem="no_head")]
    head = [cell.strip().casefold() for cell in rows[0]]
    if not {"line_id", "result"} <= set(head):
        return [ResultRow(1, problem="no_head")]
    if len(rows) > MAX_RESULT_ROWS + 1:
        return [ResultRow(MAX_RESULT_ROWS + 2, problem="too_many_rows")]
    places = {name: head.index(name) for name in RESULT_COLUMNS if name in head}
    found = (
        (number, {name: row[place].strip() for name, place in places.items() if place < len(row)})
        for number, row in enumerate(rows[1:], start=2)
        if any(row)
    )
    return [_result(number, cells) for number, cells in found if cells.get("line_id", "").casefold() != "total"]


def _result(number: int, cells: Mapping[str, str]) -> ResultRow:
    try:
        line_id = UUID(cells.get("line_id", ""))
    except ValueError:
        return ResultRow(number, problem="no_line_id")
    result, reference = cells.get("result", "").casefold(), _as_given(cells.get("reference", "")) or None
    if result not in RESULTS:
        return ResultRow(number, line_id, problem="no_result")
    if reference is not None and (len(reference) > MAX_TEXT or not reference.isprintable()):
        return ResultRow(number, line_id, problem="bad_reference")
    return ResultRow(number, line_id, RESULTS[result], reference)


def _as_given(text: str) -> str:
    """The reverse of `plain`: an apostrophe that is the bank's own stays."""
    return text[1:] if text.startswith("'") and is_formula(text[1:]) else text

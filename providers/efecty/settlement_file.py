"""Settlement files: what the network collected, read row by row.

The layout comes with the contract (UNCONFIRMED), so delimiter, decimal mark, date format and column names are options.
By default: `;` between cells, a first row with the names `agreement;reference;amount;paid_at;transaction_id` and, if
wanted, `status` and `currency`; amounts in pesos with a point for centavos; UTF-8 with or without a byte order mark,
UTF-16 with one, else Latin-1. A cell may be in double quotes but holds no line break. Nothing in a file makes the
reading fail: a row is an event or has a reason, and a fault of the whole file is a row of its own.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from domain.money import Money, MoneyError
from providers.base import ProviderEvent, SettlementRow
from providers.efecty.agreement import CURRENCY, REQUIRED_FIELDS, Agreement, FileLayout
from providers.efecty.claims import UnreadableClaim, event_of

MAX_FILE_BYTES = 10_000_000
MAX_ROWS = 100_000

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row as an operator is shown it. `code` and `amount` are what could be read of it, even when it is refused."""

    line: int
    code: str | None = None
    amount: Money | None = None
    event: ProviderEvent | None = None
    problem: str | None = None

    @property
    def verdict(self) -> str:
        """`accepted`, or the problem's code."""
        return "accepted" if self.problem is None else self.problem

    def as_settlement_row(self) -> SettlementRow:
        """The part that the contract knows."""
        return SettlementRow(self.line, self.event, self.problem)


@dataclass(frozen=True, slots=True)
class FileReport:
    """All rows of a file in its order, the faults of the file itself first."""

    rows: tuple[FileRow, ...]

    @property
    def accepted(self) -> tuple[FileRow, ...]:
        """Rows that are events."""
        return tuple(row for row in self.rows if row.problem is None)

    @property
    def refused(self) -> tuple[FileRow, ...]:
        """Rows with a problem."""
        return tuple(row for row in self.rows if row.problem is not None)


def read_file(content: bytes, agreement: Agreement) -> FileReport:
    """Read a whole file. Never raises.

    Problems of the file: `file_too_large`, `no_header`, `repeated_column`, `missing_column` (nothing is read then),
    `unknown_column` (said once; the rows are read all the same). Of a row: `too_many_rows`, `unreadable_row`,
    `cell_count`, `other_agreement`, `bad_code`, `bad_check_digit`, `bad_status`, `unknown_status`, `bad_currency`,
    `bad_transaction_id`, `bad_amount`, `bad_moment`, `duplicate_row` (a repetition; the first one counts) and
    `conflicting_rows` (one transaction told in two ways: neither is believed).
    """
    if len(content) > MAX_FILE_BYTES:
        return FileReport((FileRow(1, problem="file_too_large"),))
    lines = [(number, line) for number, line in enumerate(_LINE_BREAK.split(_decoded(content)), 1) if line.strip()]
    if not lines:
        return FileReport((FileRow(1, problem="no_header"),))
    (first, header), *body = lines
    layout = agreement.file
    names = _cells(header, layout)
    problem = _header_problem(names, layout)
    if names is None or problem not in (None, "unknown_column"):
        return FileReport((FileRow(first, problem=problem or "no_header"),))
    columns = [_own_name(name.strip(), layout) for name in names]
    rows = [_row(number, _cells(line, layout), columns, agreement) for number, line in body[:MAX_ROWS]]
    rows += [FileRow(number, problem="too_many_rows") for number, _ in body[MAX_ROWS : MAX_ROWS + 1]]
    said = [FileRow(first, problem=problem)] if problem else []
    return FileReport((*said, *_without_repeats(rows)))


def _decoded(content: bytes) -> str:
    if content.startswith(_UTF_16):  # as spreadsheets save "Unicode text"
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _cells(line: str, layout: FileLayout) -> list[str] | None:
    """The cells of one line; None when it is not one."""
    try:
        rows = list(csv.reader([line], delimiter=layout.delimiter, strict=True))
    except csv.Error:  # a quote that is not closed, or a cell of 128 KiB
        return None
    return rows[0] if len(rows) == 1 else None


def _header_problem(names: Sequence[str] | None, layout: FileLayout) -> str | None:
    if names is None:
        return "no_header"
    stripped = [name.strip() for name in names]
    if len(set(stripped)) != len(stripped):
        return "repeated_column"
    if any(layout.columns[own] not in stripped for own in REQUIRED_FIELDS):
        return "missing_column"
    return "unknown_column" if set(stripped) - set(layout.columns.values()) - layout.ignored else None


def _own_name(name: str, layout: FileLayout) -> str | None:
    return next((own for own, wire in layout.columns.items() if wire == name), None)


def _row(line: int, cells: Sequence[str] | None, columns: Sequence[str | None], agreement: Agreement) -> FileRow:
    if cells is None:
        return FileRow(line, problem="unreadable_row")
    if len(cells) != len(columns):
        return FileRow(line, problem="cell_count")
    claim = {own: cell.strip() for own, cell in zip(columns, cells, strict=True) if own is not None}
    shown = FileRow(line, code=_digits(claim["reference"]), amount=_amount(claim["amount"], agreement))
    try:
        return replace(shown, event=_event(claim, agreement))
    except UnreadableClaim as unreadable:
        return replace(shown, problem=unreadable.code)


def _event(claim: dict[str, str], agreement: Agreement) -> ProviderEvent:
    status = claim.get("status", "").casefold()
    if status and status not in agreement.statuses:
        raise UnreadableClaim("unknown_status")
    written = claim["amount"]
    plain = plain_amount(written, agreement.file) if written else ""
    return event_of({**claim, "amount": plain}, agreement, date_format=agreement.file.date_format)


def plain_amount(text: str, layout: FileLayout) -> str:
    """An amount of the file with a point for the decimal mark and nothing else but digits.

    Marks between thousands must stand where they belong: "1.2345,00" is not guessed at. Raises UnreadableClaim.
    """
    mark, decimal = re.escape(layout.thousands), re.escape(layout.decimal)
    whole = rf"[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+|[0-9]+" if layout.thousands else "[0-9]+"
    found = re.fullmatch(rf"({whole})(?:{decimal}([0-9]+))?", text, re.ASCII)
    if found is None:
        raise UnreadableClaim("bad_amount")
    digits = found[1].replace(layout.thousands, "") if layout.thousands else found[1]
    return f"{digits}.{found[2]}" if found[2] else digits


def _without_repeats(rows: Sequence[FileRow]) -> list[FileRow]:
    """The rows with the second telling of an event refused, and both where they differ."""
    told: Mapping[str, list[ProviderEvent]] = _told(rows)
    seen: set[str] = set()
    judged = []
    for row in rows:
        if row.event is None:
            judged.append(row)
            continue
        event_id = row.event.event_id
        if any(event != row.event for event in told[event_id]):
            judged.append(replace(row, event=None, problem="conflicting_rows"))
        elif event_id in seen:
            judged.append(replace(row, event=None, problem="duplicate_row"))
        else:
            judged.append(row)
        seen.add(event_id)
    return judged


def _told(rows: Sequence[FileRow]) -> Mapping[str, list[ProviderEvent]]:
    told: dict[str, list[ProviderEvent]] = defaultdict(list)
    for row in rows:
        if row.event is not None:
            told[row.event.event_id].append(row.event)
    return told


def _amount(text: str, agreement: Agreement) -> Money | None:
    try:
        return Money.parse(plain_amount(text, agreement.file), CURRENCY)
    except (UnreadableClaim, MoneyError):
        return None


def _digits(code: str) -> str | None:
    return code if _DIGITS.fullmatch(code) else None

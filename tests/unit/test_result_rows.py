"""What becomes of each row of a bank's file of results, number, line and all."""

from __future__ import annotations

from uuid import UUID

import pytest

from domain.money import Money
from domain.payout import LineStatus
from domain.payout_file import MAX_RESULT_ROWS, MAX_TEXT, PayeeLine, ResultRow, payout_csv, read_results

LINE = UUID("018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79")
HEAD = "line_id,result,reference"


def read(*rows: str, head: str = HEAD) -> list[ResultRow]:
    return read_results("\n".join([head, *rows]).encode())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (f"{LINE},paid,wire-1", ResultRow(2, LINE, LineStatus.PAID, "wire-1")),
        (f"{LINE},FAILED,closed", ResultRow(2, LINE, LineStatus.FAILED, "closed")),
        (f" {LINE} , returned , x ", ResultRow(2, LINE, LineStatus.RETURNED, "x")),
        (f"{LINE},paid,", ResultRow(2, LINE, LineStatus.PAID, None)),
        (f"{LINE},paid", ResultRow(2, LINE, LineStatus.PAID, None)),
        (f"{LINE},paid,{'x' * MAX_TEXT}", ResultRow(2, LINE, LineStatus.PAID, "x" * MAX_TEXT)),
        (f"{LINE},paid,{'x' * (MAX_TEXT + 1)}", ResultRow(2, LINE, problem="bad_reference")),
        (f"{LINE},paid,a\x07b", ResultRow(2, LINE, problem="bad_reference")),
        (f"{LINE},perhaps,x", ResultRow(2, LINE, problem="no_result")),
        (f"{LINE},sent,x", ResultRow(2, LINE, problem="no_result")),
        (f"{LINE}", ResultRow(2, LINE, problem="no_result")),
        ("nonsense,paid,x", ResultRow(2, problem="no_line_id")),
        (",paid,x", ResultRow(2, problem="no_line_id")),
    ],
)
def test_each_row(row: str, expected: ResultRow) -> None:
    assert read(row) == [expected]


def test_rows_are_counted_with_the_head_and_with_those_left_out() -> None:
    found = read("", f"{LINE},paid,a", "total,2,,3.00", ",,", f"{LINE},perhaps,b", "TOTAL")
    assert found == [ResultRow(3, LINE, LineStatus.PAID, "a"), ResultRow(6, LINE, problem="no_result")]


def test_a_row_that_ends_before_the_line_is_named_has_no_line() -> None:
    for row in ("paid,,", "paid", "paid,x", ",x"):
        assert read(row, head="result,reference,line_id") == [ResultRow(2, problem="no_line_id")]


@pytest.mark.parametrize(
    "head", ["line_id,result,reference", "Line_ID , RESULT, Reference", "reference,x,result,line_id", "line_id,result"]
)
def test_columns_are_found_by_name(head: str) -> None:
    cells = {"line_id": str(LINE), "result": "paid", "reference": "r", "x": "?"}
    names = [name.strip().casefold() for name in head.split(",")]
    (row,) = read(",".join(cells[name] for name in names), head=head)
    assert row == ResultRow(2, LINE, LineStatus.PAID, "r" if "reference" in names else None)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ResultRow(1, problem="no_head")),
        (b"line_id,reference\n", ResultRow(1, problem="no_head")),
        (b"result\n", ResultRow(1, problem="no_head")),
        (b"\xff\xfe\x00", ResultRow(1, problem="not_utf8")),
        (b'line_id,result\n"open', ResultRow(1, problem="not_csv")),
        (
            b"line_id,result\n" + b",\n" * (MAX_RESULT_ROWS + 1),
            ResultRow(MAX_RESULT_ROWS + 2, problem="too_many_rows"),
        ),
    ],
)
def test_a_file_that_is_none(content: bytes, expected: ResultRow) -> None:
    assert read_results(content) == [expected]


def test_lines_within_a_cell_are_the_banks_own() -> None:
    """A reference of several lines is refused as such, and the next row is read, whatever ends the lines."""
    for end in ("\n", "\r\n", "\r"):
        found = read_results(f'{HEAD}{end}{LINE},paid,"a{end}b"{end}{LINE},paid,c{end}'.encode())
        assert found == [ResultRow(2, LINE, problem="bad_reference"), ResultRow(3, LINE, LineStatus.PAID, "c")]


def test_the_exported_file_to_the_byte() -> None:
    lines = [
        PayeeLine(LINE, "ann", "Ann, Ltd", Money(12990, "ILS"), {"iban": "IL62"}),
        PayeeLine(LINE, "ben", "Ben", Money(10, "ILS"), {"bic": "X"}),
    ]
    assert payout_csv(lines, currency="ILS").decode("utf-8-sig") == (
        '"line_id","referrer_id","name","amount","currency","bic","iban"\r\n'
        f'"{LINE}","ann","Ann, Ltd","129.90","ILS","","IL62"\r\n'
        f'"{LINE}","ben","Ben","0.10","ILS","X",""\r\n'
        '"total","2","","130.00","ILS","",""\r\n'
    )


def test_a_full_file_and_an_empty_one_are_read() -> None:
    full = b"line_id,result\n" + f"{LINE},paid\n".encode() * MAX_RESULT_ROWS
    assert len(read_results(full)) == MAX_RESULT_ROWS == 10_000
    assert read() == []

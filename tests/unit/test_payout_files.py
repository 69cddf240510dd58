"""What a line pays, and the files that go to the bank and come back."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.commission import claw_back
from domain.ledger import (
    commission_rejected_entries,
    payout_paid_entries,
    payout_returned_entries,
    payout_sent_entries,
)
from domain.money import Money, MoneyError
from domain.payout import Due, due, is_paid_out, reminder_after
from domain.payout_file import (
    COLUMNS,
    MAX_RESULT_ROWS,
    RESULT_COLUMNS,
    PayeeLine,
    is_formula,
    payout_csv,
    plain,
    read_results,
)
from domain.statement import Statement, statement

CURRENCIES = st.sampled_from(["JPY", "ILS", "KWD"])
LINE = UUID("018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79")


def ils(text: str) -> Money:
    return Money.parse(text, "ILS")


@pytest.mark.parametrize(
    ("payable", "balance", "unpaid", "underpaid", "carried"),
    [
        ("6.00", "2.00", "6.00", "0.00", "-4.00"),
        ("6.00", "9.00", "9.00", "0.00", "0.00"),
        ("6.00", "9.00", "9.00", "5.00", "0.00"),
        ("6.00", "7.50", "6.00", "1.50", "1.50"),  # a claw-back was taken back after its commission was paid
        ("6.00", "7.50", "6.00", "1.49", None),
        ("6.00", "6.01", "6.00", "0.00", None),
    ],
)
def test_what_changed_of_paid_commissions_is_carried_once(
    payable: str, balance: str, unpaid: str, underpaid: str, carried: str | None
) -> None:
    sums = {"payable": payable, "balance": balance, "unpaid": unpaid, "underpaid": underpaid}
    if carried is None:
        with pytest.raises(MoneyError):
            due(**{name: ils(amount) for name, amount in sums.items()})
    else:
        assert due(**{name: ils(amount) for name, amount in sums.items()}) == Due(ils(payable), ils(carried))


@pytest.mark.parametrize(
    ("gross", "carried", "minimum", "paid"),
    [
        ("5.00", "0.00", "5.00", True),
        ("4.99", "0.00", "5.00", False),
        ("9.00", "-4.50", "5.00", False),
        ("4.00", "-4.00", "0.00", False),
        ("0.01", "0.00", "0.00", True),
    ],
)
def test_what_is_worth_a_line(gross: str, carried: str, minimum: str, *, paid: bool) -> None:
    assert is_paid_out(Due(ils(gross), ils(carried)), ils(minimum)) is paid


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.lists(st.integers(0, 10**9), max_size=8), CURRENCIES)
def test_claw_backs_in_any_order_leave_the_share_of_what_is_gone(
    of: int, whole: int, moments: list[int], currency: str
) -> None:
    """Refunds, lost disputes, and disputes won after all: `gone` goes up and down, and the last one counts."""
    taken = Money.zero(currency)
    for gone in [*(moment % (of + 1) for moment in moments), of]:
        taken = taken + claw_back(
            Money(whole, currency), gone=Money(gone, currency), of=Money(of, currency), taken=taken
        )
        assert 0 <= taken.minor <= whole
    assert taken.minor == whole
    with pytest.raises(MoneyError):
        claw_back(Money(whole, currency), gone=Money(of + 1, currency), of=Money(of, currency), taken=taken)


@given(st.integers(1, 10**9), CURRENCIES)
def test_movements_of_a_payout_balance(minor: int, currency: str) -> None:
    amount = Money(minor, currency)
    sent = payout_sent_entries(amount, referrer="r", payout_id="p")
    for movement in (
        sent,
        payout_paid_entries(amount, payout_id="p"),
        payout_returned_entries(amount, referrer="r", payout_id="p"),
        commission_rejected_entries(amount, referrer="r"),
    ):
        assert sum(entry.amount.minor for entry in movement) == 0
    back = payout_returned_entries(amount, referrer="r", payout_id="p")
    assert {(one.account, -one.amount.minor) for one in sent} == {(one.account, one.amount.minor) for one in back}


@given(
    st.integers(-(10**9), 10**9),
    st.dictionaries(st.sampled_from(["capture", "refund", "payout_sent", "new_kind"]), st.integers(-(10**9), 10**9)),
    CURRENCIES,
)
def test_a_statement_sums_up_whatever_is_booked(opening: int, kinds: dict[str, int], currency: str) -> None:
    made: Statement = statement(
        Money(opening, currency), {kind: Money(minor, currency) for kind, minor in kinds.items()}
    )
    assert made.closing.minor == opening + sum(kinds.values())
    assert made.other.minor == kinds.get("new_kind", 0)


def test_reminders_grow_to_a_week() -> None:
    assert [reminder_after(n) / timedelta(days=1) for n in range(5)] == [1, 2, 4, 7, 7]


@given(st.text(max_size=50))
def test_no_cell_is_a_formula_and_none_loses_anything(text: str) -> None:
    kept = plain(text)
    assert not is_formula(kept)
    assert kept.removeprefix("'") == text.removeprefix("'")


@given(st.sampled_from("+-＋－"), st.text(st.characters(categories=["Nd", "L", "M", "Zs"]) | st.sampled_from("-./,#")))
def test_what_begins_with_a_sign_and_calls_nothing_is_written_as_it_is(sign: str, rest: str) -> None:
    assert plain(sign + rest) == sign + rest


@pytest.mark.parametrize(
    "value",
    [
        *(
            "+972541234567",
            "+972 54-123-4567",
            "+972 (54) 123 4567",
            "+972 54 123 4567 (נייד)",
            "-12.50",
            "-1,250.00",
            "-",
        ),
        *(
            "IL620108000000099999999",
            "0541234567",
            "00123",
            "12-345-67890",
            "O'Brien",
            "'quoted'",
            "Dana  Levi ",
            "1/2",
        ),
    ],
)
def test_the_bank_reads_what_was_given(value: str) -> None:
    content = payout_csv([PayeeLine(LINE, value, value, ils("1.00"), {"phone": value})], currency="ILS")
    row = list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))[1]
    assert row == [str(LINE), value, value, "1.00", "ILS", value]


@pytest.mark.parametrize(
    "value",
    [
        *('=HYPERLINK("http://x")', "=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd|' /C calc'!A0", "＝1+1"),
        *('+HYPERLINK("x")', "-IMPORTXML (A1)", "\t=1", "\r=1", " =1", "+1&A1", "-A1*2", "+@SUM(A1)"),
    ],
)
def test_what_a_spreadsheet_would_work_out_is_disarmed_and_read_back(value: str) -> None:
    assert plain(value) == f"'{value}"
    rows = f'line_id,result,reference\n{LINE},paid,"\'{value.strip()}"\n' if '"' not in value else None
    if rows is not None and value.isprintable():
        assert [row.reference for row in read_results(rows.encode())] == [value.strip()]


def test_an_apostrophe_of_the_banks_own_stays() -> None:
    (row,) = read_results(f"line_id,result,reference\n{LINE},paid,'7 of 9\n".encode())
    assert row.reference == "'7 of 9"


@pytest.mark.parametrize("column", sorted({*COLUMNS, *RESULT_COLUMNS}))
@pytest.mark.parametrize("spelled", ["{}", " {} "], ids=["bare", "spaces"])
def test_a_detail_that_is_called_as_a_column_is_no_such_column(column: str, spelled: str) -> None:
    """Read back with the bank's own columns, what the merchant wrote there would pass for what the bank said."""
    for name in (spelled.format(column), spelled.format(column.upper())):
        content = payout_csv([PayeeLine(LINE, "a", "A", Money(100, "ILS"), {name: "paid"})], currency="ILS")
        (head, *_) = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        head = [cell.strip().casefold() for cell in head]
        assert len(set(head)) == len(head)
        assert [row.problem for row in read_results(content)] == ["no_head"]


@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.integers(1, 10**9), st.dictionaries(st.text(max_size=8), st.text())),
        max_size=6,
    ),
    CURRENCIES,
)
def test_the_footer_is_the_sum_of_the_lines(rows: list[tuple[str, int, dict[str, str]]], currency: str) -> None:
    lines = [PayeeLine(uuid4(), name, name, Money(minor, currency), details) for name, minor, details in rows]
    content = payout_csv(lines, currency=currency).decode("utf-8-sig")
    head, *body, footer = list(csv.reader(io.StringIO(content, newline="")))
    assert {len(row) for row in (head, *body, footer)} == {len(head)}
    assert sum(Money.parse(row[3], currency).minor for row in body) == Money.parse(footer[3], currency).minor
    assert footer[:2] == ["total", str(len(lines))]
    assert not any(is_formula(cell) for row in (head, *body, footer) for cell in row)
    assert not [row for row in read_results(payout_csv(lines, currency=currency)) if row.problem != "no_head"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no_head"),
        (b"a,b\n1,2\n", "no_head"),
        (b"\xff\xfe\x00", "not_utf8"),
        (b'line_id,result\n"open', "not_csv"),
        (b"line_id,result\n" + b"x,paid\n" * (MAX_RESULT_ROWS + 1), "too_many_rows"),
        (b"line_id,result\nx,paid\n", "no_line_id"),
        (f"line_id,result\n{LINE}\n".encode(), "no_result"),
        (f"line_id,result,reference\n{LINE},paid,{'x' * 201}\n".encode(), "bad_reference"),
        (f'line_id,result,reference\n{LINE},paid,"a\x00b"\n'.encode(), "bad_reference"),
    ],
)
def test_what_cannot_be_read_is_a_row_with_a_problem(content: bytes, problem: str) -> None:
    assert [row.problem for row in read_results(content)] == [problem]


def test_the_exported_file_with_results_beside_it_is_read() -> None:
    lines = [PayeeLine(LINE, "=ann", "Ann", ils("1.00"), {"iban": "IL62"})]
    rows = payout_csv(lines, currency="ILS").decode("utf-8-sig").splitlines()
    filled = [rows[0] + ',"Result","Reference"', rows[1] + ',"paid","wire-1"', rows[2] + ',"",""']
    (row,) = read_results("\r\n".join(filled).encode())
    assert (row.line, row.line_id, row.result, row.reference, row.problem) == (2, LINE, "paid", "wire-1", None)


@given(st.binary(max_size=300))
def test_reading_never_fails(content: bytes) -> None:
    read_results(content)

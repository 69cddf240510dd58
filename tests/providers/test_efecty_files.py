"""Efecty's settlement files: every row is an event or has a reason, whatever the file holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from providers.base import AccountConfig, Callback, EventKind, SettlementRow
from providers.efecty import EfectyProvider, settlement_file, sign_webhook
from providers.efecty.codes import CodeRule

ONE, TWO, THREE = (CodeRule().code_for(UUID(int=number), 0) for number in (1, 2, 3))
WRONG_DIGIT = ONE[:-1] + str((int(ONE[-1]) + 1) % 10)
HEADER = "agreement;reference;amount;paid_at;transaction_id"
PAID_AT = "2026-09-21 08:12:00"


def account(**options: Any) -> EfectyProvider:
    credentials = {"agreement": "110954", "callback_secret": "shared_secret_1"}
    return EfectyProvider(AccountConfig(account_id=uuid4(), credentials=credentials, options=options))


def row(code: str = ONE, amount: str = "25000.00", number: str = "77", agreement: str = "110954") -> str:
    return f"{agreement};{code};{amount};{PAID_AT};{number}"


def file_of(*rows: str, header: str = HEADER) -> bytes:
    return "\r\n".join([header, *rows, ""]).encode()


def verdicts(content: bytes, **options: Any) -> list[tuple[int, str]]:
    return [(one.line, one.verdict) for one in account(**options).settlement_report(content).rows]


def test_a_row_is_the_same_event_as_the_callback_about_it() -> None:
    body = (
        f'{{"agreement":"110954","reference":"{ONE}","amount":"25000","transaction_id":"77",'
        '"paid_at":"2026-09-21T08:12:00-05:00","status":"paid"}'
    ).encode()
    now = datetime(2026, 9, 21, 14, 0, tzinfo=UTC)
    callback = Callback(sign_webhook("shared_secret_1", body, int(now.timestamp())), body, now)
    assert account().read_settlement_file(file_of(row())) == [SettlementRow(2, account().verify_webhook(callback))]


def test_the_report_shows_line_code_amount_and_verdict() -> None:
    content = file_of(row(), "", row(WRONG_DIGIT, "5", "78"), row(TWO, "1.2.3", "79"), row(THREE, number="80"))
    report = account().settlement_report(content)
    money = Money.parse("25000", "COP")
    assert [(one.line, one.code, one.amount, one.verdict) for one in report.rows] == [
        (2, ONE, money, "accepted"),
        (4, WRONG_DIGIT, Money.parse("5", "COP"), "bad_check_digit"),
        (5, TWO, None, "bad_amount"),
        (6, THREE, money, "accepted"),
    ]
    assert [one.line for one in report.accepted] == [2, 6]
    assert [one.line for one in report.refused] == [4, 5]
    assert all((one.event is None) is (one.problem is not None) for one in report.rows)


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (row(agreement="110955"), "other_agreement"),
        (row(agreement=""), "other_agreement"),
        (row(""), "bad_code"),
        (row(ONE[:-1]), "bad_code"),
        (row("apt 301"), "bad_code"),
        (row(WRONG_DIGIT), "bad_check_digit"),
        (row(amount=""), "bad_amount"),
        (row(amount="0"), "bad_amount"),
        (row(amount="-25000"), "bad_amount"),
        (row(amount="25,000"), "bad_amount"),
        (row(amount="$25000"), "bad_amount"),
        (row(amount="25000.001"), "bad_amount"),
        (row(amount="025000"), "bad_amount"),
        (row(amount="1e4"), "bad_amount"),
        (row(amount="２５０００"), "bad_amount"),
        (row(amount="9" * 60), "bad_amount"),
        (row(number=""), "bad_transaction_id"),
        (row(number="7 7"), "bad_transaction_id"),
        (row().replace(PAID_AT, "21/09/2026"), "bad_moment"),
        (row() + ";", "cell_count"),
        (ONE, "cell_count"),
        (row().replace("25000.00", '"25000.00'), "unreadable_row"),
        (row().replace("25000.00", '"25000.00"x'), "unreadable_row"),
        (row(amount="9" * 140_000), "unreadable_row"),
        (row().replace("25000.00", ' "25000.00" '), "bad_amount"),
        (row().replace("25000.00", '"25000.00"'), "accepted"),
        (f" 110954 ; {ONE} ; 25000 ; {PAID_AT} ; 77 ", "accepted"),
        (row().replace(PAID_AT, ""), "accepted"),
        (row(amount="25000.5"), "accepted"),
    ],
)
def test_a_bad_row_has_a_reason_and_spoils_no_other(line: str, verdict: str) -> None:
    content = file_of(row(TWO, number="1"), line, row(THREE, number="2"))
    assert verdicts(content) == [(2, "accepted"), (3, verdict), (4, "accepted")]


def test_a_repeated_row_counts_once_and_two_tellings_of_one_transaction_are_not_believed() -> None:
    twice, late = row(TWO, number="5"), row(TWO, number="5", amount="1.00")
    content = file_of(row(), row(), twice, late, row(THREE, number="5"), row(TWO, number="6"))
    assert [verdict for _, verdict in verdicts(content)] == [
        "accepted",
        "duplicate_row",
        "conflicting_rows",
        "conflicting_rows",
        "accepted",  # tills count for themselves
        "accepted",
    ]
    report = account().settlement_report(file_of(row(), row(amount="1.00")))
    assert [one.verdict for one in report.rows] == ["conflicting_rows"] * 2


@pytest.mark.parametrize(
    ("content", "verdict"),
    [
        (b"", "no_header"),
        (b"\r\n \r\n", "no_header"),
        (b"\xef\xbb\xbf", "no_header"),
        (file_of(header='"agreement'), "no_header"),
        (file_of(row(), header=HEADER.replace(";", ",")), "missing_column"),
        (file_of(row(), header=HEADER.replace("amount", "valor")), "missing_column"),
        (file_of(row(), header=HEADER.replace("paid_at", "amount")), "repeated_column"),
        (b"PK\x03\x04" + bytes(range(256)) * 4, "missing_column"),
        (HEADER.encode("utf-16-le"), "missing_column"),
    ],
)
def test_a_file_with_another_header_is_refused_as_a_whole(content: bytes, verdict: str) -> None:
    (only,) = account().settlement_report(content).rows
    assert only.verdict == verdict


def test_an_unknown_column_is_said_once_and_the_rows_are_read() -> None:
    content = file_of(row() + ";caja 4", header=HEADER + ";caja")
    assert verdicts(content) == [(1, "unknown_column"), (2, "accepted")]
    assert verdicts(content, file_ignored_columns=["caja"]) == [(2, "accepted")]


def test_the_layout_is_the_agreements() -> None:
    content = (
        "Convenio,Referencia,Valor,Fecha,Transacción,Oficina,Estado\n"
        f'110954,{ONE},"1.234.567,89",21/09/2026 08:12,77,Bogotá,APLICADO\n'
        f'110954,{TWO},"25000",21/09/2026 08:13,78,Chía,DEVUELTO\n'
        f'110954,{THREE},"1.2345,00",21/09/2026 08:13,79,Chía,APLICADO\n'
        f'110954,{THREE},"25.000",2026-09-21,80,Chía,APLICADO\n'
        f'110954,{THREE},"25.000",21/09/2026 08:13,81,Chía,OTRO\n'
    )  # fmt: skip
    provider = account(
        file_delimiter=",",
        file_decimal=",",
        file_thousands=".",
        file_date_format="%d/%m/%Y %H:%M",
        file_columns={
            "agreement": "Convenio",
            "reference": "Referencia",
            "amount": "Valor",
            "paid_at": "Fecha",
            "transaction_id": "Transacción",
            "status": "Estado",
        },
        file_ignored_columns=["Oficina"],
        callback_statuses={"aplicado": "captured", "devuelto": "dispute"},
    )
    for encoded in (content.encode(encoding) for encoding in ("utf-8", "utf-8-sig", "latin-1", "utf-16")):
        paid, returned, *refused = provider.settlement_report(encoded).rows
        assert paid.event is not None
        assert returned.event is not None
        assert paid.event.amount == Money.parse("1234567.89", "COP")
        assert paid.event.occurred_at == datetime(2026, 9, 21, 13, 12, tzinfo=UTC)
        assert (paid.event.kind, returned.event.kind) == (EventKind.CAPTURED, EventKind.DISPUTE)
        assert (paid.event.event_id, returned.event.event_id) == (f"77:{ONE}", f"78:{TWO}:devuelto")
        assert [one.verdict for one in refused] == ["bad_amount", "bad_moment", "unknown_status"]


def test_rows_of_another_currency_are_refused() -> None:
    content = file_of(row() + ";USD", row(TWO, number="78") + ";COP", header=HEADER + ";currency")
    assert verdicts(content) == [(2, "bad_currency"), (3, "accepted")]


def test_old_line_breaks_and_odd_separators_do_not_move_the_line_numbers() -> None:
    odd = row(TWO, number="7\u2028")
    content = f"{HEADER}\r{row()}\r\n{odd}\n{row(THREE, number='8')}".encode()
    assert verdicts(content) == [(2, "accepted"), (3, "accepted"), (4, "accepted")]


def test_a_file_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_file, "MAX_ROWS", 1)
    assert verdicts(file_of(row(), row(TWO, number="1"), row())) == [(2, "accepted"), (3, "too_many_rows")]
    monkeypatch.setattr(settlement_file, "MAX_FILE_BYTES", 10)
    assert verdicts(file_of(row())) == [(1, "file_too_large")]


cells = st.one_of(
    st.sampled_from([ONE, TWO, WRONG_DIGIT, "110954", "25000.00", "77", PAID_AT, "", '"', '"a"b']),
    st.text(max_size=15),
)


@given(content=st.binary(max_size=500))
def test_no_bytes_whatever_break_the_reading(content: bytes) -> None:
    account().read_settlement_file(content)
    account().read_settlement_file(HEADER.encode() + b"\n" + content)


@given(rows=st.lists(st.lists(cells, min_size=4, max_size=6).map(";".join), max_size=6))
def test_every_row_is_an_event_or_has_a_reason(rows: list[str]) -> None:
    content = "\n".join([HEADER, *rows]).encode("utf-8", "replace")
    for one in account().read_settlement_file(content):
        assert (one.event is None) is (one.problem is not None)
        if one.event is not None:
            assert one.event.amount is not None
            assert one.event.session_id in {ONE, TWO}


@given(
    amount=st.integers(1, 10**14), marks=st.sampled_from([(".", ""), (",", "."), (".", ","), (",", " "), (".", "'")])
)
def test_amounts_survive_every_way_to_write_them(amount: int, marks: tuple[str, str]) -> None:
    decimal, thousands = marks
    money = Money(amount, "COP")
    whole, centavos = str(money).split(".")
    written = f"{int(whole):,}".replace(",", thousands) + decimal + centavos
    (only,) = (
        account(file_decimal=decimal, file_thousands=thousands).settlement_report(file_of(row(amount=written))).rows
    )
    assert only.amount == money
    assert only.event is not None
    assert only.event.amount == money

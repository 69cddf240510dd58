"""What the posting of a capture writes, row by row: nothing more, nothing less, and nothing at all for other money."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from activities.settlement import record_surplus
from domain.fraud import Finding, Judgement, Rule, Verdict
from domain.money import Money
from domain.payment import Confirmation, PaymentStatus
from providers.base import ProviderPayment
from storage import ledger, payments
from storage.models import (
    Attempt,
    Commission,
    LedgerEntry,
    OrderNotice,
    ProviderAccount,
    Receipt,
    Referrer,
    SurplusCapture,
)
from storage.session import Database
from tests.support.books import AT, Books, Decided, captured, new_books


async def test_a_capture_is_posted_in_every_book(books: Books) -> None:
    payment_id, observed = await books.payment(), captured()
    guards = Decided()
    done = await books.settle(payment_id, observed, guards=guards)
    receipt_id = uuid5(payment_id, "receipt")
    assert done == Confirmation(PaymentStatus.PAID, receipt_id)
    assert guards.cards == ["fp_1"]
    payment = await books.read(payment_id)
    assert (payment.status, payment.paid_at, payment.flag, payment.disputed) == ("paid", AT, None, False)
    assert (payment.provider_transaction_id, payment.provider_session_id) == (
        observed.transaction_id,
        observed.session_id,
    )
    assert (payment.fee, payment.fee_returned) == (Decimal("3.72"), False)
    (receipt,) = await books.rows(Receipt, payment_id)
    assert (receipt.id, receipt.workspace_id, receipt.kind) == (receipt_id, books.workspace.id, "tax_invoice_receipt")
    assert (receipt.fiscal_year, receipt.number, receipt.issued_on.isoformat()) == (2026, 1, "2026-11-22")
    assert (receipt.currency, receipt.net, receipt.vat, receipt.total) == ("ILS", 100, 18, 118)
    assert receipt.vat_rate == Decimal("0.18")
    printed = receipt.document
    assert (printed["number"], printed["issued_on"], printed["dealer"]) == (1, "2026-11-22", "company")
    assert printed["lines"] == [{"description": "Consultation", "quantity": 1, "gross": "118.00"}]
    assert {name: printed["seller"][name] for name in ("name", "name_he", "number", "address")} == {
        "name": "Clinic North Ltd",
        "name_he": "מרפאת צפון בע״מ",
        "number": "514000009",
        "address": "12 Herzl St, Haifa",
    }
    assert {name: printed["customer"][name] for name in ("name", "number", "email")} == {
        "name": "Dana Levi",
        "number": "012345678",
        "email": "dana@example.com",
    }
    assert (printed["paid_by"], printed["provider_reference"]) == ("Visa •••• 4242", observed.transaction_id)
    assert (printed["order_id"], printed["language"]) == (payment.order_id, "he")
    assert await books.movements(payment_id) == {
        ("capture", f"provider:{books.account.id}"): "114.28",
        ("capture", "provider_fees"): "3.72",
        ("capture", "sales"): "-100.00",
        ("capture", "vat_payable"): "-18.00",
        ("capture", "commission_expense"): "11.80",
        ("capture", "commission_payable:ann"): "-11.80",
    }
    assert {row.movement_id for row in await books.rows(LedgerEntry, payment_id)} == {uuid5(payment_id, "capture")}
    (commission,) = await books.rows(Commission, payment_id)
    assert (commission.id, commission.workspace_id) == (uuid5(payment_id, "commission"), books.workspace.id)
    assert (commission.order_id, commission.referrer_id) == (payment.order_id, "ann")
    assert (commission.base_amount, commission.rate, commission.amount) == (118, Decimal("0.10"), Decimal("11.80"))
    assert (commission.currency, commission.vests_at) == ("ILS", AT + timedelta(days=14))
    assert (commission.review, commission.held_by, commission.status) == (None, [], "accrued")
    async with books.database.transaction() as session:
        assert await session.get(Referrer, (books.workspace.id, "ann")) is not None
        assert sum(one.minor for one in (await ledger.balances(session, books.workspace.id)).values()) == 0
    (attempt,) = await books.rows(Attempt, payment_id)
    assert (attempt.number, attempt.status, attempt.session_id) == (1, "paid", observed.session_id)
    assert (attempt.provider, attempt.provider_account_id) == ("stripe", books.account.id)
    (notice,) = await books.rows(OrderNotice, payment_id)
    assert notice.type == "payment.paid"
    told = await books.told(payment_id)
    assert [(actor, action) for actor, action, _ in told] == [
        ("settlement", "commission.accrued"),
        ("provider", "payment.paid"),
    ]
    assert told[0][2] == {"order_id": payment.order_id, "rate": "0.1000", "amount": "11.80"} | {
        "rate": told[0][2]["rate"]
    }
    assert Decimal(told[0][2]["rate"]) == Decimal("0.10")
    assert {name: told[1][2][name] for name in ("from", "to", "receipt_id", "receipt_number")} == {
        "from": "pending",
        "to": "paid",
        "receipt_id": str(receipt_id),
        "receipt_number": 1,
    }


@pytest.mark.parametrize(
    ("amount", "currency", "fault"),
    [
        ("117.99", "ILS", "amount_mismatch"),
        ("118.01", "ILS", "amount_mismatch"),
        ("59.00", "ILS", "amount_mismatch"),
        ("236.00", "ILS", "amount_mismatch"),
        ("0.01", "ILS", "amount_mismatch"),
        ("118.00", "USD", "currency_mismatch"),
        ("119.00", "USD", "currency_mismatch"),
        ("117.00", "USD", "currency_mismatch"),
        ("118.000", "KWD", "currency_mismatch"),
        ("11800", "JPY", "currency_mismatch"),
    ],
)
async def test_less_more_or_other_money_is_posted_nowhere_and_waits_for_a_person(
    books: Books, amount: str, currency: str, fault: str
) -> None:
    payment_id = await books.payment()
    done = await books.settle(payment_id, captured(amount, currency), guards=Decided())
    assert (done.status, done.receipt_id, done.flag) == (PaymentStatus.UNKNOWN, None, fault)
    payment = await books.read(payment_id)
    assert (payment.status, payment.flag, payment.status_reason) == ("unknown", fault, fault)
    assert await books.is_untouched(payment_id)
    flagged = [details for _, _, details in await books.told(payment_id) if "expected" in details]
    assert len(flagged) == 1
    assert {name: flagged[0][name] for name in ("captured", "currency", "expected")} == {
        "captured": amount,
        "currency": currency,
        "expected": "118.00",
    }
    (changed,) = [(actor, details) for actor, action, details in await books.told(payment_id) if "to" in details]
    assert (changed[0], changed[1]["to"], changed[1]["reason"]) == ("provider", "unknown", fault)
    # once the provider says what was asked for, it is posted
    assert (await books.settle(payment_id, captured())).status is PaymentStatus.PAID


async def test_nothing_captured_is_a_mistake_of_the_caller(books: Books) -> None:
    payment_id = await books.payment()
    nothing = ProviderPayment(status=PaymentStatus.PAID, transaction_id="pi_x")
    with pytest.raises(ValueError, match="settle needs captured money"):
        await books.settle(payment_id, nothing)
    await books.settle(payment_id, captured())
    async with books.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        with pytest.raises(ValueError, match="surplus is captured money"):
            await record_surplus(session, payment, workspace, nothing, None)


@pytest.mark.parametrize(
    ("first", "then", "review", "held_by"),
    [
        (Verdict.ACCEPT, None, None, []),
        (Verdict.HOLD, None, "pending", ["velocity"]),
        (Verdict.ACCEPT, Verdict.HOLD, "pending", ["velocity"]),
        (Verdict.REJECT, None, "none", []),
    ],
)
async def test_what_guards_say_becomes_of_the_commission(
    books: Books, first: Verdict, then: Verdict | None, review: str | None, held_by: list[str]
) -> None:
    def judged(verdict: Verdict) -> Judgement:
        return Judgement(verdict, () if verdict is Verdict.ACCEPT else (Finding(Rule.VELOCITY, verdict, "so many"),))

    payment_id = await books.payment()
    guards = Decided(judged(first), None if then is None else judged(then))
    assert (await books.settle(payment_id, captured(), guards=guards)).status is PaymentStatus.PAID
    found = await books.rows(Commission, payment_id)
    actor, action, details = (await books.told(payment_id))[0]
    assert actor == "settlement"
    if review == "none":
        assert (found, action, details["reason"]) == ([], "commission.refused", "fraud_guard")
        assert ("capture", "commission_expense") not in await books.movements(payment_id)
    else:
        assert [(row.review, row.held_by) for row in found] == [(review, held_by)]
        assert action == ("commission.accrued" if review is None else "commission.held")
    said = {} if (first, then) == (Verdict.ACCEPT, None) else {"decision": (then or first).value}
    assert {name: details[name] for name in ("decision",) if name in details} == said


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"referrer_id": None}, "no_referrer"),
        ({"referrer_id": "C-1"}, "self_referral"),
        ({"amount": Decimal("9.94")}, "below_minimum"),
    ],
)
async def test_who_earns_nothing_and_why(books: Books, values: dict[str, Any], reason: str) -> None:
    payment_id = await books.payment(**values)
    amount = str(Money.from_decimal(values.get("amount", Decimal("118.00")), "ILS"))
    await books.settle(payment_id, captured(amount))
    assert await books.rows(Commission, payment_id) == []
    assert not [account for _, account in await books.movements(payment_id) if account.startswith("commission")]
    told = await books.told(payment_id)
    assert next((actor, action, details.get("reason")) for actor, action, details in told) == (
        "settlement",
        "commission.refused",
        reason,
    )


async def test_a_minimum_with_more_digits_than_the_currency_has_is_cut(database: Database) -> None:
    books = await new_books(database, commission_minimum=Decimal("1.1899"))
    enough, less = await books.payment(amount=Decimal("11.80")), await books.payment(amount=Decimal("11.74"))
    await books.settle(enough, captured("11.80"))
    await books.settle(less, captured("11.74"))
    assert [row.amount for row in await books.rows(Commission, enough)] == [Decimal("1.18")]
    assert await books.rows(Commission, less) == []


async def test_one_order_earns_once_where_it_may_be_paid_in_parts(database: Database) -> None:
    books = await new_books(database, one_capture_per_order=False)
    one, other = await books.payment(order_id="o"), await books.payment(order_id="o")
    await books.settle(one, captured())
    await books.settle(other, captured())
    assert len(await books.rows(Commission, one)) == 1
    assert await books.rows(Commission, other) == []
    assert [(action, details["reason"]) for _, action, details in await books.told(other) if "reason" in details] == [
        ("commission.refused", "order_has_commission")
    ]
    assert not [account for _, account in await books.movements(other) if account.startswith("commission")]
    assert [row.number for row in await books.rows(Receipt, other)] == [2]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"card_brand": "mastercard", "card_last4": "5555"}, "Mastercard •••• 5555"),
        ({"card_brand": None, "card_last4": "5555"}, "Card •••• 5555"),
        ({"card_brand": None, "card_last4": None, "method": "Efecty"}, "Efecty"),
        ({"card_brand": None, "card_last4": None, "method": None}, "Stripe"),
    ],
)
async def test_a_document_says_what_it_was_paid_with(books: Books, values: dict[str, Any], shown: str) -> None:
    payment_id = await books.payment()
    await books.settle(payment_id, captured(**values))
    (receipt,) = await books.rows(Receipt, payment_id)
    assert receipt.document["paid_by"] == shown


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({}, "Dana Levi"),
        ({"customer_name": None}, "dana@example.com"),
        ({"customer_name": None, "customer_email": None}, "c-1"),
        ({"customer_name": None, "customer_email": None, "customer_id": None}, ""),
    ],
)
async def test_a_document_says_who_has_paid(books: Books, values: dict[str, Any], shown: str) -> None:
    payment_id = await books.payment(**values)
    await books.settle(payment_id, captured())
    (receipt,) = await books.rows(Receipt, payment_id)
    assert receipt.document["customer"]["name"] == shown


async def test_the_way_that_brought_the_money_becomes_the_payments_own(books: Books) -> None:
    other = (await new_books(books.database)).account
    async with books.database.transaction() as session:
        moved = await session.get(ProviderAccount, other.id)
        assert moved is not None
        moved.workspace_id, moved.name = books.workspace.id, "second"
        moved.fee_rate, moved.fee_fixed, moved.fee_returned = Decimal("0.05"), Decimal(0), True
    payment_id = await books.payment(method="card")
    await books.attempt(payment_id, 1, session_id=f"cs_{uuid4().hex}")
    way = await books.attempt(
        payment_id,
        2,
        session_id=f"cs_{uuid4().hex}",
        provider="payplus",
        provider_account_id=other.id,
        checkout_mode="direct",
        method="bit",
    )
    observed = captured(session_id=way.session_id)
    await books.settle(payment_id, observed, way)
    payment = await books.read(payment_id)
    assert (payment.provider, payment.provider_account_id) == ("payplus", other.id)
    assert (payment.provider_session_id, payment.checkout_mode, payment.method) == (way.session_id, "direct", "bit")
    assert payment.provider_transaction_id == observed.transaction_id
    assert (payment.fee, payment.fee_returned) == (Decimal("5.90"), True)
    assert ("capture", f"provider:{other.id}") in await books.movements(payment_id)
    rows: list[Attempt] = await books.rows(Attempt, payment_id)
    assert {row.number: (row.status, row.transaction_id) for row in rows} == {
        1: ("pending", None),
        2: ("paid", observed.transaction_id),
    }


async def test_money_that_a_person_was_asked_about_is_no_question_any_more(books: Books) -> None:
    payment_id = await books.payment(flag="amount_unconfirmed")
    await books.settle(payment_id, captured())
    assert (await books.read(payment_id)).flag is None


async def test_a_repeat_writes_nothing(books: Books) -> None:
    payment_id, observed = await books.payment(), captured()
    first = await books.settle(payment_id, observed)
    before = (await books.movements(payment_id), await books.told(payment_id))
    assert await books.settle(payment_id, observed) == first
    assert (await books.movements(payment_id), await books.told(payment_id)) == before
    assert await books.rows(SurplusCapture, payment_id) == []


async def surplus_of(books: Books, payment_id: UUID) -> list[tuple[str, str, str]]:
    rows: list[SurplusCapture] = await books.rows(SurplusCapture, payment_id)
    ordered = sorted(rows, key=lambda row: (row.created_at, row.transaction_id))
    return [(row.transaction_id, str(row.money), row.reason) for row in ordered]


async def test_what_the_provider_captured_beyond_is_surplus_once_by_the_difference_of_sums(books: Books) -> None:
    payment_id, observed = await books.payment(), captured(transaction_id="pi_1" + uuid4().hex)
    await books.settle(payment_id, observed)
    tx = observed.transaction_id
    assert tx is not None
    later = await books.settle(payment_id, captured("218.00", transaction_id=tx))
    assert (later.status, later.flag) == (PaymentStatus.PAID, "second_capture")
    assert later.receipt_id == uuid5(payment_id, "receipt")
    assert await surplus_of(books, payment_id) == [(f"{tx}:21800", "100.00", "second_capture")]
    await books.settle(payment_id, captured("218.00", transaction_id=tx))  # a repeat
    assert len(await surplus_of(books, payment_id)) == 1
    await books.settle(payment_id, captured("228.00", transaction_id=tx))
    assert [money for _, money, _ in await surplus_of(books, payment_id)] == ["100.00", "10.00"]
    movements: list[LedgerEntry] = await books.rows(LedgerEntry, payment_id)
    owed = [row.amount for row in movements if row.account == f"payer_credit:{payment_id}"]
    assert sum(owed) == Decimal("-110.00")
    assert len(await books.rows(Receipt, payment_id)) == 1
    (flagged, *_) = [details for _, action, details in await books.told(payment_id) if "transaction" in details]
    assert (flagged["transaction"], flagged["amount"]) == (f"{tx}:21800", "100.00")


async def test_a_second_way_that_brings_money_is_surplus_in_whole_and_settled_so(books: Books) -> None:
    payment_id = await books.payment()
    first = await books.attempt(payment_id, 1, session_id=f"cs_{uuid4().hex}")
    second = await books.attempt(payment_id, 2, session_id=f"cs_{uuid4().hex}")
    await books.settle(payment_id, captured(), first)
    late = captured()
    done = await books.settle(payment_id, late, second)
    assert (done.status, done.flag) == (PaymentStatus.PAID, "second_capture")
    assert await surplus_of(books, payment_id) == [(late.transaction_id, "118.00", "second_capture")]
    rows: list[Attempt] = await books.rows(Attempt, payment_id)
    assert {row.number: row.status for row in rows} == {1: "paid", 2: "surplus"}
    assert next(row.transaction_id for row in rows if row.number == 2) == late.transaction_id
    await books.settle(payment_id, late, second)
    assert len(await surplus_of(books, payment_id)) == 1


async def test_an_order_that_another_payment_has_met_is_paid_and_all_of_it_is_surplus(books: Books) -> None:
    one, other = await books.payment(order_id="o"), await books.payment(order_id="o")
    await books.settle(one, captured())
    observed = captured()
    done = await books.settle(other, observed)
    assert done == Confirmation(PaymentStatus.PAID, None, "order_paid_twice")
    payment = await books.read(other)
    assert (payment.status, payment.flag, payment.status_reason) == ("paid", "order_paid_twice", "order_paid_twice")
    assert payment.provider_transaction_id == observed.transaction_id
    assert await surplus_of(books, other) == [(observed.transaction_id, "118.00", "order_paid_twice")]
    assert await books.rows(Receipt, other) == []
    assert await books.rows(Commission, other) == []
    assert {kind for kind, _ in await books.movements(other)} == {"surplus"}
    assert [(actor, details.get("flag")) for actor, action, details in await books.told(other) if "to" in details] == [
        ("provider", "order_paid_twice")
    ]
    # a repeat changes nothing, and more of it is more surplus under the same reason to look
    await books.settle(other, observed)
    assert len(await surplus_of(books, other)) == 1
    await books.settle(other, captured("128.00", transaction_id=observed.transaction_id))
    assert [money for _, money, _ in await surplus_of(books, other)] == ["118.00", "10.00"]
    assert (await books.read(other)).flag == "order_paid_twice"


async def test_a_transaction_that_settled_another_payment_is_said_and_not_taken_again(books: Books) -> None:
    one, other = await books.payment(), await books.payment()
    first, mine = captured(), captured()
    await books.settle(one, first)
    await books.settle(other, mine)
    async with books.database.transaction() as session:
        payment, workspace = await payments.lock(session, one)
        await record_surplus(session, payment, workspace, captured("5.00", transaction_id="pi_s"), None, claimed=True)
    async with books.database.transaction() as session:
        payment, workspace = await payments.lock(session, other)
        await record_surplus(session, payment, workspace, captured("5.00", transaction_id="pi_s"), None, claimed=True)
    assert await surplus_of(books, other) == []
    assert (await books.read(other)).flag == "transaction_settled_another_payment"


async def test_what_one_event_claims_is_one_transactions_money(books: Books) -> None:
    payment_id, observed = await books.payment(), captured()
    await books.settle(payment_id, observed)
    for _ in range(2):  # told twice
        async with books.database.transaction() as session:
            payment, workspace = await payments.lock(session, payment_id)
            claim = captured("200.00", transaction_id=f"pi_c{payment_id.hex}")
            await record_surplus(session, payment, workspace, claim, None, claimed=True)
    assert await surplus_of(books, payment_id) == [(f"pi_c{payment_id.hex}", "200.00", "second_capture")]


async def test_money_of_another_currency_beyond_the_payment_is_not_counted_with_it(books: Books) -> None:
    payment_id, observed = await books.payment(), captured()
    await books.settle(payment_id, observed)
    foreign = captured("500.00", "USD")
    await books.settle(payment_id, foreign)
    rows = await books.rows(SurplusCapture, payment_id)
    assert [(row.transaction_id, row.amount, row.currency) for row in rows] == [
        (foreign.transaction_id, Decimal(500), "USD")
    ]

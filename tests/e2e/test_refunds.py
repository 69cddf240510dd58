"""Money on its way back: split, documents, claw-back, concurrency, and what may go wrong."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from pypdf import PdfReader
from sqlalchemy import select, text

from domain.money import Money
from providers.registry import PROVIDERS, capabilities_of
from storage import ledger, surplus
from storage.models import Commission, LedgerEntry, OrderNotice, Payment, Receipt, Refund
from tests.support.service import Service, Shop, eventually


async def paid(shop: Shop, **changes: Any) -> dict[str, Any]:
    payment = await shop.pays(**changes)
    await shop.pay(payment)
    return await shop.until(payment["id"], "paid")


async def refund(shop: Shop, payment: dict[str, Any], amount: str | None = None, key: str | None = None) -> Any:
    body = {"payment_id": payment["id"], "reason": "one visit was cancelled"}
    if amount is not None:
        body["amount"] = amount
    headers = {"Idempotency-Key": key or secrets.token_hex(8)}
    answer = await shop.api.post("/refunds", json=body, headers=headers)
    while answer.status_code == 503:  # too busy: a caller comes back with the same key
        answer = await shop.api.post("/refunds", json=body, headers=headers)
    return answer


async def balances(shop: Shop) -> dict[str, Money]:
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
    return {name.split(":")[0]: amount for name, amount in found.items()}


async def told(shop: Shop, payment_id: str) -> list[str]:
    async with shop.service.database.transaction() as session:
        rows = await session.scalars(
            select(OrderNotice.type).where(OrderNotice.payment_id == payment_id).order_by(OrderNotice.seq)
        )
        return list(rows)


@pytest.mark.parametrize("name", sorted(name for name in PROVIDERS if capabilities_of(name).refund_window))
async def test_a_refund_after_the_providers_time_is_refused_and_says_where_it_is_made(
    service: Service, name: str
) -> None:
    window = capabilities_of(name).refund_window
    assert window is not None
    shop = await service.shop(name)
    payment = await shop.pays()
    await shop.till.payer.pays(await shop.checkout(payment))
    await shop.until(payment["id"], "paid")

    async def paid_days_ago(days: int) -> None:
        async with service.database.transaction() as session:
            row = await session.get(Payment, UUID(payment["id"]))
            assert row is not None
            row.paid_at = datetime.now(UTC) - timedelta(days=days)

    await paid_days_ago(window.days + 1)
    body = {"payment_id": payment["id"]}
    for answer in (await refund(shop, payment), await shop.api.post("/refunds", json=body, params={"dry_run": "true"})):
        assert (answer.status_code, answer.json()["code"]) == (422, "refund_not_supported"), answer.text
        assert window.afterwards in answer.json()["detail"]
    assert (await shop.api.get("/refunds", params=body)).json()["data"] == []
    await paid_days_ago(0)
    assert (await refund(shop, payment)).status_code in (201, 202)
    await shop.aclose()


async def test_a_full_refund_undoes_all_of_it(shop: Shop) -> None:
    payment = await paid(shop)
    answer = await refund(shop, payment)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["status"], made["amount"], made["vat"]) == ("succeeded", "129.90", "19.82")
    assert made["commission_clawed_back"] == "12.99"
    now = await shop.read(payment["id"])
    assert (now["status"], now["refunded"]) == ("refunded", "129.90")
    assert all(amount.minor == 0 for amount in (await balances(shop)).values())
    note = (await shop.api.get(f"/receipts/{made['credit_note_id']}")).json()
    assert (note["kind"], note["number"], note["israeli_code"]) == ("credit_note", 1, 330)
    assert (note["net"], note["vat"], note["total"], note["vat_rate"]) == ("110.08", "19.82", "129.90", "0.18")
    report = (await shop.api.get("/referrers/partner-5/report")).json()["totals"]
    assert [(line["status"], line["amount"], line["clawed_back"]) for line in report] == [
        ("clawed_back", "0.00", "12.99")
    ]
    assert (await told(shop, payment["id"]))[-2:] == ["payment.refunded", "refund.succeeded"]
    assert (await shop.totals(payment["id"]))["refunded"] == 12990

    async def pdf() -> bytes | None:
        document = await shop.api.get(f"/receipts/{made['credit_note_id']}.pdf")
        return document.content if document.status_code == 200 else None

    text = PdfReader(io.BytesIO(await eventually(pdf))).pages[0].extract_text()
    assert "129.90" in text
    assert f"{note['fiscal_year']}-000001" in text


async def test_parts_add_up_and_each_has_its_own_document_and_notice(shop: Shop) -> None:
    payment = await paid(shop, amount="100.01")
    amounts = ["33.33", "33.34", "0.01", "33.33"]
    made = [(await refund(shop, payment, amount)).json() for amount in amounts]
    assert [one["status"] for one in made] == ["succeeded"] * 4
    async with shop.service.database.transaction() as session:
        original = (
            await session.scalars(
                select(Receipt).where(Receipt.payment_id == payment["id"], Receipt.refund_id.is_(None))
            )
        ).one()
        notes = (
            await session.scalars(
                select(Receipt).where(Receipt.payment_id == payment["id"], Receipt.refund_id.is_not(None))
            )
        ).all()
        commission = (await session.scalars(select(Commission).where(Commission.payment_id == payment["id"]))).one()
    assert sorted(note.number for note in notes) == [1, 2, 3, 4]
    assert sum(note.vat for note in notes) == original.vat
    assert sum(note.net for note in notes) == original.net
    assert commission.clawed_back == commission.amount
    assert all(amount.minor == 0 for amount in (await balances(shop)).values())
    assert (await told(shop, payment["id"])).count("refund.succeeded") == 4
    assert (await shop.read(payment["id"]))["status"] == "refunded"


async def test_the_providers_fee_is_noted_at_the_capture_and_comes_back_as_agreed(shop: Shop) -> None:
    path = f"/provider-accounts/{shop.account.id}"
    wrong = await shop.api.patch(path, json={"fees": {"rate": "0.029", "fixed": "1.205"}})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_failed")
    agreed = await shop.api.patch(path, json={"fees": {"rate": "0.029", "fixed": "1.20", "returned": True}})
    assert agreed.json()["fees"] == {"rate": "0.029", "fixed": "1.2", "returned": True}
    payment = await paid(shop)
    assert payment["fee"] == "4.97"  # 129.90 × 0.029 = 3.7671, and 1.20
    assert (await balances(shop))["provider_fees"] == Money.parse("4.97", "ILS")
    assert (await shop.api.patch(path, json={"fees": {}})).json()["fees"]["rate"] == "0"
    made = [(await refund(shop, payment, amount)).json()["fee_returned"] for amount in ("29.90", "50.00", "50.00")]
    assert made == ["1.14", "1.92", "1.91"]
    assert all(amount.minor == 0 for amount in (await balances(shop)).values())


async def test_the_rate_of_the_original_stays(shop: Shop) -> None:
    payment = await paid(shop)
    changed = await shop.api.patch(f"/workspaces/{shop.workspace.id}", json={"vat_rate": "0.17"})
    assert changed.status_code == 200
    made = (await refund(shop, payment)).json()
    assert (made["vat"], (await shop.api.get(f"/receipts/{made['credit_note_id']}")).json()["vat_rate"]) == (
        "19.82",
        "0.18",
    )


async def test_a_preview_says_what_will_happen_and_does_nothing(shop: Shop) -> None:
    payment = await paid(shop)
    body = {"payment_id": payment["id"], "amount": "29.90"}
    said = (await shop.api.post("/refunds/preview", json=body)).json()
    provider = f"provider:{shop.account.id}"
    assert said["documents"] == [
        {
            "kind": "credit_note",
            "number": said["documents"][0]["number"],
            "net": "25.34",
            "vat": "4.56",
            "total": "29.90",
        }
    ]
    assert {line["account"]: line["amount"] for line in said["ledger"]} == {
        "sales": "25.34",
        "vat_payable": "4.56",
        provider: "-29.90",
        "commission_payable:partner-5": "2.99",
        "commission_expense": "-2.99",
    }
    assert {(one["field"], one["from"], one["to"]) for one in said["changes"]} == {
        ("status", "paid", "partially_refunded"),
        ("refunded", "0.00", "29.90"),
        ("clawed_back", "0.00", "2.99"),
    }
    assert said["notices"] == ["payment.partially_refunded", "refund.succeeded"]
    wanted = ("amount", "net", "vat", "commission_clawed_back", "left_to_refund", "payment_status")
    assert [said[name] for name in wanted] == ["29.90", "25.34", "4.56", "2.99", "100.00", "partially_refunded"]
    again = await shop.api.post("/refunds", params={"dry_run": True}, json=body)
    assert (again.status_code, again.json()) == (200, said)
    assert (await balances(shop))["provider"] == Money.parse("129.90", "ILS")
    assert (await told(shop, payment["id"]))[-1] == "payment.paid"
    assert (await shop.api.get("/refunds", params={"payment_id": payment["id"]})).json()["data"] == []
    made = (await refund(shop, payment, "29.90")).json()
    assert (made["vat"], made["commission_clawed_back"]) == (said["vat"], said["commission_clawed_back"])


async def test_a_hundred_at_once_never_exceed_the_payment(shop: Shop) -> None:
    payment = await paid(shop, amount="100.00")
    answers = await asyncio.gather(*(refund(shop, payment, "9.00") for _ in range(100)))
    done = [answer for answer in answers if answer.status_code in (201, 202)]
    assert len(done) == 11
    assert {answer.json()["code"] for answer in answers if answer not in done} == {"refund_exceeds_payment"}

    async def finished() -> bool:
        rows = (await shop.api.get("/refunds", params={"payment_id": payment["id"], "limit": 100})).json()["data"]
        return all(row["status"] == "succeeded" for row in rows)

    await eventually(finished, 60)
    assert (await shop.totals(payment["id"]))["refunded"] == 9900
    async with shop.service.database.transaction() as session:
        row = await session.get(Payment, payment["id"])
    assert row is not None
    assert (row.refunded, row.refund_reserved) == (Decimal("99.0000"), Decimal(0))


async def test_a_repeat_refunds_once(shop: Shop) -> None:
    payment = await paid(shop)
    answers = await asyncio.gather(*(refund(shop, payment, "10.00", key="r-1") for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert (await shop.totals(payment["id"]))["refunded"] == 1000
    other = await refund(shop, payment, "11.00", key="r-1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


async def test_one_key_for_two_payments_at_the_same_moment_is_told(shop: Shop) -> None:
    """Each had its own payment's lock, so both looked for the key before either had written it."""
    first, second = await paid(shop), await paid(shop)

    async def both_wait() -> bool:
        async with shop.service.database.statement() as other:
            return bool(await other.scalar(text("SELECT count(*) >= 2 FROM pg_locks WHERE NOT granted")))

    async with shop.service.database.transaction() as session:
        await session.execute(text("LOCK TABLE refunds IN SHARE MODE"))
        asked = asyncio.gather(*(refund(shop, payment, "10.00", key="r-2") for payment in (first, second)))
        await eventually(both_wait)
    answers = await asked
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert {answer.json().get("code") for answer in answers} == {None, "idempotency_key_reused"}


async def test_a_provider_that_acts_and_is_silent_refunds_once(shop: Shop) -> None:
    payment = await paid(shop)
    await shop.sandbox("POST", "/faults", {"operation": "create_refund", "fault": "timeout_after:4", "count": 1})
    answer = await refund(shop, payment, "50.00")
    assert answer.status_code in (201, 202)
    assert answer.json()["status"] in ("unknown", "succeeded")  # the look-up may be as fast as this answer

    async def succeeded() -> bool:
        found = (await shop.api.get(f"/refunds/{answer.json()['id']}")).json()
        return bool(found["status"] == "succeeded")

    await eventually(succeeded, 30)
    assert (await shop.totals(payment["id"]))["refunded"] == 5000
    assert (await shop.read(payment["id"]))["refunded"] == "50.00"


async def test_a_refusal_is_final_and_gives_the_reserve_back(shop: Shop) -> None:
    payment = await paid(shop)
    charge = next(
        one
        for one in await shop.sandbox("GET", "/objects?type=charge")
        if one["metadata"]["payment_id"] == payment["id"]
    )
    await shop.sandbox("POST", f"/charges/{charge['id']}/dispute")
    answer = await refund(shop, payment, "50.00")
    made = answer.json()
    assert (answer.status_code, made["status"]) == (201, "failed"), answer.text
    assert made["failure_code"]
    async with shop.service.database.transaction() as session:
        row = await session.get(Payment, payment["id"])
    assert row is not None
    assert row.refund_reserved == 0
    assert "refund.failed" in await told(shop, payment["id"])  # the dispute is told of at the same time


async def test_a_refund_made_at_the_provider_is_put_on_record(shop: Shop) -> None:
    payment = await paid(shop)
    intent = payment["provider_transaction_id"]
    answer = await shop.service.http.post(
        f"{shop.service.sandbox_url}/v1/refunds",
        data={"payment_intent": intent, "amount": "2990"},
        headers={"authorization": f"Bearer {shop.provider_key}"},
    )
    assert answer.status_code == 200, answer.text
    seen = await shop.until(payment["id"], "partially_refunded")
    assert seen["refunded"] == "29.90"
    rows = (await shop.api.get("/refunds", params={"payment_id": payment["id"]})).json()["data"]
    assert [(row["origin"], row["amount"], row["status"]) for row in rows] == [("provider", "29.90", "succeeded")]
    rest = (await refund(shop, payment)).json()
    assert (rest["amount"], rest["status"]) == ("100.00", "succeeded")
    assert all(amount.minor == 0 for amount in (await balances(shop)).values())


async def test_a_refund_that_comes_back_is_owed_to_the_payer_until_it_is_made_again(shop: Shop) -> None:
    """Stripe: a refund may fail after it had succeeded, and the money is in the balance again."""
    payment = await paid(shop)
    first, second = [(await refund(shop, payment, amount)).json() for amount in ("29.90", "100.00")]
    assert (await shop.read(payment["id"]))["status"] == "refunded"
    await shop.sandbox("POST", f"/refunds/{second['provider_refund_id']}/return")

    async def stands(status: str) -> bool:
        return bool((await shop.api.get(f"/refunds/{second['id']}")).json()["status"] == status)

    await eventually(lambda: stands("returned"))
    seen = await shop.read(payment["id"])
    assert (seen["status"], seen["refunded"], seen["flag"]) == ("refunded", "129.90", "refund_returned")
    assert (await shop.api.get(f"/refunds/{second['id']}")).json()["failure_code"] == "expired_or_canceled_card"
    assert (await shop.api.get(f"/refunds/{first['id']}")).json()["status"] == "succeeded"
    left = {name.split(":")[0]: str(amount) for name, amount in (await balances(shop)).items() if amount.minor}
    assert left == {"provider": "100.00", "payer_credit": "-100.00"}

    answer = await shop.service.http.post(
        f"{shop.service.sandbox_url}/v1/refunds",
        data={"payment_intent": payment["provider_transaction_id"], "amount": "10000"},
        headers={"authorization": f"Bearer {shop.provider_key}"},
    )
    assert answer.status_code == 200, answer.text
    await eventually(lambda: stands("succeeded"))
    again = await shop.read(payment["id"])
    assert (again["refunded"], again["flag"]) == ("129.90", None)
    assert all(amount.minor == 0 for amount in (await balances(shop)).values())
    listed = (await shop.api.get("/refunds", params={"payment_id": payment["id"]})).json()["data"]
    assert {row["id"]: row["credit_note_id"] for row in listed} == {
        one["id"]: one["credit_note_id"] for one in (first, second)
    }
    notices = await told(shop, payment["id"])
    assert [name for name in notices if name in ("refund.returned", "refund.paid_again")] == [
        "refund.returned",
        "refund.paid_again",
    ]


async def test_a_refund_that_came_back_is_settled_outside_the_provider_once(shop: Shop) -> None:
    payment = await paid(shop)
    first, second = [(await refund(shop, payment, amount)).json() for amount in ("29.90", "100.00")]
    path, wire = f"/refunds/{second['id']}/settle-outside", {"reference": "wire 4711"}

    async def stands(status: str) -> bool:
        return bool((await shop.api.get(f"/refunds/{second['id']}")).json()["status"] == status)

    early = await shop.api.post(path, json=wire)
    assert (early.status_code, early.json()["code"], early.json()["status_now"]) == (
        409,
        "refund_not_returned",
        "succeeded",
    )
    await shop.sandbox("POST", f"/refunds/{second['provider_refund_id']}/return")
    await eventually(lambda: stands("returned"))
    assert (await shop.api.post(path, json={"reference": "a\nb"})).status_code == 422
    assert (await shop.api.post(f"/refunds/{uuid4()}/settle-outside", json=wire)).status_code == 404

    said = (await shop.api.post(path, params={"dry_run": True}, json=wire)).json()
    assert {(one["subject"], one["field"], one["from"], one["to"]) for one in said["changes"]} == {
        ("refunds", "status", "returned", "settled_outside"),
        ("payments", "flag", "refund_returned", None),
    }
    assert [(one["account"].split(":")[0], one["amount"]) for one in said["ledger"]] == [
        ("payer_credit", "100.00"),
        ("refunds_paid_outside", "-100.00"),
    ]
    assert said["notices"] == ["refund.settled_outside"]
    assert await stands("returned")

    answers = await asyncio.gather(
        *(shop.api.post(path, json=wire) for _ in range(4)),
        *(shop.api.post(path, json=wire, headers={"Idempotency-Key": "wire-4711"}) for _ in range(4)),
    )
    assert {(one.status_code, one.json()["status"], one.json()["outside_reference"]) for one in answers} == {
        (200, "settled_outside", "wire 4711")
    }
    other = await shop.api.post(path, json={"reference": "wire 4712"})
    assert (other.status_code, other.json()["code"]) == (409, "refund_not_returned")
    assert "wire 4711" in other.json()["detail"]
    seen = await shop.read(payment["id"])
    assert (seen["status"], seen["refunded"], seen["flag"]) == ("refunded", "129.90", None)
    left = {name.split(":")[0]: str(amount) for name, amount in (await balances(shop)).items() if amount.minor}
    assert left == {"provider": "100.00", "refunds_paid_outside": "-100.00"}
    assert (await told(shop, payment["id"])).count("refund.settled_outside") == 1
    entries = (await shop.api.get(f"/payments/{payment['id']}/timeline")).json()
    (settled,) = [one for one in entries if one["what"] == "refund.settled_outside" and "amount" in one["details"]]
    assert settled["details"]["outside_reference"] == "wire 4711"
    assert settled["source"] != "provider"

    answer = await shop.service.http.post(  # and somebody makes it in the dashboard all the same
        f"{shop.service.sandbox_url}/v1/refunds",
        data={"payment_intent": payment["provider_transaction_id"], "amount": "10000"},
        headers={"authorization": f"Bearer {shop.provider_key}"},
    )
    assert answer.status_code == 200, answer.text
    await eventually(lambda: stands("succeeded"))
    assert (await shop.read(payment["id"]))["flag"] == "refund_paid_twice"
    left = {name.split(":")[0]: str(amount) for name, amount in (await balances(shop)).items() if amount.minor}
    assert left == {"payer_credit": "100.00", "refunds_paid_outside": "-100.00"}
    assert (await shop.api.get(f"/refunds/{first['id']}")).json()["status"] == "succeeded"


async def test_a_refund_of_the_dashboards_that_comes_back_is_noticed_too(shop: Shop) -> None:
    payment = await paid(shop)
    await refund(shop, payment, "10.00")
    made = await shop.service.http.post(
        f"{shop.service.sandbox_url}/v1/refunds",
        data={"payment_intent": payment["provider_transaction_id"], "amount": "2990"},
        headers={"authorization": f"Bearer {shop.provider_key}"},
    )

    async def stand(*wanted: str) -> bool:
        rows = (await shop.api.get("/refunds", params={"payment_id": payment["id"]})).json()["data"]
        return [row["status"] for row in rows] == [*wanted]

    await eventually(lambda: stand("succeeded", "succeeded"))
    await shop.sandbox("POST", f"/refunds/{made.json()['id']}/return")
    await eventually(lambda: stand("returned", "succeeded"))
    left = {name.split(":")[0]: str(amount) for name, amount in (await balances(shop)).items()}
    assert left["payer_credit"] == "-29.90"


async def test_ours_and_the_webhook_about_it_are_one_refund(shop: Shop) -> None:
    payment = await paid(shop)
    await asyncio.gather(*(refund(shop, payment, "10.00") for _ in range(5)))

    async def quiet() -> bool:
        async with shop.service.database.transaction() as session:
            rows = (await session.scalars(select(Refund).where(Refund.payment_id == payment["id"]))).all()
        return len(rows) == 5 and all(row.status == "succeeded" for row in rows)

    await eventually(quiet, 30)
    health = (await shop.api.get("/webhooks/health")).json()
    assert health["callbacks"]["refused"] == {}
    assert (await shop.read(payment["id"]))["refunded"] == "50.00"
    rows = (await shop.api.get("/refunds", params={"payment_id": payment["id"]})).json()["data"]
    assert {row["origin"] for row in rows} == {"merchant"}


async def test_a_commission_that_was_paid_out_leaves_the_referrer_in_debit(shop: Shop) -> None:
    payment = await paid(shop)
    commission = (await shop.api.get("/commissions")).json()["data"][0]
    await shop.api.post(f"/commissions/{commission['id']}/paid", json={"reference": "t-1"})
    await refund(shop, payment)
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
    assert found["commission_payable:partner-5"] == Money.parse("12.99", "ILS")
    await paid(shop, amount="200.00")
    async with shop.service.database.transaction() as session:
        found = await ledger.balances(session, shop.workspace.id)
    assert found["commission_payable:partner-5"] == Money.parse("-7.01", "ILS")


async def test_what_cannot_be_refunded_says_why(shop: Shop) -> None:
    pending = await shop.pays()
    unpaid = await refund(shop, pending)
    assert (unpaid.status_code, unpaid.json()["code"]) == (409, "payment_not_refundable")
    payment = await paid(shop)
    for amount, code in (
        ("129.91", "refund_exceeds_payment"),
        ("0", "validation_failed"),
        ("1.234", "validation_failed"),
    ):
        answer = await refund(shop, payment, amount)
        assert answer.json()["code"] == code, answer.text
    floated = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": 5.0})
    assert floated.status_code == 422
    other = await shop.service.shop()
    assert (await refund(other, payment)).status_code == 404
    key = (await shop.api.post("/api-keys", json={"name": "r", "scopes": ["payments:write"]})).json()["key"]
    refused = await shop.service.http.post(
        f"{shop.service.api_url}/api/v1/refunds",
        json={"payment_id": payment["id"]},
        headers={"authorization": f"Bearer {key}"},
    )
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    await other.api.aclose()


async def test_nothing_of_it_is_in_the_books_twice(shop: Shop) -> None:
    payment = await paid(shop)
    await refund(shop, payment, "10.00")
    async with shop.service.database.transaction() as session:
        kinds = (
            await session.execute(
                select(LedgerEntry.kind, LedgerEntry.movement_id).where(LedgerEntry.payment_id == payment["id"])
            )
        ).all()
        assert {kind for kind, _ in kinds} == {"capture", "refund"}
        assert len({movement for _, movement in kinds}) == 2
        assert await surplus.of_payment(session, payment["id"]) == []
    assert json.dumps((await shop.api.get(f"/payments/{payment['id']}/timeline")).json())

"""Payouts over HTTP: from what is owed to the last result of the bank, with what comes between."""

from __future__ import annotations

import base64
import csv
import io
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select

import wiring
from domain.dispute import DisputeState
from domain.payout import PayoutStatus
from engine.client import connect
from engine.payouts import payout_workflow_id
from storage import administration
from storage.models import AuditEntry
from tests.support.referrals import balances, disputed, money, now, owed, refunded, sold, state_of
from tests.support.service import Service, Shop, eventually
from workflows.payout import PayoutWorkflow


async def prepared(shop: Shop, **body: Any) -> dict[str, Any]:
    answer = await shop.api.post("/payouts", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def approved(shop: Shop, payout_id: str) -> dict[str, Any]:
    answer = await shop.api.post(f"/payouts/{payout_id}/approve")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def read(shop: Shop, payout_id: str) -> dict[str, Any]:
    return dict((await shop.api.get(f"/payouts/{payout_id}")).json())


async def file_of(shop: Shop, payout_id: str) -> list[list[str]]:
    async def made() -> httpx.Response | None:
        answer = await shop.api.get(f"/payouts/{payout_id}/export.csv")
        assert answer.status_code in (200, 503), answer.text
        return answer if answer.status_code == 200 else None

    answer = await eventually(made)
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))


def lines(payout: dict[str, Any]) -> dict[str, tuple[str, str, str, str]]:
    return {
        line["referrer_id"]: (line["gross"], line["carried"], line["amount"], line["status"])
        for line in payout["lines"]
    }


async def test_from_what_is_owed_to_the_last_result(shop: Shop) -> None:
    amount = money(shop)
    await shop.api.post(
        "/referrers",
        json={"id": "ann", "name": "=Ann", "payout_details": {"iban": "IL620108000000099999999", "bank": "+1"}},
    )
    for text in ("100.00", "55.55"):
        await sold(shop, amount(text), referrer="ann")
    await sold(shop, amount("80.00"), referrer="ben")
    fresh = await sold(shop, amount("100.00"), referrer="ben", ago=timedelta(days=1))
    payout = await prepared(shop)
    assert (payout["status"], payout["total"], payout["currency"]) == ("prepared", "23.56", "ILS")
    assert lines(payout) == {
        "ann": ("15.56", "0.00", "15.56", "prepared"),
        "ben": ("8.00", "0.00", "8.00", "prepared"),
    }
    assert payout["lines"][0]["payout_details_changed_at"]
    assert await state_of(shop, fresh) == "pending"
    early = await shop.api.get(f"/payouts/{payout['id']}/export.csv")
    assert (early.status_code, early.json()["code"]) == (409, "payout_not_approved")
    done = await approved(shop, payout["id"])
    assert (done["status"], done["decided_by"]) == ("approved", done["prepared_by"])
    assert {name: str(money_) for name, money_ in (await balances(shop)).items() if "transit" in name} == {
        f"payouts_in_transit:{payout['id']}": "-23.56"
    }
    head, *rows, footer = await file_of(shop, payout["id"])
    assert head == ["line_id", "referrer_id", "name", "amount", "currency", "bank", "iban"]
    assert [row[1:] for row in rows] == [
        ["ann", "'=Ann", "15.56", "ILS", "+1", "IL620108000000099999999"],
        ["ben", "", "8.00", "ILS", "", ""],
    ]
    assert footer == ["total", "2", "", "23.56", "ILS", "", ""]
    ann, ben = (row[0] for row in rows)
    url = f"/payouts/{payout['id']}/lines"
    for _ in range(2):
        paid = await shop.api.post(f"{url}/{ann}/paid", json={"reference": "wire-1"})
        assert lines(paid.json())["ann"][3] == "paid"
    other = await shop.api.post(f"{url}/{ann}/failed", json={"reason": "x"})
    assert (other.status_code, other.json()["code"]) == (409, "payout_line_has_result")
    assert (await read(shop, payout["id"]))["status"] == "approved"
    failed = (await shop.api.post(f"{url}/{ben}/failed", json={"reason": "account closed"})).json()
    assert (failed["status"], lines(failed)["ben"][3]) == ("closed", "failed")
    assert (str(await owed(shop, "ann")), str(await owed(shop, "ben"))) == ("0.00", "18.00")
    rows = (await shop.api.get("/commissions", params={"referrer_id": "ann"})).json()["data"]
    assert {(row["state"], row["payout_reference"]) for row in rows} == {("paid", "wire-1")}
    client = await connect(wiring.temporal_target(shop.service.settings))
    handle = client.get_workflow_handle_for(PayoutWorkflow.run, payout_workflow_id(UUID(payout["id"])))
    outcome = await handle.result()
    assert (outcome.status, outcome.open_lines) == (PayoutStatus.CLOSED, 0)
    again = await prepared(shop)
    assert lines(again) == {"ben": ("8.00", "0.00", "8.00", "prepared")}
    await eventually(lambda: _all_told(shop, payout["id"]))


async def test_what_the_bank_brings_back_is_owed_again_and_paid_by_the_next_batch(shop: Shop) -> None:
    amount = money(shop)
    first = await sold(shop, amount("100.00"), referrer="ann")
    await sold(shop, amount("40.00"), referrer="ben")
    payout = await prepared(shop)
    await approved(shop, payout["id"])
    ids = {line["referrer_id"]: line["id"] for line in payout["lines"]}
    url = f"/payouts/{payout['id']}/lines"
    early = await shop.api.post(f"{url}/{ids['ann']}/returned", json={"reason": "account closed"})
    assert (early.status_code, early.json()["code"]) == (409, "payout_line_not_paid")
    for name, line in ids.items():
        await shop.api.post(f"{url}/{line}/paid", json={"reference": f"wire-{name}"})
    assert (await read(shop, payout["id"]))["status"] == "closed"
    await refunded(shop, first, amount("50.00"))
    assert str(await owed(shop, "ann")) == "-5.00"

    before = await balances(shop)
    shown = await shop.api.post(f"{url}/{ids['ann']}/returned", json={"reason": "closed"}, params={"dry_run": True})
    assert shown.json()["notices"] == ["payout.line_returned"]
    assert {(one["account"], one["amount"]) for one in shown.json()["ledger"]} == {
        ("commission_payable:ann", "-10.00"),
        ("commission_paid_out", "10.00"),
    }
    effects = {(one["subject"], one["field"], one["from"], one["to"]) for one in shown.json()["changes"]}
    assert effects == {("payout_lines", "status", "paid", "returned"), ("commissions", "status", "paid", "accrued")} | {
        ("commissions", "payout_reference", "wire-ann", None)
    }
    assert await balances(shop) == before

    for _ in range(2):
        done = await shop.api.post(f"{url}/{ids['ann']}/returned", json={"reason": "account closed"})
        assert done.status_code == 200, done.text
        line = next(one for one in done.json()["lines"] if one["referrer_id"] == "ann")
        assert (line["status"], line["reference"], line["failure"]) == ("returned", "wire-ann", "account closed")
    other = await shop.api.post(f"{url}/{ids['ann']}/returned", json={"reason": "no such name"})
    assert (other.status_code, other.json()["code"]) == (409, "payout_line_has_result")
    again = f"line_id,result,reference\n{ids['ann']},paid,wire-ann\n{ids['ben']},returned,wrong name\n"
    for wanted in (True, False):
        report = (
            await shop.api.post(f"/payouts/{payout['id']}/results", content=again, params={"dry_run": wanted})
        ).json()
        assert [row["verdict"] for row in report["rows"]] == ["repeated", "recorded"]
        assert (report["would_write"] is not None) == wanted
        assert (str(await owed(shop, "ann")), str(await owed(shop, "ben"))) == ("5.00", "0.00" if wanted else "4.00")
    days = {"from": f"{now() - timedelta(days=2):%Y-%m-%d}", "to": f"{now() + timedelta(days=2):%Y-%m-%d}"}
    statement = (await shop.api.get("/referrers/ann/statement", params=days)).json()
    assert (statement["accrued"], statement["clawed_back"], statement["paid"]) == ("10.00", "5.00", "0.00")
    assert await state_of(shop, first) == "payable"
    assert lines(await prepared(shop)) == {
        "ann": ("5.00", "0.00", "5.00", "prepared"),
        "ben": ("4.00", "0.00", "4.00", "prepared"),
    }

    async def told() -> bool:
        notices = [one for one in shop.service.merchant.notices if one["type"] == "payout.line_returned"]
        return {one["data"]["line_id"] for one in notices if one["data"]["payout_id"] == payout["id"]} == {
            *ids.values()
        }

    await eventually(told)


async def test_a_dry_run_of_a_decision_or_a_result_writes_nothing(shop: Shop) -> None:
    await sold(shop, money(shop)("100.00"), referrer="ann")
    payout = await prepared(shop)
    url = f"/payouts/{payout['id']}"
    dry = {"dry_run": True}
    rejected = (await shop.api.post(f"{url}/reject", json={"reason": "x"}, params=dry)).json()
    assert (rejected["audit"], rejected["notices"]) == (["payout.rejected"], ["payout.rejected"])
    found = await read(shop, payout["id"])
    assert (found["status"], found["reason"]) == ("prepared", None)
    await approved(shop, payout["id"])
    (line,) = payout["lines"]
    for result, body, audit in (
        ("paid", {}, ["payout.line_paid", "payout.closed"]),
        ("failed", {"reason": "x"}, ["payout.line_failed", "payout.closed"]),
    ):
        shown = (await shop.api.post(f"{url}/lines/{line['id']}/{result}", json=body, params=dry)).json()
        assert (shown["audit"], shown["notices"]) == (audit, ["payout.closed"])
        assert sum(Decimal(one["amount"]) for one in shown["ledger"]) == 0
    assert lines(await read(shop, payout["id"]))["ann"][3] == "sent"


async def _all_told(shop: Shop, payout_id: str) -> bool:
    told = {one["type"] for one in shop.service.merchant.notices if one["data"].get("payout_id") == payout_id}
    return told == {"payout.prepared", "payout.approved", "payout.closed"}


async def test_a_dry_run_says_who_would_be_paid_and_does_nothing(service: Service) -> None:
    shop = await service.shop(payout_minimum=5)
    await sold(shop, money(shop)("100.00"), referrer="ann")
    await sold(shop, money(shop)("40.00"), referrer="ben")
    answer = await shop.api.post("/payouts?dry_run=true", json={})
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["id"], shown["total"], shown["minimum"]) == (None, "10.00", "5.00")
    assert [(one["referrer_id"], one["amount"], one["skipped"], one["commissions"]) for one in shown["lines"]] == [
        ("ann", "10.00", None, 1),
        ("ben", "4.00", "below_minimum", 1),
    ]
    assert (await shop.api.get("/payouts")).json()["data"] == []
    before = str(now() - timedelta(days=45)).replace(" ", "T")
    earlier = await shop.api.post("/payouts?dry_run=true", json={"cut_off": before})
    assert earlier.json()["lines"] == []
    future = await shop.api.post("/payouts", json={"cut_off": str(now() + timedelta(days=1)).replace(" ", "T")})
    assert (future.status_code, future.json()["code"]) == (422, "validation_failed")
    real = await prepared(shop)
    assert real["total"] == shown["total"]
    await shop.aclose()


async def test_a_dry_run_of_the_approval_shows_the_movements_and_does_nothing(shop: Shop) -> None:
    await sold(shop, money(shop)("100.00"))
    payout = await prepared(shop)
    url = f"/payouts/{payout['id']}/approve?dry_run=true"
    shown = (await shop.api.post(url)).json()
    assert [(one["account"].split(":")[0], one["amount"]) for one in shown["ledger"]] == [
        ("commission_payable", "10.00"),
        ("payouts_in_transit", "-10.00"),
    ]
    assert (shown["notices"], shown["audit"]) == (["payout.approved"], ["payout.approved"])
    assert (await read(shop, payout["id"]))["status"] == "prepared"
    assert str(await owed(shop)) == "10.00"
    (row,) = (await shop.api.get("/commissions")).json()["data"]
    await refunded(shop, UUID(row["payment_id"]), money(shop)("10.00"))
    changed = await shop.api.post(url)
    assert (changed.status_code, changed.json()["code"]) == (409, "payout_changed")
    assert (await read(shop, payout["id"]))["total"] == "10.00"


async def test_nothing_personal_is_in_a_batchs_history_or_on_the_audit_log(shop: Shop) -> None:
    details = {"iban": "IL620108000000099999999", "holder": "Ann Cohen"}
    await shop.api.post(
        "/referrers", json={"id": "ann", "name": "Ann Cohen", "email": "ann@example.com", "payout_details": details}
    )
    await sold(shop, money(shop)("100.00"), referrer="ann")
    given_up = await prepared(shop)
    await shop.api.post(f"/payouts/{given_up['id']}/reject", json={"reason": "Ann Cohen has moved"})
    payout = await approved(shop, (await prepared(shop))["id"])
    await file_of(shop, payout["id"])
    line = payout["lines"][0]["id"]
    await shop.api.post(f"/payouts/{payout['id']}/lines/{line}/paid", json={"reference": "wire-1"})
    client = await connect(wiring.temporal_target(shop.service.settings))
    for payout_id in (given_up["id"], payout["id"]):
        handle = client.get_workflow_handle(payout_workflow_id(UUID(payout_id)))
        await handle.result()
        history = (await handle.fetch_history()).to_json()
        kept = b"".join(base64.b64decode(data) for data in re.findall(r'"data": ?"([^"]+)"', history)).decode()
        assert payout_id in kept
        assert not [word for word in ("Cohen", "IL62", "ann@", "wire-1") if word in kept + history]
    async with shop.service.database.transaction() as session:
        entries = await session.scalars(select(AuditEntry).where(AuditEntry.workspace_id == shop.workspace.id))
        told = [(entry.action, str(entry.details)) for entry in entries]
    assert not [one for one in told if "IL62" in one[1] or "ann@" in one[1]]
    assert {"payout.file_made", "payout.file_fetched", "payout.line_paid"} <= {action for action, _ in told}


async def test_nothing_to_pay_is_an_empty_batch_and_the_next_one_may_begin(shop: Shop) -> None:
    for _ in range(2):
        assert ((await prepared(shop))["status"], (await prepared(shop))["lines"]) == ("empty", [])


async def test_one_batch_at_a_time_and_a_repeat_is_the_same(shop: Shop) -> None:
    await sold(shop, money(shop)("100.00"))
    headers = {"Idempotency-Key": "november"}
    body = {"cut_off": (now() - timedelta(days=10)).isoformat()}
    first = await shop.api.post("/payouts", json=body, headers=headers)
    again = await shop.api.post("/payouts", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    reused = await shop.api.post("/payouts", json={}, headers=headers)
    assert (reused.status_code, reused.json()["code"]) == (409, "idempotency_key_reused")
    second = await shop.api.post("/payouts", json={})
    assert (second.status_code, second.json()["code"]) == (409, "payout_open")
    assert second.json()["payout_id"] == first.json()["id"]
    url = f"/payouts/{first.json()['id']}/reject"
    rejected = await shop.api.post(url, json={"reason": "wrong month"})
    assert (rejected.json()["status"], rejected.json()["reason"]) == ("rejected", "wrong month")
    late = await shop.api.post(f"/payouts/{first.json()['id']}/approve")
    assert (late.status_code, late.json()["code"], late.json()["status_now"]) == (409, "payout_is_final", "rejected")
    assert (await prepared(shop))["total"] == "10.00"


async def test_another_key_approves_where_the_workspace_says_so(service: Service) -> None:
    shop = await service.shop(payout_approval="another_key")
    await sold(shop, money(shop)("100.00"))
    payout = await prepared(shop)
    own = await shop.api.post(f"/payouts/{payout['id']}/approve")
    assert (own.status_code, own.json()["code"]) == (403, "approval_by_preparer")

    async def key(scope: str) -> httpx.AsyncClient:
        async with service.database.transaction() as session:
            made = administration.create_api_key(
                session, workspace_id=shop.workspace.id, name="x", scopes=[scope], actor="test"
            )
        return httpx.AsyncClient(
            base_url=f"{service.api_url}/api/v1", headers={"authorization": f"Bearer {made.key}"}, timeout=30
        )

    async with await key("payouts:write") as clerk, await key("payouts:approve") as boss:
        assert (await clerk.post(f"/payouts/{payout['id']}/approve")).status_code == 403
        assert (await boss.post("/payouts", json={})).status_code == 403
        done = await boss.post(f"/payouts/{payout['id']}/approve")
        assert (done.status_code, done.json()["status"]) == (200, "approved")
        again = await boss.post(f"/payouts/{payout['id']}/approve")
        assert (again.status_code, again.json()["status"]) == (200, "approved")
        assert (await shop.api.post(f"/payouts/{payout['id']}/approve")).json()["code"] == "payout_is_final"
    await shop.aclose()


async def test_what_changes_after_the_preparation_is_shown_before_it_is_approved(shop: Shop) -> None:
    amount = money(shop)
    first, second = [await sold(shop, amount("100.00"), referrer="ann") for _ in range(2)]
    only = await sold(shop, amount("50.00"), referrer="ben")
    payout = await prepared(shop)
    assert payout["total"] == "25.00"
    await refunded(shop, first, amount("30.00"))
    await disputed(shop, only, DisputeState.NEEDS_RESPONSE, amount("50.00"))
    stale = await shop.api.post(f"/payouts/{payout['id']}/approve")
    assert (stale.status_code, stale.json()["code"], stale.json()["total"]) == (409, "payout_changed", "17.00")
    shown = await read(shop, payout["id"])
    assert lines(shown) == {
        "ann": ("17.00", "0.00", "17.00", "prepared"),
        "ben": ("5.00", "0.00", "5.00", "dropped"),
    }
    assert (await approved(shop, payout["id"]))["total"] == "17.00"
    dropped = next(line["id"] for line in shown["lines"] if line["referrer_id"] == "ben")
    refused = await shop.api.post(f"/payouts/{payout['id']}/lines/{dropped}/paid", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "payout_not_approved")
    assert (await state_of(shop, second), await state_of(shop, only)) == ("in_payout", "held")


async def test_a_batch_that_loses_its_last_line_is_empty(shop: Shop) -> None:
    only = await sold(shop, money(shop)("100.00"))
    payout = await prepared(shop)
    await refunded(shop, only, money(shop)("100.00"))
    stale = await shop.api.post(f"/payouts/{payout['id']}/approve")
    assert (stale.json()["code"], stale.json()["total"], stale.json()["status_now"]) == (
        "payout_changed",
        "0.00",
        "empty",
    )
    again = await shop.api.post(f"/payouts/{payout['id']}/approve")
    assert again.json()["code"] == "payout_is_final"

    async def told() -> bool:
        notices = [one for one in shop.service.merchant.notices if one["data"].get("payout_id") == payout["id"]]
        return [one["type"] for one in notices if one["type"] == "payout.empty"] == ["payout.empty"]

    await eventually(told)
    assert (await prepared(shop))["status"] == "empty"


async def test_a_debt_is_taken_from_the_next_batch_once(shop: Shop) -> None:
    amount = money(shop)
    old = await sold(shop, amount("100.00"))
    payout = await prepared(shop)
    (line,) = (await approved(shop, payout["id"]))["lines"]
    await refunded(shop, old, amount("40.00"))  # on its way already
    paid = await shop.api.post(f"/payouts/{payout['id']}/lines/{line['id']}/paid", json={"reference": "w-1"})
    assert paid.json()["status"] == "closed"
    assert str(await owed(shop)) == "-4.00"
    await sold(shop, amount("30.00"))
    assert ((await prepared(shop))["status"], str(await owed(shop))) == ("empty", "-1.00")
    await sold(shop, amount("30.00"))
    (second,) = [await prepared(shop)]
    assert lines(second) == {"partner-5": ("6.00", "-4.00", "2.00", "prepared")}
    (line,) = (await approved(shop, second["id"]))["lines"]
    await shop.api.post(f"/payouts/{second['id']}/lines/{line['id']}/paid", json={})
    assert str(await owed(shop)) == "0.00"
    await sold(shop, amount("30.00"))
    assert lines(await prepared(shop)) == {"partner-5": ("3.00", "0.00", "3.00", "prepared")}


async def test_a_file_of_results_is_answered_row_by_row(shop: Shop) -> None:
    for name in ("ann", "ben", "cleo"):
        await sold(shop, money(shop)("100.00"), referrer=name)
    payout = await prepared(shop)
    url = f"/payouts/{payout['id']}/results"
    ids = {line["referrer_id"]: line["id"] for line in payout["lines"]}
    early = await shop.api.post(url, content=f"line_id,result\n{ids['ann']},paid\n")
    assert [row["problem"] for row in early.json()["rows"]] == ["payout_not_approved"]
    await approved(shop, payout["id"])
    content = "\r\n".join(
        [
            "\ufeffline_id,result,reference",
            f"{ids['ann']},paid,wire-1",
            f"{ids['ben']},FAILED,no such account",
            f"{uuid4()},paid,x",
            f"{ids['cleo']},perhaps,x",
            "nonsense,paid,x",
            f"{ids['ann']},paid,wire-2",
            "total,3,,30.00",
        ]
    )
    report = (await shop.api.post(url, content=content.encode())).json()
    assert [(row["line"], row["verdict"], row["problem"]) for row in report["rows"]] == [
        (2, "recorded", None),
        (3, "recorded", None),
        (4, "refused", "not_found"),
        (5, "refused", "no_result"),
        (6, "refused", "no_line_id"),
        (7, "refused", "payout_line_has_result"),
    ]
    assert (report["recorded"], report["repeated"], report["refused"]) == (2, 0, 4)
    assert report["payout"]["status"] == "approved"
    again = (await shop.api.post(url, content=content.encode())).json()
    assert (again["recorded"], again["repeated"]) == (0, 2)
    last = (await shop.api.post(url, content=f"line_id,result\n{ids['cleo']},paid\n")).json()
    assert (last["recorded"], last["payout"]["status"]) == (1, "closed")
    broken = (await shop.api.post(url, content=b"\xff\xfe")).json()
    assert [row["problem"] for row in broken["rows"]] == ["not_utf8"]
    large = await shop.api.post(url, content=b"x" * 2_000_001)
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")


async def test_a_commission_in_a_batch_is_not_paid_by_hand_and_one_paid_by_hand_is_not_in_a_batch(shop: Shop) -> None:
    first = await sold(shop, money(shop)("100.00"))
    row = (await shop.api.get("/commissions")).json()["data"][0]
    payout = await prepared(shop)
    refused = await shop.api.post(f"/commissions/{row['id']}/paid", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "commission_in_payout")
    await shop.api.post(f"/payouts/{payout['id']}/reject", json={"reason": "x"})
    assert (await shop.api.post(f"/commissions/{row['id']}/paid", json={})).status_code == 200
    assert (await prepared(shop))["status"] == "empty"
    assert await state_of(shop, first) == "paid"


async def test_other_workspaces_see_nothing_of_it(service: Service, shop: Shop) -> None:
    await sold(shop, money(shop)("100.00"))
    payout = await prepared(shop)
    line = payout["lines"][0]["id"]
    other = await service.shop()
    url = f"/payouts/{payout['id']}"
    for method, path, body in (
        ("GET", url, None),
        ("GET", f"{url}/export.csv", None),
        ("POST", f"{url}/approve", None),
        ("POST", f"{url}/reject", {"reason": "x"}),
        ("POST", f"{url}/lines/{line}/paid", {}),
        ("POST", f"{url}/results", {}),
    ):
        assert (await other.api.request(method, path, json=body)).status_code == 404, path
    assert (await other.api.get("/payouts")).json()["data"] == []
    assert (await read(shop, payout["id"]))["status"] == "prepared"
    await other.aclose()


@pytest.mark.parametrize("body", [{"cut_off": "yesterday"}, {"cut_off": "2026-01-01T00:00:00"}, {"x": 1}])
async def test_bad_requests_are_told(shop: Shop, body: dict[str, Any]) -> None:
    answer = await shop.api.post("/payouts", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")

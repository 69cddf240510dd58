"""`commissions pay` for a batch, `review`, `statement`, `blocklist`, and the secrets behind them."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from domain.fraud import Kind
from storage import administration
from storage.models import Commission, Payout, PayoutFile, Referrer
from storage.sealing import Sealer
from tests.cli.running import Apart, Operator
from tests.support.referrals import money, owed, sold, state_of
from tests.support.service import CREDENTIALS_KEY, Service, Shop


async def test_a_batch_from_the_dry_run_to_the_last_result(operator: Operator, shop: Shop, tmp_path: Path) -> None:
    for name, text in (("ann", "100.00"), ("ben", "55.50")):
        await sold(shop, money(shop)(text), referrer=name)
    pay = ["commissions", "pay", "--workspace", shop.workspace.slug]
    shown = (await operator(*pay, "--dry-run")).stdout
    assert "Would be paid" in shown
    assert "15.55" in shown
    assert (await shop.api.get("/payouts")).json()["data"] == []
    prepared = (await operator(*pay, "--json")).json["payout"]
    assert (prepared["status"], prepared["total"]) == ("prepared", "15.55")
    dry = (await operator(*pay, "--approve", "--dry-run", "--json")).json["payout"]
    assert (dry["id"], dry["status"], dry["total"]) == (prepared["id"], "approved", "15.55")
    assert "--dry-run goes with" in await operator.says(*pay, "--dry-run", "--export", tmp_path / "no.csv", code=2)
    dropped = (await operator(*pay, "--reject", "x", "--dry-run", "--json")).json
    assert (dropped["payout"]["status"], dropped["would_write"]["notices"]) == ("rejected", ["payout.rejected"])
    file = tmp_path / "bank.csv"
    approved = (await operator(*pay, "--approve", "--export", file, "--json")).json["payout"]
    assert (approved["id"], approved["status"]) == (prepared["id"], "approved")
    assert file.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    assert [(row["referrer_id"], row["amount"]) for row in rows] == [("ann", "10.00"), ("ben", "5.55"), ("2", "15.55")]
    assert "exists" in await operator.says(*pay, "--export", file)
    ann, ben = (row["line_id"] for row in rows[:2])
    paid = await operator(*pay, "--paid", ann, "--reference", "wire-1", "--json")
    assert [row["verdict"] for row in paid.json["rows"]] == ["recorded"]
    results = tmp_path / "results.csv"
    results.write_text(f"line_id,result,reference\n{ann},paid,wire-1\n{ben},failed,closed\n{uuid4()},paid,x\n")
    report = (await operator(*pay, "--results", results, "--json")).json
    assert [(row["verdict"], row["problem"]) for row in report["rows"]] == [
        ("repeated", None),
        ("recorded", None),
        ("refused", "not_found"),
    ]
    assert report["payout"]["status"] == "closed"
    assert (str(await owed(shop, "ann")), str(await owed(shop, "ben"))) == ("0.00", "5.55")
    assert "no open payout batch" in await operator.says(*pay, "--results", results)
    again = tmp_path / "again.csv"
    await operator(*pay, "--export", again)
    assert again.read_bytes() == file.read_bytes()


async def test_a_batch_is_given_up_and_another_one_prepared(operator: Operator, shop: Shop) -> None:
    payment_id = await sold(shop, money(shop)("100.00"))
    pay = ["commissions", "pay", "--workspace", shop.workspace.slug]
    first = (await operator(*pay, "--json")).json["payout"]
    assert await state_of(shop, payment_id) == "in_payout"
    rejected = (await operator(*pay, "--reject", "wrong month", "--json")).json["payout"]
    assert (rejected["id"], rejected["status"], rejected["reason"]) == (first["id"], "rejected", "wrong month")
    before = (datetime.now(UTC) - timedelta(days=200)).date()
    assert (await operator(*pay, "--cut-off", before, "--json")).json["payout"]["status"] == "empty"
    assert "It is rejected" in await operator.says(*pay, "--payout", first["id"], "--approve")
    assert "has no payout batch" in await operator.says(*pay, "--payout", uuid4())


async def test_the_command_line_is_one_hand_where_two_are_wanted(operator: Operator, service: Service) -> None:
    shop = await service.shop(payout_approval="another_key")
    await sold(shop, money(shop)("100.00"))
    pay = ["commissions", "pay", "--workspace", shop.workspace.slug]
    assert "another key" in await operator.says(*pay, "--approve")
    (payout,) = (await shop.api.get("/payouts")).json()["data"]
    approved = await shop.api.post(f"/payouts/{payout['id']}/approve")
    assert (approved.status_code, approved.json()["prepared_by"]) == (200, "payment-cli")
    await shop.aclose()


async def test_wrong_use_of_pay(operator: Operator, shop: Shop, tmp_path: Path) -> None:
    pay = ["commissions", "pay", "--workspace", shop.workspace.slug]
    assert "not both" in await operator.says(*pay, "--approve", "--reject", "x", code=2)
    assert "--reference goes with" in await operator.says(*pay, "--reference", "x", code=2)
    assert "only --reference" in await operator.says(*pay, uuid4(), "--approve", code=2)
    assert "no open payout batch" in await operator.says(*pay, "--paid", uuid4())
    assert "not in the future" in await operator.says(*pay, "--cut-off", "2999-01-01")
    assert "no workspace nowhere" in await operator.says("commissions", "pay", "--workspace", "nowhere")
    await operator(*pay)
    missing = tmp_path / "none.csv"
    await sold(shop, money(shop)("100.00"))
    await operator(*pay)
    assert "cannot be read" in await operator.says(*pay, "--results", missing)


async def test_a_dry_run_of_one_commission_books_nothing(operator: Operator, shop: Shop) -> None:
    payment_id = await sold(shop, money(shop)("100.00"))
    (row,) = (await shop.api.get("/commissions")).json()["data"]
    pay = ["commissions", "pay", row["id"], "--workspace", shop.workspace.slug]
    rows = (await operator(*pay, "--dry-run", "--json")).json
    assert {(one["account"], one["amount"]) for one in rows} == {
        ("commission_payable:partner-5", "10.00"),
        ("commission_paid_out", "-10.00"),
    }
    assert await state_of(shop, payment_id) == "payable"


async def test_reviews_statements_and_lists(operator: Operator, shop: Shop) -> None:
    ours = ["--workspace", shop.workspace.slug]
    added = await operator("blocklist", "add", "referrer", "Eve", *ours, "--reason", "fraud ring")
    assert "eve" in added.stdout
    assert "on the blocklist already" in await operator.says("blocklist", "add", "referrer", "eve", *ours)
    assert "not a email" in await operator.says("blocklist", "add", "email", "eve", *ours)
    (entry,) = (await operator("blocklist", "list", *ours, "--json")).json
    assert (entry["kind"], entry["by"], entry["reason"]) == ("referrer", "payment-cli", "fraud ring")
    payment_id = await sold(shop, money(shop)("100.00"), referrer="eve")
    async with shop.service.database.transaction() as session:
        assert await session.scalar(select(Commission).where(Commission.payment_id == payment_id)) is None
        session.add(Referrer(workspace_id=shop.workspace.id, id="ann", status="suspended"))
    await operator("blocklist", "remove", entry["id"], *ours)
    assert "has no entry" in await operator.says("blocklist", "remove", entry["id"], *ours)
    held = await sold(shop, money(shop)("100.00"), referrer="ann")
    (row,) = (await operator("commissions", "list", *ours, "--state", "held", "--json")).json
    assert (row["referrer"], row["held_by"]) == ("ann", ["referrer_suspended"])
    review = ["commissions", "review", row["id"], *ours, "--reason", "same household"]
    assert "--approve or --reject" in await operator.says(*review, code=2)
    assert "commission_expense" in (await operator(*review, "--reject", "--dry-run")).stdout
    (done,) = (await operator(*review, "--reject", "--json")).json
    assert (done["id"], done["state"]) == (row["id"], "rejected")
    assert "decided otherwise" in await operator.says(*review, "--approve")
    assert "has no commission" in await operator.says(
        "commissions", "review", uuid4(), *ours, "--reason", "x", "--approve"
    )
    assert await state_of(shop, held) == "rejected"
    today = datetime.now(UTC).date()
    days = ["--from", today - timedelta(days=1), "--to", today + timedelta(days=1)]
    found = (await operator("commissions", "statement", "ann", *ours, *days, "--json")).json
    assert (found["accrued"], found["clawed_back"], found["closing"]) == ("10.00", "10.00", "0.00")
    shown = (await operator("commissions", "statement", "ann", *ours, *days)).stdout
    assert "commission_rejected" in shown
    wrong = ["--from", today, "--to", today - timedelta(days=1)]
    assert "not before from" in await operator.says("commissions", "statement", "ann", *ours, *wrong)


async def test_rotating_keys_seals_identities_details_and_files_again(apart: Apart) -> None:
    old, new = CREDENTIALS_KEY, Fernet.generate_key().decode()
    sealer = Sealer([old])
    values: dict[str, Any] = {
        "slug": "solo",
        "name": "Solo",
        "currency": "ILS",
        "country": "IL",
        "timezone": "Asia/Jerusalem",
        "legal_name": "Solo",
        "fingerprint_key": sealer.seal("a2V5"),
    }
    async with apart.database.transaction() as session:
        workspace = await administration.create_workspace(session, values, actor="test")
        payout = Payout(
            id=uuid4(), workspace_id=workspace.id, cut_off=datetime.now(UTC), minimum=0, currency="ILS", prepared_by="x"
        )
        session.add(payout)
        await session.flush()
        session.add_all(
            [
                Referrer(
                    workspace_id=workspace.id,
                    id="ann",
                    identity=sealer.seal_mapping({"name": "Ann"}),
                    payout_details=sealer.seal_mapping({"iban": "IL62"}),
                ),
                PayoutFile(payout_id=payout.id, content=sealer.seal("file"), sha256=b"x" * 32),
            ]
        )
    await apart.operator("account", "rotate-keys", CREDENTIALS_KEYS=f"{new},{old}")
    fresh = Sealer([new])
    async with apart.database.transaction() as session:
        row = (await session.scalars(select(Referrer))).one()
        file = (await session.scalars(select(PayoutFile))).one()
        await session.refresh(workspace := await session.merge(workspace))
    assert fresh.open_mapping(row.identity or b"") == {"name": "Ann"}
    assert fresh.open_mapping(row.payout_details or b"") == {"iban": "IL62"}
    assert fresh.open(file.content) == "file"
    assert fresh.open(workspace.fingerprint_key or b"") == "a2V5"


@pytest.mark.parametrize("kind", [kind.value for kind in Kind])
async def test_every_kind_is_in_the_help(nobody: Operator, kind: str) -> None:
    assert kind in (await nobody("blocklist", "add", "--help")).stdout

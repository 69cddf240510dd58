"""Fraud guards at the settlement: what they refuse or hold, what they say, and that they never stop a payment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from sqlalchemy import select, text

from activities.fraud import PATIENCE_MILLISECONDS, FraudGuards
from activities.settlement import settle
from domain.fraud import Kind, trace
from domain.payment import PaymentStatus
from providers.base import ProviderPayment
from storage import audit, fingerprints, payments
from storage.models import AuditEntry, Blocked, Payment, PaymentMethod, Referrer
from storage.sealing import Sealer
from tests.support.referrals import commission_of, money, owed, sold, state_of
from tests.support.service import Service, Shop

NOW = timedelta(0)


@pytest_asyncio.fixture
async def partner(shop: Shop) -> AsyncIterator[dict[str, Any]]:
    """A referrer who is on record with an e-mail and an address."""
    made = await shop.api.post(
        "/referrers",
        json={"id": "partner-5", "name": "Noa Bar", "email": "Noa.Bar@gmail.com", "ip": "192.0.2.7"},
    )
    assert made.status_code == 201, made.text
    yield dict(made.json())


async def said(shop: Shop, payment_id: UUID) -> tuple[str, dict[str, Any]]:
    """What the audit log says of a payment's commission."""
    async with shop.service.database.transaction() as session:
        entries = await audit.entries_about(session, shop.workspace.id, "payment", payment_id)
    (entry,) = [one for one in entries if one.action.startswith("commission.")]
    return entry.action, entry.details


async def test_the_referrers_own_e_mail_is_refused_in_whatever_spelling(shop: Shop, partner: dict[str, Any]) -> None:
    payment_id = await sold(shop, money(shop)("100.00"), customer_id="c-1", customer_email="noabar+x@googlemail.com")
    action, details = await said(shop, payment_id)
    assert (action, details["reason"], details["decision"]) == ("commission.refused", "fraud_guard", "reject")
    assert details["rules"] == [
        {"rule": "self_referral_email", "decision": "reject", "matched": "the payer's e-mail is the referrer's"}
    ]
    assert await commission_of(shop, payment_id) is None
    assert (await shop.read(str(payment_id)))["status"] == "paid"
    assert (await owed(shop)).minor == 0


@pytest.mark.parametrize(
    ("recorded", "paid_with"),
    [
        ("noa@proton.me", {"customer_email": "n.oa@protonmail.com"}),
        ("noa@bücher.example", {"customer_email": "noa@xn--bcher-kva.example"}),
        ("noa@example.com", {"customer_email": "n\u200boa@example.com"}),
        ("noa@example.com", {"customer_id": "Noa@Example.com"}),
    ],
)
async def test_what_was_recorded_by_an_earlier_release_is_still_found(
    shop: Shop, recorded: str, paid_with: dict[str, Any]
) -> None:
    """Hashes on record were made of other spellings: the referrer's, and those of the blocklist."""
    await shop.api.post("/referrers", json={"id": "partner-5", "email": recorded})
    async with shop.service.database.transaction() as session:
        key = await fingerprints.open_key(session, shop.service.sealer, shop.workspace.id)
        row = await session.get(Referrer, (shop.workspace.id, "partner-5"))
        assert row is not None
        row.email_hash = trace(key, Kind.EMAIL, recorded)
        session.add(
            Blocked(
                id=uuid4(),
                workspace_id=shop.workspace.id,
                kind=Kind.EMAIL.value,
                value_hash=trace(key, Kind.EMAIL, recorded),
                hint="n…",
                created_by="test",
            )
        )
    payment_id = await sold(shop, money(shop)("100.00"), **{"customer_id": "c-1", **paid_with})
    rules = {one["rule"] for one in (await said(shop, payment_id))[1]["rules"]}
    assert rules == {"self_referral_email", "blocklist"}
    again = await shop.api.post("/blocklist", json={"kind": "email", "value": recorded})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")


async def test_an_id_that_is_an_e_mail_counts_as_one(shop: Shop) -> None:
    payment_id = await sold(
        shop, money(shop)("100.00"), referrer="noa@example.com", customer_id="c-1", customer_email="Noa@Example.com"
    )
    assert (await said(shop, payment_id))[1]["rules"][0]["rule"] == "self_referral_email"


@pytest.mark.parametrize(
    "own", [{"customer_id": "partner-5"}, {"customer_id": "c-9", "customer_email": "n.oabar@gmail.com"}]
)
async def test_a_card_that_the_referrer_has_paid_with_is_refused(
    shop: Shop, partner: dict[str, Any], own: dict[str, Any]
) -> None:
    await sold(shop, money(shop)("50.00"), referrer=None, card="fp_noa", **own)
    same = await sold(shop, money(shop)("100.00"), card="fp_noa", customer_id="c-1", customer_email="x@example.com")
    other = await sold(shop, money(shop)("100.00"), card="fp_x", customer_id="c-1", customer_email="x@example.com")
    assert (await said(shop, same))[1]["rules"][0]["rule"] == "self_referral_card"
    assert (await said(shop, other))[0] == "commission.accrued"


async def test_a_card_that_the_referrer_has_saved_is_refused(shop: Shop) -> None:
    await sold(shop, money(shop)("1.00"), referrer=None)  # makes the key
    async with shop.service.database.transaction() as session:
        key = await fingerprints.open_key(session, shop.service.sealer, shop.workspace.id)
        session.add(
            PaymentMethod(
                id=uuid4(),
                workspace_id=shop.workspace.id,
                provider_account_id=shop.account.id,
                provider="stripe",
                customer_id="partner-5",
                token=shop.service.sealer.seal("tok_1"),
                token_hash=uuid4().bytes,
                fingerprint=trace(key, Kind.CARD, "fp_saved"),
            )
        )
    payment_id = await sold(shop, money(shop)("100.00"), card="fp_saved", customer_id="c-1")
    assert (await said(shop, payment_id))[1]["rules"][0]["rule"] == "self_referral_card"


@pytest.mark.parametrize(
    ("ip", "rule"),
    [("192.0.2.7", "self_referral_ip"), ("192.0.2.99", "self_referral_ip_range"), ("198.51.100.3", None)],
)
async def test_an_address_near_the_referrers_waits_for_a_person(
    shop: Shop, partner: dict[str, Any], ip: str, rule: str | None
) -> None:
    payment_id = await sold(shop, money(shop)("100.00"), customer_id="c-1", customer_ip=ip)
    action, details = await said(shop, payment_id)
    if rule is None:
        assert action == "commission.accrued"
        return
    assert (action, details["decision"], details["rules"][0]["rule"]) == ("commission.held", "hold", rule)
    assert await state_of(shop, payment_id) == "held"
    assert str(await owed(shop)) == "10.00"


async def test_the_address_of_a_payment_that_the_referrer_made_is_known(shop: Shop) -> None:
    await sold(shop, money(shop)("50.00"), referrer=None, customer_id="partner-5", customer_ip="2001:db8::1")
    payment_id = await sold(shop, money(shop)("100.00"), customer_id="c-1", customer_ip="2001:db8::2")
    assert (await said(shop, payment_id))[1]["rules"][0]["rule"] == "self_referral_ip_range"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("email", "Eve+1@spam.example"),
        ("domain", "spam.example"),
        ("ip", "203.0.113.9"),
        ("ip_range", "203.0.113.0/24"),
        ("referrer", "partner-5"),
    ],
)
async def test_what_is_on_the_blocklist_earns_nothing_until_it_is_taken_off(shop: Shop, kind: str, value: str) -> None:
    about: dict[str, Any] = {"customer_id": "c-1", "customer_email": "eve@spam.example", "customer_ip": "203.0.113.9"}
    made = await shop.api.post("/blocklist", json={"kind": kind, "value": value, "reason": "card testing"})
    assert made.status_code == 201, made.text
    assert "eve" not in made.text.casefold()
    again = await shop.api.post("/blocklist", json={"kind": kind, "value": value})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    blocked = await sold(shop, money(shop)("100.00"), **about)
    assert (await said(shop, blocked))[1]["rules"][0]["rule"] == "blocklist"
    assert [one["id"] for one in (await shop.api.get("/blocklist")).json()["data"]] == [made.json()["id"]]
    assert (await shop.api.delete(f"/blocklist/{made.json()['id']}")).status_code == 204
    assert (await shop.api.delete(f"/blocklist/{made.json()['id']}")).status_code == 404
    assert (await said(shop, await sold(shop, money(shop)("100.00"), **about)))[0] == "commission.accrued"


async def test_a_card_is_blocked_by_a_payment_and_in_one_workspace_only(service: Service, shop: Shop) -> None:
    bad = await sold(shop, money(shop)("100.00"), referrer=None, card="fp_bad")
    body = {"kind": "card", "payment_id": str(bad)}
    assert (await shop.api.post("/blocklist", json=body)).status_code == 201
    assert (await said(shop, await sold(shop, money(shop)("100.00"), card="fp_bad")))[0] == "commission.refused"
    other = await service.shop()
    assert (await other.api.post("/blocklist", json=body)).status_code == 404
    assert (await said(other, await sold(other, money(other)("100.00"), card="fp_bad")))[0] == "commission.accrued"
    await other.aclose()


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "email", "value": "nobody"},
        {"kind": "ip_range", "value": "203.0.113.0/8"},
        {"kind": "email"},
        {"kind": "nothing", "value": "x"},
        {"kind": "email", "value": "a@b.example", "payment_id": "018f6f0e-8f7c-7a3e-9c1b-2f1d4c5b6a79"},
    ],
)
async def test_a_blocklist_takes_only_what_it_can_compare(shop: Shop, body: dict[str, Any]) -> None:
    answer = await shop.api.post("/blocklist", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


async def test_more_than_the_limit_within_the_window_wait_also_when_they_come_at_once(service: Service) -> None:
    shop = await service.shop(velocity_limit=3, velocity_hours=1)
    ids = await asyncio.gather(*(sold(shop, money(shop)("100.00"), ago=NOW, customer_id=f"c-{n}") for n in range(8)))
    held = [payment_id for payment_id in ids if (await said(shop, payment_id))[0] == "commission.held"]
    assert len(held) == 5
    (rule,) = (await said(shop, held[0]))[1]["rules"]
    assert (rule["rule"], rule["decision"]) == ("velocity", "hold")
    rows = (await shop.api.get("/commissions", params={"state": "held"})).json()["data"]
    assert {row["payment_id"] for row in rows} == {str(one) for one in held}
    await shop.aclose()


async def settled(shop: Shop, guards: FraudGuards, **changes: Any) -> UUID:
    payment_id = await sold(shop, money(shop)("1.00"), referrer=None)  # makes the key
    assert payment_id
    payment_id = UUID((await shop.pays())["id"])
    async with shop.service.database.transaction() as session:
        payment, workspace = await payments.lock(session, payment_id)
        await session.refresh(workspace)
        observed = ProviderPayment(PaymentStatus.PAID, transaction_id=f"pi_{payment_id.hex}", captured=payment.money)
        await settle(session, payment, workspace, observed, at=payment.created_at, guards=guards)
    return payment_id


async def test_guards_that_fail_hold_the_commission_and_not_the_payment(shop: Shop) -> None:
    other_key = FraudGuards(Sealer([Fernet.generate_key().decode()]))
    payment_id = await settled(shop, other_key)
    assert (await shop.read(str(payment_id)))["status"] == "paid"
    action, details = await said(shop, payment_id)
    assert (action, details["rules"][0]["rule"]) == ("commission.held", "guards_unavailable")
    assert await state_of(shop, payment_id) == "held"


async def test_guards_that_cannot_read_in_time_hold_the_commission_and_not_the_payment(
    service: Service, shop: Shop
) -> None:
    """Somebody has the blocklist locked, as a maintenance job may."""
    async with service.database.transaction() as blocking:
        await blocking.execute(text("LOCK TABLE blocklist IN ACCESS EXCLUSIVE MODE"))
        begun = time.monotonic()
        payment_id = await settled(shop, FraudGuards(service.sealer))
        assert time.monotonic() - begun < PATIENCE_MILLISECONDS / 1000 + 4
    action, details = await said(shop, payment_id)
    assert (action, details["rules"][0]["rule"]) == ("commission.held", "guards_unavailable")
    async with service.database.transaction() as session:
        assert await session.scalar(text("SHOW statement_timeout")) == "15s"


async def test_what_identifies_people_is_hashed_or_sealed(
    service: Service, shop: Shop, partner: dict[str, Any]
) -> None:
    changed = await shop.api.patch(
        "/referrers/partner-5", json={"payout_details": {"iban": "IL620108000000099999999"}, "status": "active"}
    )
    assert changed.json()["payout_details"] == {"iban": "…9999"}
    assert changed.json()["email"] == "N…@gmail.com"
    payment_id = await sold(shop, money(shop)("100.00"), card="fp_plain", customer_email="eve@example.com")
    async with service.database.transaction() as session:
        row = await session.get(Referrer, (shop.workspace.id, "partner-5"))
        payment = await session.get(Payment, payment_id)
        entries = (await session.scalars(select(AuditEntry).where(AuditEntry.workspace_id == shop.workspace.id))).all()
    assert row is not None
    assert payment is not None
    kept = b"".join(
        one or b"" for one in (row.identity, row.payout_details, row.email_hash, row.ip_hash, payment.card_fingerprint)
    )
    for secret in (b"Noa", b"gmail", b"IL62", b"192.0.2", b"fp_plain"):
        assert secret not in kept
    told = str([entry.details for entry in entries])
    for personal in ("Noa", "IL62", "192.0.2", "eve@"):
        assert personal not in told


async def test_referrers_are_listed_read_and_kept_apart(service: Service, shop: Shop, partner: dict[str, Any]) -> None:
    await sold(shop, money(shop)("100.00"), referrer="a-first", customer_id="c-1")
    first = (await shop.api.get("/referrers", params={"limit": 1})).json()
    assert [one["id"] for one in first["data"]] == ["a-first"]
    rest = (await shop.api.get("/referrers", params={"cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in rest["data"]] == ["partner-5"]
    assert (await shop.api.get("/referrers/partner-5")).json()["name"] == "Noa Bar"
    again = await shop.api.post("/referrers", json={"id": "partner-5"})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    forgotten = await shop.api.patch("/referrers/partner-5", json={"email": None, "ip": None, "name": None})
    assert (forgotten.json()["email"], forgotten.json()["name"], forgotten.json()["knows_ip"]) == (None, None, False)
    other = await service.shop()
    assert (await other.api.get("/referrers/partner-5")).status_code == 404
    assert (await other.api.patch("/referrers/partner-5", json={"name": "x"})).status_code == 404
    await other.aclose()

"""What a shop can offer its payers, how its providers answer, the banks of PSE, and settlement files."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from sqlalchemy import func, select, update

from api.settlement_files import MAX_FILE_BYTES, ROWS_AT_ONCE
from providers.efecty.codes import CodeRule
from providers.registry import capabilities_of
from storage import provider_health
from storage.models import AuditEntry, BankList, ProviderAccount, ProviderHealth, Receipt, WebhookEvent, Workspace
from storage.provider_health import OPENS_AFTER, STAYS_OPEN
from storage.sealing import Sealer
from tests.providers.payers import payer_class
from tests.support.service import Service, Shop, Till

BANKS_OPERATION = {"payu": "payu.banks", "wompi": "list_banks"}
FILLED = {"method_fields.financial_institution_code": "1", "method_fields.user_type": "N"}


@pytest_asyncio.fixture
async def market(service: Service) -> AsyncIterator[Shop]:
    """A marketplace with an account at PayU, its oldest one."""
    shop = await service.shop("payu")
    yield shop
    await shop.sandbox("DELETE", "/faults")
    await shop.aclose()


async def connect(shop: Shop, provider: str, **options: Any) -> Till:
    """A further account of the shop."""
    payer = payer_class(provider)(shop.service.sandbox_url)
    return await shop.service.connect(shop.workspace, payer, name=f"{provider} too", options=options)


async def change(shop: Shop, account: ProviderAccount, **changes: Any) -> None:
    answer = await shop.api.patch(f"/provider-accounts/{account.id}", json=changes)
    assert answer.status_code == 200, answer.text


async def write(shop: Shop, statement: Any) -> None:
    async with shop.service.database.transaction() as session:
        await session.execute(statement)


async def lose_the_key_of(shop: Shop, account: ProviderAccount) -> None:
    """The account's credentials cannot be opened any more."""
    sealed = Sealer([Fernet.generate_key().decode()]).seal_mapping({"api_key": "x"})
    changed = update(ProviderAccount).where(ProviderAccount.id == account.id)
    await write(shop, changed.values(credentials=sealed, updated_at=datetime.now(UTC)))


async def methods(shop: Shop, **query: str) -> list[dict[str, Any]]:
    answer = await shop.api.get("/payments/methods", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


async def test_methods_of_a_shop_with_one_account(shop: Shop) -> None:
    card = (await methods(shop))[0]
    assert card == {
        "provider": "stripe",
        "provider_account_id": str(shop.account.id),
        "method": "card",
        "kind": "card",
        "currency": "ILS",
        "minimum": None,
        "maximum": None,
        "step": "0.01",
        "needs": [],
        "refundable": True,
        "direct_mode": True,
    }
    assert await methods(shop, currency="ILS") == await methods(shop)
    for currency, code in (
        ("usd", "validation_failed"),
        ("SHEKEL", "validation_failed"),
        ("USD", "currency_not_of_workspace"),
        ("ZZZ", "currency_not_of_workspace"),
    ):
        answer = await shop.api.get("/payments/methods", params={"currency": currency})
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["detail"] == "This workspace takes ILS."


async def test_methods_follow_the_order_the_currency_and_the_options_of_the_accounts(market: Shop) -> None:
    wompi = await connect(market, "wompi", methods=["pse", "nequi"], minimum_amount="1500", maximum_amount="90000")
    efecty = await connect(market, "efecty")
    await connect(market, "payplus")
    accounts = [market.account, wompi.account, efecty.account]
    rows = await methods(market)
    assert [row["provider"] for row in rows] == ["payu"] * 6 + ["wompi"] * 2 + ["efecty"]
    found = {(row["provider"], row["method"]): row for row in rows}
    pse = found["payu", "pse"]
    assert (pse["kind"], pse["minimum"], pse["refundable"], pse["direct_mode"]) == ("bank", None, False, False)
    assert pse["needs"][:2] == ["customer.name", "customer.email"]
    assert pse["needs"][-2:] == ["method_fields.financial_institution_code", "method_fields.user_type"]
    assert found["payu", "card"]["refundable"] is True
    baloto = found["payu", "baloto"]
    assert (baloto["kind"], baloto["minimum"], baloto["maximum"]) == ("cash", "3000", "1000000")
    assert (found["wompi", "nequi"]["minimum"], found["wompi", "pse"]["maximum"]) == ("1500", "90000")
    order = [str(account.id) for account in reversed(accounts)]
    await write(
        market,
        update(Workspace)
        .where(Workspace.id == market.workspace.id)
        .values(provider_order=[UUID(one) for one in order]),
    )
    rows = await methods(market)
    assert [row["provider_account_id"] for row in rows] == [order[0], *[order[1]] * 2, *[order[2]] * 6]
    await change(market, wompi.account, enabled=False)
    await lose_the_key_of(market, market.account)
    assert {row["provider"] for row in await methods(market)} == {"efecty"}


@pytest.mark.parametrize("provider", ["efecty", "payu", "wompi"])
async def test_every_method_on_the_list_can_be_used_and_says_what_it_needs(service: Service, provider: str) -> None:
    shop = await service.shop(provider)
    rows = await methods(shop)
    assert [row["method"] for row in rows] == [method.name for method in capabilities_of(provider).methods]
    for row in rows:
        wanted = {"provider": provider, "method": row["method"]}
        bare = await shop.api.post("/payments", json=shop.order(customer={}, **wanted))
        if row["needs"]:
            assert (bare.status_code, bare.json()["code"]) == (422, "payer_data_missing"), row
            assert bare.json()["detail"].endswith(f"needs {', '.join(row['needs'])}.")
        fields = {need.partition(".")[2]: FILLED[need] for need in row["needs"] if need.startswith("method_fields.")}
        made = await shop.pays(**wanted, method_fields=fields)
        assert made["method"] == row["method"]
        assert made["checkout_url"] or made["instructions"], row
    await shop.aclose()


async def test_a_payment_with_another_account_to_fall_back_on_shows_the_first_ones_address(service: Service) -> None:
    shop = await service.shop("stripe")
    second = await connect(shop, "payplus")
    order = {"provider_order": [str(account.id) for account in (shop.account, second.account)]}
    assert (await shop.api.patch(f"/workspaces/{shop.workspace.id}", json=order)).status_code == 200
    made = await shop.pays()
    assert (made["provider"], made["checkout_url"] is None) == ("stripe", False)
    assert (await shop.read(made["id"]))["checkout_url"] == made["checkout_url"]
    await shop.aclose()


async def test_an_accounts_limits_hold_whatever_the_way_to_pay(service: Service) -> None:
    """The limits of its options are on the list, and the merchant's own page does not get round them."""
    shop = await service.shop("stripe")
    await change(shop, shop.account, options=shop.account.options | {"minimum_amount": "50", "maximum_amount": "99.99"})
    assert {(row["minimum"], row["maximum"]) for row in await methods(shop)} == {("50", "99.99")}
    for direct in (True, False):
        for amount in ("49.99", "100.00"):
            answer = await shop.api.post("/payments", json=shop.order(amount=amount, checkout_mode=not direct))
            assert (answer.status_code, answer.json()["code"]) == (422, "amount_out_of_range"), answer.text
        for amount in ("50.00", "99.99"):
            await shop.pays(amount=amount, checkout_mode=not direct)
    await shop.aclose()


async def test_limits_that_an_account_had_before_they_were_judged_stop_nothing(service: Service) -> None:
    shop = await service.shop("stripe")
    changed = update(ProviderAccount).where(ProviderAccount.id == shop.account.id)
    await write(shop, changed.values(options=shop.account.options | {"minimum_amount": "NaN", "maximum_amount": None}))
    assert (await methods(shop))[0]["minimum"] is None
    await shop.pays()
    await shop.aclose()


async def health(shop: Shop) -> list[dict[str, Any]]:
    answer = await shop.api.get("/payments/health")
    assert answer.status_code == 200, answer.text
    return list(answer.json())


async def test_health_tells_of_answers_and_of_silence(service: Service, shop: Shop) -> None:
    [row] = await health(shop)
    assert row == {
        "provider": "stripe",
        "provider_account_id": str(shop.account.id),
        "name": "test",
        "enabled": True,
        "breaker": "closed",
        "retry_at": None,
        "failures_in_a_row": 0,
        "last_success_at": None,
        "last_failure_at": None,
        "last_failure_code": None,
        "latency_ms": None,
    }
    before = datetime.now(UTC)
    await shop.sandbox("POST", "/faults", {"operation": "create_session", "fault": "error:503"})
    await shop.pays()  # the second try was answered
    [row] = await health(shop)
    assert (row["breaker"], row["failures_in_a_row"]) == ("closed", 0)
    assert before <= datetime.fromisoformat(row["last_failure_at"]) <= datetime.fromisoformat(row["last_success_at"])
    assert row["last_failure_code"]
    assert 0 <= row["latency_ms"] < 10_000
    other = await service.shop()
    assert [one["provider_account_id"] for one in await health(other)] == [str(other.account.id)]
    await other.aclose()


async def fails_ten_times(shop: Shop) -> datetime:
    """The account's provider keeps silent ten times in a row, the last time at this moment."""
    now = datetime.now(UTC)
    async with shop.service.database.transaction() as session:
        for _ in range(OPENS_AFTER):
            await provider_health.record_failure(session, shop.account.id, now=now, code="timeout")
    return now


async def test_health_shows_the_circuit(shop: Shop) -> None:
    now = await fails_ten_times(shop)
    [row] = await health(shop)
    assert (row["breaker"], row["failures_in_a_row"], row["last_failure_code"]) == ("open", OPENS_AFTER, "timeout")
    assert datetime.fromisoformat(row["retry_at"]) == now + STAYS_OPEN
    aged = update(ProviderHealth).where(ProviderHealth.provider_account_id == shop.account.id)
    await write(shop, aged.values(opened_at=now - STAYS_OPEN))
    [row] = await health(shop)
    assert row["breaker"] == "half_open"
    await shop.pays()  # the probe
    [row] = await health(shop)
    assert (row["breaker"], row["retry_at"], row["failures_in_a_row"]) == ("closed", None, 0)


async def banks(shop: Shop, **query: Any) -> Any:
    return await shop.api.get("/pse/banks", params=query)


async def is_down(shop: Shop, fault: str = "error:503") -> None:
    operation = BANKS_OPERATION[shop.account.provider]
    await shop.sandbox("POST", "/faults", {"operation": operation, "fault": fault, "count": 100})


@pytest.mark.parametrize("provider", ["payu", "wompi"])
async def test_banks_are_kept_for_a_day_and_longer_while_the_provider_is_down(service: Service, provider: str) -> None:
    shop = await service.shop(provider)
    fresh = (await banks(shop)).json()
    names = [bank["name"] for bank in fresh["banks"]]
    assert len(names) > 1
    assert names == sorted(names)
    assert all(bank["code"] not in ("", "0") for bank in fresh["banks"])
    assert (fresh["provider"], fresh["stale"]) == (provider, False)
    await is_down(shop)
    assert (await banks(shop)).json() == fresh  # it was not asked
    fetched = datetime.fromisoformat(fresh["fetched_at"]) - timedelta(hours=24)
    await write(
        shop, update(BankList).where(BankList.provider_account_id == shop.account.id).values(fetched_at=fetched)
    )
    for _ in range(2):
        old = await banks(shop)
        assert (old.status_code, old.json()["stale"], old.json()["banks"]) == (200, True, fresh["banks"])
        assert datetime.fromisoformat(old.json()["fetched_at"]) == fetched
    await shop.sandbox("DELETE", "/faults")
    again = (await banks(shop)).json()
    assert (again["stale"], again["banks"]) == (False, fresh["banks"])
    assert datetime.fromisoformat(again["fetched_at"]) > datetime.fromisoformat(fresh["fetched_at"])
    await shop.aclose()


@pytest.mark.parametrize(("fault", "seconds"), [("error:503", "30"), ("rate_limit:7", "7")])
async def test_banks_that_were_never_fetched_ask_for_patience(market: Shop, fault: str, seconds: str) -> None:
    await is_down(market, fault)
    answer = await banks(market)
    assert (answer.status_code, answer.json()["code"]) == (502, "provider_unavailable")
    assert "Ask again later, or offer another method." in answer.json()["detail"]
    assert answer.headers["retry-after"] == seconds
    await market.sandbox("DELETE", "/faults")
    assert (await banks(market)).status_code == 200


async def test_an_open_circuit_keeps_nobody_waiting_for_banks(market: Shop) -> None:
    """PayU would answer; while it is taken for down it is not asked, and what is known from before is shown."""
    known = (await banks(market)).json()
    await fails_ten_times(market)
    old = update(BankList).where(BankList.provider_account_id == market.account.id)
    await write(market, old.values(fetched_at=datetime.now(UTC) - timedelta(days=2)))
    stale = (await banks(market)).json()
    assert (stale["stale"], stale["banks"]) == (True, known["banks"])
    async with market.service.database.transaction() as session:
        kept = await session.get(BankList, market.account.id)
        await session.delete(kept)
    answer = await banks(market)
    assert (answer.status_code, answer.json()["code"]) == (502, "provider_unavailable")
    assert 0 < int(answer.headers["retry-after"]) <= STAYS_OPEN.total_seconds()


async def test_an_open_circuit_keeps_nobody_waiting_for_a_checkout(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider is asked nothing for minutes: the caller hears that at once, and when to look again."""
    way = await shop.pays()
    await fails_ten_times(shop)
    begun = time.monotonic()
    answer = await shop.api.post("/payments", json=shop.order())
    payment = answer.json()
    assert (answer.status_code, payment["status"], payment["checkout_url"]) == (202, "unknown", None)
    assert payment["status_reason"] == "opening: circuit_open"
    assert 0 < int(answer.headers["retry-after"]) <= STAYS_OPEN.total_seconds()
    link = await shop.api.post(f"/payments/{way['id']}/attempts", json={"provider": "stripe", "method": "link"})
    assert (link.status_code, link.json()["checkout_url"], link.json()["error_code"]) == (202, None, "circuit_open")
    assert 0 < int(link.headers["retry-after"]) <= STAYS_OPEN.total_seconds()
    assert time.monotonic() - begun < shop.service.settings.checkout_wait_seconds
    gc.collect()
    assert "never retrieved" not in caplog.text  # a slow provider is no fault of ours to be logged as one


async def test_whose_banks(service: Service, shop: Shop, market: Shop) -> None:
    for asked, query in (
        (shop, {}),  # no account with banks
        (shop, {"provider_account_id": str(market.account.id)}),  # another workspace's
        (market, {"provider_account_id": str(shop.account.id)}),
    ):
        answer = await banks(asked, **query)
        assert (answer.status_code, answer.json()["code"]) == (422, "no_provider_account")
    wompi = await connect(market, "wompi")
    named = (await banks(market, provider_account_id=str(wompi.account.id))).json()
    assert (named["provider"], (await banks(market)).json()["provider"]) == ("wompi", "payu")
    # an account that nobody can use hides no other
    await lose_the_key_of(market, market.account)
    assert (await banks(market)).json()["provider"] == "wompi"
    await change(market, wompi.account, enabled=False)
    broken = await banks(market)
    assert (broken.status_code, broken.json()["code"]) == (502, "provider_misconfigured")


async def test_banks_by_wrong_keys_say_that_the_keys_are_wrong(market: Shop) -> None:
    await change(market, market.account, credentials={"api_key": "invalid"})
    answer = await banks(market)
    assert (answer.status_code, answer.json()["code"]) == (502, "provider_misconfigured")
    assert "payment-cli account check" in answer.json()["detail"]


async def upload(shop: Shop, lines: list[str], account: UUID | None = None) -> Any:
    content = "\r\n".join(["agreement;reference;amount;paid_at;transaction_id;status", *lines]).encode("latin-1")
    return await shop.api.post(f"/provider-accounts/{account or shop.account.id}/settlement-file", content=content)


@pytest_asyncio.fixture
async def counter(service: Service) -> AsyncIterator[Shop]:
    """A shop with an agreement of its own at the cash network."""
    shop = await service.shop("efecty")
    yield shop
    await shop.aclose()


async def test_a_settlement_file_is_reported_row_by_row_and_counts_once(counter: Shop) -> None:
    paid, lower, waiting = [await counter.pays() for _ in range(3)]
    agreement = counter.till.credentials["agreement"]
    codes = [payment["instructions"]["code"] for payment in (paid, lower, waiting)]
    unknown = CodeRule().code_for(UUID(int=1), 0)
    wrong_digit = codes[2][:-1] + str((int(codes[2][-1]) + 1) % 10)

    def row(code: str, number: str, amount: str = "25000.00", **other: str) -> str:
        return (
            f"{other.get('agreement', agreement)};{code};{amount};2026-09-21 08:12;{number};{other.get('status', '')}"
        )

    lines = [
        row(codes[0], "11"),
        row(codes[1], "12", amount="24000"),
        row(wrong_digit, "13"),
        row(codes[2], "14", agreement="999999"),
        row(codes[2], "15", status="reversed"),
        row(codes[0], "11"),
        row(unknown, "16"),
        row(codes[2], "17", amount="25.000,00"),
        "not a row",
    ]
    expected = [
        ("taken", None, paid["id"]),
        ("taken", None, lower["id"]),
        ("refused", "bad_check_digit", None),
        ("refused", "other_agreement", None),
        ("taken", None, waiting["id"]),
        ("refused", "duplicate_row", None),
        ("taken", "no payment of ours", None),
        ("refused", "bad_amount", None),
        ("refused", "cell_count", None),
    ]
    report = (await upload(counter, lines)).json()
    assert [row["line"] for row in report["rows"]] == list(range(2, 11))
    assert [(row["verdict"], row["reason"], row["payment_id"]) for row in report["rows"]] == expected
    assert (report["taken"], report["repeated"], report["refused"], report["unmatched"]) == (4, 0, 5, 1)
    assert report["rows"][0]["amount"] == "25000.00"
    await counter.until(paid["id"], "paid")
    assert (await counter.until(lower["id"], "unknown"))["flag"] == "amount_mismatch"
    repeated = (await upload(counter, lines)).json()
    assert (repeated["taken"], repeated["repeated"], repeated["refused"]) == (0, 4, 5)
    assert (repeated["rows"][0]["verdict"], repeated["rows"][0]["reason"]) == ("repeated", "already paid")
    otherwise = (
        await upload(counter, [row(codes[0], "11", amount="26000"), row(codes[1], "12", amount="24000.00")])
    ).json()
    assert [(one["verdict"], one["reason"]) for one in otherwise["rows"]] == [
        ("repeated", "amount_differs"),
        ("repeated", None),
    ]
    assert (await counter.read(waiting["id"]))["status"] == "pending"
    async with counter.service.database.transaction() as session:
        receipts = select(func.count()).where(Receipt.workspace_id == counter.workspace.id)
        assert await session.scalar(receipts) == 1


async def test_a_long_settlement_file_is_taken_in_parts_and_sent_again_as_a_whole(counter: Shop) -> None:
    """The first upload broke off; what was on record by then counts once, and the rest is taken."""
    paid = [await counter.pays() for _ in range(3)]
    agreement, rule = counter.till.credentials["agreement"], CodeRule()
    others = [rule.code_for(UUID(int=number), 0) for number in range(2 * ROWS_AT_ONCE)]
    codes = [*others[:100], *(payment["instructions"]["code"] for payment in paid), *others[100:]]
    lines = [f"{agreement};{code};25000.00;2026-09-21 08:12;{number};" for number, code in enumerate(codes)]
    first = (await upload(counter, lines[:1200])).json()
    assert (first["taken"], first["repeated"], first["refused"]) == (1200, 0, 0)
    whole = (await upload(counter, lines)).json()
    assert (whole["taken"], whole["repeated"], whole["refused"]) == (len(lines) - 1200, 1200, 0)
    assert [row["line"] for row in whole["rows"]] == list(range(2, len(lines) + 2))
    assert [row["payment_id"] for row in whole["rows"][100:103]] == [payment["id"] for payment in paid]
    for payment in paid:
        await counter.until(payment["id"], "paid")
    async with counter.service.database.transaction() as session:
        mine = WebhookEvent.provider_account_id == counter.account.id
        assert await session.scalar(select(func.count()).where(mine)) == len(lines)
        query = select(AuditEntry).where(AuditEntry.workspace_id == counter.workspace.id)
        kept = await session.scalars(query.where(AuditEntry.action == "provider_account.settlement_file_taken"))
        log = [(entry.details["taken"], entry.details["repeated"], len(entry.details["sha256"])) for entry in kept]
        assert log == [(1200, 0, 64), (len(lines) - 1200, 1200, 64)]
        # many rows a transaction: one by one, a file of the greatest length would take minutes
        began = select(func.count(func.distinct(WebhookEvent.received_at))).where(mine)
        assert await session.scalar(began) == 4


async def test_who_may_upload_a_settlement_file_and_for_which_account(shop: Shop, counter: Shop) -> None:
    cases = [
        (await upload(shop, [], counter.account.id), 404, "not_found"),  # another workspace's
        (await upload(shop, []), 422, "method_unavailable"),  # Stripe has none
    ]
    path = f"/provider-accounts/{counter.account.id}/settlement-file"
    cases.append((await counter.api.post(path, content=b"x" * (MAX_FILE_BYTES + 1)), 413, "body_too_large"))
    for answer, status, code in cases:
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    empty = (await counter.api.post(path, content=b"")).json()
    assert [(row["line"], row["reason"]) for row in empty["rows"]] == [(1, "no_header")]
    await lose_the_key_of(counter, counter.account)
    broken = await upload(counter, [])
    assert (broken.status_code, broken.json()["code"]) == (502, "provider_misconfigured")

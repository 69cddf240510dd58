"""Saved methods: set-up, saving while paying, charges, the bank's questions, declines, and what may go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text

from domain.declines import DeclineClass
from storage import payment_methods, setups
from storage.models import Attempt, AuditEntry, PaymentMethod, ProviderCustomer
from tests.support.service import Shop, eventually

CUSTOMER = {"id": "cust-77", "name": "Dana Levi", "email": "dana@example.com"}
CONFIRMED_ALWAYS = "4000002760003184"


async def set_up(shop: Shop, card: str = "4242424242424242", **changes: Any) -> dict[str, Any]:
    """A customer saves a card on the provider's page."""
    answer = await shop.api.post("/payment-methods", json={"customer": CUSTOMER} | changes)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    session_id = made["url"].rsplit("/", 1)[1]
    body: dict[str, Any] = {"card": card}
    entered = await shop.sandbox("POST", f"/sessions/{session_id}/pay", body)
    if entered["outcome"] == "challenge":
        entered = await shop.sandbox("POST", f"/sessions/{session_id}/pay", body | {"approved": True})
    assert entered["outcome"] == "paid"
    return dict(made)


async def saved(shop: Shop, card: str = "4242424242424242", **changes: Any) -> dict[str, Any]:
    """The method, once its set-up has succeeded."""
    made = await set_up(shop, card, **changes)

    async def done() -> Any:
        found = (await shop.api.get(f"/payment-methods/setups/{made['id']}")).json()
        return found if found["status"] == "succeeded" else None

    method_id = (await eventually(done))["payment_method_id"]
    return dict((await shop.api.get(f"/payment-methods/{method_id}")).json())


async def charge(shop: Shop, saved_one: dict[str, Any], key: str | None = None, **changes: Any) -> Any:
    order = shop.order(payment_method_id=saved_one["id"], customer={"id": saved_one["customer_id"]}, **changes)
    return await shop.api.post("/payments", json=order, headers={"Idempotency-Key": key} if key else {})


async def token_of(shop: Shop, method: dict[str, Any]) -> str:
    async with shop.service.database.transaction() as session:
        row = await session.get(PaymentMethod, method["id"])
    assert row is not None
    return shop.service.sealer.open(row.token)


async def will(shop: Shop, method: dict[str, Any], *outcomes: str) -> None:
    """What the next charges of a method do at the provider."""
    await shop.sandbox("POST", f"/payment_methods/{await token_of(shop, method)}/outcomes", {"outcomes": outcomes})


async def test_a_set_up_saves_a_method_and_a_charge_of_it_is_a_payment_like_any_other(shop: Shop) -> None:
    method = await saved(shop)
    assert (method["kind"], method["brand"], method["last4"], method["exp_month"]) == ("card", "visa", "4242", 12)
    assert (method["status"], method["is_default"], method["customer_id"]) == ("active", True, "cust-77")
    answer = await charge(shop, method)
    assert answer.status_code == 201, answer.text
    payment = answer.json()
    assert (payment["status"], payment["payment_method_id"]) == ("paid", method["id"])
    read = await shop.read(payment["id"])
    assert read["receipt_id"]
    listed = (await shop.api.get("/payments")).json()["data"]
    assert payment["receipt_id"] == read["receipt_id"] == listed[0]["receipt_id"]
    totals = await shop.totals(payment["id"])
    assert (totals["intents"], totals["charges"], totals["charged"]) == (1, 1, 12990)
    refund = await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": "10.00"})
    assert refund.json()["status"] == "succeeded", refund.text


async def test_the_order_service_is_told_how_a_set_up_ended(shop: Shop) -> None:
    customer = {"id": f"cust-{uuid4().hex[:8]}", "name": "Dana Levi", "email": "dana@example.com"}
    good, late = [(await shop.api.post("/payment-methods", json={"customer": customer})).json() for _ in range(2)]
    await shop.sandbox("POST", f"/sessions/{good['url'].rsplit('/', 1)[1]}/pay", {"card": "4242424242424242"})
    await shop.sandbox("POST", f"/sessions/{late['url'].rsplit('/', 1)[1]}/expire-now")

    async def told() -> Any:
        found = [one for one in shop.service.merchant.notices if one["data"].get("customer_id") == customer["id"]]
        return found if len(found) == 2 else None

    notices = {one["data"]["setup_id"]: one for one in await eventually(told)}
    saved_one = (await shop.api.get("/payment-methods", params={"customer_id": customer["id"]})).json()["data"][0]
    assert notices[good["id"]]["type"] == "payment_method_setup.succeeded"
    assert notices[good["id"]]["data"]["payment_method_id"] == saved_one["id"]
    assert notices[late["id"]]["type"] == "payment_method_setup.expired"
    assert "Dana" not in json.dumps(notices)
    assert "4242" not in json.dumps(notices)


async def test_what_charges_a_method_is_shown_to_nobody(shop: Shop) -> None:
    method = await saved(shop)
    token = await token_of(shop, method)
    payment = (await charge(shop, method)).json()
    shown = [
        json.dumps((await shop.api.get(path)).json())
        for path in (
            "/payment-methods",
            f"/payment-methods/{method['id']}",
            f"/payments/{payment['id']}",
            f"/payments/{payment['id']}/timeline",
        )
    ]
    async with shop.service.database.transaction() as session:
        row = await session.get(PaymentMethod, method["id"])
        entries = (await session.scalars(select(AuditEntry).where(AuditEntry.workspace_id == shop.workspace.id))).all()
    assert row is not None
    assert token.encode() not in row.token
    assert row.fingerprint is not None
    shown += [json.dumps(entry.details) for entry in entries]
    assert not any(token in one or "4242424242424242" in one for one in shown)


async def test_a_payer_may_have_the_method_saved_while_paying(shop: Shop) -> None:
    payment = await shop.pays(save_method=True)
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    methods = (await shop.api.get("/payment-methods", params={"customer_id": "cust-77"})).json()["data"]
    assert [(one["last4"], one["is_default"], one["brand"]) for one in methods] == [("4242", True, "visa")]
    again = await charge(shop, methods[0])
    assert (again.status_code, again.json()["status"]) == (201, "paid")
    async with shop.service.database.transaction() as session:
        customers = (
            await session.scalars(select(ProviderCustomer).where(ProviderCustomer.workspace_id == shop.workspace.id))
        ).all()
    assert len(customers) == 1


A_DEADLOCK_AT_FIRST = (
    "CREATE SEQUENCE tries",
    """CREATE FUNCTION deadlock_at_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF nextval('tries') = 1 THEN RAISE EXCEPTION 'made by hand' USING ERRCODE = 'deadlock_detected'; END IF;
         RETURN NEW;
       END $$""",
    """CREATE TRIGGER made_by_hand BEFORE INSERT ON payment_methods
       FOR EACH ROW EXECUTE FUNCTION deadlock_at_first()""",
)
AS_BEFORE = (
    "DROP TRIGGER made_by_hand ON payment_methods",
    "DROP FUNCTION deadlock_at_first",
    "DROP SEQUENCE tries",
)


async def test_a_deadlock_while_a_method_is_saved_does_not_lose_it(shop: Shop) -> None:
    """The payment was settled without it, and a subscription that began so had nothing to charge from then on."""
    await _run(shop, A_DEADLOCK_AT_FIRST)
    try:
        payment = await shop.pays(save_method=True)
        await shop.pay(payment)
        await shop.until(payment["id"], "paid")
    finally:
        await _run(shop, AS_BEFORE)
    methods = (await shop.api.get("/payment-methods", params={"customer_id": "cust-77"})).json()["data"]
    assert [one["last4"] for one in methods] == ["4242"]


async def _run(shop: Shop, statements: Sequence[str]) -> None:
    async with shop.service.database.transaction() as session:
        for statement in statements:
            await session.execute(text(statement))


async def test_the_merchants_own_page_may_save_it_too(shop: Shop) -> None:
    payment = await shop.pays(checkout_mode=False, save_method=True)
    intent = str(payment["client_secret"]).partition("_secret")[0]
    await shop.sandbox("POST", f"/payment_intents/{intent}/confirm", {"card": "5555555555554444"})
    await shop.until(payment["id"], "paid")
    methods = (await shop.api.get("/payment-methods")).json()["data"]
    assert [(one["brand"], one["last4"]) for one in methods] == [("mastercard", "4444")]


async def test_a_method_that_cannot_be_stored_holds_up_no_money(shop: Shop) -> None:
    customer = f"refused-{uuid4()}"
    rule = "ALTER TABLE payment_methods ADD CONSTRAINT ck_refused CHECK (customer_id NOT LIKE 'refused-%') NOT VALID"
    async with shop.service.database.transaction() as session:
        await session.execute(text(rule))
    try:
        payment = await shop.pays(save_method=True, customer=CUSTOMER | {"id": customer})
        await shop.pay(payment)
        assert (await shop.until(payment["id"], "paid"))["receipt_id"]
        assert (await shop.api.get("/payment-methods")).json()["data"] == []
    finally:
        async with shop.service.database.transaction() as session:
            await session.execute(text("ALTER TABLE payment_methods DROP CONSTRAINT ck_refused"))


async def test_nothing_is_saved_unless_it_was_asked_for(shop: Shop) -> None:
    payment = await shop.pays()
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    assert (await shop.api.get("/payment-methods")).json()["data"] == []
    nobody = await shop.api.post("/payments", json=shop.order(save_method=True, customer={}))
    assert (nobody.status_code, nobody.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(
    ("card", "code", "kind"),
    [
        ("4000000000000341", "generic_decline", DeclineClass.SOFT),
        ("4000000000009995", "insufficient_funds", DeclineClass.SOFT),
        ("4000000000000119", "processing_error", DeclineClass.SOFT),
        ("4000000000009979", "stolen_card", DeclineClass.HARD),
        ("4000000000000069", "expired_card", DeclineClass.HARD),
    ],
)
async def test_a_decline_is_a_failed_payment_with_its_code_and_class(
    shop: Shop, card: str, code: str, kind: DeclineClass
) -> None:
    method = await saved(shop, card)
    answer = await charge(shop, method)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "provider_declined"), answer.text
    assert (problem["provider_code"], problem["decline_class"]) == (code, kind.value)
    payment = await shop.read(problem["payment_id"])
    assert (payment["status"], payment["status_reason"], payment["decline_class"]) == ("failed", code, kind.value)
    assert (await shop.totals(payment["id"]))["charges"] == 0


async def test_a_bank_that_wants_to_see_the_payer_gets_to_see_the_payer(shop: Shop) -> None:
    method = await saved(shop, CONFIRMED_ALWAYS)
    answer = await charge(shop, method)
    payment = answer.json()
    assert (answer.status_code, payment["status"]) == (201, "requires_action"), answer.text
    page = await shop.service.http.get(payment["checkout_url"], follow_redirects=False)
    assert page.status_code == 303
    assert page.headers["location"].startswith(shop.service.sandbox_url)
    intent = (await shop.read(payment["id"]))["provider_transaction_id"]
    assert intent is None
    async with shop.service.database.transaction() as session:
        attempt = await session.scalar(select(Attempt).where(Attempt.payment_id == payment["id"]))
    assert attempt is not None
    await shop.sandbox("POST", f"/payment_intents/{attempt.session_id}/authenticate", {"approved": True})
    paid = await shop.until(payment["id"], "paid")
    assert paid["receipt_id"]
    totals = await shop.totals(payment["id"])
    assert (totals["intents"], totals["charges"]) == (1, 1)
    gone = await shop.service.http.get(payment["checkout_url"], follow_redirects=False)
    assert gone.status_code == 410


async def test_a_payer_who_refuses_leaves_a_failed_payment(shop: Shop) -> None:
    method = await saved(shop, CONFIRMED_ALWAYS)
    payment = (await charge(shop, method)).json()
    async with shop.service.database.transaction() as session:
        attempt = await session.scalar(select(Attempt).where(Attempt.payment_id == payment["id"]))
    assert attempt is not None
    await shop.sandbox("POST", f"/payment_intents/{attempt.session_id}/authenticate", {"approved": False})
    failed = await shop.until(payment["id"], "failed")
    assert failed["decline_class"] == "action_required"
    assert failed["checkout_url"] is None


@pytest.mark.parametrize("planned", ["timeout_after:4", "error:500"])
async def test_a_provider_that_is_silent_charges_once(shop: Shop, planned: str) -> None:
    method = await saved(shop)
    await shop.sandbox("POST", "/faults", {"operation": "create_intent", "fault": planned, "count": 1})
    answer = await charge(shop, method)
    assert answer.status_code in (201, 202), answer.text
    paid = await shop.until(answer.json()["id"], "paid", 30)
    totals = await shop.totals(paid["id"])
    assert (totals["intents"], totals["charges"]) == (1, 1)


async def test_a_repeat_charges_once(shop: Shop) -> None:
    method = await saved(shop)
    order = shop.order(payment_method_id=method["id"])
    headers = {"Idempotency-Key": "renewal-1"}
    answers = await asyncio.gather(*(shop.api.post("/payments", json=order, headers=headers) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {200, 201, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    payment = await shop.until(answers[0].json()["id"], "paid")
    assert (await shop.totals(payment["id"]))["charges"] == 1


async def test_all_callbacks_lost_and_the_method_is_saved_still(shop: Shop) -> None:
    await shop.sandbox("DELETE", "/webhook-endpoints")
    made = await set_up(shop)
    found = (await shop.api.get(f"/payment-methods/setups/{made['id']}")).json()
    assert found["status"] == "pending"  # the first look of its own comes after a minute: tests/workflows lives it


async def test_a_customer_has_one_default_and_it_can_be_changed(shop: Shop) -> None:
    first, second = await saved(shop), await saved(shop, "5555555555554444", make_default=False)
    assert not second["is_default"]
    answers = await asyncio.gather(
        *(shop.api.post(f"/payment-methods/{one['id']}/default") for one in (first, second) * 4)
    )
    assert {answer.status_code for answer in answers} == {200}
    await shop.api.post(f"/payment-methods/{second['id']}/default")
    rows = (await shop.api.get("/payment-methods", params={"customer_id": "cust-77"})).json()["data"]
    assert {row["last4"]: row["is_default"] for row in rows} == {"4242": False, "4444": True}
    async with shop.service.database.transaction() as session:
        default = await payment_methods.default_of(session, shop.workspace.id, "cust-77")
    assert default is not None
    assert str(default.id) == second["id"]


async def test_a_detached_method_is_never_charged_again(shop: Shop) -> None:
    method = await saved(shop)
    token = await token_of(shop, method)
    gone = await shop.api.delete(f"/payment-methods/{method['id']}")
    assert (gone.status_code, gone.json()["status"], gone.json()["is_default"]) == (200, "detached", False)
    at_provider = next(one for one in await shop.sandbox("GET", "/objects?type=payment_method") if one["id"] == token)
    assert at_provider["customer"] is None
    refused = await charge(shop, method)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_method_not_active")
    assert (await shop.api.post(f"/payment-methods/{method['id']}/default")).status_code == 409
    assert (await shop.api.delete(f"/payment-methods/{method['id']}")).status_code == 200
    async with shop.service.database.transaction() as session:
        actions = (await session.scalars(select(AuditEntry.action).where(AuditEntry.subject_id == method["id"]))).all()
    assert actions.count("payment_method.detached") == 1


async def test_what_happens_to_a_method_at_the_provider_happens_here(shop: Shop) -> None:
    method = await saved(shop)
    token = await token_of(shop, method)
    await shop.sandbox("POST", f"/payment_methods/{token}/renew", {"last4": "1881", "exp_year": 2040})

    async def renewed() -> bool:
        return bool((await shop.api.get(f"/payment-methods/{method['id']}")).json()["last4"] == "1881")

    await eventually(renewed)
    key = {"authorization": f"Bearer {shop.provider_key}"}
    await shop.service.http.post(f"{shop.service.sandbox_url}/v1/payment_methods/{token}/detach", headers=key)

    async def detached() -> bool:
        return bool((await shop.api.get(f"/payment-methods/{method['id']}")).json()["status"] == "detached")

    await eventually(detached)


async def test_an_expired_card_is_not_charged_again_until_the_bank_sends_a_new_one(shop: Shop) -> None:
    method = await saved(shop)
    await will(shop, method, "expired_card")
    assert (await charge(shop, method)).json()["provider_code"] == "expired_card"
    known = (await shop.api.get(f"/payment-methods/{method['id']}")).json()
    assert (known["status"], known["is_default"]) == ("expired", False)
    refused = await charge(shop, method)
    assert (refused.status_code, refused.json()["code"]) == (409, "payment_method_not_active")
    await shop.sandbox("POST", f"/payment_methods/{await token_of(shop, method)}/renew", {"exp_year": 2040})

    async def active() -> bool:
        return bool((await shop.api.get(f"/payment-methods/{method['id']}")).json()["status"] == "active")

    await eventually(active)
    assert (await charge(shop, method)).json()["status"] == "paid"


async def test_a_customer_deleted_at_the_provider_is_made_anew(shop: Shop) -> None:
    method = await saved(shop)
    customer = (await shop.sandbox("GET", "/objects?type=payment_method"))[0]["customer"]
    key = {"authorization": f"Bearer {shop.provider_key}"}
    await shop.service.http.delete(f"{shop.service.sandbox_url}/v1/customers/{customer}", headers=key)

    async def forgotten() -> bool:
        async with shop.service.database.transaction() as session:
            known = await payment_methods.provider_customer(session, shop.account.id, "cust-77")
        return known is None

    await eventually(forgotten)
    assert (await shop.api.get(f"/payment-methods/{method['id']}")).json()["status"] == "detached"
    assert (await saved(shop))["status"] == "active"


async def test_a_customer_that_is_gone_without_a_word_is_made_anew(shop: Shop) -> None:
    await saved(shop)
    customer = (await shop.sandbox("GET", "/objects?type=payment_method"))[0]["customer"]
    await shop.sandbox("POST", "/faults", {"operation": "webhooks", "fault": "lose", "count": 2})
    key = {"authorization": f"Bearer {shop.provider_key}"}
    await shop.service.http.delete(f"{shop.service.sandbox_url}/v1/customers/{customer}", headers=key)
    await shop.sandbox("DELETE", "/faults")
    assert (await saved(shop))["status"] == "active"
    payment = await shop.pays(save_method=True)
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")


async def test_a_set_up_that_a_crash_left_unstarted_is_started(shop: Shop) -> None:
    setup_id, then = uuid4(), datetime.now(UTC) - timedelta(minutes=1)
    values = {
        "id": setup_id,
        "workspace_id": shop.workspace.id,
        "provider_account_id": shop.account.id,
        "provider": "stripe",
        "customer_id": "cust-77",
        "success_url": "https://shop.example/saved",
        "expires_at": then + timedelta(hours=2),
        "created_at": then,
        "updated_at": then,
    }
    async with shop.service.database.transaction() as session:
        await setups.insert_new(session, values)

    async def opened() -> bool:
        return bool((await shop.api.get(f"/payment-methods/setups/{setup_id}")).json()["url"])

    await eventually(opened)


async def test_no_workspace_sees_or_charges_anothers_methods(shop: Shop) -> None:
    method = await saved(shop)
    other = await shop.service.shop()
    assert (await other.api.get(f"/payment-methods/{method['id']}")).status_code == 404
    assert (await other.api.post(f"/payment-methods/{method['id']}/default")).status_code == 404
    assert (await other.api.delete(f"/payment-methods/{method['id']}")).status_code == 404
    assert (await other.api.get("/payment-methods", params={"customer_id": "cust-77"})).json()["data"] == []
    refused = await other.api.post("/payments", json=other.order(payment_method_id=method["id"]))
    assert refused.status_code == 404
    stranger = await shop.api.post(
        "/payments", json=shop.order(payment_method_id=method["id"], customer={"id": "somebody-else"})
    )
    assert (stranger.status_code, stranger.json()["code"]) == (422, "validation_failed")
    setup = (await shop.api.post("/payment-methods", json={"customer": CUSTOMER})).json()
    assert (await other.api.get(f"/payment-methods/setups/{setup['id']}")).status_code == 404
    await other.api.aclose()


async def test_a_set_up_is_repeated_by_its_key_and_not_by_another_body(shop: Shop) -> None:
    headers = {"Idempotency-Key": "setup-1"}
    body = {"customer": CUSTOMER}
    first = await shop.api.post("/payment-methods", json=body, headers=headers)
    again = await shop.api.post("/payment-methods", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["url"] == again.json()["url"]
    other = await shop.api.post("/payment-methods", json=body | {"make_default": False}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")


async def test_a_saved_method_is_charged_within_the_accounts_limits(shop: Shop) -> None:
    method = await saved(shop)
    limits = {"options": shop.account.options | {"maximum_amount": "100"}}
    assert (await shop.api.patch(f"/provider-accounts/{shop.account.id}", json=limits)).status_code == 200
    refused = await charge(shop, method, amount="100.01")
    assert (refused.status_code, refused.json()["code"]) == (422, "amount_out_of_range")
    assert (await charge(shop, method, amount="100.00")).status_code == 201


async def test_a_method_whose_mandate_is_over_is_charged_no_more(shop: Shop) -> None:
    method, spare = await saved(shop), await saved(shop, "5555555555554444")
    token = await token_of(shop, method)
    for changes in ({"status": "active"}, {"status": "inactive", "type": "single_use"}):
        await shop.sandbox("POST", f"/payment_methods/{token}/mandate", changes)
    await shop.sandbox("POST", f"/payment_methods/{token}/mandate", {"status": "inactive", "type": "multi_use"})

    async def detached() -> Any:
        found = (await shop.api.get(f"/payment-methods/{method['id']}")).json()
        return found if found["status"] == "detached" else None

    assert (await eventually(detached, 30))["is_default"] is False
    assert (await charge(shop, method)).status_code == 409
    assert (await shop.api.get(f"/payment-methods/{spare['id']}")).json()["status"] == "active"
    async with shop.service.database.transaction() as session:
        query = select(AuditEntry.details).where(
            AuditEntry.subject_id == method["id"], AuditEntry.action == "payment_method.detached"
        )
        assert [entry["why"] for entry in await session.scalars(query)] == ["mandate_inactive"]


async def test_a_method_says_how_to_pay_and_nothing_else_may(shop: Shop) -> None:
    method = await saved(shop)
    for more in ({"provider": "stripe"}, {"save_method": True}, {"checkout_mode": False}, {"method": "card"}):
        answer = await charge(shop, method, **more)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), more


async def test_a_planned_row_of_renewals_ends_as_planned(shop: Shop) -> None:
    method = await saved(shop)
    await will(shop, method, "insufficient_funds", "do_not_honor", "succeed")
    statuses = []
    for _ in range(3):
        answer = await charge(shop, method)
        statuses.append(answer.json().get("status") if answer.is_success else answer.json()["provider_code"])
    assert statuses == ["insufficient_funds", "do_not_honor", "paid"]

"""Failover: another account only when it is certain that nothing at the first one can be paid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import select
from temporalio.exceptions import ApplicationError

from activities.errors import SPREAD
from domain.payment import PaymentStatus, attempt_reference
from embedded.parts import free_port
from providers.base import OpenedCheckout
from storage.models import Attempt, AuditEntry, Payment, ProviderAccount, ProviderHealth
from tests.providers.payers import payer_class
from tests.support.hands import Hands, hands
from tests.support.market import Market, market
from tests.support.service import Service, Till

IMPATIENT = 2.0
SILENT_BEFORE, SILENT_AFTER = "timeout_before:3", "timeout_after:3"


@pytest_asyncio.fixture(scope="module")
async def ils(service: Service) -> AsyncIterator[Market]:
    async with market(service, "ILS") as made:
        yield made


@pytest_asyncio.fixture
async def impatient(ils: Market) -> AsyncIterator[Hands]:
    async with hands(ils, timeout_seconds=IMPATIENT) as made:
        yield made
    await ils.shop.sandbox("DELETE", "/faults")
    async with ils.service.database.transaction() as session:
        for row in await session.scalars(select(ProviderHealth)):
            await session.delete(row)


async def fault(shops: Market, operation: str, kind: str, count: int = 1) -> None:
    await shops.shop.sandbox("POST", "/faults", {"operation": operation, "fault": kind, "count": count})


async def another(shops: Market, provider: str, **options: Any) -> Till:
    """One more account of the shop, at an address of the test's."""
    payer = payer_class(provider)(shops.service.sandbox_url)
    return await shops.service.connect(
        shops.shop.workspace, payer, name=uuid4().hex[:8], callbacks=False, options=options
    )


async def attempts_of(shops: Market, payment: Payment) -> list[tuple[str, str, str | None]]:
    async with shops.service.database.transaction() as session:
        rows = await session.scalars(select(Attempt).where(Attempt.payment_id == payment.id).order_by(Attempt.number))
        return [(row.provider, row.status, row.error_code) for row in rows]


async def failed_over(shops: Market, payment: Payment) -> list[dict[str, Any]]:
    async with shops.service.database.transaction() as session:
        rows = await session.scalars(
            select(AuditEntry.details).where(
                AuditEntry.subject_id == str(payment.id), AuditEntry.action == "payment.failed_over"
            )
        )
        return list(rows)


async def pays_at(shops: Market, provider: str, payment: Payment, number: int) -> None:
    opened = await shops.shop.checkout({"id": str(payment.id)}, number)
    await shops.tills[provider].payer.pays(opened)


async def rejects(shops: Market) -> tuple[ProviderAccount, str]:
    await fault(shops, "create_session", "error:400")
    return shops.tills["stripe"].account, "invalid_request"


async def is_misconfigured(shops: Market) -> tuple[ProviderAccount, str]:
    till = await another(shops, "stripe")
    async with shops.service.database.transaction() as session:
        account = await session.merge(till.account)
        credentials = {"secret_key": "sk_test_invalid", "webhook_secret": "whsec_x"}
        account.credentials, account.updated_at = shops.service.sealer.seal_mapping(credentials), datetime.now(UTC)
    return account, "http_401"


async def cannot_be_reached(shops: Market) -> tuple[ProviderAccount, str]:
    return (await another(shops, "stripe", api_base=f"http://127.0.0.1:{free_port()}")).account, "unreachable"


async def is_overloaded(shops: Market) -> tuple[ProviderAccount, str]:
    await fault(shops, "create_session", "rate_limit:60")
    return shops.tills["stripe"].account, "rate_limit"


async def has_an_open_circuit(shops: Market) -> tuple[ProviderAccount, str]:
    account = shops.tills["stripe"].account
    async with shops.service.database.transaction() as session:
        await session.merge(ProviderHealth(provider_account_id=account.id, failures=10, opened_at=datetime.now(UTC)))
    return account, "circuit_open"


async def acts_and_is_silent(shops: Market) -> tuple[ProviderAccount, str]:
    await fault(shops, "create_session", SILENT_AFTER)
    return shops.tills["stripe"].account, "timeout"


@pytest.mark.parametrize(
    "trouble",
    [rejects, is_misconfigured, cannot_be_reached, is_overloaded, has_an_open_circuit, acts_and_is_silent],
    ids=lambda trouble: trouble.__name__,
)
async def test_the_next_account_takes_over_when_nothing_can_be_paid_at_the_first(
    ils: Market, impatient: Hands, trouble: Any
) -> None:
    first, code = await trouble(ils)
    payment = await impatient.accept(first, ils.tills["payplus"].account)
    opened = await impatient.open(payment)
    assert opened.status is PaymentStatus.PENDING
    assert await attempts_of(ils, payment) == [("stripe", "failed", code), ("payplus", "pending", None)]
    (entry,) = await failed_over(ils, payment)
    assert (entry["provider"], entry["account_id"], entry["code"]) == ("stripe", str(first.id), code)
    stripe = ils.tills["stripe"].payer
    sessions = (await stripe.http.get("/sandbox/objects", params={"type": "checkout.session"})).json()
    for session in sessions:
        if session["client_reference_id"] == str(payment.id):  # opened before the silence: nobody can pay it
            await stripe.tries_to_pay(OpenedCheckout(session["id"], f"{ils.service.sandbox_url}/c/pay/{session['id']}"))
    assert (await impatient.open(payment)) == opened  # a repeat
    await pays_at(ils, "payplus", payment, 2)
    assert (await impatient.looks(payment.id)).status is PaymentStatus.PAID
    books = await ils.books(str(payment.id))
    books.check()
    assert books.statuses() == ["failed", "paid"]
    assert (books.payment.provider, books.payment.method) == ("payplus", "credit-card")


async def stays(ils: Market, impatient: Hands, payment: Payment, *errors: str) -> None:
    """Every try fails with these errors in turn, and no other account is tried."""
    for error in errors:
        with pytest.raises(ApplicationError) as raised:
            await impatient.open(payment)
        assert raised.value.type == error
        ((_, status, _),) = await attempts_of(ils, payment)
        assert status == "unknown"
    assert await failed_over(ils, payment) == []


async def test_silence_is_no_proof_where_the_provider_cannot_close(ils: Market, impatient: Hands) -> None:
    """Not even when later tries are refused before they act: the first one may have opened a page."""
    payment = await impatient.accept(ils.tills["meshulam"].account, ils.tills["stripe"].account)
    await fault(ils, "createPaymentProcess", SILENT_AFTER)
    await stays(ils, impatient, payment, "OutcomeUnknown")
    await fault(ils, "createPaymentProcess", "rate_limit:5")
    await stays(ils, impatient, payment, "ProviderBusy")
    await fault(ils, "createPaymentProcess", "error:400")
    await stays(ils, impatient, payment, "ProviderRejected")
    opened = await impatient.open(payment)
    assert opened.url is not None
    assert await attempts_of(ils, payment) == [("meshulam", "pending", None)]
    await pays_at(ils, "meshulam", payment, 1)
    assert (await impatient.looks(payment.id)).status is PaymentStatus.PAID
    (await ils.books(str(payment.id))).check()


async def test_not_found_is_no_proof_while_the_attempt_is_young(ils: Market, impatient: Hands) -> None:
    """The provider is silent and shows nothing under our reference: it may still be at work on it."""
    payment = await impatient.accept(ils.tills["stripe"].account, ils.tills["payplus"].account)
    await fault(ils, "create_session", SILENT_BEFORE)
    await stays(ils, impatient, payment, "OutcomeUnknown")
    assert (await impatient.open(payment)).url is not None
    assert await attempts_of(ils, payment) == [("stripe", "pending", None)]
    assert len(await ils.tills["stripe"].payer.checkouts_of(payment.id)) == 1


async def test_a_provider_that_is_silent_about_closing_too_keeps_the_payment(ils: Market, impatient: Hands) -> None:
    payment = await impatient.accept(ils.tills["stripe"].account, ils.tills["payplus"].account)
    await fault(ils, "create_session", SILENT_AFTER)
    await fault(ils, "expire_session", "error:500", count=5)
    await stays(ils, impatient, payment, "OutcomeUnknown")


async def test_money_that_came_before_the_page_could_be_closed_settles_the_payment(
    ils: Market, impatient: Hands
) -> None:
    """A silent opening, and the payer was faster than our closing (the provider had sent the address by itself)."""
    payment = await impatient.accept(ils.tills["stripe"].account, ils.tills["payplus"].account)
    await fault(ils, "create_session", SILENT_AFTER)
    await fault(ils, "expire_session", "error:500")
    await stays(ils, impatient, payment, "OutcomeUnknown")
    (session_id,) = await ils.tills["stripe"].payer.checkouts_of(payment.id)
    await ils.shop.sandbox("POST", f"/sessions/{session_id}/pay", {})
    await fault(ils, "create_session", "rate_limit:5")
    await stays(ils, impatient, payment, "ProviderBusy")
    assert (await impatient.looks(payment.id)).status is PaymentStatus.PAID
    books = await ils.books(str(payment.id))
    books.check()
    assert books.statuses() == ["paid"]


async def test_a_try_that_died_with_its_process_counts_as_silence(ils: Market, impatient: Hands) -> None:
    """Begun, and no end on record: a refusal of the next try does not prove that the first one did nothing."""
    payment = await impatient.accept(ils.tills["meshulam"].account, ils.tills["stripe"].account)

    class DiedError(BaseException):
        pass

    async def dies(*_: Any, **__: Any) -> None:
        raise DiedError

    call, impatient.guard.call = impatient.guard.call, dies  # type: ignore[method-assign, assignment]
    with pytest.raises(DiedError):
        await impatient.open(payment)
    impatient.guard.call = call  # type: ignore[method-assign]
    await fault(ils, "createPaymentProcess", "rate_limit:5")
    await stays(ils, impatient, payment, "ProviderBusy")
    assert (await impatient.open(payment)).url is not None
    assert await attempts_of(ils, payment) == [("meshulam", "pending", None)]


async def test_the_second_account_is_held_to_the_same_rule(ils: Market, impatient: Hands) -> None:
    """The first is refused for certain; the second is silent, and the third must not be tried."""
    tills = ils.tills
    payment = await impatient.accept(tills["stripe"].account, tills["meshulam"].account, tills["payplus"].account)
    await fault(ils, "create_session", "error:400")
    await fault(ils, "createPaymentProcess", SILENT_AFTER)
    with pytest.raises(ApplicationError) as raised:
        await impatient.open(payment)
    assert raised.value.type == "OutcomeUnknown"
    await fault(ils, "createPaymentProcess", "rate_limit:5")
    with pytest.raises(ApplicationError):
        await impatient.open(payment)
    assert await attempts_of(ils, payment) == [
        ("stripe", "failed", "invalid_request"),
        ("meshulam", "unknown", "rate_limit"),
    ]
    assert (await impatient.open(payment)).url is not None
    await pays_at(ils, "meshulam", payment, 2)
    assert (await impatient.looks(payment.id)).status is PaymentStatus.PAID
    (await ils.books(str(payment.id))).check()


async def test_a_silent_second_account_is_known_to_callbacks_and_looks(ils: Market, impatient: Hands) -> None:
    """Its reference is on record before it is asked, so money that comes by it is found."""
    payment = await impatient.accept(ils.tills["meshulam"].account, ils.tills["stripe"].account)
    await fault(ils, "createPaymentProcess", "error:400")
    await fault(ils, "create_session", SILENT_AFTER)
    with pytest.raises(ApplicationError):
        await impatient.open(payment)
    (session_id,) = await ils.tills["stripe"].payer.checkouts_of(attempt_reference(payment.id, 2))
    await ils.shop.sandbox("POST", f"/sessions/{session_id}/pay", {})
    assert (await impatient.looks(payment.id)).status is PaymentStatus.PAID
    books = await ils.books(str(payment.id))
    books.check()
    assert books.statuses() == ["failed", "paid"]


async def test_every_account_fails_and_each_try_is_kept(ils: Market, impatient: Hands) -> None:
    payment = await impatient.accept(*(ils.tills[name].account for name in ("stripe", "payplus", "meshulam")))
    await fault(ils, "create_session", "error:400")
    await fault(ils, "payplus_link", "error:401")
    await fault(ils, "createPaymentProcess", "error:400")
    with pytest.raises(ApplicationError) as raised:
        await impatient.open(payment)
    assert (raised.value.type, raised.value.details[0]) == ("ProviderRejected", "http_400")
    kept = [
        ("stripe", "failed", "invalid_request"),
        ("payplus", "failed", "http_401"),
        ("meshulam", "failed", "http_400"),
    ]
    assert await attempts_of(ils, payment) == kept
    await fault(ils, "createPaymentProcess", "error:400")
    with pytest.raises(ApplicationError) as again:  # a repeat after the end was recorded
        await impatient.open(payment)
    assert (again.value.type, again.value.details[0]) == ("ProviderRejected", "http_400")
    assert await attempts_of(ils, payment) == kept
    assert len(await failed_over(ils, payment)) == 2


async def test_the_last_account_is_waited_for_while_it_is_busy(ils: Market, impatient: Hands) -> None:
    payment = await impatient.accept(ils.tills["stripe"].account, ils.tills["payplus"].account)
    await fault(ils, "create_session", "error:400")
    await fault(ils, "payplus_link", "rate_limit:7")
    with pytest.raises(ApplicationError) as raised:
        await impatient.open(payment)
    assert raised.value.type == "ProviderBusy"
    assert raised.value.next_retry_delay is not None
    assert timedelta(seconds=7) <= raised.value.next_retry_delay <= timedelta(seconds=7) * (1 + SPREAD)
    assert (await attempts_of(ils, payment))[1] == ("payplus", "opening", "rate_limit")
    assert (await impatient.open(payment)).url is not None
    assert (await attempts_of(ils, payment))[1] == ("payplus", "pending", None)

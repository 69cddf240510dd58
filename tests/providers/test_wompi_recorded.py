"""Wompi's real answers, as they are publicly known, and the sandbox held to their shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    AccountConfig,
    CheckoutMode,
    CheckoutRef,
    ProviderMisconfigured,
    ProviderRejected,
    RefundRequest,
    RefundStatus,
)
from providers.registry import build_provider
from providers.wompi import WompiProvider
from tests.providers.recorded import recording, same_shape

ONLY = ("wompi",)

VOID = recording("wompi", "void")
VOIDED = VOID["data"]["transaction"]
PAID = VOIDED | {"status": "APPROVED"}
PAID_AT = datetime.fromisoformat(PAID["finalized_at"])
PAGE = CheckoutRef(UUID(PAID["reference"]), PAID["reference"], CheckoutMode.HOSTED, PAID_AT)
MONEY = Money(PAID["amount_in_cents"], "COP")
REFUND = RefundRequest(uuid4(), PAID["id"], MONEY, PAGE, MONEY, Money(0, "COP"))
KEYS = {"public_key": "pub", "private_key": "prv", "events_secret": "events", "integrity_secret": "integrity"}


class Wompi:
    """Answers a void as it is told to, and shows a transaction to the private key alone."""

    def __init__(self, void: tuple[int, Any] = (201, VOID), shown: Any = PAID) -> None:
        self.void = void
        self.shown = shown
        self.voids = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            self.voids += 1
            status, body = self.void
            return httpx.Response(status, json=body) if body else httpx.Response(status)
        if request.headers["authorization"] != "Bearer prv":
            return httpx.Response(404, json=recording("wompi", "read_by_public_key"))
        return httpx.Response(200, json={"data": self.shown, "meta": {}})


def adapter(answer: Callable[[httpx.Request], httpx.Response], now: datetime = PAID_AT) -> WompiProvider:
    return WompiProvider(AccountConfig(uuid4(), KEYS), transport=httpx.MockTransport(answer), clock=lambda: now)


@pytest.mark.asyncio
async def test_a_voids_own_answer_is_believed_where_the_look_lags_behind() -> None:
    made = await adapter(Wompi()).refund(REFUND)
    assert (made.status, made.provider_refund_id) == (RefundStatus.SUCCEEDED, f"void-{PAID['id']}")


@pytest.mark.asyncio
async def test_an_empty_answer_to_a_void_is_decided_by_the_look() -> None:
    empty = (201, recording("wompi", "void_empty"))
    assert (await adapter(Wompi(empty)).refund(REFUND)).status is RefundStatus.PENDING
    voided = Wompi(empty, VOIDED)
    assert (await adapter(voided).refund(REFUND)).status is RefundStatus.SUCCEEDED


@pytest.mark.asyncio
@pytest.mark.parametrize("status", ["DECLINED", "ERROR"])
async def test_a_void_that_was_taken_and_not_made_is_refused_unless_another_try_was_faster(status: str) -> None:
    said = {"data": {"status": status, "status_message": "No se pudo anular", "transaction": PAID}, "meta": {}}
    with pytest.raises(ProviderRejected, match=f"void_refused: {status.lower()}"):
        await adapter(Wompi((201, said))).refund(REFUND)
    looks = iter([PAID, VOIDED])

    def faster(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=said if request.method == "POST" else {"data": next(looks)})

    assert (await adapter(faster).refund(REFUND)).status is RefundStatus.SUCCEEDED


@pytest.mark.asyncio
async def test_a_pending_void_or_another_transactions_proves_nothing() -> None:
    for said in ({"status": "PENDING", "transaction": PAID}, {"transaction": VOIDED | {"id": "1-1-1"}}, {"status": 7}):
        made = await adapter(Wompi((201, {"data": said}))).refund(REFUND)
        assert made.status is RefundStatus.PENDING, said


@pytest.mark.asyncio
async def test_a_transaction_is_read_by_the_private_key() -> None:
    """By the public one it is not found, and a payment that was made would never be seen."""
    ref = replace(PAGE, session_id=PAID["id"], method="pse")
    seen = await adapter(Wompi()).look(ref)
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, MONEY)


@pytest.mark.asyncio
async def test_a_void_is_asked_for_on_the_day_of_the_payment_only_and_the_panel_is_named_after_it() -> None:
    midnight = datetime(2026, 5, 5, 5, 0, tzinfo=UTC)  # in Colombia
    wompi = Wompi()
    assert (await adapter(wompi, midnight - timedelta(seconds=1)).refund(REFUND)).status is RefundStatus.SUCCEEDED
    assert wompi.voids == 1
    with pytest.raises(ProviderRejected, match=r"refund_window_over: .*panel"):
        await adapter(wompi, midnight).refund(REFUND)
    assert wompi.voids == 1
    wompi.shown = VOIDED  # an earlier try acted: that is found on any day
    assert (await adapter(wompi, midnight).refund(REFUND)).status is RefundStatus.SUCCEEDED


@pytest.mark.asyncio
async def test_the_sandbox_answers_a_void_as_recorded(payer: Any, provider: WompiProvider, request_for: Any) -> None:
    for variants, name in (((), "void"), (("void_empty",), "void_empty")):
        await payer.behaves(*variants)
        request = request_for()
        await payer.pays(await provider.open_checkout(request))
        [one] = await payer.transactions(request.reference)
        headers = {"authorization": f"Bearer {payer.keys()['private_key']}"}
        answer = await payer.http.post(f"/wompi/v1/transactions/{one['id']}/void", headers=headers)
        assert answer.status_code == 201
        assert same_shape(recording("wompi", name), answer.json() if answer.content else "") == []


@pytest.mark.asyncio
async def test_the_sandbox_shows_a_transaction_to_the_private_key_alone(
    payer: Any, provider: WompiProvider, request_for: Any
) -> None:
    request = request_for()
    await payer.pays(await provider.open_checkout(request))
    [one] = await payer.transactions(request.reference)
    headers = {"authorization": f"Bearer {payer.keys()['public_key']}"}
    answer = await payer.http.get(f"/wompi/v1/transactions/{one['id']}", headers=headers)
    assert answer.status_code == 404
    assert same_shape(recording("wompi", "read_by_public_key"), answer.json()) == []
    await payer.behaves("open_reads")
    answer = await payer.http.get(f"/wompi/v1/transactions/{one['id']}", headers=headers)
    assert same_shape(VOIDED, answer.json()["data"]) == []


@pytest.mark.asyncio
@pytest.mark.parametrize(("variants", "key"), [((), "public"), (("private_creates",), "private")])
async def test_a_transaction_is_created_by_the_key_that_is_taken_unless_the_account_names_one(
    payer: Any, request_for: Any, variants: tuple[str, ...], key: str
) -> None:
    await payer.behaves(*variants)
    config = payer.account()
    for chosen in ("either", "public", "private"):
        provider = build_provider("wompi", replace(config, options={**config.options, "transactions_key": chosen}))
        request = request_for(method="nequi", method_fields={"phone_number": "3991111111"})
        if chosen in ("either", key):
            assert (await provider.open_checkout(request)).approve_in
        else:
            with pytest.raises(ProviderMisconfigured):
                await provider.open_checkout(request)
        assert len(await payer.transactions(request.reference)) == (chosen in ("either", key))
        await provider.aclose()


@pytest.mark.asyncio
async def test_the_sandbox_voids_on_the_same_day_only(payer: Any, provider: WompiProvider, request_for: Any) -> None:
    request = request_for()
    await payer.pays(await provider.open_checkout(request))
    [one] = await payer.transactions(request.reference)
    await payer.sandbox(f"wompi/transactions/{one['id']}/age", days=1)
    headers = {"authorization": f"Bearer {payer.keys()['private_key']}"}
    answer = await payer.http.post(f"/wompi/v1/transactions/{one['id']}/void", headers=headers)
    assert answer.status_code == 422

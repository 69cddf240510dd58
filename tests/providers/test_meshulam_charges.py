"""Charges of saved cards at Grow: what it lists while one is at work, and that no second identifier is tried then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    AccountConfig,
    Charged,
    ChargeRequest,
    CheckoutMode,
    CheckoutRef,
    OutcomeUnknown,
    Payer,
    ProviderError,
    RefundRequest,
    RefundStatus,
)
from providers.meshulam import MeshulamProvider
from tests.providers.payers.meshulam import CALLBACK_TOKEN
from tests.providers.payers.meshulam import Payer as SandboxPayer
from tests.providers.recorded import recording, same_shape

ONLY = ("meshulam",)

REFERENCE = UUID("018bcfe5-6800-7000-8000-000000000001")
NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
CREDENTIALS = {"user_id": "u5a7e3c1", "page_code": "p90f1cc2", "callback_token": CALLBACK_TOKEN}
PERSON = Payer("cust-7", "Dana Levi", "dana@example.com", "0541234567")
USED = {"status": 0, "err": {"id": 1010, "message": ""}, "data": ""}
AMOUNT = Money.parse("129.90", "ILS")
SEARCH = "getTokenTransactionsByExternalIdentifiers"
CHARGE = "createTransactionWithToken"

Build = Callable[[Callable[[str, dict[str, str]], Any]], MeshulamProvider]


@pytest_asyncio.fixture
async def grow() -> AsyncIterator[Build]:
    """Build an adapter whose calls are answered by a function of the method and the form."""
    built: list[MeshulamProvider] = []

    def build(answer: Callable[[str, dict[str, str]], Any]) -> MeshulamProvider:
        def respond(request: httpx.Request) -> httpx.Response:
            form = dict(parse_qsl(request.content.decode(), keep_blank_values=True))
            return httpx.Response(200, json=answer(request.url.path.rsplit("/", 1)[-1], form))

        built.append(
            MeshulamProvider(
                AccountConfig(account_id=uuid4(), credentials=CREDENTIALS),
                transport=httpx.MockTransport(respond),
                clock=lambda: NOW,
            )
        )
        return built[-1]

    yield build
    for one in built:
        await one.aclose()


def request(*, asked_before: bool = True, **changes: Any) -> ChargeRequest:
    """Of a charge that was accepted an hour ago."""
    values: dict[str, Any] = {
        "reference": REFERENCE,
        "workspace_id": UUID(int=7),
        "order_id": "invoice-1",
        "amount": AMOUNT,
        "description": "Renewal",
        "token": "card-1",
        "customer": None,
        "created_at": NOW - timedelta(hours=1),
        "expires_at": NOW + timedelta(days=3),
        "payer": PERSON,
        "asked_before": asked_before,
    }
    return ChargeRequest(**(values | changes))


def unanswered(token: str | None = "card-1", **changes: Any) -> CheckoutRef:
    """A charge whose answer was lost, or that was found under an identifier."""
    return CheckoutRef(
        REFERENCE, mode=CheckoutMode.SAVED, created_at=NOW, **({"session_id": None} | changes), token=token
    )


def listing(transactions: Any) -> dict[str, Any]:
    return {"status": "1", "err": "", "data": {"transactions": transactions}}


def paid_entry(**more: Any) -> dict[str, Any]:
    entry: dict[str, Any] = recording("meshulam", "charge_listed")["data"]["transactions"][0]
    return entry | more


TIMES = {"received_time": "2026-11-02 10:15:01", "complete_time": "2026-11-02 10:15:03"}
AT_WORK: list[Any] = [
    recording("meshulam", "charge_at_work"),
    listing([TIMES]),
    listing([TIMES | {"complete_time": ""}]),
    listing([{"received_time": TIMES["received_time"]}]),
    listing({"3": TIMES}),
    listing([{}]),
    listing([TIMES | {"transactionId": "0", "statusCode": "0"}]),
    listing([TIMES | {"transactionId": "", "statusCode": ""}]),
    listing([{"transactionId": "7", "transactionToken": "t7", "statusCode": "11", "sum": "129.90"}]),
    listing([{"transactionId": "7", "transactionToken": "t7", "sum": "129.90"}]),
    listing([TIMES | {"customFields": {"cField1": REFERENCE.hex}}]),
    {"status": 1, "err": "", "data": [TIMES]},
    {"status": 1, "err": "", "data": TIMES},
]
NOTHING: list[Any] = [
    listing([]),
    listing(""),
    listing(None),
    listing({}),
    {"status": 1, "err": "", "data": ""},
    {"status": 1, "err": "", "data": []},
    listing([TIMES | {"customFields": {"cField1": UUID(int=3).hex}}]),
    {"status": 0, "err": {"id": 170, "message": ""}, "data": ""},
]
UNREADABLE: list[Any] = [
    listing(7),
    listing([7]),
    listing("none"),
    {"status": 1, "err": "", "data": "none"},
    {"status": 1, "err": "", "data": {"processId": "1"}},
    listing([paid_entry(transactionId="0")]),
    listing([paid_entry(sum="12,90")]),
    {"status": 0, "err": {"id": {"id": 1012, "content": ""}, "message": ""}, "data": ""},
]


@pytest.mark.parametrize("answer", AT_WORK)
async def test_a_charge_that_is_at_work_is_running_and_never_none(grow: Build, answer: Any) -> None:
    seen = await grow(lambda *_: answer).look(unanswered())
    assert (seen.status, seen.captured) == (PaymentStatus.PENDING, None)
    assert "card-1" not in repr(seen)


@pytest.mark.parametrize("answer", NOTHING)
async def test_nothing_listed_is_unknown(grow: Build, answer: Any) -> None:
    assert (await grow(lambda *_: answer).look(unanswered())).status is PaymentStatus.UNKNOWN


@pytest.mark.parametrize("answer", UNREADABLE)
async def test_a_list_that_cannot_be_read_is_neither(grow: Build, answer: Any) -> None:
    with pytest.raises(ProviderError):
        await grow(lambda *_: answer).look(unanswered())


def charging(*listed: Any, first: Any = USED) -> tuple[list[str], Callable[[str, dict[str, str]], Any]]:
    """The identifiers that were charged, and the answers: all refused with `first`, then what each search lists."""
    charged: list[str] = []
    found: Iterator[Any] = iter(listed)

    def answer(method: str, form: dict[str, str]) -> Any:
        if method == SEARCH:
            return next(found)
        assert method == CHARGE
        charged.append(form["transactionUniqueIdentifier"])
        return first

    return charged, answer


@pytest.mark.parametrize("answer", AT_WORK)
@pytest.mark.parametrize("asked_before", [True, False])
async def test_no_other_identifier_is_tried_while_a_charge_is_at_work(
    grow: Build,
    answer: Any,
    asked_before: bool,  # noqa: FBT001
) -> None:
    charged, answers = charging(answer)
    made = await grow(answers).charge(request(asked_before=asked_before))
    assert made.status is PaymentStatus.PENDING
    assert len(charged) == 1


@pytest.mark.parametrize("answer", [*NOTHING, *UNREADABLE])
async def test_an_identifier_that_we_may_have_used_ourselves_is_never_followed_by_another(
    grow: Build, answer: Any
) -> None:
    charged, answers = charging(answer)
    with pytest.raises(ProviderError) as error:
        await grow(answers).charge(request())
    assert len(charged) == 1
    assert isinstance(error.value, OutcomeUnknown) or answer in UNREADABLE


async def test_an_identifier_that_is_certainly_anothers_is_followed_by_the_next(grow: Build) -> None:
    charged, answers = charging(*[listing([])] * 3)
    with suppress(ProviderError):
        await grow(answers).charge(request(asked_before=False))
    assert len(set(charged)) == len(charged) == 3
    assert charged[0] != charged[1]


async def test_a_charge_that_was_at_work_is_followed_to_its_end_and_can_be_refunded(grow: Build) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    state: dict[str, Any] = {"listed": recording("meshulam", "charge_at_work")}

    def answer(method: str, form: dict[str, str]) -> Any:
        asked.append((method, form))
        if method == CHARGE:
            return USED
        if method == SEARCH:
            return state["listed"]
        assert method == "refundTransaction"
        return {"status": 1, "err": "", "data": {"transactionId": "8", "statusCode": "3"}}

    provider = grow(answer)
    made: Charged = await provider.charge(request())
    followed = unanswered(session_id=made.session_id, session_secret=made.session_secret, token=None)
    assert (await provider.look(followed)).status is PaymentStatus.PENDING
    state["listed"] = recording("meshulam", "charge_listed")
    for ref in (followed, unanswered()):
        seen = await provider.look(ref)
        assert (seen.status, seen.captured, seen.transaction_id) == (PaymentStatus.PAID, AMOUNT, "33100001")
        refund = RefundRequest(uuid4(), "33100001", AMOUNT, ref, AMOUNT, Money.zero("ILS"))
        assert (await provider.refund(refund)).status is RefundStatus.SUCCEEDED
        assert (asked[-1][1]["transactionId"], asked[-1][1]["transactionToken"]) == (
            "33100001",
            "70ken70ken70ken70ken70ken7000001",
        )
    searched = {form["transactionUniqueIdentifier"] for method, form in asked if method == SEARCH}
    charged = {form["transactionUniqueIdentifier"] for method, form in asked if method == CHARGE}
    assert charged == searched
    assert len(charged) == 1


@pytest.mark.parametrize(("code", "status"), [("2", "paid"), ("3", "paid"), ("11", "pending"), ("0", "pending")])
async def test_a_transaction_is_paid_by_its_status_alone(grow: Build, code: str, status: str) -> None:
    data = paid_entry(statusCode=code)
    seen = await grow(lambda *_: {"status": 1, "err": "", "data": data}).look(
        unanswered(session_id="33100001", session_secret="t", token=None)
    )
    assert (seen.status, seen.captured) == (PaymentStatus(status), AMOUNT if status == "paid" else None)


@pytest.mark.parametrize("changes", [{"statusCode": "11"}, {"statusCode": ""}, {"transactionId": "0"}])
async def test_an_answer_that_does_not_say_paid_is_not_known(grow: Build, changes: dict[str, str]) -> None:
    answer = {"status": 1, "err": "", "data": paid_entry(**changes)}
    with pytest.raises(OutcomeUnknown):
        await grow(lambda *_: answer).charge(request())


# the sandbox's own answers


async def call(payer: SandboxPayer, method: str, **fields: str) -> Any:
    form = {"pageCode": payer.page_code, "userId": "business1"} | fields
    return (await payer.http.post(f"/meshulam/api/light/server/1.0/{method}", data=form)).json()


async def saved_token(payer: SandboxPayer, provider: MeshulamProvider, request_for: Any) -> str:
    opened = await provider.open_checkout(request_for(save_method=True))
    await payer.pays(opened)
    (process, *_) = (await payer.http.get("/sandbox/meshulam/processes")).json()
    return str(process["transactions"][0]["cardToken"])


@pytest.fixture
def wants() -> Callable[[str], dict[str, str]]:
    """The form of a charge of a card, as Grow wants it."""

    def form(token: str) -> dict[str, str]:
        return {
            "cardToken": token,
            "sum": "129.90",
            "description": "Renewal",
            "paymentType": "2",
            "pageField[fullName]": "Dana Levi",
            "pageField[phone]": "0541234567",
            "transactionUniqueIdentifier": str(uuid4().int % (2**31 - 2) + 1),
        }

    return form


async def test_the_sandbox_lists_a_charge_at_work_as_it_was_recorded(
    payer: SandboxPayer, provider: MeshulamProvider, request_for: Any, wants: Any
) -> None:
    token = await saved_token(payer, provider, request_for)
    await payer.sandbox(f"meshulam/cards/{token}/outcomes", outcomes=[-1])
    form = wants(token)
    await call(payer, CHARGE, **form)
    search = {name: form[name] for name in ("cardToken", "transactionUniqueIdentifier")}
    at_work, listed = recording("meshulam", "charge_at_work"), recording("meshulam", "charge_listed")
    assert same_shape(at_work, await call(payer, SEARCH, **search)) == []
    await payer.sandbox(f"meshulam/cards/{token}/complete")
    assert same_shape(listed, await call(payer, SEARCH, **search)) == []
    await payer.behaves("charges_without_times")
    (entry,) = (await call(payer, SEARCH, **search))["data"]["transactions"]
    assert not set(TIMES) & set(entry)

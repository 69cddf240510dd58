"""Grow's error ids at a charge of a saved card: which are declines, which are our faults, and what it insists on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from domain.declines import DeclineClass, decline_class
from domain.payment import PaymentStatus
from domain.setup import SetupStatus
from providers.base import (
    Callback,
    EventKind,
    OutcomeUnknown,
    Payer,
    ProviderBusy,
    ProviderDeclined,
    ProviderError,
    ProviderMisconfigured,
    ProviderRejected,
    SetupRef,
)
from providers.meshulam import MeshulamProvider
from providers.meshulam.error_ids import DECLINES, OF_THE_ACCOUNT, OF_THE_REQUEST
from tests.providers.payers.meshulam import CALLBACK_TOKEN
from tests.providers.payers.meshulam import Payer as SandboxPayer
from tests.providers.recorded import recording, same_shape
from tests.providers.test_meshulam_charges import (
    CHARGE,
    NOW,
    PERSON,
    REFERENCE,
    SEARCH,
    Build,
    call,
    grow,
    listing,
    paid_entry,
    request,
    saved_token,
    unanswered,
)

ONLY = ("meshulam",)
__all__ = ["grow"]

FAULTS_OF_THE_REQUEST = (
    54, 109, 310, 617, 702, 705, 706, 707, 708, 709, 711, 716, 717, 719, 734, 735, 736, 738, 739, 740, 741, 763, 802,
    805, 807, 871, 872, 873, 878, 890, 1013,
)  # fmt: skip
FAULTS_OF_THE_ACCOUNT = (
    104, 300, 305, 316, 403, 701, 703, 704, 710, 713, 714, 715, 720, 721, 723, 724, 731, 733, 743, 801, 806, 812,
)  # fmt: skip
OF_ANOTHER_MEANING = ("invalid_amount", "unknown_transaction")
"""Codes that a charge can hardly have, and that may be a decline's words elsewhere."""
TEXTS = {
    "כרטיס פג תוקף": ("expired_card", DeclineClass.HARD),
    "כרטיס גנוב - עסקה נדחתה": ("stolen_card", DeclineClass.HARD),
    "כרטיס חסום - עסקה נדחתה": ("restricted_card", DeclineClass.HARD),
    "חברת האשראי לא אשרה את העסקה": ("do_not_honor", DeclineClass.SOFT),
    "חברת האשראי לא אישרה את העסקה": ("do_not_honor", DeclineClass.SOFT),
    "another text": ("err_103", DeclineClass.UNKNOWN),
    "": ("err_103", DeclineClass.UNKNOWN),
}
FINAL = {140: "token_not_found", 451: "expired_card", 452: "restricted_card", 453: "do_not_try_again"}


def error(error_id: int, message: str = "") -> dict[str, Any]:
    return {"status": 0, "err": {"id": error_id, "message": message}, "data": ""}


async def fails(provider: MeshulamProvider, **changes: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await provider.charge(request(**changes))
    return caught.value


@pytest.mark.parametrize("text", TEXTS)
async def test_error_103_is_told_apart_by_its_text(grow: Build, text: str) -> None:
    declined = await fails(grow(lambda *_: error(103, text)))
    assert isinstance(declined, ProviderDeclined)
    assert (declined.code, declined.decline_class) == TEXTS[text]
    assert not text or text not in str(declined)


async def test_the_recorded_decline_is_final(grow: Build) -> None:
    declined = await fails(grow(lambda *_: recording("meshulam", "charge_declined")))
    assert isinstance(declined, ProviderDeclined)
    assert declined.decline_class is DeclineClass.HARD


@pytest.mark.parametrize("error_id", FINAL)
async def test_what_grow_calls_final_is_a_hard_decline(grow: Build, error_id: int) -> None:
    declined = await fails(grow(lambda *_: error(error_id)))
    assert isinstance(declined, ProviderDeclined)
    assert (declined.code, declined.decline_class) == (FINAL[error_id], DeclineClass.HARD)


async def test_try_later_is_a_soft_decline(grow: Build) -> None:
    declined = await fails(grow(lambda *_: error(819)))
    assert isinstance(declined, ProviderDeclined)
    assert declined.decline_class is DeclineClass.SOFT


@pytest.mark.parametrize(
    ("error_id", "kind"),
    [(one, ProviderRejected) for one in FAULTS_OF_THE_REQUEST]
    + [(one, ProviderMisconfigured) for one in FAULTS_OF_THE_ACCOUNT],
)
async def test_a_fault_of_the_request_or_the_account_is_no_decline(
    grow: Build, error_id: int, kind: type[ProviderError]
) -> None:
    charged: list[str] = []

    def answer(method: str, _: Any) -> Any:
        charged.append(method)
        return error(error_id)

    fault = await fails(grow(answer))
    assert type(fault) is kind
    assert not fault.code.startswith("err_")
    assert charged == [CHARGE]
    assert decline_class(fault.code) is DeclineClass.FAULT or fault.code in OF_ANOTHER_MEANING


def test_no_id_has_two_meanings() -> None:
    tables = (DECLINES, OF_THE_ACCOUNT, OF_THE_REQUEST)
    assert sum(map(len, tables)) == len(set().union(*tables))


NOT_LISTED = [listing([]), listing([{"received_time": "2026-11-02 10:15:01", "complete_time": None}])]


@pytest.mark.parametrize("answer", NOT_LISTED)
async def test_an_unknown_id_is_no_decline_and_took_nothing_by_grows_own_list(grow: Build, answer: Any) -> None:
    asked: list[str] = []

    def respond(method: str, _: Any) -> Any:
        asked.append(method)
        return answer if method == SEARCH else error(4711)

    fault = await fails(grow(respond))
    assert (type(fault), fault.code) == (ProviderRejected, "err_4711")
    assert (asked[0], set(asked[1:])) == (CHARGE, {SEARCH})


async def test_an_unknown_id_after_money_came_is_a_charge(grow: Build) -> None:
    made = await grow(lambda method, _: listing([paid_entry()]) if method == SEARCH else error(4711)).charge(request())
    assert (made.status, made.transaction_id) == (PaymentStatus.PAID, "33100001")


async def test_an_unknown_id_that_cannot_be_looked_up_is_not_known(grow: Build) -> None:
    assert isinstance(await fails(grow(lambda method, _: error(12 if method == SEARCH else 4711))), OutcomeUnknown)


async def test_general_errors_leave_the_outcome_unknown(grow: Build) -> None:
    for error_id in (12, 276, 718):
        assert type(await fails(grow(lambda *_, error_id=error_id: error(error_id)))) is OutcomeUnknown


# what Grow insists on


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (Payer(name="Dana Levi"), "payer_phone_required"),
        (Payer(name="Dana Levi", phone="031234567"), "payer_phone_required"),
        (Payer(phone="0541234567"), "payer_name_required"),
        (Payer(name="Dana", phone="0541234567"), "payer_name_required"),
        (Payer(), "payer_name_required"),
    ],
)
async def test_a_charge_without_the_payers_data_is_refused_before_it_is_asked_for(
    grow: Build, who: Payer, code: str
) -> None:
    def nothing(method: str, _: Any) -> Any:
        raise AssertionError(f"{method} was asked")

    refused = await fails(grow(nothing), payer=who)
    assert (type(refused), refused.code) == (ProviderRejected, code)


@pytest.mark.parametrize("insists", [False, True])
async def test_the_number_of_payments_is_left_out_unless_the_account_insists(grow: Build, insists: Any) -> None:
    """And an account that insists is asked rightly at once from then on."""
    forms: list[dict[str, str]] = []

    def answer(method: str, form: dict[str, str]) -> Any:
        assert method == CHARGE
        forms.append(form)
        if ("paymentNum" in form) is not insists:
            return error(54, "חסרים נתונים:paymentNum") if insists else error(740)
        return {"status": 1, "err": "", "data": paid_entry()}

    provider = grow(answer)
    for _ in range(2):
        assert (await provider.charge(request())).status is PaymentStatus.PAID
    assert [form.get("paymentNum") for form in forms] == ([None, "1", "1"] if insists else [None, None])
    assert {form["paymentType"] for form in forms} == {"2"}
    assert (forms[0]["pageField[fullName]"], forms[0]["pageField[phone]"]) == (PERSON.name, PERSON.phone)


async def test_an_identifier_that_a_refused_form_has_used_is_replaced_by_one_that_a_look_finds(grow: Build) -> None:
    charged: list[str] = []

    def answer(method: str, form: dict[str, str]) -> Any:
        number = form["transactionUniqueIdentifier"]
        if method == SEARCH:
            return listing([paid_entry()] if number == charged[-1] else [])
        charged.append(number)
        if "paymentNum" not in form:
            return error(54, "חסרים נתונים:paymentNum")
        return error(1010) if number in charged[:-1] else {"status": 1, "err": "", "data": paid_entry()}

    provider = grow(answer)
    assert (await provider.charge(request())).status is PaymentStatus.PAID
    assert len(charged) == 3
    assert charged[0] == charged[1] != charged[2]
    found = await provider.look(unanswered())
    assert found.status is PaymentStatus.PAID


# the page that saves a card, and the sandbox's own answers


async def test_the_recorded_update_of_a_saved_card_has_its_token_and_a_look_finds_the_card(grow: Build) -> None:
    update = recording("meshulam", "card_saved")
    data = update["data"] | {"customFields": {"cField1": REFERENCE.hex, "cField2": "setup"}}
    provider = grow(
        lambda *_: {"status": 1, "err": "", "data": {"processId": "462001", "transactions": [update["data"]]}}
    )
    body = str(update | {"data": data}).replace("'", '"').encode()
    event = provider.verify_webhook(Callback({"content-type": "application/json"}, body, NOW, CALLBACK_TOKEN))
    assert (event.kind, event.reference, event.method_token) == (
        EventKind.SETUP,
        REFERENCE,
        update["data"]["cardToken"],
    )
    seen = await provider.look_setup(SetupRef(REFERENCE, "462001", NOW, "5f0c0de5f0c0de5f0c0de5f0c0de0003"))
    assert seen.status is SetupStatus.SUCCEEDED
    assert seen.method is not None
    assert (seen.method.token, seen.method.last4, seen.method.exp_year) == (update["data"]["cardToken"], "4580", 2030)


async def test_a_placeholder_is_no_transaction_in_a_look_a_set_up_or_an_update(grow: Build) -> None:
    answer = recording("meshulam", "placeholder")
    answer["data"]["processId"] = "462001"
    provider = grow(lambda *_: answer)
    seen = await provider.look_setup(SetupRef(REFERENCE, "462001", NOW, "t"))
    assert (seen.status, seen.method) == (SetupStatus.PENDING, None)
    body = b'{"err":"","status":"1","data":{"transactionId":"0","statusCode":"0","processId":"%d","processToken":"t"}}'
    events = [
        provider.verify_webhook(Callback({"content-type": "application/json"}, body % number, NOW, CALLBACK_TOKEN))
        for number in (1, 2)
    ]
    assert {(event.kind, event.transaction_id) for event in events} == {(EventKind.OTHER, None)}
    assert len({event.event_id for event in events}) == 2


@pytest_asyncio.fixture
async def token(payer: SandboxPayer, provider: MeshulamProvider, request_for: Callable[..., Any]) -> AsyncIterator[str]:
    yield await saved_token(payer, provider, request_for)


FORM = {
    "sum": "129.90",
    "description": "Renewal",
    "paymentType": "2",
    "pageField[fullName]": "Dana Levi",
    "pageField[phone]": "0541234567",
}


async def test_the_sandbox_declines_and_refuses_as_it_was_recorded(
    payer: SandboxPayer, provider: MeshulamProvider, token: str
) -> None:
    recorded = recording("meshulam", "charge_declined")
    wanted = [(1031, "expired_card"), (1032, "stolen_card"), (1033, "restricted_card"), (1034, "do_not_honor")]
    for number, (outcome, code) in enumerate(wanted, 1):
        await payer.sandbox(f"meshulam/cards/{token}/outcomes", outcomes=[outcome, outcome])
        answer = await call(payer, CHARGE, **FORM, cardToken=token, transactionUniqueIdentifier=str(number))
        assert answer["err"]["id"] == 103
        assert same_shape(recorded, answer | {"status": 0}) == []
        declined = await fails(provider, token=token, reference=REFERENCE.__class__(int=number))
        assert declined.code == code
    for changes, error_id in (
        ({"pageField[phone]": ""}, 717),
        ({"pageField[fullName]": "Dana"}, 717),
        ({"cardToken": "none"}, 140),
    ):
        form = FORM | {"cardToken": token, "transactionUniqueIdentifier": "77"} | changes
        assert (await call(payer, CHARGE, **form))["err"]["id"] == error_id
    await payer.behaves("regular_payments_only")
    form = FORM | {"cardToken": token, "transactionUniqueIdentifier": "78", "paymentNum": "1"}
    assert (await call(payer, CHARGE, **form))["err"]["id"] == 740
    await payer.behaves("payment_num_required")
    del form["paymentNum"]
    assert (await call(payer, CHARGE, **form))["err"]["id"] == 54
    charged = await provider.charge(request(token=token, reference=REFERENCE.__class__(int=900)))
    assert charged.status is PaymentStatus.PAID


async def test_the_sandbox_lists_a_placeholder_as_it_was_recorded(
    payer: SandboxPayer, provider: MeshulamProvider, request_for: Callable[..., Any]
) -> None:
    await payer.behaves("placeholder")
    opened = await provider.open_checkout(request_for())
    form = {"processId": opened.session_id, "processToken": str(opened.session_secret)}
    assert same_shape(recording("meshulam", "placeholder"), await call(payer, "getPaymentProcessInfo", **form)) == []


async def test_a_rate_limit_of_a_charge_is_no_decline(grow: Build) -> None:
    assert isinstance(await fails(grow(lambda *_: error(115))), ProviderBusy)

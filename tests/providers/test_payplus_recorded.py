"""PayPlus as it is publicly known to answer: what today's adapter makes of it, and the sandbox in the same shapes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    CheckoutRequest,
    OutcomeUndecided,
    Payer,
    Provider,
    ProviderDeclined,
    ProviderMisconfigured,
    ProviderRejected,
    RefundStatus,
    SavedMethod,
)
from providers.payplus import PayPlusProvider
from providers.payplus.refunds import Piece, line_of, refund_made
from providers.payplus.requests import israeli_number
from providers.payplus.webhooks import hash_of
from providers.payplus.wire import as_javascript
from providers.reading import read_json
from tests.providers.recorded import HERE, recording, same_shape
from tests.providers.test_payplus import (
    NOW,
    PAGE_UID,
    SECRET,
    a_ref,
    a_refund,
    a_request,
    an_account,
    callback_body,
    no,
    says,
    signed,
)
from tests.providers.test_saved_methods import charge_of

ONLY = ("payplus",)
Answers = Callable[..., PayPlusProvider]
RequestFor = Callable[..., CheckoutRequest]
REFUSALS = ("wrong_page", "no_transaction", "missing_take", "missing_parameter", "vat_number_refused")
FORMS = ("text", "json", "envelope", "envelope under 200", "message")


@pytest_asyncio.fixture
async def answered() -> AsyncIterator[Answers]:
    """Build an adapter whose every request is answered by a function, without any network."""
    built: list[PayPlusProvider] = []

    def build(
        answer: Callable[[httpx.Request], httpx.Response], options: dict[str, object] | None = None
    ) -> PayPlusProvider:
        transport = httpx.MockTransport(answer)
        built.append(PayPlusProvider(an_account(options), transport=transport, clock=lambda: NOW))
        return built[-1]

    yield build
    for provider in built:
        await provider.aclose()


def recorded(name: str) -> httpx.Response:
    told = json.loads((HERE / "payplus" / f"{name}.json").read_text())
    return httpx.Response(told["status"], json=told["body"])


def ours(name: str) -> Any:
    """A recorded status query, of our page and without a shop's own reference."""
    data = recording("payplus", name)["data"]
    named = {"page_request_uid": PAGE_UID}
    return data | named | {"related_transactions": [one | named for one in data["related_transactions"]]}


def refusal(description: str, form: str, status: int = 422) -> httpx.Response:
    """The same refusal in each form in which they are seen."""
    if form == "text":
        return httpx.Response(status, text=description)
    if form == "json":
        return httpx.Response(status, json=description)
    if form == "message":
        return httpx.Response(status, json={"status": "error", "message": description})
    return no(description, 200 if form.endswith("200") else status)


# ---- payments by several ways -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["split_payment", "combined_payment"])
async def test_a_payment_by_several_ways_is_its_total_once(answered: Answers, name: str) -> None:
    """100 = 30 + 70 was counted as 200."""
    seen = await answered(lambda _: says(ours(name))).look(a_ref())
    assert (seen.status, seen.captured) == (PaymentStatus.PAID, Money.parse("100", "ILS"))
    assert seen.transaction_id == "whole"
    assert set(seen.other_ids) == {"whole", "part-card", "part-gift"}
    assert (seen.method, seen.card_last4) == ("credit-card", "9844")


@pytest.mark.parametrize("form", ["side by side", "nested", "listed"])
async def test_the_total_counts_once_in_every_form(answered: Answers, form: str) -> None:
    data = ours("split_payment")
    parts = data.pop("related_transactions")
    shown = {
        "side by side": [data | {"is_multiple_transaction": False}, *parts],
        "nested": {"transaction": data, "data": {}, "related_transactions": parts},
        "listed": [data | {"related_transactions": parts}],
    }[form]
    assert (await answered(lambda _: says(shown)).look(a_ref())).captured == Money.parse("100", "ILS")


@pytest.mark.parametrize(
    ("whole", "parts", "captured"),
    [
        ({"amount": 100, "is_multiple_transaction": True}, [], "100"),
        ({"amount": 100, "is_multiple_transaction": True}, [30, 60], "100"),  # the total is what PayPlus says
        ({"amount": 100}, [30, 60], "190"),  # no parts of it: for a person, by the amount
        ({"amount": 100}, [100], "100"),
        ({"amount": 100, "is_multiple_transaction": "true"}, [50, 50], "100"),
    ],
)
async def test_what_adds_up_to_a_total_is_its_parts(
    answered: Answers, whole: dict[str, Any], parts: list[int], captured: str
) -> None:
    data, card = ours("combined_payment"), ours("combined_payment")["related_transactions"][1]
    shown = [card | {"transaction_uid": f"part-{place}", "amount": amount} for place, amount in enumerate(parts)]
    seen = await answered(lambda _: says(data | whole | {"related_transactions": shown})).look(a_ref())
    assert seen.captured == Money.parse(captured, "ILS")


async def test_a_total_that_was_refused_is_not_paid_by_one_of_its_parts(answered: Answers) -> None:
    data = ours("split_payment") | {"status": "rejected", "status_code": "004"}
    seen = await answered(lambda _: says(data)).look(a_ref())
    assert (seen.status, seen.captured) == (PaymentStatus.PENDING, None)


# ---- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_an_unpaid_page_is_pending_in_whatever_form_it_is_said(answered: Answers, form: str) -> None:
    """The look raised for a refusal without an envelope."""
    said = recording("payplus", "no_transaction")
    for status in (400, 422):
        provider = answered(lambda _, status=status: refusal(said, form, status))
        assert (await provider.look(a_ref())).status is PaymentStatus.PENDING
        assert (await provider.look(a_ref(None))).status is PaymentStatus.UNKNOWN


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("said", "error"),
    [
        (recording("payplus", "wrong_page"), ProviderMisconfigured),
        ("not-authorize", ProviderMisconfigured),
        (recording("payplus", "missing_take"), ProviderRejected),
        (recording("payplus", "missing_parameter"), ProviderRejected),
        ("vat-id-not-valid", ProviderRejected),
    ],
)
async def test_a_refusal_means_the_same_in_every_form(
    answered: Answers, said: str, error: type[Exception], form: str
) -> None:
    provider = answered(lambda _: refusal(said, form))
    for call in (provider.open_checkout(a_request()), provider.check_account()):
        with pytest.raises(error) as refused:
            await call
        assert said in str(refused.value)


@pytest.mark.parametrize("name", REFUSALS)
async def test_the_recorded_refusals_are_read(answered: Answers, name: str) -> None:
    with pytest.raises((ProviderMisconfigured, ProviderRejected)) as refused:
        await answered(lambda _: recorded(name)).open_checkout(a_request())
    assert not refused.value.code.startswith("http_")


@pytest.mark.parametrize("variant", ["bare-text", "bare-json"])
async def test_the_sandbox_refuses_without_an_envelope(payer: Any, variant: str) -> None:
    await payer.behaves(variant)
    headers = {"api-key": payer.key, "secret-key": SECRET}
    answer = await payer.http.post("/payplus/api/v1.0/PaymentPages/ipn", headers=headers, json={"more_info": "nothing"})
    body = answer.text if variant == "bare-text" else answer.json()
    assert (answer.status_code, body) == (422, recording("payplus", "no_transaction"))


async def test_the_sandbox_knows_no_wrong_page(payer: Any, request_for: RequestFor) -> None:
    provider = PayPlusProvider(payer.account(payment_page_uid="unknown-page"))
    with pytest.raises(ProviderMisconfigured, match=recording("payplus", "wrong_page")):
        await provider.open_checkout(request_for())
    await provider.aclose()


# ---- saved cards ------------------------------------------------------------------------------------------------


class Tokens:
    """Answers charges of a token with refusals first, and keeps what was asked."""

    def __init__(self, *refusals: httpx.Response) -> None:
        self.answers = [*refusals, says({"transaction": {"uid": "t-9", "status_code": "000"}})]
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        return self.answers[len(self.bodies) - 1]


TERMINAL: dict[str, object] = {"terminal_uid": "t-1", "cashier_uid": "k-1"}
BOTH = {"move_token": True, "customer_uid": None}
METHOD = SavedMethod(token="token-0001", customer="customer-0001")


@pytest.mark.parametrize(
    ("refusals", "changes"),
    [
        (["card_not_found"], [{"move_token": True}]),
        (["customer_not_found"], [{"customer_uid": None}]),
        (["card_not_found", "customer_not_found"], [{"move_token": True}, {"move_token": True, "customer_uid": None}]),
        (
            ["customer_not_found", "card_not_found"],
            [{"customer_uid": None}, {"move_token": True, "customer_uid": None}],
        ),
    ],
)
async def test_a_token_that_is_bound_to_other_data_is_charged_by_another_request(
    answered: Answers, payer: Any, refusals: list[str], changes: list[dict[str, Any]]
) -> None:
    tokens = Tokens(*(recorded(name) for name in refusals))
    charged = await answered(tokens, TERMINAL).charge(charge_of(payer, METHOD))
    assert charged.status is PaymentStatus.PAID
    first = tokens.bodies[0]
    wanted = [{name: value for name, value in (first | one).items() if value is not None} for one in changes]
    assert tokens.bodies[1:] == wanted


async def test_a_card_that_is_not_found_twice_is_declined_and_asked_for_no_more(answered: Answers, payer: Any) -> None:
    tokens = Tokens(recorded("card_not_found"), recorded("card_not_found"))
    with pytest.raises(ProviderDeclined) as declined:
        await answered(tokens, TERMINAL).charge(charge_of(payer, METHOD))
    assert (declined.value.code, len(tokens.bodies)) == ("token_not_found", 2)
    lost = Tokens(recorded("customer_not_found"))
    with pytest.raises(ProviderRejected, match="can-not-find-customer"):
        await answered(lost, TERMINAL).charge(charge_of(payer, replace(METHOD, customer=None)))
    assert len(lost.bodies) == 1


@pytest.mark.parametrize("answer", [recorded("token_removed"), no("can-not-find-token"), no("can-not-find-token", 422)])
async def test_a_detached_token_is_removed_at_payplus(answered: Answers, answer: httpx.Response) -> None:
    asked: list[httpx.Request] = []

    def removed(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer

    await answered(removed, TERMINAL).detach("token-0001")
    assert [one.url.path for one in asked] == ["/api/v1.0/Token/Remove/token-0001"]
    assert json.loads(asked[0].content) == {"terminal_uid": "t-1"}


async def test_a_token_that_cannot_be_removed_is_not_called_removed(answered: Answers) -> None:
    with pytest.raises(ProviderRejected):
        await answered(lambda _: no("not-possible")).detach("token-0001")


async def test_a_token_is_shown_as_payplus_has_it(answered: Answers) -> None:
    seen = await answered(lambda _: recorded("token_checked")).look_method("token-0001")
    assert seen is not None
    assert (seen.token, seen.customer, seen.last4, seen.exp_year) == ("token-0001", "customer-0001", "9844", 2026)
    assert await answered(lambda _: no("can-not-find-token")).look_method("token-0001") is None


# ---- callbacks --------------------------------------------------------------------------------------------------


def test_a_hash_over_the_value_fits_other_bytes_of_it() -> None:
    """The documents' sample signs what JavaScript writes, PayPlus's plug-in what was sent."""
    provider, body = PayPlusProvider(an_account()), callback_body(data={"customer_name": "דנה", "page": "a/b"})
    value = as_javascript(read_json(json.dumps(body).encode())).encode()
    for sent in (json.dumps(body, indent=2).encode(), json.dumps(body).replace("/", "\\/").encode(), value):
        assert provider.verify_webhook(replace(signed(sent), headers={"hash": hash_of(value, SECRET)})).event_id
        assert provider.verify_webhook(signed(sent)).event_id


@pytest.mark.parametrize(
    ("value", "javascript"),
    [
        ("129.90", "129.9"),
        ("10.0", "10"),
        ("1E+2", "100"),
        ("-0.0", "0"),
        ("0.0000001", "1e-7"),
        ("0.000001", "0.000001"),
        ("1e21", "1e+21"),
        ("123456789012345680000", "123456789012345680000"),
        ('{"b":1,"10":2,"9":3}', '{"9":3,"10":2,"b":1}'),
        ('"\\u05d0\\/\\u0007"', '"א/\\u0007"'),
        ("[null,true,{}]", "[null,true,{}]"),
    ],
)
def test_a_value_is_written_as_javascript_writes_it(value: str, javascript: str) -> None:
    assert as_javascript(read_json(value.encode())) == javascript


# ---- what is sent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "number"),
    [
        ("123456782", "123456782"),
        ("12344", "000012344"),
        ("510000004", None),
        ("1020304050", None),
        ("123456789", None),
        ("000000000", None),
        ("ABC", None),
        ("", None),
        (None, None),
    ],
)
def test_only_an_israeli_number_is_sent_as_one(document: str | None, number: str | None) -> None:
    assert israeli_number(document) == number


@pytest.mark.parametrize("kind", ["CC", "NIT", "CE", "PP"])
async def test_a_colombian_document_is_no_israeli_number(answered: Answers, kind: str) -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return says({"page_request_uid": PAGE_UID, "payment_page_link": "https://payments.example/1"})

    await answered(answer).open_checkout(a_request(payer=Payer("c", document_type=kind, document="123456782")))
    await answered(answer).open_checkout(a_request(payer=Payer("c", document="123456782")))
    assert [one.get("customer", {}).get("vat_number") for one in sent] == [None, "123456782"]


@pytest.mark.parametrize("method", [one.name for one in PayPlusProvider.capabilities.methods])
async def test_each_method_can_be_chosen_and_a_club_card_hides_no_other(
    provider: Provider, payer: Any, request_for: RequestFor, method: str
) -> None:
    opened = await provider.open_checkout(request_for(method=method))
    page = (await payer.http.get(f"/sandbox/payplus/pages/{opened.session_id}")).json()
    club = method in ("multipass", "valuecard", "tav-zahav", "finitione", "praxell", "verifone")
    assert page["fields"]["charge_default"] == method
    assert page["fields"]["hide_other_charge_methods"] is not club
    assert page["fields"].get("allowed_charge_methods") == (None if club else [method])


@pytest.mark.parametrize(
    ("options", "sent"), [({}, "absent"), ({"initial_invoice": False}, False), ({"initial_invoice": True}, True)]
)
async def test_a_refund_has_a_readable_line_and_no_second_document(
    answered: Answers, options: dict[str, object], sent: object
) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("RefundByTransactionUID"):
            return recorded("no_transaction")
        bodies.append(json.loads(request.content))
        return says({"transaction": {"uid": "r-1", "status_code": "000"}})

    refund = a_refund(reason="one session less\u200e")
    await answered(answer, options).refund(refund)
    assert bodies[0]["more_info"] == f"Refund {refund.refund_id}: one session less"
    assert bodies[0].get("initial_invoice", "absent") == sent


async def test_a_recorded_answer_to_a_refund_is_read() -> None:
    refund = a_refund("50")
    made = refund_made(recording("payplus", "refund_made")["data"], refund, Piece("t-1", refund.amount))
    assert (made.provider_refund_id, made.status) == ("refund-0001", RefundStatus.SUCCEEDED)


# ---- a refund whose answer was lost, among the documents ----------------------------------------------------------


def documents(*items: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = recording("payplus", "refund_documents")
    first = told["details"]["items"][0]
    return told | {"details": {"items": [first | one for one in items]}}


@pytest.mark.parametrize(
    ("own", "every", "outcome"),
    [
        ([{"more_info": "OURS"}], [], RefundStatus.SUCCEEDED),
        ([{}], [], "refund_document_found"),  # of the amount, and of nobody's name
        ([{"doc_amount": -50}], [], "refund_document_found"),
        ([{"doc_amount": "fifty"}], [], "refund_document_found"),
        ([], [], "refund_not_shown"),
        ([], [{"doc_amount": 7}], None),
        ([{"doc_amount": 7}], [], None),
    ],
)
async def test_the_documents_are_a_second_look_where_the_account_says_so(
    answered: Answers, own: list[dict[str, Any]], every: list[dict[str, Any]], outcome: object
) -> None:
    refund, asked = a_refund("50"), []
    own = [one | ({"more_info": line_of(refund)} if one.get("more_info") else {}) for one in own]
    data = recording("payplus", "split_payment")["data"] | {"transaction_uid": "t-1", "is_multiple_transaction": False}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/ipn"):
            return says(data | {"related_transactions": []})
        if not request.url.path.endswith("/books/docs/list"):
            return recorded("refund_uid_not_found")
        asked.append(dict(request.url.params))
        return httpx.Response(200, json=documents(*(own if "customer" in request.url.params else every)))

    provider = answered(answer, {"refund_documents": True})
    if isinstance(outcome, str) and not isinstance(outcome, RefundStatus):
        with pytest.raises(OutcomeUndecided) as undecided:
            await provider.look_refund(refund, None)
        assert undecided.value.code == outcome
    else:
        found = await provider.look_refund(refund, None)
        assert (found and found.status) == outcome
    assert asked[0] == {"types": "inv_refund", "take": "100", "fromDate": "2026-11-20", "customer": "customer-0001"}
    with pytest.raises(OutcomeUndecided, match="refund_not_shown"):  # not asked for without the option
        await answered(answer).look_refund(refund, None)


def test_documents_that_are_forbidden_cannot_be_looked_for() -> None:
    with pytest.raises(ProviderMisconfigured, match="refund_documents"):
        PayPlusProvider(an_account({"refund_documents": True, "initial_invoice": False}))


# ---- the sandbox in the recorded shapes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "name"), [("split-payments", "split_payment"), ("combined-payments", "combined_payment")]
)
async def test_the_sandbox_shows_parts_as_they_are_recorded(
    provider: Provider, payer: Any, request_for: RequestFor, variant: str, name: str
) -> None:
    await payer.behaves(variant)
    opened = await provider.open_checkout(request_for())
    await payer.pays(opened)
    headers = {"api-key": payer.key, "secret-key": SECRET}
    asked = {"payment_request_uid": opened.session_id, "related_transaction": True}
    shown = (await payer.http.post("/payplus/api/v1.0/PaymentPages/ipn", headers=headers, json=asked)).json()
    told = recording("payplus", name)
    assert same_shape(told, shown) == []
    assert same_shape(told["data"]["related_transactions"][1], shown["data"]["related_transactions"][1]) == []
    assert shown["data"]["is_multiple_transaction"] is told["data"]["is_multiple_transaction"]


async def test_the_sandbox_answers_of_refunds_and_tokens_as_they_are_recorded(
    provider: Provider, payer: Any, request_for: RequestFor
) -> None:
    await payer.sandbox("payplus/documents", api_key=payer.key, value="yes")
    opened = await provider.open_checkout(request_for(save_method=True))
    await payer.pays(opened)
    headers, base = {"api-key": payer.key, "secret-key": SECRET}, "/payplus/api/v1.0"
    asked = {"payment_request_uid": opened.session_id}
    data = (await payer.http.post(f"{base}/PaymentPages/ipn", headers=headers, json=asked)).json()["data"]
    give = {"transaction_uid": data["transaction_uid"], "amount": 50}

    async def post(path: str, body: dict[str, Any]) -> Any:
        return (await payer.http.post(f"{base}/{path}", headers=headers, json=body)).json()

    made = await post("Transactions/RefundByTransactionUID", give)
    assert same_shape(recording("payplus", "refund_made"), made) == []
    await payer.behaves("hidden-refunds")
    for path in ("PaymentPages/ipn-full", "Transactions/View"):
        hidden = await post(path, {"transaction_uid": made["data"]["transaction"]["uid"]})
        assert hidden["results"]["description"].startswith("can-not-find-transaction")
        assert same_shape(recording("payplus", "refund_uid_not_found") | {"data": None}, hidden | {"data": None}) == []
    query = {"types": "inv_refund", "take": "20", "customer": data["customer_uid"]}
    listed = (await payer.http.get(f"{base}/books/docs/list", headers=headers, params=query)).json()
    assert same_shape(recording("payplus", "refund_documents"), listed) == []
    without = await payer.http.get(f"{base}/books/docs/list", headers=headers)
    assert (without.status_code, without.json()) == (422, recording("payplus", "missing_take"))
    token = data["token_uid"]
    checked = (await payer.http.get(f"{base}/Token/Check/{token}", headers=headers)).json()
    assert same_shape(recording("payplus", "token_checked"), checked) == []
    await payer.behaves("moved-tokens")
    charge = {"terminal_uid": "t", "cashier_uid": "k", "amount": 1, "currency_code": "ILS", "credit_terms": 1}
    charge |= {"use_token": True, "token": token, "customer_uid": "c"}
    assert await post("Transactions/Charge", charge) == recording("payplus", "card_not_found")
    await payer.behaves("lost-customers")
    assert await post("Transactions/Charge", charge) == recording("payplus", "customer_not_found")
    assert same_shape(recording("payplus", "token_removed"), await post(f"Token/Remove/{token}", {})) == []
    assert (await post("Transactions/Charge", charge))["results"]["description"] == "can-not-find-token"


async def test_a_token_that_was_detached_is_not_charged_any_more(payer: Any, request_for: RequestFor) -> None:
    provider = PayPlusProvider(payer.saving_account())
    opened = await provider.open_checkout(request := request_for(save_method=True))
    await payer.pays(opened)
    method = (await provider.look(replace(a_ref(opened.session_id), reference=request.reference))).saved_method
    assert method is not None
    await provider.detach(method.token)
    with pytest.raises(ProviderDeclined, match="token_not_found"):
        await provider.charge(charge_of(payer, method))
    assert await provider.look_method(method.token) is None
    await provider.aclose()


def test_every_reference_is_its_own() -> None:
    """Two refunds of one reason have two lines, and each part of one has its own."""
    one, other = a_refund(reason="x"), a_refund(reason="x", refund_id=uuid4())
    assert len({line_of(one), line_of(other), line_of(one, 1), line_of(one, 2)}) == 4

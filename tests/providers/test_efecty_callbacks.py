"""Efecty's confirmations: only what was signed, recently, for this agreement and a code of ours, is read."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from providers.base import AccountConfig, Callback, EventKind, ProviderEvent, Rejection, WebhookRejected
from providers.efecty import EfectyProvider, explain_signature, sign_webhook
from providers.efecty.codes import CheckDigit, CodeRule
from providers.efecty.notifications import payvalida_checksum
from providers.registry import webhook_tools
from providers.webhook_signatures import CannotSign, SignatureOptions

SECRET = "shared_secret_1"
AT = 1_790_000_000
NOW = datetime.fromtimestamp(AT, UTC)
CODE = CodeRule().code_for(UUID(int=1), 0)
EVENT_ID = f"0000000077:{CODE}"
WRONG_DIGIT = CODE[:-1] + str((int(CODE[-1]) + 1) % 10)
GOOD: dict[str, Any] = {
    "agreement": "110954",
    "reference": CODE,
    "amount": "25000.00",
    "paid_at": "2026-09-21T08:12:00-05:00",
    "transaction_id": "0000000077",
    "status": "paid",
}


def account(secret: str = SECRET, agreement: str = "110954", tolerance: int = 300, **options: Any) -> EfectyProvider:
    credentials = {"agreement": agreement, "callback_secret": secret}
    return EfectyProvider(AccountConfig(uuid4(), credentials, options, webhook_tolerance_seconds=tolerance))


def body_of(**changes: Any) -> bytes:
    fields = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    return json.dumps(fields).encode()


def received(
    body: bytes, *, at: int = AT, now: datetime = NOW, secret: str = SECRET, provider: EfectyProvider | None = None
) -> ProviderEvent:
    return (provider or account()).verify_webhook(Callback(sign_webhook(secret, body, at), body, now))


def refusal(headers: Mapping[str, str], body: bytes, provider: EfectyProvider | None = None) -> WebhookRejected:
    with pytest.raises(WebhookRejected) as refused:
        (provider or account()).verify_webhook(Callback(headers, body, NOW))
    assert SECRET not in str(refused.value)
    return refused.value


def malformed(body: bytes, provider: EfectyProvider | None = None) -> str:
    refused = refusal(sign_webhook(SECRET, body, AT), body, provider)
    assert refused.reason is Rejection.MALFORMED
    return refused.detail


def test_a_signature_made_by_hand_is_the_same() -> None:
    body = body_of()
    digest = hmac.new(SECRET.encode(), b"1790000000." + body, hashlib.sha256).hexdigest()
    assert sign_webhook(SECRET, body, AT) == {"x-efecty-timestamp": "1790000000", "x-efecty-signature": digest}


def test_a_payment_is_read_whole() -> None:
    assert received(body_of()) == ProviderEvent(
        event_id=EVENT_ID,
        type="cash.paid",
        kind=EventKind.CAPTURED,
        session_id=CODE,
        transaction_id=f"110954-{CODE}-0000000077",
        amount=Money.parse("25000.00", "COP"),
        occurred_at=datetime(2026, 9, 21, 13, 12, tzinfo=UTC),
    )


def test_the_order_of_names_and_a_repetition_change_nothing() -> None:
    turned = json.dumps(dict(reversed(GOOD.items())), indent=1).encode()
    assert received(turned) == received(body_of()) == received(body_of(), now=NOW + timedelta(seconds=300))


@pytest.mark.parametrize(
    ("written", "read"),
    [("25000", "25000"), (25000, "25000"), ("25000.5", "25000.50"), ("0.01", "0.01"), ("999999999999.99",) * 2],
)
def test_amounts_are_pesos_read_digit_by_digit(written: object, read: str) -> None:
    assert received(body_of(amount=written)).amount == Money.parse(read, "COP")


@pytest.mark.parametrize(
    ("number", "read"), [("25000.10", "25000.10"), ("2.5E+4", "25000"), ("0.1", "0.10"), ("70000.33", "70000.33")]
)
def test_a_number_with_a_fraction_never_becomes_a_float(number: str, read: str) -> None:
    body = body_of(amount=0).replace(b'"amount": 0', f'"amount": {number}'.encode())
    assert received(body).amount == Money.parse(read, "COP")


@pytest.mark.parametrize(
    "number", ["25000.001", "1e999999", "1e-999999", "1e9999999999999999999", "-1", "0", "0.00", "[1]", "true", "{}"]
)
def test_a_number_that_is_no_amount_is_malformed(number: str) -> None:
    malformed(body_of(amount=0).replace(b'"amount": 0', f'"amount": {number}'.encode()))


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"agreement": "110955"}, "other_agreement"),
        ({"agreement": ""}, "other_agreement"),
        ({"agreement": ...}, "other_agreement"),
        ({"agreement": "\ud800"}, "other_agreement"),
        ({"agreement": ["110954"]}, "bad_agreement"),
        ({"reference": WRONG_DIGIT}, "bad_check_digit"),
        ({"reference": CODE[1:]}, "bad_code"),
        ({"reference": "order-17"}, "bad_code"),
        ({"reference": ...}, "bad_code"),
        ({"reference": 12.5}, "bad_reference"),
        ({"amount": "25.000,00"}, "bad_amount"),
        ({"amount": "25000.001"}, "bad_amount"),
        ({"amount": "-25000"}, "bad_amount"),
        ({"amount": "0"}, "bad_amount"),
        ({"amount": "9" * 5000}, "bad_amount"),
        ({"amount": ...}, "bad_amount"),
        ({"amount": None}, "bad_amount"),
        ({"currency": "USD"}, "bad_currency"),
        ({"currency": 170}, "bad_currency"),
        ({"transaction_id": ...}, "bad_transaction_id"),
        ({"transaction_id": "a b"}, "bad_transaction_id"),
        ({"transaction_id": "x" * 101}, "bad_transaction_id"),
        ({"transaction_id": {"id": 1}}, "bad_transaction_id"),
        ({"paid_at": "yesterday"}, "bad_moment"),
        ({"paid_at": "2026-13-01"}, "bad_moment"),
        ({"paid_at": "0001-01-01T00:00:00+14:00"}, "bad_moment"),
        ({"paid_at": 99_999_999_999}, None),
        ({"paid_at": True}, "bad_paid_at"),
        ({"status": "p\u0000id"}, "bad_status"),
        ({"status": "x" * 41}, "bad_status"),
        ({"status": 1.5}, "bad_status"),
    ],
)
def test_a_signed_body_of_another_merchant_or_with_a_fault_is_refused(
    changes: dict[str, Any], detail: str | None
) -> None:
    if detail is None:
        assert received(body_of(**changes)).occurred_at is not None
    else:
        assert malformed(body_of(**changes)) == detail


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-09-21T08:12:00", datetime(2026, 9, 21, 13, 12, tzinfo=UTC)),
        ("2026-09-21 08:12", datetime(2026, 9, 21, 13, 12, tzinfo=UTC)),
        ("2026-09-21", datetime(2026, 9, 21, 5, 0, tzinfo=UTC)),
        ("2026-09-21T13:12:00Z", datetime(2026, 9, 21, 13, 12, tzinfo=UTC)),
        (1_789_996_320, datetime(2026, 9, 21, 13, 12, tzinfo=UTC)),
        (..., None),
    ],
)
def test_times_without_a_zone_are_of_colombia(written: object, moment: datetime | None) -> None:
    assert received(body_of(paid_at=written)).occurred_at == moment


@pytest.mark.parametrize(
    ("status", "kind", "event_id"),
    [
        ("paid", EventKind.CAPTURED, EVENT_ID),
        ("Approved", EventKind.CAPTURED, EVENT_ID),
        (..., EventKind.CAPTURED, EVENT_ID),
        ("pagado", EventKind.CAPTURED, EVENT_ID),
        ("pending", EventKind.PROCESSING, f"{EVENT_ID}:pending"),
        ("expired", EventKind.EXPIRED, f"{EVENT_ID}:expired"),
        ("cancelled", EventKind.CANCELED, f"{EVENT_ID}:cancelled"),
        ("reversed", EventKind.DISPUTE, f"{EVENT_ID}:reversed"),
        ("a word of tomorrow", EventKind.OTHER, f"{EVENT_ID}:a word of tomorrow"),
    ],
)
def test_every_status_has_one_meaning_and_an_event_of_its_own(status: object, kind: EventKind, event_id: str) -> None:
    provider = account(callback_statuses={" Pagado": "captured"})
    event = received(body_of(status=status), provider=provider)
    assert (event.kind, event.event_id) == (kind, event_id)


def test_a_code_that_lapses_needs_no_transaction_and_no_amount() -> None:
    for amount in (..., "0", 0):
        event = received(body_of(status="expired", transaction_id=..., amount=amount))
        assert (event.event_id, event.transaction_id, event.amount) == (f"{CODE}:expired", None, None)


def test_the_same_number_at_another_till_or_of_another_agreement_is_another_payment() -> None:
    other_code = CodeRule().code_for(UUID(int=2), 0)
    events = [
        received(body_of()),
        received(body_of(reference=other_code)),
        received(body_of(agreement="777777"), provider=account(agreement="777777")),
    ]
    assert len({event.transaction_id for event in events}) == 3
    assert len({event.event_id for event in events[:2]}) == 2


def test_names_of_headers_and_fields_are_the_agreements() -> None:
    provider = account(
        signature_header="X-Firma",
        timestamp_header="X-Fecha",
        callback_fields={"reference": "referencia", "amount": "valor", "agreement": "convenio"},
        check_digit="mod11",
        code_length=10,
    )
    code = CodeRule(10, "", CheckDigit.MOD11).code_for(UUID(int=2), 0)
    fields = {"convenio": 110954, "referencia": int(code), "valor": 30000, "transaction_id": 77}
    body = json.dumps(fields).encode()
    signed = sign_webhook(SECRET, body, AT)
    headers = {"x-firma": signed["x-efecty-signature"].upper(), "x-fecha": signed["x-efecty-timestamp"]}
    event = provider.verify_webhook(Callback(headers, body, NOW))
    assert (event.session_id, event.amount, event.event_id) == (code, Money.parse("30000", "COP"), f"77:{code}")
    assert refusal(signed, body, provider).reason is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("age_seconds", "reason"),
    [
        (300, None),
        (301, Rejection.STALE_TIMESTAMP),
        (AT, Rejection.STALE_TIMESTAMP),
        (-60, None),
        (-61, Rejection.FUTURE_TIMESTAMP),
        (-(10**11), Rejection.FUTURE_TIMESTAMP),
    ],
)
def test_time_is_bounded_on_both_sides(age_seconds: int, reason: Rejection | None) -> None:
    body = body_of()
    if reason is None:
        assert received(body, at=AT - age_seconds).event_id == EVENT_ID
    else:
        assert refusal(sign_webhook(SECRET, body, AT - age_seconds), body).reason is reason


def test_either_secret_is_good_while_one_replaces_the_other() -> None:
    rotating = account(secret=f" new_secret , ,{SECRET},")
    for secret in (SECRET, "new_secret"):
        assert received(body_of(), secret=secret, provider=rotating).event_id == EVENT_ID
    body = body_of()
    assert refusal(sign_webhook("third", body, AT), body, rotating).reason is Rejection.BAD_SIGNATURE


SIGNED = sign_webhook(SECRET, body_of(), AT)
DIGEST = SIGNED["x-efecty-signature"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-efecty-signature": DIGEST},
        {"x-efecty-timestamp": str(AT)},
        SIGNED | {"x-efecty-timestamp": str(AT + 1)},
        SIGNED | {"x-efecty-timestamp": f"{AT}.0"},
        SIGNED | {"x-efecty-timestamp": f" {AT}"},
        SIGNED | {"x-efecty-timestamp": "１７９０００００００"},
        SIGNED | {"x-efecty-timestamp": "9" * 5000},
        SIGNED | {"x-efecty-signature": DIGEST[:-1]},
        SIGNED | {"x-efecty-signature": DIGEST[:-1] + "é"},
        SIGNED | {"x-efecty-signature": f"sha256={DIGEST}"},
        SIGNED | {"x-efecty-signature": "0" * 64},
    ],
)
def test_a_forged_or_broken_header_is_a_bad_signature(headers: dict[str, str]) -> None:
    assert refusal(headers, body_of()).reason is Rejection.BAD_SIGNATURE


def test_a_changed_or_truncated_body_is_a_bad_signature() -> None:
    body = body_of()
    for other in (body[:-1], body + b" ", body.replace(b"25000.00", b"95000.00"), b""):
        assert refusal(SIGNED, other).reason is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"amount":NaN}',
        b'{"amount":' + b"9" * 5000 + b"}",
        b'{"amount":1e99999999999999999999999}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        body_of().replace(b'"status"', b'"amount": "1.00", "status"'),
    ],
)
def test_a_signed_body_that_is_no_object_is_malformed(body: bytes) -> None:
    malformed(body)


@given(header=st.text(max_size=100), stamp=st.one_of(st.text(max_size=20), st.just(str(AT))))
def test_no_header_whatever_breaks_the_verification(header: str, stamp: str) -> None:
    refusal({"x-efecty-signature": header, "x-efecty-timestamp": stamp}, body_of())


PROVIDERS = [account(), account(callback_scheme="payvalida")]
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@given(body=st.binary(max_size=300))
def test_only_a_rejection_comes_out_of_arbitrary_bytes(body: bytes) -> None:
    for provider in PROVIDERS:
        refusal(sign_webhook(SECRET, body, AT), body, provider)


@given(changes=st.dictionaries(st.sampled_from([*GOOD, "currency"]), json_values, max_size=4))
def test_a_rejection_or_an_event_comes_out_of_any_signed_object(changes: dict[str, Any]) -> None:
    body = json.dumps(GOOD | changes).encode()
    try:
        event = received(body)
    except WebhookRejected:
        return
    assert event.session_id == CODE
    assert event.kind is not EventKind.CAPTURED or (event.amount and event.amount.currency == "COP")


# --- the other scheme


def payvalida(po_id: str = CODE, status: str = "approved", secret: str = SECRET, **changes: Any) -> bytes:
    fields = {
        "pv_po_id": "991",
        "po_id": po_id,
        "status": status,
        "amount": "25000",
        "pv_payment": "efecty",
        "pv_checksum": hashlib.sha256(f"{po_id}{status}{secret}".encode()).hexdigest(),
    }
    return json.dumps(fields | changes).encode()


def pv_received(body: bytes, secret: str = SECRET) -> ProviderEvent:
    return account(secret, callback_scheme="payvalida").verify_webhook(Callback({}, body, NOW))


def pv_refused(body: bytes) -> Rejection:
    return refusal({}, body, account(callback_scheme="payvalida")).reason


def test_a_checksum_that_leaves_the_amount_out_is_believed_without_it() -> None:
    event = pv_received(payvalida())
    assert event == ProviderEvent(f"pv:{CODE}:approved", "cash.approved", EventKind.CAPTURED, session_id=CODE)
    assert pv_received(payvalida(amount="9000000", pv_po_id="992")) == event
    assert pv_received(payvalida(secret="new"), secret=f"new,{SECRET}") == event


HALF_A_PAIR = b'{"po_id":"\\ud800","status":"approved","pv_checksum":"' + b"0" * 64 + b'"}'
FOR_APPROVED = payvalida_checksum(CODE, "approved", SECRET)


def test_a_cancelled_order_is_an_event_of_its_own() -> None:
    event = pv_received(payvalida(status="cancelled"))
    assert (event.kind, event.event_id) == (EventKind.CANCELED, f"pv:{CODE}:cancelled")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (payvalida(secret="other"), Rejection.BAD_SIGNATURE),
        (payvalida(pv_checksum="0" * 64), Rejection.BAD_SIGNATURE),
        (payvalida(pv_checksum=""), Rejection.BAD_SIGNATURE),
        (payvalida(pv_checksum="é" * 64), Rejection.BAD_SIGNATURE),
        (payvalida(pv_checksum=None), Rejection.MALFORMED),
        (HALF_A_PAIR, Rejection.BAD_SIGNATURE),
        (payvalida(status="cancelled", pv_checksum=FOR_APPROVED), Rejection.BAD_SIGNATURE),
        (payvalida(po_id=CODE + "appro", status="ved"), Rejection.MALFORMED),
        (payvalida(po_id=WRONG_DIGIT), Rejection.MALFORMED),
        (payvalida(po_id="order-1"), Rejection.MALFORMED),
        (payvalida()[:-1], Rejection.MALFORMED),
        (b'{"po_id":5,"status":"approved","pv_checksum":"0"}', Rejection.MALFORMED),
    ],
)
def test_a_forged_or_cut_notification_is_refused(body: bytes, reason: Rejection) -> None:
    assert pv_refused(body) is reason


@pytest.mark.parametrize(
    "status", ["", "APPROVED", " approved", "approved ", "pending", "rejected", "refunded", "paid"]
)
def test_a_signed_status_that_nobody_knows_is_no_event_of_a_payment(status: str) -> None:
    """The checksum is right and the code is ours: what the word means is a guess that nobody makes."""
    assert pv_refused(payvalida(status=status)) is Rejection.MALFORMED


@pytest.mark.parametrize("status", ["refunded", "a word of tomorrow", "approved2", "captured", "paid_partially"])
def test_a_signed_word_of_the_other_scheme_that_nobody_knows_moves_no_money(status: str) -> None:
    event = received(body_of(status=status))
    assert (event.kind, event.event_id) == (EventKind.OTHER, f"{EVENT_ID}:{status}")


# --- by hand


def test_the_explanation_names_the_fault_and_never_shows_the_secret() -> None:
    body = body_of(note=SECRET)
    headers = sign_webhook(SECRET, body, AT)
    good = explain_signature(headers, body, f"other,{SECRET}", NOW)
    assert good.valid
    assert SECRET not in good.signed_string_masked
    late = explain_signature(headers, body, SECRET, NOW + timedelta(seconds=301))
    assert (late.valid, late.why) == (False, "stale_timestamp: 301 s old, 300 s allowed")
    assert not explain_signature(headers, body, "other", NOW).valid
    assert explain_signature({}, b"\xff", SECRET, NOW).why.startswith("bad_signature: no readable timestamp")


def test_the_other_scheme_is_explained_and_cannot_be_signed_from_outside() -> None:
    tools, options = webhook_tools("efecty"), SignatureOptions(algorithm="payvalida")
    verdict = tools.explain_signature({}, payvalida(), SECRET, NOW, options)
    assert verdict.valid
    assert verdict.signed_string_masked == f"{CODE}approved***"
    assert not tools.explain_signature({}, payvalida(secret="other"), SECRET, NOW, options).valid
    assert tools.explain_signature({}, b"[]", SECRET, NOW, options).why.startswith("malformed_body")
    with pytest.raises(CannotSign, match="pv_checksum"):
        tools.sign_webhook(SECRET, payvalida(), AT, options)
    assert SECRET not in tools.explain_signature({}, payvalida(po_id=SECRET), SECRET, NOW, options).signed_string_masked
    assert tools.explain_signature({}, HALF_A_PAIR, SECRET, NOW, options).signed_string_masked == "?approved***"
    assert tools.sign_webhook(SECRET, b"{}", AT) == sign_webhook(SECRET, b"{}", AT)


def test_a_scheme_that_there_is_not_is_named() -> None:
    tools, options = webhook_tools("efecty"), SignatureOptions(algorithm="md5")
    assert tools.explain_signature({}, b"{}", SECRET, NOW, options).why == "the algorithm is hmac or payvalida"
    with pytest.raises(CannotSign, match="the algorithm is"):
        tools.sign_webhook(SECRET, b"{}", AT, options)

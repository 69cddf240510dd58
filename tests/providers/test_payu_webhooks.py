"""PayU's signatures and confirmations: the page's worked examples, forgeries, repeats, and whatever bytes may come."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from providers.base import AccountConfig, Callback, EventKind, ProviderMisconfigured, Rejection, WebhookRejected
from providers.payu import WEBHOOK_TOOLS, PayuProvider, explain_signature
from providers.payu.amounts import confirmation_value, response_value
from providers.webhook_signatures import CannotSign, SignatureOptions

KEY, MERCHANT = "4Vj8eK4rloUd272L48hsrarnUA", "508029"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PAYMENT = UUID("018bcfe5-6800-7000-8000-000000000001")
REQUEST = {"merchant_id": MERCHANT, "reference": "TestPayU", "value": "20000", "currency": "COP"}
DEFAULT = SignatureOptions()


def sign(kind: str, fields: dict[str, str], secret: str = KEY, options: SignatureOptions = DEFAULT) -> str:
    return WEBHOOK_TOOLS.request_signers[kind](fields, secret, options)


def account(options: dict[str, object] | None = None, **credentials: str) -> PayuProvider:
    own = {"api_key": KEY, "api_login": "pRRXKOl8ikMmt9u", "merchant_id": MERCHANT, "account_id": "512321"}
    return PayuProvider(AccountConfig(uuid4(), own | credentials, {"test": True} | (options or {})))


def fields_of(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "merchant_id": MERCHANT,
        "reference_sale": str(PAYMENT),
        "reference_pol": "7069375",
        "value": "20000.00",
        "currency": "COP",
        "state_pol": "4",
        "response_code_pol": "1",
        "transaction_id": "f5e668f1-7ecc-4b83-a4d1-0aaa68260862",
        "transaction_date": "2026-11-20 07:00:00",
        "test": "1",
        "description": "Café",
        "a_field_of_tomorrow": "",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def signed(secret: str = KEY, options: SignatureOptions = DEFAULT, **changes: Any) -> dict[str, Any]:
    fields = fields_of(**changes)
    parts = {
        "merchant_id": fields["merchant_id"],
        "reference": fields["reference_sale"],
        "value": str(fields["value"]),
        "currency": fields["currency"],
        "state": str(fields["state_pol"]),
    }
    return fields | {"sign": sign("confirmation", parts, secret, options)}


def form(fields: dict[str, Any]) -> bytes:
    return urlencode(fields).encode()


def received(body: bytes, provider: PayuProvider | None = None) -> Any:
    return (provider or account()).verify_webhook(Callback({}, body, NOW))


def refusal(body: bytes, provider: PayuProvider | None = None) -> Rejection:
    with pytest.raises(WebhookRejected) as refused:
        received(body, provider)
    return refused.value.reason


@pytest.mark.parametrize(
    ("algorithm", "hmac_key", "made"),
    [
        (None, None, "7ee7cf808ce6a39b17481c54f2c57acc"),
        ("MD5", None, "7ee7cf808ce6a39b17481c54f2c57acc"),
        ("SHA-1", None, "fa890d3f94e12b5cdb62e8771453b99b78e7ccdc"),
        ("sha256", None, "af3899a22336b79db46006491d15813158826f944599bf3bf601e2327f898022"),
        ("HMAC-SHA256", None, "eaf61598d5593b366086c9a00aa5746ccad1a6e9b209a1a242fce224202b2b36"),
        ("hmac_sha256", "secret123", "9b269405c01c725fcc5d1667a2e1166a810fd34b5a5ac82295d0f59fddf1c472"),
    ],
)
def test_the_pages_request_signatures(algorithm: str | None, hmac_key: str | None, made: str) -> None:
    assert sign("request", REQUEST, options=SignatureOptions(algorithm, hmac_key)) == made


@pytest.mark.parametrize(
    ("reference", "value", "currency", "made"),
    [
        ("PRODUCT_TEST_2021-06-23T19:59:43.229Z", "65000", "COP", "1d6c33aed575c4974ad5c0be7c6a1c87"),
        ("TestPayU", "3", "USD", "ba9ffa71559580175585e45ce70b6c37"),
    ],
)
def test_further_request_signatures_of_the_page(reference: str, value: str, currency: str, made: str) -> None:
    assert sign("request", {**REQUEST, "reference": reference, "value": value, "currency": currency}) == made


@pytest.mark.parametrize(
    ("reference", "value", "currency", "state", "options", "made"),
    [
        ("TestPayU04", "150.34", "USD", "6", DEFAULT, "779f163be9347a691bcdb25064644795"),
        (
            "PayUTest01",
            "150.34",
            "USD",
            "6",
            SignatureOptions("hmac-sha256", "test123"),
            "50c8aae35caf923fbdbd791d7842b916ab7d6597b7c4032dd92ab67b7bb43e8a",
        ),
        ("20/12/2017 14:50:52", "300.00", "ARS", "4", DEFAULT, "f51dd97bfd35dc707ff90fa450d87aa8"),
    ],
)
def test_the_pages_response_signatures(
    reference: str, value: str, currency: str, state: str, options: SignatureOptions, made: str
) -> None:
    fields = {"merchant_id": MERCHANT, "reference": reference, "value": value, "currency": currency, "state": state}
    assert sign("response", fields, options=options) == made


def test_a_request_signs_its_value_as_it_is_sent_and_optional_parts_in_their_order() -> None:
    assert sign("request", {**REQUEST, "value": "20000.0"}) != sign("request", REQUEST)
    given_ = {**REQUEST, "pse_banks": "1007", "payment_methods": "VISA,PSE", "iin": "411111"}
    text = f"{KEY}~{MERCHANT}~TestPayU~20000~COP~VISA,PSE~411111~1007"
    assert sign("request", given_) == hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    del given_["iin"]
    text = f"{KEY}~{MERCHANT}~TestPayU~20000~COP~VISA,PSE~1007"
    assert sign("request", given_) == hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("posted", "confirmation", "response"),
    [
        ("150.00", "150.0", "150.0"),
        ("150.50", "150.5", "150.5"),
        ("150.25", "150.25", "150.2"),
        ("150.35", "150.35", "150.4"),
        ("150.34", "150.34", "150.3"),
        ("150.05", "150.05", "150.0"),
        ("150.15", "150.15", "150.2"),
        ("150.26", "150.26", "150.3"),
        ("150.95", "150.95", "151.0"),
        ("150.96", "150.96", "151.0"),
        ("150", "150.0", "150.0"),
        ("150.5", "150.5", "150.5"),
        ("150.500", "150.5", "150.5"),
        ("0.00", "0.0", "0.0"),
        ("20000.00", "20000.0", "20000.0"),
        ("999999999999999.99", "999999999999999.99", "1000000000000000.0"),
    ],
)
def test_the_two_roundings_differ(posted: str, confirmation: str, response: str) -> None:
    assert (confirmation_value(posted), response_value(posted)) == (confirmation, response)


@pytest.mark.parametrize("bad", ["", "-1", "+1", "1e3", "1,000.00", " 1", "01", ".5", "5.", "NaN", "١", "1" * 400])
def test_what_is_no_value_is_not_signed(bad: str) -> None:
    fields = {"merchant_id": MERCHANT, "reference": "r", "value": bad, "currency": "COP", "state": "4"}
    for kind in ("confirmation", "response"):
        with pytest.raises(CannotSign, match="value"):
            sign(kind, fields)


def test_a_third_decimal_has_no_rule_in_a_confirmation() -> None:
    with pytest.raises(ValueError, match="two decimals"):
        confirmation_value("150.255")
    assert response_value("150.255") == "150.3"
    assert refusal(form(signed() | {"value": "20000.001"})) is Rejection.MALFORMED


def test_a_signer_says_what_is_missing_or_unknown() -> None:
    assert WEBHOOK_TOOLS.request_signers.keys() == {"request", "confirmation", "response"}
    with pytest.raises(CannotSign, match="missing: reference, currency"):
        sign("request", {"merchant_id": "1", "value": "1"})
    with pytest.raises(CannotSign, match="no such field: state"):
        sign("request", {**REQUEST, "state": "4"})
    with pytest.raises(CannotSign, match="no algorithm"):
        sign("request", REQUEST, options=SignatureOptions("sha512"))
    with pytest.raises(CannotSign, match="API key"):
        sign("request", REQUEST, "")
    with pytest.raises(CannotSign, match="readable"):
        sign("request", {**REQUEST, "reference": "\ud800"})
    with pytest.raises(CannotSign, match="`sign`"):
        WEBHOOK_TOOLS.sign_webhook(KEY, b"", 0)


@given(whole=st.integers(0, 10**12), cents=st.integers(0, 99))
def test_the_rounding_of_any_value_is_what_decimal_says(whole: int, cents: int) -> None:
    text = f"{whole}.{cents:02d}"
    assert response_value(text) == f"{Decimal(text).quantize(Decimal('0.1'), ROUND_HALF_EVEN)}"
    kept = confirmation_value(text)
    assert Decimal(kept) == Decimal(text)
    assert len(kept.split(".")[1]) == (1 if cents % 10 == 0 else 2)


@pytest.mark.parametrize(
    ("state", "kind", "type_"),
    [
        ("4", EventKind.CAPTURED, "approved"),
        ("5", EventKind.EXPIRED, "expired"),
        ("6", EventKind.ATTEMPT_FAILED, "declined"),
        ("7", EventKind.PROCESSING, "pending"),
        ("104", EventKind.ATTEMPT_FAILED, "error"),
        ("12", EventKind.PROCESSING, "12"),
        ("99", EventKind.OTHER, "99"),
    ],
)
def test_every_state_has_one_meaning(state: str, kind: EventKind, type_: str) -> None:
    event = received(form(signed(state_pol=state)))
    assert (event.kind, event.type) == (kind, f"confirmation.{type_}")
    assert event.event_id == f"f5e668f1-7ecc-4b83-a4d1-0aaa68260862:{state}"
    assert (event.reference, event.amount) == (PAYMENT, Money.parse("20000", "COP"))
    assert event.occurred_at == NOW


def test_a_repeat_is_one_event_and_another_attempt_is_another() -> None:
    first, again = received(form(signed())), received(form(dict(reversed(signed().items()))))
    assert first == again
    assert received(form(signed(transaction_id="b"))).event_id != first.event_id
    assert received(form(signed(state_pol="6"))).event_id != first.event_id
    assert received(form(signed(transaction_id=None))).event_id == "7069375:4"


def test_json_is_read_too_with_numbers_as_they_were_written() -> None:
    fields = signed()
    expected = received(form(fields))
    assert received(json.dumps(fields).encode()) == expected
    assert received(json.dumps(dict(reversed(fields.items())), indent=1).encode()) == expected
    bare = json.dumps(fields).replace('"20000.00"', "20000.00").replace('"4"', "4").replace(f'"{MERCHANT}"', MERCHANT)
    assert received(bare.encode()) == expected
    assert refusal(bare.replace("20000.00", "2e4").encode()) is Rejection.MALFORMED
    assert received(json.dumps(fields | {"test": True}).encode()) == expected


def test_the_sign_may_be_in_capitals() -> None:
    fields = signed()
    assert received(form(fields | {"sign": fields["sign"].upper()})).kind is EventKind.CAPTURED


@pytest.mark.parametrize(
    "changes",
    [
        {"value": "20000.01"},
        {"value": "2000.00"},
        {"currency": "USD"},
        {"state_pol": "6"},
        {"reference_sale": str(UUID(int=5))},
        {"merchant_id": "508030"},
        {"sign": "0" * 32},
        {"sign": ""},
        {"sign": "not hex"},
        {"sign": "ſ" * 32},
        {"sign": "7ee7cf808ce6a39b17481c54f2c57acc"},
    ],
)
def test_a_changed_confirmation_is_a_bad_signature(changes: dict[str, str]) -> None:
    assert refusal(form(signed() | changes)) is Rejection.BAD_SIGNATURE


def test_without_a_sign_or_with_another_accounts_key_nothing_is_believed() -> None:
    assert refusal(form(fields_of())) is Rejection.BAD_SIGNATURE
    assert refusal(form(signed(secret="another key"))) is Rejection.BAD_SIGNATURE
    assert refusal(form(signed(options=SignatureOptions("sha256")))) is Rejection.BAD_SIGNATURE


def test_another_merchants_confirmation_is_refused_although_it_is_signed() -> None:
    assert refusal(form(signed(merchant_id="508030"))) is Rejection.MALFORMED


def test_the_test_flag_fits_the_account() -> None:
    body, unflagged = form(signed()), form(signed(test=None))
    live, sandbox = account({"test": False}), account()
    assert received(body, sandbox).kind is EventKind.CAPTURED
    assert refusal(body, live) is Rejection.MALFORMED
    assert received(form(signed(test="0")), live).kind is EventKind.CAPTURED
    assert refusal(form(signed(test="0")), sandbox) is Rejection.MALFORMED
    assert received(form(signed(test="0")), account({"test_flag": False})).kind is EventKind.CAPTURED
    assert refusal(form(signed(test="maybe"))) is Rejection.MALFORMED
    for provider in (live, sandbox):
        assert received(unflagged, provider).kind is EventKind.CAPTURED


def test_another_currency_is_reported_as_it_is() -> None:
    assert received(form(signed(currency="USD", value="20000.50"))).amount == Money.parse("20000.50", "USD")


@pytest.mark.parametrize("algorithm", ["sha1", "SHA-256", "hmac-sha256"])
@pytest.mark.parametrize("hmac_key", [None, "secret123"])
def test_the_account_chooses_how_it_is_signed(algorithm: str, hmac_key: str | None) -> None:
    credentials = {} if hmac_key is None else {"hmac_key": hmac_key}
    provider = account({"signature_algorithm": algorithm}, **credentials)
    assert received(form(signed(options=SignatureOptions(algorithm, hmac_key))), provider).kind is EventKind.CAPTURED
    assert refusal(form(signed()), provider) is Rejection.BAD_SIGNATURE


def test_the_hmac_key_is_the_key_and_the_api_key_stays_in_the_text() -> None:
    text = f"{KEY}~{MERCHANT}~TestPayU~20000.0~COP~4"
    fields = {**REQUEST, "value": "20000.00", "state": "4"}
    made = sign("confirmation", fields, options=SignatureOptions("hmac-sha256", "own"))
    assert made == hmac.new(b"own", text.encode(), hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"transaction_id": "x" * 101},
        {"transaction_id": "a b"},
        {"transaction_id": None, "reference_pol": None},
        {"transaction_id": "", "reference_pol": ""},
        {"state_pol": "four"},
        {"state_pol": "44444"},
        {"currency": "cop"},
        {"currency": "XXX1"},
        {"currency": "JPY", "value": "1.50"},
    ],
)
def test_a_signed_confirmation_with_odd_parts_is_malformed(changes: dict[str, Any]) -> None:
    assert refusal(form(signed(**changes))) is Rejection.MALFORMED


@pytest.mark.parametrize("name", ["merchant_id", "reference_sale", "value", "currency", "state_pol"])
def test_what_is_signed_must_be_there(name: str) -> None:
    fields = signed()
    del fields[name]
    assert refusal(form(fields)) is Rejection.MALFORMED
    odds: tuple[object, ...] = (None, [], {}, True, "", "a\nb", "\ud800", "9" * 600)
    for odd in odds:
        assert refusal(json.dumps(fields | {name: odd}).encode()) in {Rejection.MALFORMED, Rejection.BAD_SIGNATURE}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"garbage",
        b"\xff\xfe",
        b'{"a":' * 100_000,
        b'{"value":NaN}',
        b'{"value":' + b"9" * 5000 + b"}",
        b"&".join(b"n%d=1" % number for number in range(400)),
        b'{"value":"1","value":"2"}',
    ],
)
def test_a_body_that_is_no_confirmation_is_refused(body: bytes) -> None:
    assert refusal(body) in {Rejection.MALFORMED, Rejection.BAD_SIGNATURE}


def test_a_name_that_occurs_twice_is_refused() -> None:
    body = form(signed())
    assert refusal(body + b"&value=1.00") is Rejection.MALFORMED
    assert refusal(b"state_pol=4&" + body) is Rejection.MALFORMED


def test_a_truncated_confirmation_is_refused() -> None:
    body = form(signed())
    for cut in range(0, len(body) - 1, 7):
        assert refusal(body[:cut]) in {Rejection.MALFORMED, Rejection.BAD_SIGNATURE}


def test_letters_in_another_encoding_do_no_harm() -> None:
    body = form(signed()).replace(b"Caf%C3%A9", b"Caf%E9")
    assert received(body).kind is EventKind.CAPTURED
    assert received(form(signed()).replace(b"Caf%C3%A9", b"Caf\xe9")).kind is EventKind.CAPTURED


@pytest.mark.parametrize("foreign", ["order-17", "{018bcfe5-6800-7000-8000-000000000001}", "20/12/2017 14:50:52"])
def test_a_reference_of_another_system_is_not_ours(foreign: str) -> None:
    assert received(form(signed(reference_sale=foreign))).reference is None


@pytest.mark.parametrize("moment", ["yesterday", None, "2026-13-01 00:00:00", "0001-01-01 00:00:00"])
def test_an_unreadable_moment_is_none(moment: str | None) -> None:
    found = received(form(signed(transaction_date=moment, date=moment))).occurred_at
    assert found is None or found.year == 1


def test_explaining_a_confirmation_masks_the_secrets() -> None:
    verdict = explain_signature({}, form(signed()), KEY, NOW)
    assert verdict.valid
    assert verdict.signed_string_masked == f"***~{MERCHANT}~{PAYMENT}~20000.0~COP~4"
    assert WEBHOOK_TOOLS.explain_signature({}, json.dumps(signed()).encode(), KEY, NOW).valid
    options = SignatureOptions("hmac-sha256", "secret123")
    verdict = explain_signature({}, form(signed(options=options)), KEY, NOW, options)
    assert verdict.valid
    assert KEY not in verdict.signed_string_masked
    wrong = explain_signature({}, form(signed() | {"value": "1.00"}), KEY, NOW)
    assert (wrong.valid, KEY in wrong.why + wrong.signed_string_masked) == (False, False)
    assert "does not fit" in wrong.why
    for secret, odd in (("", DEFAULT), (KEY, SignatureOptions("rot13")), ("\ud800", DEFAULT)):
        assert not explain_signature({}, form(signed()), secret, NOW, odd).valid
    assert not explain_signature({}, b"\xff", KEY, NOW).valid


@pytest.mark.parametrize(
    "options",
    [
        {"signature_algorithm": "sha512"},
        {"signature_algorithm": 5},
        {"test": "yes"},
        {"limits": []},
        {"limits": {"efecty": 5}},
        {"limits": {"efecty": {"minimum": "much"}}},
        {"limits": {"efecty": {"minimum": 1.5}}},
        {"limits": {"efecty": {"maximum": "-1"}}},
        {"agreements": {"efecty": 5}},
        {"agreements": "5"},
        {"refund_wait_seconds": -1},
        {"refund_wait_seconds": True},
    ],
)
def test_an_option_of_the_wrong_kind_is_the_operators_business(options: dict[str, object]) -> None:
    with pytest.raises(ProviderMisconfigured, match=f"option_invalid: {next(iter(options))}"):
        account(options)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([*fields_of(), "sign", "date"])
PROVIDER = account()


def accepted_or_refused(body: bytes) -> None:
    """Only an event or a refusal may come out."""
    try:
        event = received(body, PROVIDER)
    except WebhookRejected:
        return
    finally:
        explain_signature({}, body, KEY, NOW)
    assert event.event_id.isascii()


@given(body=st.binary(max_size=300))
def test_no_bytes_break_the_reading(body: bytes) -> None:
    accepted_or_refused(body)


@given(changes=st.dictionaries(NAMES, st.text(max_size=30), max_size=6))
def test_no_form_breaks_the_reading(changes: dict[str, Any]) -> None:
    fields = fields_of() | changes
    accepted_or_refused(urlencode(fields, errors="surrogatepass").encode())
    try:
        accepted_or_refused(form(signed(**changes)))
    except (CannotSign, UnicodeEncodeError):
        return


@given(changes=st.dictionaries(NAMES, JSON, max_size=6))
def test_no_json_of_wrong_types_breaks_the_reading(changes: dict[str, Any]) -> None:
    accepted_or_refused(json.dumps(signed() | changes).encode())


@given(value=JSON)
def test_no_json_breaks_the_reading(value: object) -> None:
    accepted_or_refused(json.dumps(value).encode())


@given(position=st.integers(0, 10_000), letter=st.integers(0, 255))
def test_one_changed_byte_never_turns_into_another_amount(position: int, letter: int) -> None:
    body = bytearray(form(signed()))
    body[position % len(body)] = letter
    try:
        event = received(bytes(body), PROVIDER)
    except WebhookRejected:
        return
    assert (event.reference, event.amount, event.kind) == (PAYMENT, Money.parse("20000", "COP"), EventKind.CAPTURED)

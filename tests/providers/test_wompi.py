"""Wompi's signatures and events: vectors of the provider page, forged and odd callbacks, arbitrary bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.money import Money
from providers.base import (
    AccountConfig,
    Callback,
    EventKind,
    ProviderEvent,
    ProviderMisconfigured,
    Rejection,
    WebhookRejected,
)
from providers.registry import capabilities_of, required_credentials, webhook_tools
from providers.webhook_signatures import CannotSign, SignatureOptions
from providers.wompi import WompiProvider
from providers.wompi.account import PRODUCTION_API, SANDBOX_API, account_of
from providers.wompi.signatures import event_checksum, integrity_signature, signed_values

ONLY = ("wompi",)

SECRET = "test_events_1111"
KEYS = {
    "public_key": "pub_test_1111",
    "private_key": "prv_test_1111",
    "events_secret": SECRET,
    "integrity_secret": "test_integrity_1111",
}
NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
PROPERTIES = ["transaction.id", "transaction.status", "transaction.amount_in_cents"]
REFERENCE = UUID("6f9619ff-8b86-4011-b42d-00cf4fc964ff")
DOCUMENTED_SECRET = "prod_events_OcHnIzeBl5socpwByQ4hA52Em3USQ93Z"


def wompi(options: Mapping[str, object] | None = None, **keys: str) -> WompiProvider:
    return WompiProvider(AccountConfig(uuid4(), KEYS | keys, options or {}))


def an_event(secret: str = SECRET, at: datetime = NOW, **changes: Any) -> dict[str, Any]:
    """An event as Wompi sends it, signed after all changes to the transaction."""
    transaction: dict[str, Any] = {
        "id": "1234-1610641025-49201",
        "amount_in_cents": 4490000,
        "reference": str(REFERENCE),
        "customer_email": "juan.perez@example.com",
        "currency": "COP",
        "payment_method_type": "NEQUI",
        "status": "APPROVED",
        "payment_link_id": None,
    }
    event = {
        "event": "transaction.updated",
        "data": {"transaction": transaction | changes.pop("transaction", {})},
        "environment": "test",
        "signature": {"properties": PROPERTIES},
        "timestamp": int(at.timestamp()),
        "sent_at": at.isoformat(),
    } | changes
    return sealed(event, secret)


def sealed(event: dict[str, Any], secret: str = SECRET) -> dict[str, Any]:
    """With the checksum that the stated rule gives, computed here on its own."""
    text = ""
    for path in event["signature"]["properties"]:
        value: Any = event["data"]
        for part in path.split("."):
            value = value[part]
        text += str(value)
    checksum = hashlib.sha256(f"{text}{event['timestamp']}{secret}".encode()).hexdigest()
    return event | {"signature": event["signature"] | {"checksum": checksum.upper()}}


def callback(event: Any, *, now: datetime = NOW, header: str | None = None) -> Callback:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return Callback({} if header is None else {"x-event-checksum": header}, body, now)


def rejection(event: Any, provider: WompiProvider | None = None, **parts: Any) -> Rejection:
    with pytest.raises(WebhookRejected) as rejected:
        (provider or wompi()).verify_webhook(callback(event, **parts))
    assert SECRET not in str(rejected.value)
    assert "juan" not in str(rejected.value)
    return rejected.value.reason


# --- signatures


@pytest.mark.parametrize(
    ("reference", "amount", "secret", "digest"),
    [
        (
            "sk8-438k4-xmxm392-sn2m",
            2490000,
            "prod_integrity_Z5mMke9x0k8gpErbDqwrJXMqsI6SFli6",
            "37c8407747e595535433ef8f6a811d853cd943046624a0ec04662b17bbf33bf5",
        ),
        (
            "ref-123",
            2490000,
            "test_integrity_key",
            "3020531ed7879230f3ed79e981eda23c5efcd8ce2da4576876ca16f783224e54",
        ),
    ],
)
def test_the_documented_integrity_signatures(reference: str, amount: int, secret: str, digest: str) -> None:
    assert integrity_signature(reference, amount, "COP", "", secret) == digest
    fields = {"reference": reference, "amount_in_cents": str(amount), "currency": "COP"}
    signer = webhook_tools("wompi").request_signers["integrity"]
    assert (signer.required, signer.optional) == (("reference", "amount_in_cents", "currency"), ("expiration",))
    assert signer(fields, secret, SignatureOptions()) == digest


def test_the_expiration_is_signed_as_it_is_sent_between_currency_and_secret() -> None:
    expiration, secret = "2023-06-09T20:28:50.000Z", "prod_integrity_Z5mMke9x0k8gpErbDqwrJXMqsI6SFli6"
    signer = webhook_tools("wompi").request_signers["integrity"]
    fields = {"reference": "sk8-438k4-xmxm392-sn2m", "amount_in_cents": "2490000", "currency": "COP"}
    text = f"sk8-438k4-xmxm392-sn2m2490000COP{expiration}{secret}"
    signed = signer(fields | {"expiration": expiration}, secret, SignatureOptions())
    assert signed == hashlib.sha256(text.encode()).hexdigest()
    assert signed != signer(fields, secret, SignatureOptions())


@pytest.mark.parametrize(
    "fields",
    [
        {"reference": "r", "amount_in_cents": "100"},
        {"reference": "", "amount_in_cents": "100", "currency": "COP"},
        {"reference": "r", "amount_in_cents": "1.00", "currency": "COP"},
        {"reference": "r", "amount_in_cents": "1,000", "currency": "COP"},
        {"reference": "r", "amount_in_cents": "0100", "currency": "COP"},
        {"reference": "r", "amount_in_cents": "100", "currency": "COP", "amount": "1"},
        {"reference": "\ud800", "amount_in_cents": "100", "currency": "COP"},
    ],
)
def test_what_cannot_be_signed_is_said(fields: dict[str, str]) -> None:
    signer = webhook_tools("wompi").request_signers["integrity"]
    with pytest.raises(CannotSign):
        signer(fields, "secret", SignatureOptions())
    with pytest.raises(CannotSign, match="sha256"):
        good = {"reference": "r", "amount_in_cents": "1", "currency": "COP"}
        signer(good, "secret", SignatureOptions(algorithm="md5"))


def test_the_verified_example_of_an_event() -> None:
    values = signed_values(
        {"transaction": {"id": "01-123", "status": "APPROVED", "amount_in_cents": 4950000}}, PROPERTIES
    )
    assert values == "01-123APPROVED4950000"
    checksum = event_checksum(values, 1530291411, DOCUMENTED_SECRET)
    assert checksum == "71601cac483195b4577030556a566645f0536a28dd5c0ea2bd16d4cd01ebcf31"


def test_the_digest_printed_in_the_documents_does_not_follow_from_their_rule() -> None:
    printed = "3476DDA50F64CD7CBD160689640506FEBEA93239BC524FC0469B2C68A3CC8BD0"
    text = "1234-1610641025-49201APPROVED44900001530291411" + DOCUMENTED_SECRET
    by_the_rule = event_checksum("1234-1610641025-49201APPROVED4490000", 1530291411, DOCUMENTED_SECRET)
    assert by_the_rule == hashlib.sha256(text.encode()).hexdigest() != printed.lower()


def test_a_missing_path_is_not_skipped() -> None:
    """A reader that skips it takes the checksum below for a body without id and amount."""
    skipping = "311fcd0072d0bfba1bdf8c158b38703a1487d7f4866feb2d391eceb7636ffe88"
    assert event_checksum("APPROVED", 1530291411, "test_events_key") == skipping
    event = {
        "event": "transaction.updated",
        "data": {"transaction": {"status": "APPROVED"}},
        "environment": "test",
        "signature": {"properties": PROPERTIES, "checksum": skipping},
        "timestamp": 1530291411,
    }
    at = datetime.fromtimestamp(1530291411, UTC)
    assert rejection(event, wompi(events_secret="test_events_key"), now=at) is Rejection.BAD_SIGNATURE


# --- events


def test_an_event_says_what_happened_and_to_whom() -> None:
    seen = wompi().verify_webhook(callback(an_event()))
    assert seen == ProviderEvent(
        event_id="1234-1610641025-49201:APPROVED",
        type="transaction.updated",
        kind=EventKind.CAPTURED,
        reference=REFERENCE,
        session_id=None,
        transaction_id="1234-1610641025-49201",
        amount=Money(4490000, "COP"),
        occurred_at=NOW,
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("APPROVED", EventKind.CAPTURED),
        ("PENDING", EventKind.PROCESSING),
        ("DECLINED", EventKind.ATTEMPT_FAILED),
        ("ERROR", EventKind.ATTEMPT_FAILED),
        ("VOIDED", EventKind.REFUND),
        ("SOMETHING_NEW", EventKind.OTHER),
    ],
)
def test_each_status_is_an_event_of_its_own(status: str, kind: EventKind) -> None:
    seen = wompi().verify_webhook(callback(an_event(transaction={"status": status})))
    assert (seen.kind, seen.event_id) == (kind, f"1234-1610641025-49201:{status}")


def test_a_replay_and_a_later_try_are_the_same_event() -> None:
    first = wompi().verify_webhook(callback(an_event()))
    again = wompi().verify_webhook(callback(an_event(), now=NOW + timedelta(hours=3)))
    renewed = wompi().verify_webhook(callback(an_event(at=NOW + timedelta(hours=24)), now=NOW + timedelta(hours=24)))
    assert {first.event_id, again.event_id, renewed.event_id} == {first.event_id}


def test_the_order_of_names_means_nothing() -> None:
    event = an_event()
    turned = {name: event[name] for name in reversed(event)}
    turned["data"] = {"transaction": dict(reversed(event["data"]["transaction"].items()))}
    assert wompi().verify_webhook(callback(turned)) == wompi().verify_webhook(callback(event))


def test_the_order_and_the_number_of_properties_are_the_events_own() -> None:
    paths = ["transaction.amount_in_cents", "transaction.reference", "transaction.status", "transaction.id"]
    event = an_event(signature={"properties": paths})
    assert wompi().verify_webhook(callback(event)).kind is EventKind.CAPTURED
    event["signature"]["properties"] = paths[::-1]
    assert rejection(event) is Rejection.BAD_SIGNATURE


def test_body_and_header_must_both_fit_and_one_is_enough() -> None:
    event = an_event()
    checksum = event["signature"]["checksum"]
    assert wompi().verify_webhook(callback(event, header=checksum.lower()))
    assert rejection(event, header="0" * 64) is Rejection.BAD_SIGNATURE
    assert rejection(event, header="no checksum") is Rejection.BAD_SIGNATURE
    del event["signature"]["checksum"]
    assert wompi().verify_webhook(callback(event, header=checksum))
    assert rejection(event) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize(
    "forge",
    [
        lambda event: event["data"]["transaction"].update(amount_in_cents=1),
        lambda event: event["data"]["transaction"].update(status="DECLINED"),
        lambda event: event["data"]["transaction"].update(id="another"),
        lambda event: event["data"]["transaction"].pop("amount_in_cents"),
        lambda event: event.update(timestamp=event["timestamp"] - 1),
        lambda event: event["signature"].update(checksum="A" * 64),
        lambda event: event["signature"].update(checksum=["A" * 64]),
        lambda event: event["signature"].update(checksum="Ａ" * 64),
        lambda event: event["signature"].update(properties=[]),
        lambda event: event["signature"].update(properties=PROPERTIES * 2),
        lambda event: event["signature"].update(properties=[*PROPERTIES, 7]),
        lambda event: event["signature"].update(properties="transaction.id"),
        lambda event: event["signature"].update(properties=[f"p{number}" for number in range(99)]),
    ],
)
def test_a_forged_event_is_refused(forge: Any) -> None:
    event = an_event()
    forge(event)
    assert rejection(event) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize("left_out", PROPERTIES)
def test_a_body_may_not_choose_what_is_not_signed(left_out: str) -> None:
    paths = [path for path in PROPERTIES if path != left_out]
    assert rejection(an_event(signature={"properties": paths})) is Rejection.BAD_SIGNATURE


def test_another_merchants_event_is_refused() -> None:
    assert rejection(an_event(secret="test_events_2222")) is Rejection.BAD_SIGNATURE
    assert rejection(an_event(), wompi(events_secret="test_events_2222")) is Rejection.BAD_SIGNATURE


def test_two_secrets_are_good_while_they_are_changed() -> None:
    provider = wompi(events_secret=f"test_events_0000, {SECRET}")
    assert provider.verify_webhook(callback(an_event())).kind is EventKind.CAPTURED


@pytest.mark.parametrize("environment", ["prod", "TEST", None, 7])
def test_an_event_of_another_environment_is_refused(environment: object) -> None:
    assert rejection(an_event(environment=environment)) is Rejection.MALFORMED


def test_keys_that_name_no_environment_take_both() -> None:
    provider = wompi(public_key="p", private_key="q", events_secret="e", integrity_secret="i")
    for environment in ("prod", "test"):
        assert provider.verify_webhook(callback(an_event("e", environment=environment)))


@pytest.mark.parametrize(
    "transaction",
    [
        {"currency": "USD"},
        {"currency": None},
        {"amount_in_cents": "4490000"},
        {"amount_in_cents": -1},
        {"amount_in_cents": 10**15},
        {"amount_in_cents": True},
        {"id": 17},
        {"id": "with a space"},
        {"status": "two words"},
    ],
)
def test_a_well_signed_event_that_no_account_here_can_have_is_refused(transaction: dict[str, Any]) -> None:
    event = an_event(transaction=transaction)
    if transaction.get("amount_in_cents") is True:  # JSON's word, not Python's
        text = f"1234-1610641025-49201APPROVEDtrue{event['timestamp']}{SECRET}"
        event["signature"]["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    assert rejection(event) is Rejection.MALFORMED


def test_a_fraction_is_no_amount_of_cents() -> None:
    body = json.dumps(an_event()).replace("4490000", "4490000.0").encode()
    assert rejection(body) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize("timestamp", ["1777896000", 1777896000.5, True, 0, -5, 10**13, None])
def test_a_timestamp_is_whole_seconds(timestamp: object) -> None:
    event = an_event()
    assert rejection(event | {"timestamp": timestamp}) is Rejection.MALFORMED


@pytest.mark.parametrize("part", ["data", "signature", "timestamp"])
def test_an_event_without_its_parts_is_none(part: str) -> None:
    event = an_event()
    assert rejection({name: value for name, value in event.items() if name != part}) is Rejection.MALFORMED
    assert rejection(event | {part: []}) is Rejection.MALFORMED


def test_an_event_has_a_type() -> None:
    assert rejection(an_event(event=None)) is Rejection.MALFORMED


@pytest.mark.parametrize("hours", [0, 27.5, 28.4])
def test_an_event_is_good_as_long_as_wompi_sends_it_again(hours: float) -> None:
    assert wompi().verify_webhook(callback(an_event(), now=NOW + timedelta(hours=hours)))


@pytest.mark.parametrize("hours", [28.6, 400])
def test_an_event_older_than_any_honest_retry_is_stale(hours: float) -> None:
    assert rejection(an_event(), now=NOW + timedelta(hours=hours)) is Rejection.STALE_TIMESTAMP


def test_the_age_is_an_option_and_the_future_is_refused() -> None:
    strict = wompi({"event_max_age_seconds": 300})
    assert rejection(an_event(), strict, now=NOW + timedelta(seconds=301)) is Rejection.STALE_TIMESTAMP
    assert strict.verify_webhook(callback(an_event(), now=NOW - timedelta(seconds=60)))
    assert rejection(an_event(), strict, now=NOW - timedelta(seconds=61)) is Rejection.FUTURE_TIMESTAMP
    far = an_event(at=NOW)
    far = sealed(far | {"timestamp": 10**12 - 1})
    assert rejection(far) is Rejection.FUTURE_TIMESTAMP


def test_a_reference_that_is_not_ours_and_a_links_are_told_apart() -> None:
    foreign = wompi().verify_webhook(callback(an_event(transaction={"reference": "MZQ3X2DE2SMX"})))
    assert (foreign.reference, foreign.session_id) == (None, None)
    braced = wompi().verify_webhook(callback(an_event(transaction={"reference": f"{{{REFERENCE}}}"})))
    assert braced.reference is None
    numbered = wompi().verify_webhook(callback(an_event(transaction={"reference": 7})))
    assert numbered.reference is None
    made = wompi().verify_webhook(callback(an_event(transaction={"reference": "test_UaGxZz_1769537642_c1G7xm1lV"})))
    assert made.session_id == "test_UaGxZz"
    named = wompi().verify_webhook(callback(an_event(transaction={"payment_link_id": "3Z0Cfi"})))
    assert (named.session_id, named.reference) == ("3Z0Cfi", REFERENCE)


def test_other_events_are_recorded_and_nothing_follows() -> None:
    event = sealed(
        {
            "event": "nequi_token.updated",
            "data": {"nequi_token": {"id": "nequi_1", "status": "APPROVED"}},
            "environment": "test",
            "signature": {"properties": ["nequi_token.id", "nequi_token.status"]},
            "timestamp": int(NOW.timestamp()),
        }
    )
    seen = wompi().verify_webhook(callback(event))
    assert (seen.kind, seen.type, seen.transaction_id) == (EventKind.OTHER, "nequi_token.updated", None)
    assert seen.event_id == wompi().verify_webhook(callback(event)).event_id


def test_a_body_cut_anywhere_is_refused() -> None:
    body = json.dumps(an_event()).encode()
    for length in range(0, len(body), 7):
        assert rejection(body[:length]) in (Rejection.MALFORMED, Rejection.BAD_SIGNATURE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"NaN",
        b"\xff\xfe",
        b'{"timestamp": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        json.dumps(an_event()).replace('"timestamp"', '"timestamp": 1, "timestamp"', 1).encode(),
        json.dumps(an_event()).replace("4490000", "NaN").encode(),
        json.dumps(an_event()).replace("4490000", '4490000, "amount_in_cents": 1').encode(),
    ],
)
def test_what_is_no_readable_body_is_refused(body: bytes) -> None:
    assert rejection(body) is Rejection.MALFORMED


def test_text_that_is_not_utf8_cannot_be_signed() -> None:
    event = an_event()
    event["data"]["transaction"]["id"] = "\ud800"
    assert rejection(event) is Rejection.MALFORMED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [
        ("event",),
        ("data",),
        ("data", "transaction"),
        *((("data", "transaction", name)) for name in ("id", "status", "amount_in_cents", "reference", "currency")),
        ("data", "transaction", "payment_link_id"),
        ("environment",),
        ("signature",),
        ("signature", "properties"),
        ("signature", "checksum"),
        ("timestamp",),
    ]
)


def outcome(body: bytes, headers: dict[str, str]) -> ProviderEvent | WebhookRejected:
    try:
        return wompi().verify_webhook(Callback(headers, body, NOW))
    except WebhookRejected as rejected:
        return rejected


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_arbitrary_bytes_are_refused_and_nothing_else(body: bytes) -> None:
    assert isinstance(outcome(body, {}), WebhookRejected)
    assert not webhook_tools("wompi").explain_signature({}, body, SECRET, NOW).valid


@settings(max_examples=300, deadline=None)
@given(path=PATHS, value=JSON, header=st.none() | st.text(max_size=70))
def test_an_event_with_any_one_part_replaced_is_an_event_or_refused(
    path: tuple[str, ...], value: object, header: str | None
) -> None:
    event = an_event()
    place: Any = event
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    body = json.dumps(event).encode()
    seen = outcome(body, {} if header is None else {"x-event-checksum": header})
    if path[-1] in ("id", "status", "amount_in_cents", "timestamp", "checksum", "properties") and seen is not None:
        changed = value != an_event()["data"]["transaction"].get(path[-1])
        assert isinstance(seen, WebhookRejected) or not changed or path[-1] == "checksum"


@settings(max_examples=150, deadline=None)
@given(
    transaction_id=st.from_regex(r"[A-Za-z0-9_.:-]{1,40}", fullmatch=True),
    amount=st.integers(min_value=0, max_value=10**14),
    status=st.sampled_from(["APPROVED", "DECLINED", "VOIDED", "ERROR", "PENDING"]),
    secret=st.from_regex(r"[a-zA-Z0-9_]{1,40}", fullmatch=True),
)
def test_what_wompi_signs_is_accepted_whatever_it_holds(
    transaction_id: str, amount: int, status: str, secret: str
) -> None:
    values = {"id": transaction_id, "amount_in_cents": amount, "status": status}
    provider = wompi(events_secret=secret, public_key="p", private_key="q", integrity_secret="i")
    seen = provider.verify_webhook(callback(an_event(secret, transaction=values)))
    assert (seen.event_id, seen.amount) == (f"{transaction_id}:{status}", Money(amount, "COP"))


# --- tools


def test_the_tools_sign_what_the_adapter_accepts_and_say_why_not() -> None:
    tools = webhook_tools("wompi")
    event = an_event()
    del event["signature"]["checksum"]
    body = json.dumps(event).encode()
    headers = tools.sign_webhook(SECRET, body, 0)
    assert wompi().verify_webhook(Callback(dict(headers), body, NOW)).kind is EventKind.CAPTURED
    good = tools.explain_signature(dict(headers), body, SECRET, NOW)
    assert good.valid
    assert good.signed_string_masked == f"1234-1610641025-49201APPROVED4490000{int(NOW.timestamp())}***"
    wrong = tools.explain_signature(dict(headers), body, "another", NOW)
    assert (wrong.valid, wrong.why) == (False, "bad_signature: the checksum does not match")
    assert not tools.explain_signature({}, b"{}", SECRET, NOW).valid
    with pytest.raises(CannotSign):
        tools.sign_webhook(SECRET, b"{}", 0)
    with pytest.raises(CannotSign):
        tools.sign_webhook("\ud800", body, 0)
    other = event | {"signature": {"properties": PROPERTIES, "checksum": "0" * 64}}
    with pytest.raises(CannotSign, match=headers["x-event-checksum"]):
        tools.sign_webhook(SECRET, json.dumps(other).encode(), 0)
    assert tools.sign_webhook(SECRET, json.dumps(an_event()).encode(), 0) == headers


def test_a_secret_inside_the_signed_values_is_masked() -> None:
    event = an_event(transaction={"id": SECRET})
    verdict = webhook_tools("wompi").explain_signature({}, json.dumps(event).encode(), SECRET, NOW)
    assert verdict.valid
    assert SECRET not in verdict.signed_string_masked


# --- account


def test_the_registry_knows_wompi() -> None:
    assert required_credentials("wompi") == ("public_key", "private_key", "events_secret", "integrity_secret")
    sheet = capabilities_of("wompi")
    assert [method.name for method in sheet.methods] == ["card", "link", "pse", "nequi"]
    assert {method.currency for method in sheet.methods} == {"COP"} == set(sheet.currencies or ())
    assert [method.name for method in sheet.methods if method.refundable] == ["card", "link"]
    assert (sheet.partial_refund, sheet.closes_checkout, sheet.bank_list) == (False, False, True)
    assert [method.name for method in sheet.methods if sheet.closes(method.name)] == ["link"]


def test_the_keys_choose_the_environment() -> None:
    assert account_of(AccountConfig(uuid4(), KEYS)).api_base == SANDBOX_API
    live = {name: value.replace("test", "prod") for name, value in KEYS.items()}
    account = account_of(AccountConfig(uuid4(), live))
    assert (account.api_base, account.live, account.environment) == (PRODUCTION_API, True, "prod")
    assert "1111" not in repr(account).replace("pub_prod_1111", "")
    with pytest.raises(ProviderMisconfigured, match="credential_environments"):
        wompi(private_key="prv_prod_1111")


@pytest.mark.parametrize(
    "options",
    [
        {"api_base": "ftp://example.com"},
        {"checkout_base": 7},
        {"event_max_age_seconds": "300"},
        {"event_max_age_seconds": True},
        {"event_max_age_seconds": 0},
        {"transactions_key": "secret"},
        {"personal_auth_field": "no spaces"},
        {"personal_auth_field": None},
    ],
)
def test_an_option_that_cannot_be_is_named(options: dict[str, object]) -> None:
    with pytest.raises(ProviderMisconfigured, match=next(iter(options))):
        wompi(options)


@pytest.mark.parametrize("value", ["", "  ", "schlüssel", "two\nlines"])
def test_a_key_that_cannot_be_is_missing(value: str) -> None:
    with pytest.raises(ProviderMisconfigured, match="private_key"):
        wompi(private_key=value)
    with pytest.raises(ProviderMisconfigured, match="events_secret"):
        wompi(events_secret=",")

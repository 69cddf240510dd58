"""Stripe's webhooks: only what Stripe signed, recently, is read; whatever else arrives is a clean refusal."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from domain.provider_payout import PayoutSnapshot, ProviderPayoutStatus
from providers.base import (
    AccountConfig,
    Callback,
    EventKind,
    ProviderEvent,
    ProviderMisconfigured,
    Rejection,
    WebhookRejected,
)
from providers.stripe import StripeProvider, explain_signature, sign_webhook
from tests.providers.recorded import recording

SECRET = "whsec_test_secret"
AT = 1_700_000_000
NOW = datetime.fromtimestamp(AT, UTC)
PAYMENT = UUID("018bcfe5-6800-7000-8000-000000000001")
VECTOR_BODY = b'{"id":"evt_test_webhook","object":"event"}'
VECTOR_HEADER = "t=1700000000,v1=d95c6b7477fbd7e9f90b1b0ef5f9c7ac25abca5382460e0d988c2b2a5b71b990"


def account(webhook_secret: str = SECRET, secret_key: str = "sk_test_0000", **limits: Any) -> StripeProvider:
    credentials = {"secret_key": secret_key, "webhook_secret": webhook_secret}
    return StripeProvider(AccountConfig(account_id=uuid4(), credentials=credentials, **limits))


def event(type_: str, source: dict[str, Any], **changes: Any) -> bytes:
    values = {
        "id": "evt_1",
        "object": "event",
        "type": type_,
        "created": AT - 5,
        "livemode": False,
        "data": {"object": source},
    }
    return json.dumps(values | changes).encode()


def session(**changes: Any) -> dict[str, Any]:
    values = {
        "id": "cs_1",
        "object": "checkout.session",
        "payment_intent": "pi_1",
        "client_reference_id": str(PAYMENT),
        "metadata": {"payment_id": str(PAYMENT)},
        "amount_total": 12990,
        "currency": "ils",
        "payment_status": "paid",
    }
    return values | changes


def received(
    body: bytes, *, at: int = AT, now: datetime = NOW, provider: StripeProvider | None = None
) -> ProviderEvent:
    return (provider or account()).verify_webhook(Callback(sign_webhook(SECRET, body, at), body, now))


def refusal(headers: dict[str, str], body: bytes, now: datetime = NOW) -> Rejection:
    with pytest.raises(WebhookRejected) as refused:
        account().verify_webhook(Callback(headers, body, now))
    assert SECRET not in str(refused.value)
    return refused.value.reason


def test_the_published_vector_is_signed_and_accepted() -> None:
    assert sign_webhook(SECRET, VECTOR_BODY, AT) == {"stripe-signature": VECTOR_HEADER}
    verdict = explain_signature({"stripe-signature": VECTOR_HEADER}, VECTOR_BODY, SECRET, NOW)
    assert verdict.valid
    assert verdict.signed_string_masked == f"{AT}.{VECTOR_BODY.decode()}"


def test_the_explanation_names_the_fault_and_never_shows_the_secret() -> None:
    body = b'{"echo":"whsec_test_secret"}'
    headers = sign_webhook(SECRET, body, AT)
    assert SECRET not in explain_signature(headers, body, SECRET, NOW).signed_string_masked
    late = explain_signature(headers, body, SECRET, NOW + timedelta(seconds=301))
    assert (late.valid, late.why) == (False, "stale_timestamp: 301 s old, 300 s allowed")
    assert not explain_signature(headers, body, "whsec_other", NOW).valid
    assert explain_signature({}, body, SECRET, NOW).why.startswith("bad_signature: no Stripe-Signature")


def test_a_paid_session_is_read_whole() -> None:
    assert received(event("checkout.session.completed", session())) == ProviderEvent(
        event_id="evt_1",
        type="checkout.session.completed",
        kind=EventKind.CAPTURED,
        reference=PAYMENT,
        session_id="cs_1",
        transaction_id="pi_1",
        amount=Money(12990, "ILS"),
        occurred_at=datetime.fromtimestamp(AT - 5, UTC),
    )


@pytest.mark.parametrize(
    ("type_", "changes", "kind"),
    [
        ("checkout.session.completed", {"payment_status": "unpaid"}, EventKind.PROCESSING),
        ("checkout.session.completed", {"payment_status": "no_payment_required"}, EventKind.CAPTURED),
        ("checkout.session.completed", {"payment_status": None}, EventKind.PROCESSING),
        ("checkout.session.async_payment_succeeded", {}, EventKind.CAPTURED),
        ("checkout.session.async_payment_failed", {"payment_status": "unpaid"}, EventKind.FAILED),
        ("checkout.session.expired", {"payment_status": "unpaid"}, EventKind.EXPIRED),
        ("payment_intent.succeeded", {}, EventKind.CAPTURED),
        ("payment_intent.payment_failed", {}, EventKind.ATTEMPT_FAILED),
        ("payment_intent.canceled", {}, EventKind.CANCELED),
        ("payment_intent.requires_action", {}, EventKind.ACTION_REQUIRED),
        ("payment_intent.processing", {}, EventKind.PROCESSING),
        ("payment_intent.amount_capturable_updated", {}, EventKind.OTHER),
        ("charge.refunded", {}, EventKind.REFUND),
        ("charge.refund.updated", {}, EventKind.REFUND),
        ("refund.created", {}, EventKind.REFUND),
        ("refund.failed", {}, EventKind.REFUND),
        ("charge.dispute.created", {}, EventKind.DISPUTE),
        ("charge.dispute.closed", {}, EventKind.DISPUTE),
        ("a.type.of.tomorrow", {}, EventKind.OTHER),
    ],
)
def test_every_type_has_one_meaning(type_: str, changes: dict[str, Any], kind: EventKind) -> None:
    assert received(event(type_, session(**changes))).kind is kind


@pytest.mark.parametrize(
    ("source", "transaction", "amount"),
    [
        (
            {"object": "payment_intent", "id": "pi_2", "amount": 500, "amount_received": 400, "currency": "usd"},
            "pi_2",
            Money(400, "USD"),
        ),
        ({"object": "payment_intent", "id": "pi_2", "amount": 500, "currency": "jpy"}, "pi_2", Money(500, "JPY")),
        (
            {
                "object": "charge",
                "id": "ch_2",
                "payment_intent": {"id": "pi_3"},
                "amount_refunded": 7,
                "currency": "usd",
            },
            "pi_3",
            Money(7, "USD"),
        ),
        ({"object": "refund", "id": "re_1", "payment_intent": "pi_4", "amount": 5, "currency": "xxx"}, "pi_4", None),
        ({"object": "dispute", "id": "dp_1", "payment_intent": "pi_5", "amount": "5", "currency": "usd"}, "pi_5", None),
    ],
)
def test_transaction_and_amount_are_found_in_every_object(
    source: dict[str, Any], transaction: str, amount: Money | None
) -> None:
    found = received(event("any.type", source))
    assert (found.transaction_id, found.amount, found.session_id) == (transaction, amount, None)


@pytest.mark.parametrize("foreign", ["order-17", "", None, 5, "{018bcfe5-6800-7000-8000-000000000001}", [str(PAYMENT)]])
def test_a_reference_of_another_system_is_not_ours(foreign: object) -> None:
    source = session(client_reference_id=foreign, metadata={"payment_id": foreign})
    assert received(event("checkout.session.completed", source)).reference is None


def test_our_reference_is_found_in_either_place() -> None:
    for source in (session(metadata={}), session(metadata=None), session(client_reference_id=None)):
        assert received(event("checkout.session.completed", source)).reference == PAYMENT


def test_an_event_of_the_other_mode_moves_nothing() -> None:
    body = event("checkout.session.completed", session(), livemode=True)
    assert received(body).kind is EventKind.OTHER
    assert received(body, provider=account(secret_key="sk_live_0000")).kind is EventKind.CAPTURED
    assert received(body, provider=account(secret_key="sk_own")).kind is EventKind.CAPTURED


def test_what_is_not_this_accounts_is_kept_with_its_reason_and_names_nobody() -> None:
    """Of another account, or of the other mode: each names a payment of ours, and none of it is believed."""
    connected = json.dumps(recording("stripe", "event_of_a_connected_account")).encode()
    own: dict[str, Any] = {"options": {"own_account": "acct_1Qmine"}}
    told = [
        received(connected),
        received(connected, provider=account(**own)),
        received(event("checkout.session.completed", session(), livemode=True)),
        received(event("checkout.session.completed", session(), account=7)),
        received(event("checkout.session.completed", session(), account="")),
    ]
    for one in told:
        assert (one.kind, one.ids, one.reference, one.amount) == (EventKind.OTHER, (), None, None)
        assert one.ignored
    assert told[0].ignored == "of another account at the provider: acct_1Qsomebodyelse"


def test_an_event_that_names_our_own_account_is_ours() -> None:
    body = event("checkout.session.completed", session(), account="acct_1Qmine")
    ours = account(options={"own_account": "acct_1Qmine"})
    assert received(body, provider=ours).kind is EventKind.CAPTURED
    assert received(event("checkout.session.completed", session(), account=None), provider=ours).ignored is None
    with pytest.raises(ProviderMisconfigured, match="own_account"):
        account(options={"own_account": "1Qmine"})


@pytest.mark.parametrize("status", ["active", "inactive"])
def test_a_mandate_is_of_its_method(status: str) -> None:
    told = recording("stripe", "mandate_updated_event")
    told["data"]["object"]["status"] = status
    found = received(json.dumps(told).encode())
    assert (found.kind, found.method_token, found.mandate) == (EventKind.METHOD, "pm_1Qsample", "mandate_1Qsample")
    assert (found.unreadable, found.ids) == (None, ())
    told["data"]["object"]["payment_method"] = None
    assert received(json.dumps(told).encode()).unreadable == "mandate without its payment"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("invoice_voided_event", EventKind.SUBSCRIPTION), ("dispute_funds_withdrawn_event", EventKind.DISPUTE)],
)
@pytest.mark.parametrize("ending", [None, "marked_uncollectible", "finalized", "funds_reinstated"])
def test_further_events_of_invoices_and_disputes_are_heard(name: str, kind: EventKind, ending: str | None) -> None:
    told = recording("stripe", name)
    told["type"] = told["type"] if ending is None else f"{told['type'].rpartition('.')[0]}.{ending}"
    found = received(json.dumps(told).encode())
    assert (found.kind, found.unreadable) == (kind, None)
    assert (found.subscription_id or found.transaction_id) in ("sub_1Qsample", "pi_3Qsample")


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("early_fraud_warning_event", ()),
        ("review_opened_event", ("prv_1Qsample",)),
        ("review_closed_as_refunded_event", ("prv_1Qsample",)),
    ],
)
def test_a_warning_names_its_payment(name: str, also: tuple[str, ...]) -> None:
    found = received(json.dumps(recording("stripe", name)).encode())
    assert (found.kind, found.unreadable, found.transaction_id) == (EventKind.RISK, None, "pi_3Qsample")
    assert {"ch_3Qsample", *also} == set(found.also_named)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("payout_paid_event", ProviderPayoutStatus.PAID, None),
        ("payout_failed_event", ProviderPayoutStatus.FAILED, "account_closed"),
    ],
)
def test_a_payout_is_read_whole(name: str, status: ProviderPayoutStatus, code: str | None) -> None:
    found = received(json.dumps(recording("stripe", name)).encode())
    assert (found.kind, found.ids, found.unreadable) == (EventKind.PAYOUT, (), None)
    assert found.payout == PayoutSnapshot("po_1Qsample", status, Money(1204450, "ILS"), date(2026, 12, 1), code)


def test_a_thin_notification_is_kept_as_other() -> None:
    body = json.dumps({"id": "evt_9", "object": "v2.core.event", "type": "v1.billing.meter.no_meter_found"}).encode()
    assert received(body).kind is EventKind.OTHER


@pytest.mark.parametrize(
    ("age_seconds", "reason"),
    [
        (300, None),
        (301, Rejection.STALE_TIMESTAMP),
        (10**9, Rejection.STALE_TIMESTAMP),
        (-60, None),
        (-61, Rejection.FUTURE_TIMESTAMP),
        (-(10**11), Rejection.FUTURE_TIMESTAMP),
    ],
)
def test_time_is_bounded_on_both_sides(age_seconds: int, reason: Rejection | None) -> None:
    body = event("checkout.session.completed", session())
    if reason is None:
        assert received(body, at=AT - age_seconds).event_id == "evt_1"
    else:
        assert refusal(sign_webhook(SECRET, body, AT - age_seconds), body) is reason


def test_the_account_sets_the_bounds() -> None:
    body = event("checkout.session.completed", session())
    strict = account(webhook_tolerance_seconds=10, webhook_future_tolerance_seconds=0)
    for at in (AT - 11, AT + 1):
        with pytest.raises(WebhookRejected):
            received(body, at=at, provider=strict)


def test_either_secret_is_good_while_one_replaces_the_other() -> None:
    body = event("checkout.session.completed", session())
    rotating = account(webhook_secret=f" whsec_new , ,{SECRET},")
    assert received(body, provider=rotating).event_id == "evt_1"
    both = f"{sign_webhook('whsec_unknown', body, AT)['stripe-signature']},{VECTOR_HEADER.split(',')[1]}"
    assert refusal({"stripe-signature": both}, body) is Rejection.BAD_SIGNATURE
    two = sign_webhook("whsec_unknown", body, AT)["stripe-signature"]
    two += "," + sign_webhook(SECRET, body, AT)["stripe-signature"].split(",")[1]
    assert account().verify_webhook(Callback({"stripe-signature": two}, body, NOW)).event_id == "evt_1"


GOOD = event("checkout.session.completed", session())
GOOD_HEADER = sign_webhook(SECRET, GOOD, AT)["stripe-signature"]
DIGEST = GOOD_HEADER.split("v1=")[1]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        "t=,v1=",
        "t=1700000000",
        f"v1={DIGEST}",
        f"t=1700000000,v0={DIGEST}",
        f"t=1700000001,v1={DIGEST}",
        f"t=1700000000,t=1,v1={DIGEST}",
        f"t=1,t=1700000000,v1={DIGEST}",
        f"t=1700000000.0,v1={DIGEST}",
        f"t=+1700000000,v1={DIGEST}",
        f"t=1_700_000_000,v1={DIGEST}",
        f"t=１７０００００００,v1={DIGEST}",
        f"t={'9' * 5000},v1={DIGEST}",
        f"t=1700000000,v1={DIGEST[:-1]}",
        f"t=1700000000,v1={DIGEST[:-1]}é",
        f"t=1700000000,v1={DIGEST}" + ",v1=00" * 2000,
        f"t=1700000000,v1=\ud800{DIGEST}",
        f"t=1700000000;v1={DIGEST}",
    ],
)
def test_a_forged_or_broken_header_is_a_bad_signature(header: str) -> None:
    assert refusal({"stripe-signature": header}, GOOD) is Rejection.BAD_SIGNATURE


def test_a_missing_header_or_a_changed_body_is_a_bad_signature() -> None:
    assert refusal({}, GOOD) is Rejection.BAD_SIGNATURE
    for body in (GOOD[:-1], GOOD + b" ", GOOD.replace(b"12990", b"12991"), b""):
        assert refusal({"stripe-signature": GOOD_HEADER}, body) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        VECTOR_BODY,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"id":"evt_1","object":"event","type":"a","created":' + b"9" * 5000 + b"}",
        b'{"id":"evt_1","id":"evt_2","object":"event","type":"a"}',
        b'{"id":"evt_1","object":"event","type":"a","created":NaN}',
        b'{"id":5,"object":"event","type":"a"}',
        b'{"id":"","object":"event","type":"a"}',
        b'{"id":"evt_1","object":"event","type":{}}',
        b'{"id":"evt_1","object":"list","type":"a"}',
        b'{"id":"evt_\\u0000","object":"event","type":"a"}',
        b'{"id":"evt_\\ud800","object":"event","type":"a"}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_signed_body_that_is_no_event_is_malformed(body: bytes) -> None:
    assert refusal(sign_webhook(SECRET, body, AT), body) is Rejection.MALFORMED


@pytest.mark.parametrize(
    "parts",
    [
        {"data": None},
        {"data": []},
        {"data": {"object": []}},
        {"data": {"object": {"object": ["charge"], "id": {}, "metadata": [], "payment_intent": 5}}},
        {"created": 10**30},
        {"created": -(10**18)},
        {"created": True},
        {"created": "yesterday"},
        {"livemode": "maybe"},
    ],
)
def test_an_event_with_odd_parts_is_kept_without_them(parts: dict[str, Any]) -> None:
    found = received(event("charge.refunded", session(), **parts))
    assert found.event_id == "evt_1"
    assert found.occurred_at is None or "created" not in parts


@given(header=st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: raw.decode("latin-1"))))
def test_no_header_whatever_breaks_the_verification(header: str) -> None:
    assert refusal({"stripe-signature": header}, GOOD) is Rejection.BAD_SIGNATURE
    assert not explain_signature({"stripe-signature": header}, GOOD, SECRET, NOW).valid


@given(
    timestamp=st.text("0123456789-+. _", max_size=12),
    schemes=st.lists(st.tuples(st.sampled_from(["v1", "v0", "t", ""]), st.text(max_size=70)), max_size=4),
)
def test_no_almost_right_header_breaks_the_verification(timestamp: str, schemes: list[tuple[str, str]]) -> None:
    header = ",".join([f"t={timestamp}", *(f"{name}={value}" for name, value in schemes)])
    assert refusal({"stripe-signature": header}, GOOD) is Rejection.BAD_SIGNATURE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["id", "object", "type", "created", "livemode", "data", "metadata", "payment_intent", "amount", "currency"]
)


def accepted_or_refused(body: bytes) -> None:
    """Only an event or a refusal may come out."""
    try:
        headers = sign_webhook(SECRET, body, AT)
    except UnicodeDecodeError:  # cannot be signed as Stripe signs: text
        assert refusal({"stripe-signature": GOOD_HEADER}, body) is Rejection.BAD_SIGNATURE
        return
    try:
        found = account().verify_webhook(Callback(headers, body, NOW))
    except WebhookRejected as refused:
        reason = refused.reason
    else:
        assert found.event_id.isascii()
        return
    assert reason is Rejection.MALFORMED


@given(body=st.binary(max_size=300))
def test_no_signed_bytes_break_the_reading(body: bytes) -> None:
    accepted_or_refused(body)


@given(value=JSON)
def test_no_signed_json_breaks_the_reading(value: object) -> None:
    accepted_or_refused(json.dumps(value).encode())


@given(outer=st.dictionaries(FIELDS, JSON, max_size=5), inner=st.dictionaries(FIELDS, JSON, max_size=8))
def test_no_signed_event_of_wrong_types_breaks_the_reading(outer: dict[str, Any], inner: dict[str, Any]) -> None:
    accepted_or_refused(event("charge.refunded", session() | inner))
    accepted_or_refused(event("charge.refunded", session() | inner, **outer))


OLD_INVOICE = {
    "id": "in_1",
    "object": "invoice",
    "billing_reason": "subscription_cycle",
    "subscription": "sub_1",
    "payment_intent": "pi_1",
    "charge": "ch_1",
}
"""As endpoints with a version before 2025-03-31 are sent it."""
SHAPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("top level", OLD_INVOICE, {"subscription_id": "sub_1", "named": {"pi_1", "ch_1", "in_1"}}),
    (
        "top level, expanded",
        OLD_INVOICE | {"subscription": {"id": "sub_1"}, "payment_intent": {"id": "pi_1"}, "charge": {"id": "ch_1"}},
        {"subscription_id": "sub_1", "named": {"pi_1", "ch_1", "in_1"}},
    ),
    (
        "parent",
        {
            "id": "in_1",
            "object": "invoice",
            "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}},
            "payments": {"data": [{"status": "paid", "payment": {"payment_intent": "pi_1", "charge": "ch_1"}}]},
        },
        {"subscription_id": "sub_1", "named": {"pi_1", "ch_1", "in_1"}},
    ),
    (
        "lines, new",
        {
            "id": "in_1",
            "object": "invoice",
            "lines": {"data": [{"parent": {"subscription_item_details": {"subscription": "sub_1"}}}]},
        },
        {"subscription_id": "sub_1", "named": {"in_1"}},
    ),
    (
        "lines, old",
        {"id": "in_1", "object": "invoice", "lines": {"data": [{"subscription": "sub_1"}]}},
        {"subscription_id": "sub_1", "named": {"in_1"}},
    ),
]


@pytest.mark.parametrize(("shape", "source", "wanted"), SHAPES, ids=[one[0] for one in SHAPES])
@pytest.mark.parametrize("kind", ["invoice.paid", "invoice.payment_failed", "invoice.payment_action_required"])
def test_an_invoice_is_read_in_every_shape_that_it_has_had(
    kind: str, shape: str, source: dict[str, Any], wanted: dict[str, Any]
) -> None:
    found = received(event(kind, source))
    assert (found.kind, found.subscription_id) == (EventKind.SUBSCRIPTION, wanted["subscription_id"]), shape
    assert wanted["named"] <= set(found.also_named) | {found.transaction_id}
    assert found.unreadable is None


@pytest.mark.parametrize(
    ("kind", "source", "unreadable"),
    [
        ("invoice.paid", {"object": "invoice", "billing_reason": "subscription_cycle"}, True),
        ("invoice.paid", {"object": "invoice", "billing_reason": "subscription"}, True),
        ("invoice.paid", {"object": "invoice", "billing_reason": "manual"}, False),
        ("charge.dispute.created", {"object": "dispute", "id": "dp_1"}, True),
        ("charge.dispute.created", {"object": "dispute", "id": "dp_1", "charge": "ch_1"}, False),
        ("refund.created", {"object": "refund", "id": "re_1"}, True),
        ("payment_intent.succeeded", {}, True),
        ("customer.subscription.deleted", {}, True),
        ("a.type.of.tomorrow", {}, False),
    ],
)
def test_what_does_not_say_what_it_is_about_is_unreadable(kind: str, source: dict[str, Any], unreadable: bool) -> None:  # noqa: FBT001
    assert (received(event(kind, source)).unreadable is not None) is unreadable

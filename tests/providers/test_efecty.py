"""Efecty: codes that a cashier can type, options for all that Efecty publishes nowhere, and what cannot be asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from domain.payment import PaymentStatus
from providers.base import (
    AccountConfig,
    Acknowledges,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    ListsBanks,
    ProviderMisconfigured,
    ProviderRejected,
    ReadsSettlementFiles,
    RefundRequest,
)
from providers.efecty import EfectyProvider
from providers.efecty.codes import CheckDigit, CodeRule
from providers.registry import build_provider, capabilities_of, required_credentials, webhook_tools

PAYMENT = UUID("018bcfe5-6800-7000-8000-000000000001")
CREATED = datetime(2026, 3, 1, 15, 0, tzinfo=UTC)
SECRET = "shared_secret_1"


def account(agreement: str = "110954", **options: Any) -> EfectyProvider:
    credentials = {"agreement": agreement, "callback_secret": SECRET}
    return EfectyProvider(AccountConfig(account_id=uuid4(), credentials=credentials, options=options))


def request(amount: str = "25000", currency: str = "COP", **changes: Any) -> CheckoutRequest:
    values: dict[str, Any] = {
        "reference": PAYMENT,
        "workspace_id": UUID(int=7),
        "order_id": "order-1",
        "amount": Money.parse(amount, currency),
        "description": "Order 1",
        "mode": CheckoutMode.HOSTED,
        "created_at": CREATED,
        "expires_at": CREATED + timedelta(days=2),
    }
    return CheckoutRequest(**(values | changes))


REF = CheckoutRef(PAYMENT, "100000000009", CheckoutMode.HOSTED, CREATED)


# --- codes


@pytest.mark.parametrize(("digits", "expected"), [("7992739871", "3"), ("0", "0"), ("453201511283036", "6")])
def test_luhn_digits_of_known_numbers(digits: str, expected: str) -> None:
    assert CheckDigit.LUHN.of(digits) == expected


@pytest.mark.parametrize(
    ("tax_number", "expected"), [("800197268", "4"), ("890903938", "8"), ("830131993", "1"), ("899999068", "1")]
)
def test_mod_11_digits_of_known_colombian_tax_numbers(tax_number: str, expected: str) -> None:
    assert CheckDigit.MOD11.of(tax_number) == expected


def test_a_code_never_changes_from_one_release_to_the_next() -> None:
    assert CodeRule().code_for(PAYMENT, 0) == "573307526281"
    assert CodeRule().code_for(PAYMENT, 1) == "208104159305"


rules = st.builds(
    CodeRule,
    length=st.integers(12, 16),
    prefix=st.sampled_from(["", "7", "9012", "10000"]),
    check=st.sampled_from(CheckDigit),
)


@given(rule=rules, reference=st.uuids(), salt=st.integers(0, 1000))
def test_every_code_has_the_form_of_its_agreement_and_repeats_are_equal(
    rule: CodeRule, reference: UUID, salt: int
) -> None:
    code = rule.code_for(reference, salt)
    assert len(code) == rule.length
    assert code.isascii()
    assert code.isdigit()
    assert not code.startswith("0")
    assert rule.has_form(code)
    assert rule.has_good_check_digit(code)
    assert rule.code_for(reference, salt) == code
    assert rule.code_for(reference, salt + 1) != code


@given(reference=st.uuids(), place=st.integers(0, 11), other=st.integers(1, 9))
def test_luhn_sees_every_single_wrong_digit(reference: UUID, place: int, other: int) -> None:
    code = CodeRule().code_for(reference, 0)
    wrong = str((int(code[place]) + other) % 10)
    assert not CodeRule().has_good_check_digit(code[:place] + wrong + code[place + 1 :])


def test_ten_thousand_payments_hardly_ever_share_a_code() -> None:
    codes = {CodeRule().code_for(UUID(int=number), 0) for number in range(10_000)}
    assert len(codes) >= 9_999


@pytest.mark.parametrize(
    "text", ["", "1", "１００００００００００９", "10000000000a", "+00000000009", "1" * 13, "²00000000000"]
)
def test_what_is_no_code_has_not_its_form(text: str) -> None:
    assert not CodeRule().has_form(text)


# --- the checkout


@pytest.mark.asyncio
async def test_the_payer_is_told_agreement_code_and_until_when() -> None:
    provider = account(voucher_url="https://shop.example/v?a={agreement}&c={code}&m={amount}&until={expires}")
    opened = await provider.open_checkout(request())
    assert opened == await provider.open_checkout(request())
    assert (opened.url, opened.client_secret, opened.session_secret, opened.form) == (None, None, None, None)
    cash = opened.cash
    assert cash is not None
    assert (cash.network, cash.agreement, cash.code) == ("efecty", "110954", opened.session_id)
    assert cash.expires_at == CREATED + timedelta(days=2, minutes=-60)
    until = "2026-03-03T14%3A00%3A00%2B00%3A00"
    assert cash.voucher_url == f"https://shop.example/v?a=110954&c={cash.code}&m=25000.00&until={until}"


@pytest.mark.asyncio
async def test_another_salt_or_attempt_has_another_code() -> None:
    provider = account(code_prefix="88", code_length=14, check_digit="mod11")
    codes = {
        (await provider.open_checkout(request(salt=salt, reference=reference))).session_id
        for salt in (0, 1)
        for reference in (PAYMENT, UUID(int=5))
    }
    assert len(codes) == 4
    assert all(code.startswith("88") and len(code) == 14 for code in codes)


@pytest.mark.parametrize(
    ("lifetime", "options", "printed"),
    [
        (timedelta(days=2), {}, timedelta(days=2, minutes=-60)),
        (timedelta(days=30), {}, timedelta(days=7)),
        (timedelta(days=30), {"max_days": 60, "grace_minutes": 2880}, timedelta(days=28)),
        (timedelta(hours=1), {"grace_minutes": 240}, timedelta(minutes=30)),
        (timedelta(hours=1), {"grace_minutes": 0}, timedelta(hours=1)),
    ],
)
def test_the_voucher_ends_before_the_payment_does(
    lifetime: timedelta, options: dict[str, Any], printed: timedelta
) -> None:
    assert account(**options).printed_expiry(CREATED, CREATED + lifetime) == CREATED + printed


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("changes", "options", "code"),
    [
        ({"amount": "19999.99"}, {"whole_pesos": False}, "amount_too_small"),
        ({"amount": "19999"}, {}, "amount_too_small"),
        ({"amount": "20000"}, {}, None),
        ({"amount": "6000000"}, {}, None),
        ({"amount": "6000001"}, {}, "amount_too_large"),
        ({"amount": "1000"}, {"minimum_amount": 1000}, None),
        ({"amount": "6000001"}, {"maximum_amount": "9000000"}, None),
        ({"amount": "25000.50"}, {}, "amount_not_representable"),
        ({"amount": "25000.50"}, {"whole_pesos": False}, None),
        ({"currency": "USD"}, {}, "currency_not_supported"),
        ({"mode": CheckoutMode.DIRECT}, {}, "mode_not_supported"),
        ({"method": "card"}, {}, "method_not_supported"),
        ({"method": "efecty"}, {}, None),
    ],
)
async def test_what_the_agreement_does_not_take_is_rejected_before_a_code_is_printed(
    changes: dict[str, Any], options: dict[str, Any], code: str | None
) -> None:
    provider = account(**options)
    assert provider.capabilities.step("COP") == (1 if options.get("whole_pesos") is False else 100)
    if code is None:
        assert (await provider.open_checkout(request(**changes))).cash
        return
    with pytest.raises(ProviderRejected) as rejected:
        await provider.open_checkout(request(**changes))
    assert rejected.value.code == code


@pytest.mark.asyncio
async def test_a_number_that_no_till_can_type_is_the_operators_business() -> None:
    provider = account(agreement="convenio 5")
    with pytest.raises(ProviderMisconfigured, match="credential_invalid: agreement"):
        await provider.open_checkout(request())
    with pytest.raises(ProviderMisconfigured):
        await provider.check_account()


@pytest.mark.asyncio
async def test_nothing_can_be_asked_closed_or_given_back() -> None:
    provider = account()
    assert (await provider.look(REF)).status is PaymentStatus.UNKNOWN
    assert (await provider.close_checkout(REF)).status is PaymentStatus.UNKNOWN
    money = Money.parse("25000", "COP")
    refund = RefundRequest(uuid4(), "0000000001", money, REF, money, Money.zero("COP"))
    with pytest.raises(ProviderRejected, match="refund_not_supported"):
        await provider.refund(refund)
    assert await provider.look_refund(refund, None) is None
    await provider.aclose()


@pytest.mark.asyncio
async def test_the_connection_test_says_that_nobody_was_asked() -> None:
    check = await account().check_account()
    assert (check.account_name, check.live) == ("Efecty 110954", True)
    assert "not asked" in check.detail
    assert not (await account(live=False).check_account()).live


# --- the account


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("code_length", 6),
        ("code_length", 17),
        ("code_length", "12"),
        ("code_length", True),
        ("code_prefix", "0123"),
        ("code_prefix", "12a"),
        ("code_prefix", "123456"),
        ("code_prefix", 12),
        ("check_digit", "verhoeff"),
        ("minimum_amount", 20000.5),
        ("minimum_amount", "0"),
        ("minimum_amount", "-5"),
        ("minimum_amount", "7000000"),
        ("maximum_amount", "10"),
        ("whole_pesos", "yes"),
        ("max_days", 0),
        ("grace_minutes", -1),
        ("callback_scheme", "none"),
        ("signature_header", "x y"),
        ("signature_header", ""),
        ("timestamp_header", "X-Efecty-Signature"),
        ("callback_fields", {"code": "codigo"}),
        ("callback_fields", {"amount": 5}),
        ("callback_fields", {"amount": "reference"}),
        ("callback_fields", ["amount"]),
        ("callback_statuses", {"pagado": "settled"}),
        ("callback_statuses", ["pagado"]),
        ("file_delimiter", ";;"),
        ("file_decimal", "·"),
        ("file_thousands", "."),
        ("file_columns", {"amount": "a\nb"}),
        ("file_ignored_columns", "caja"),
        ("file_date_format", "%Y%Y"),
        ("file_date_format", "%"),
        ("utc_offset", "America/Bogota"),
        ("live", 1),
        ("voucher_url", "javascript:alert(1)"),
        ("voucher_url", 5),
    ],
)
def test_a_wrong_option_is_named(option: str, value: Any) -> None:
    with pytest.raises(ProviderMisconfigured) as refused:
        account(**{option: value})
    assert refused.value.code == "option_invalid"
    assert refused.value.detail in {option, "maximum_amount"}


@pytest.mark.parametrize("value", ["", " ", ",", " , ,", "pásswort", "two\nlines"])
def test_a_credential_must_be_there_and_plain(value: str) -> None:
    for name in required_credentials("efecty"):
        credentials = {"agreement": "110954", "callback_secret": SECRET} | {name: value}
        with pytest.raises(ProviderMisconfigured, match=f"credential_missing: {name}"):
            build_provider("efecty", AccountConfig(account_id=uuid4(), credentials=credentials))


def test_the_registry_knows_what_the_agreement_can_do() -> None:
    sheet = capabilities_of("efecty")
    assert required_credentials("efecty") == ("agreement", "callback_secret")
    assert not (sheet.status_call)
    assert not (sheet.refund)
    assert not (sheet.closes_checkout)
    assert not (sheet.direct_payment)
    assert not (sheet.bank_list)
    assert [(method.name, method.kind, method.currency) for method in sheet.methods] == [("efecty", "cash", "COP")]
    assert not any(method.refundable for method in sheet.methods)
    own = account(minimum_amount="5000", maximum_amount=900_000, max_days=3, grace_minutes=30).capabilities.methods
    assert [(method.minimum, method.maximum) for method in own] == [(Decimal(5_000), Decimal(900_000))]
    assert own[0].max_lifetime == timedelta(days=3, minutes=30)  # the voucher ends before the payment does
    provider = account()
    assert isinstance(provider, ReadsSettlementFiles)
    assert not isinstance(provider, ListsBanks | Acknowledges)
    assert dict(webhook_tools("efecty").request_signers) == {}

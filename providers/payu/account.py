"""One account's credentials and options, read and checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal, InvalidOperation

from providers.base import AccountConfig, Method, ProviderMisconfigured
from providers.http import base_address
from providers.payu.methods import FEWER_PAYER_FIELDS, METHODS
from providers.payu.signatures import Signing, algorithm_of

REQUIRED_CREDENTIALS = ("api_key", "api_login", "merchant_id", "account_id")
LIVE_API = "https://api.payulatam.com"
LIVE_CHECKOUT = "https://checkout.payulatam.com"
TEST_API = "https://sandbox.api.payulatam.com"
TEST_CHECKOUT = "https://sandbox.checkout.payulatam.com"
REFUND_WAIT = timedelta(minutes=10)
"""PayU refuses a refund for so long after the approval."""


@dataclass(frozen=True, slots=True)
class PayuAccount:
    """What every request of one account needs."""

    merchant_id: str
    account_id: str
    api_login: str = field(repr=False)
    signing: Signing
    api_base: str
    checkout_base: str
    live: bool
    test_flag: bool
    """What is sent as `test`, and what a confirmation must say."""
    sends_tax: bool
    payment_methods: str | None
    methods: tuple[Method, ...]
    """The sheet's, with this agreement's limits, and without insisting on the payer's data where PayU does not."""
    agreements: Mapping[str, str]
    refund_wait: timedelta
    refunds_every_method: bool
    partial_value_in_order: bool
    several_refunds: bool
    """PayU makes more than one refund of an order for this account (UNCONFIRMED; its page says one in Colombia)."""
    cancellations_module: bool
    """PayU goes on with refunds that the network has declined: such a decline is not the end."""
    charges_without_cvv: bool
    """Send `processWithoutCvv2` with the charge of a token: nobody is there to enter a security code."""


def account_of(config: AccountConfig) -> PayuAccount:
    """Read an account's credentials and options. Raises ProviderMisconfigured that names what is wrong."""
    credentials = {name: config.credential(name) for name in REQUIRED_CREDENTIALS}
    options = _Options(config.options)
    api_base = base_address(config.options, "api_base") or ""
    test = options.flag("test", default=bool(api_base) and api_base != LIVE_API)
    hmac_key = config.credentials.get("hmac_key", "").strip() or None
    try:
        algorithm = algorithm_of(options.text("signature_algorithm"))
    except ValueError:
        raise ProviderMisconfigured("option_invalid", "signature_algorithm") from None
    return PayuAccount(
        merchant_id=credentials["merchant_id"],
        account_id=credentials["account_id"],
        api_login=credentials["api_login"],
        signing=Signing(credentials["api_key"], algorithm, hmac_key),
        api_base=api_base or (TEST_API if test else LIVE_API),
        checkout_base=_checkout_base(base_address(config.options, "checkout_base"), api_base, test=test),
        live=not test,
        test_flag=options.flag("test_flag", default=test),
        sends_tax=options.flag("send_tax", default=True),
        payment_methods=options.text("payment_methods"),
        methods=_methods(options),
        agreements=options.texts("agreements"),
        refund_wait=options.seconds("refund_wait_seconds", timedelta(0) if test else REFUND_WAIT),
        refunds_every_method=options.flag("refunds_every_method", default=False),
        partial_value_in_order=options.flag("partial_value_in_order", default=False),
        several_refunds=options.flag("several_refunds", default=False),
        cancellations_module=options.flag("cancellations_module", default=False),
        charges_without_cvv=options.flag("charges_without_cvv", default=True),
    )


def _methods(options: _Options) -> tuple[Method, ...]:
    payer_optional = options.flag("payer_optional", default=False)
    return tuple(
        replace(options.limited(method), payer_fields=FEWER_PAYER_FIELDS[method.kind])
        if payer_optional
        else options.limited(method)
        for method in METHODS
    )


def _checkout_base(named: str | None, api_base: str, *, test: bool) -> str:
    """PayU's page; where only the API's address is given and is none of PayU's, the page is looked for there too."""
    if named is not None:
        return named
    if api_base and api_base not in (LIVE_API, TEST_API):
        return api_base
    return TEST_CHECKOUT if test else LIVE_CHECKOUT


class _Options:
    """An account's options by type. Each method raises ProviderMisconfigured `option_invalid`."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options

    def text(self, name: str) -> str | None:
        value = self._options.get(name)
        if value is None or isinstance(value, str):
            return (value or "").strip() or None
        raise ProviderMisconfigured("option_invalid", name)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._options.get(name, default)
        if isinstance(value, bool):
            return value
        raise ProviderMisconfigured("option_invalid", name)

    def seconds(self, name: str, default: timedelta) -> timedelta:
        value = self._options.get(name)
        if value is None:
            return default
        if type(value) is int and 0 <= value <= 7 * 86400:
            return timedelta(seconds=value)
        raise ProviderMisconfigured("option_invalid", name)

    def texts(self, name: str) -> Mapping[str, str]:
        """Texts by method, such as `{"efecty": "110000"}`."""
        value = self._options.get(name, {})
        if isinstance(value, Mapping) and all(isinstance(part, str) for pair in value.items() for part in pair):
            return dict(value)
        raise ProviderMisconfigured("option_invalid", name)

    def limited(self, method: Method) -> Method:
        """`{"efecty": {"minimum": "20000", "maximum": "6000000"}}`, in major units, instead of the sheet's."""
        every = self._options.get("limits", {})
        own = every.get(method.name, {}) if isinstance(every, Mapping) else None
        if not isinstance(own, Mapping):
            raise ProviderMisconfigured("option_invalid", "limits")
        least = self._limit(own, "minimum", method.minimum)
        return replace(method, minimum=least, maximum=self._limit(own, "maximum", method.maximum))

    @staticmethod
    def _limit(own: Mapping[str, object], name: str, usual: Decimal | None) -> Decimal | None:
        value = own.get(name)
        if value is None:
            return usual
        try:
            limit = Decimal(value) if isinstance(value, str) or type(value) is int else Decimal("NaN")
        except InvalidOperation:
            limit = Decimal("NaN")
        if limit.is_finite() and limit >= 0:
            return limit
        raise ProviderMisconfigured("option_invalid", "limits")

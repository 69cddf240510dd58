"""One agreement with Efecty behind the provider contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from urllib.parse import quote

from domain.payment import PaymentStatus
from providers.base import (
    AccountCheck,
    AccountConfig,
    Callback,
    Capabilities,
    CashInstructions,
    CheckoutMode,
    CheckoutRef,
    CheckoutRequest,
    Method,
    OpenedCheckout,
    ProviderEvent,
    ProviderMisconfigured,
    ProviderPayment,
    ProviderRefund,
    ProviderRejected,
    RefundRequest,
    SettlementRow,
)
from providers.efecty.agreement import CURRENCY, PAYVALIDA, agreement_of
from providers.efecty.notifications import read_callback
from providers.efecty.settlement_file import FileReport, read_file
from providers.reading import Tolerance

NETWORK = "efecty"
_CENTAVOS = 100
REGISTER_FIRST = (
    "A code can be paid only once its order is registered at Payválida (POST /api/v3/wporders, order and reference: "
    "the code): this service registers none"
)


class EfectyProvider:
    """One agreement with the network. Nothing is ever sent to it: payers bring our code to a counter.

    Credentials: `agreement` (the number that the cashier types), `callback_secret` (comma separated while it is
    rotated). Options: providers/efecty/agreement.py and docs/connect-efecty.md; nearly all of them stand for something
    that Efecty publishes nowhere. Amounts are pesos, major units on the wire.
    """

    name = "efecty"
    required_credentials = ("agreement", "callback_secret")
    options = frozenset(
        {
            "callback_fields",
            "callback_scheme",
            "callback_statuses",
            "check_digit",
            "code_length",
            "code_prefix",
            "file_columns",
            "file_date_format",
            "file_decimal",
            "file_delimiter",
            "file_ignored_columns",
            "file_thousands",
            "grace_minutes",
            "live",
            "max_days",
            "maximum_amount",
            "minimum_amount",
            "signature_header",
            "timestamp_header",
            "utc_offset",
            "voucher_url",
            "whole_pesos",
        }
    )
    capabilities = Capabilities(
        methods=(
            # the widest limits that any aggregator states; an account has those of its agreement
            Method(NETWORK, "cash", CURRENCY, Decimal(1_000), Decimal(15_000_000), refundable=False),
        ),
        refund=False,
        partial_refund=False,
        closes_checkout=False,
        status_call=False,
        looks_up_by_reference=False,
        failed_can_become_paid=True,
        unit="major",
        currencies=frozenset({CURRENCY}),
        steps={CURRENCY: _CENTAVOS},
    )

    def __init__(self, config: AccountConfig) -> None:
        """Read credentials and options. Raises ProviderMisconfigured."""
        agreement = self._agreement = agreement_of(config)
        cash = replace(
            self.capabilities.methods[0],
            minimum=agreement.minimum.to_decimal(),
            maximum=agreement.maximum.to_decimal(),
            max_lifetime=agreement.max_lifetime + agreement.grace,
        )
        steps = {CURRENCY: _CENTAVOS} if agreement.whole_pesos else {}
        self.capabilities = replace(self.capabilities, methods=(cash,), steps=steps)
        self._tolerance = Tolerance(config.webhook_tolerance_seconds, config.webhook_future_tolerance_seconds)

    async def open_checkout(self, request: CheckoutRequest) -> OpenedCheckout:
        """Make the code and say what to do with it; nobody is called, so a repeat gives the same answer.

        `session_id` is the code. Two payments may get the same one: the database's constraint tells, and another
        `salt` makes another code. Raises ProviderRejected: `mode_not_supported`, `method_not_supported`,
        `currency_not_supported`, `amount_not_representable` (centavos), `amount_too_small`, `amount_too_large`;
        ProviderMisconfigured when the agreement's number cannot be typed at a till.
        """
        self._check(request)
        code = self._agreement.code.code_for(request.reference, request.salt)
        expires_at = self.printed_expiry(request.created_at, request.expires_at)
        cash = CashInstructions(
            network=NETWORK,
            code=code,
            agreement=self._agreement.number,
            expires_at=expires_at,
            voucher_url=self._voucher_url(code, request, expires_at),
        )
        return OpenedCheckout(code, None, cash=cash)

    async def look(self, ref: CheckoutRef) -> ProviderPayment:  # noqa: ARG002  (the contract's signature)
        """UNKNOWN, always: the network has no call that tells the state of a code.

        Verified callbacks and settlement files are the only sources. Silence is not failure: a code that nobody
        reported may have been paid at a counter an hour ago.
        """
        return ProviderPayment(PaymentStatus.UNKNOWN)

    async def close_checkout(self, ref: CheckoutRef) -> ProviderPayment:
        """Nothing can be closed: a printed code is payable until the network's own limit. The state, as of `look`."""
        return await self.look(ref)

    async def refund(self, request: RefundRequest) -> ProviderRefund:  # noqa: ARG002  (the contract's signature)
        """Cash is final: no refunds. Raises ProviderRejected `refund_not_supported`."""
        raise ProviderRejected("refund_not_supported")

    async def look_refund(
        self,
        request: RefundRequest,  # noqa: ARG002  (the contract's signature)
        provider_refund_id: str | None,  # noqa: ARG002
    ) -> ProviderRefund | None:
        """None: the network knows of no refunds."""
        return None

    async def check_account(self) -> AccountCheck:
        """What can be judged without a call: the agreement's number. Raises ProviderMisconfigured.

        That the network knows the agreement and has our address shows only when the first callback comes.
        """
        self._check_number()
        detail = "not asked: the network has no call for it; pay a first code to be sure"
        if self._agreement.scheme == PAYVALIDA:
            detail = f"{detail}. {REGISTER_FIRST}"
        return AccountCheck(f"Efecty {self._agreement.number}", live=self._agreement.live, detail=detail)

    def verify_webhook(self, callback: Callback) -> ProviderEvent:
        """Authenticate and read a callback. Raises WebhookRejected, nothing else.

        The event names our code (`session_id`). Its amount is believed, there being nothing to ask, except in the
        scheme whose checksum does not cover it: then there is none.
        """
        return read_callback(callback, self._agreement, self._tolerance)

    def read_settlement_file(self, content: bytes) -> Sequence[SettlementRow]:
        """Read a file of the network's; see settlement_file.py for the layout. Never raises."""
        return [row.as_settlement_row() for row in self.settlement_report(content).rows]

    def settlement_report(self, content: bytes) -> FileReport:
        """The same with line, code, amount and verdict of each row, for people. Never raises."""
        return read_file(content, self._agreement)

    def printed_expiry(self, created_at: datetime, expires_at: datetime) -> datetime:
        """Until when the payer is told to pay.

        The network reports minutes to hours later, so the voucher ends `grace_minutes` before the payment does and a
        payment in its last minute is still in time; the grace takes half of a short life at most. `max_days` from the
        creation is the latest moment.
        """
        ends_at = min(expires_at, created_at + self._agreement.max_lifetime)
        grace_begins = max(expires_at - self._agreement.grace, created_at + (expires_at - created_at) / 2)
        return min(ends_at, grace_begins)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _check(self, request: CheckoutRequest) -> None:
        self._check_number()
        if request.mode is not CheckoutMode.HOSTED:
            raise ProviderRejected("mode_not_supported", request.mode.value)
        if self.capabilities.method(request.method) is None:
            raise ProviderRejected("method_not_supported")
        if request.amount.currency != CURRENCY:
            raise ProviderRejected("currency_not_supported", request.amount.currency)
        if self._agreement.whole_pesos and request.amount.minor % _CENTAVOS:
            raise ProviderRejected("amount_not_representable", "whole pesos only")
        if request.amount < self._agreement.minimum:
            raise ProviderRejected("amount_too_small", f"at least {self._agreement.minimum} {CURRENCY}")
        if self._agreement.maximum < request.amount:
            raise ProviderRejected("amount_too_large", f"at most {self._agreement.maximum} {CURRENCY}")

    def _check_number(self) -> None:
        if not self._agreement.is_numeric:
            raise ProviderMisconfigured("credential_invalid", "agreement")

    def _voucher_url(self, code: str, request: CheckoutRequest, expires_at: datetime) -> str | None:
        url = self._agreement.voucher_url
        if url is None:
            return None
        values = {
            "{agreement}": self._agreement.number,
            "{code}": code,
            "{amount}": str(request.amount),
            "{expires}": expires_at.isoformat(timespec="seconds"),
        }
        for placeholder, value in values.items():
            url = url.replace(placeholder, quote(value, safe=""))
        return url
